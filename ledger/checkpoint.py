"""Checkpoints: the size and root of the record, as C2SP tlog-checkpoint says (c2sp.org/tlog-checkpoint).

Rules: origin LF size LF base64(root) LF, then extension lines that are not empty; the size is printed in
decimal without leading zeros and is below 2^64; the root has 32 bytes. The note around it is signed by the
log key under the origin's name, and may carry witnesses' cosignatures. A checkpoint commits to the leaves, so
to every entry's bytes; it does not commit to the entries' signatures.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agentgov.errors import BrokenRecordError
from agentgov.ledger.note import Note, NoteKey, check_text, decode_base64, sign_note, verify_note

MAX_SIZE: Final = 2**64 - 1
# int() alone accepts "+5", "1_0" and "07": one size would have many signed spellings.
_is_size = re.compile(r"0|[1-9][0-9]{0,19}").fullmatch


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a record.

    Attributes:
        origin: The stream's name.
        size: How many entries there are.
        root: The root of the tree over their leaves, 32 bytes.
        extensions: Further lines.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the text that is signed, with its last LF."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


def parse_checkpoint(raw_text: str) -> Checkpoint:
    """Parse a checkpoint's text, without the signatures.

    Raises:
        BrokenRecordError: AG0209, when it is not one; AG0207, when the root is not base64, or a line holds a
            control character.
    """
    check_text(raw_text)
    lines = raw_text.split("\n")
    if len(lines) < 4 or lines[-1] != "" or "" in lines[:-1]:
        raise _malformed("lines are missing or empty")
    origin, raw_size, raw_root, *extensions = lines[:-1]
    if _is_size(raw_size) is None or int(raw_size) > MAX_SIZE:
        raise _malformed("the size is not a number in its only form")
    root = decode_base64(raw_root)
    if len(root) != 32:
        raise _malformed("the root is not 32 bytes")
    return Checkpoint(origin, int(raw_size), root, tuple(extensions))


def sign_checkpoint(checkpoint: Checkpoint, public_key: bytes, sign: Callable[[bytes], bytes]) -> Note:
    """Return the note over a checkpoint, signed under its origin."""
    return sign_note(checkpoint.text(), NoteKey(checkpoint.origin, public_key), sign)


def verify_checkpoint(raw: bytes, origin: str, public_key: bytes) -> Checkpoint:
    """Return the checkpoint in a note that the stream's own key has signed.

    Raises:
        BrokenRecordError: AG0207 or AG0209, when it is no checkpoint; AG0208, when the key has not signed it;
            AG0209, when it is about another stream.
    """
    text, _ = verify_note(raw, [NoteKey(origin, public_key)])
    checkpoint = parse_checkpoint(text)
    if checkpoint.origin != origin:
        raise _malformed("it is about another record")
    return checkpoint


def _malformed(what: str) -> BrokenRecordError:
    return BrokenRecordError(f"this is not a checkpoint: {what}", id="AG0209")
