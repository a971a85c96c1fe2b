"""Proofs that stand alone: an entry's place in a signed head, in one file (c2sp.org/tlog-proof).

Rules: the header `c2sp.org/tlog-proof@v1`; at most one line `extra` with base64; `index` in decimal without
leading zeros; the hashes of the inclusion proof from the leaf's sibling up, one base64 line each; an empty
line; the checkpoint's note, byte for byte, which is taken apart only when it is asked for. What does not
print back identically is refused. That a proof was parsed says nothing about its hashes and signatures, and
`extra` is never to be believed unchecked.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Final

from agentgov.errors import BrokenRecordError
from agentgov.ledger.checkpoint import MAX_SIZE, Checkpoint, parse_checkpoint
from agentgov.ledger.merkle import verify_inclusion
from agentgov.ledger.note import Note, decode_base64, parse_note

HEADER: Final = "c2sp.org/tlog-proof@v1"
SUFFIX: Final = ".tlog-proof"
MAX_BYTES: Final = 32 * 1024 * 1024
# A tree of 2^64 leaves is 64 high.
MAX_HASHES: Final = 64
_is_number = re.compile(r"0|[1-9][0-9]{0,19}").fullmatch


@dataclass(frozen=True, slots=True)
class TlogProof:
    """A parsed proof.

    Attributes:
        index: The entry's place in the log, from 0.
        hashes: The inclusion proof, the leaf's sibling first.
        raw_note: The signed checkpoint, with any cosignatures, as it stands in the file.
        extra: What else the file carries, opaque; None when there is no such line.
    """

    index: int
    hashes: tuple[bytes, ...]
    raw_note: bytes
    extra: bytes | None = None

    @property
    def note(self) -> Note:
        """The signed checkpoint, taken apart.

        Raises:
            BrokenRecordError: AG0207, when it is no note.
        """
        return parse_note(self.raw_note)

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint; its signatures are not verified here.

        Raises:
            BrokenRecordError: AG0207 or AG0209, when there is none in the note.
        """
        return parse_checkpoint(self.note.text)

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        lines = [HEADER]
        if self.extra is not None:
            lines.append(f"extra {base64.b64encode(self.extra).decode()}")
        lines.append(f"index {self.index}")
        lines += [base64.b64encode(item).decode() for item in self.hashes]
        return "".join(f"{line}\n" for line in lines).encode() + b"\n" + self.raw_note

    def verify_leaf(self, leaf: bytes) -> Checkpoint:
        """Check that this leaf has the proof's place in the checkpoint's tree; the note is not verified.

        Raises:
            BrokenRecordError: AG0206, when it has not; AG0207 or AG0209, when there is no checkpoint.
        """
        checkpoint = self.checkpoint
        verify_inclusion(leaf, self.index, checkpoint.size, self.hashes, checkpoint.root)
        return checkpoint


def parse_proof(raw: bytes) -> TlogProof:
    """Take a proof apart.

    Raises:
        BrokenRecordError: AG0403, when it is none; AG0207, when base64 in it is none.
    """
    if len(raw) > MAX_BYTES:
        raise _malformed(f"longer than {MAX_BYTES} bytes")
    head, empty, raw_note = raw.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise _malformed("other characters than ASCII before the signed head") from None
    if lines.pop(0) != HEADER:
        raise _malformed("it does not begin as one")
    if not empty or not raw_note.endswith(b"\n"):
        raise _malformed("it has no signed head")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = decode_base64(lines.pop(0).removeprefix("extra "))
    if not lines or not lines[0].startswith("index "):
        raise _malformed("it does not say which entry it is about")
    raw_index = lines.pop(0).removeprefix("index ")
    if _is_number(raw_index) is None or int(raw_index) > MAX_SIZE:
        raise _malformed("its index is not a number in its only form")
    if len(lines) > MAX_HASHES:
        raise _malformed(f"more than {MAX_HASHES} hashes")
    hashes = tuple(map(decode_base64, lines))
    if any(len(item) != 32 for item in hashes):
        raise _malformed("a hash that is not 32 bytes")
    return TlogProof(int(raw_index), hashes, raw_note, extra)


def _malformed(what: str) -> BrokenRecordError:
    return BrokenRecordError(f"this is not a proof: {what}", id="AG0403")
