"""Who no longer speaks for themselves, and up to where in which record they still did.

Rules kept here:

- A revocation freezes: what its keys signed in a record below the frozen head stays good, all else is
  refused, and so is everything in a record that the revocation does not name.
- A frozen head is a size and a root: a record that was rewritten below the size is not the one that was
  frozen.
- The file is strict. A line that is not understood is an error, never a revocation that is passed over.
- Its form is in docs/format.md, "Revoked keys".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from agentgov.errors import ConfigError
from agentgov.text import printable

REVOKED_FILE: Final = ".agentgov/revoked"
HEADER: Final = "agentgov-revoked v1"
MAX_CHARS: Final = 4 * 1024 * 1024
MAX_NAME_CHARS: Final = 256
Scope = Literal["person", "keys"]

_is_fingerprint = re.compile(r"SHA256:[A-Za-z0-9+/]{43}").fullmatch
_parse_head = re.compile(r"(agentgov/[0-9a-f]{32}) ([1-9][0-9]{0,15}) ([A-Za-z0-9+/]{43}=)").fullmatch


@dataclass(frozen=True, slots=True)
class FrozenHead:
    """The head of one record up to which a revoked key still counts.

    Attributes:
        log: The record's origin.
        size: How many of its entries are below the freeze.
        root: The root of these, 32 bytes.
    """

    log: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the line's content after `head `."""
        return f"{self.log} {self.size} {base64.b64encode(self.root).decode()}"


@dataclass(frozen=True, slots=True)
class Revocation:
    """One block of the file.

    Attributes:
        name: The principal, as the trust file spells it.
        scope: Whether every key that the trust file gives this person is meant, now and later, or the listed
            ones only: a person goes, or a key was lost and its owner stays.
        fingerprints: The keys, as `ssh-keygen -l` prints them.
        heads: Up to where they still count, by record.
        reason: Why, for people; empty when nothing was said.
    """

    name: str
    scope: Scope
    fingerprints: tuple[str, ...]
    heads: Mapping[str, FrozenHead] = field(default_factory=dict)
    reason: str = ""

    def size_in(self, log: str) -> int:
        """Return how many entries of a record stay good; 0 when the record is not named."""
        head = self.heads.get(log)
        return 0 if head is None else head.size

    def text(self) -> str:
        """Return the block as it stands in the file."""
        lines = [f"{self.scope} {self.name}"]
        if self.reason:
            lines.append(f"reason {self.reason}")
        lines += [f"key {fingerprint}" for fingerprint in self.fingerprints]
        lines += [f"head {self.heads[log].text()}" for log in sorted(self.heads)]
        return "\n".join(lines) + "\n"


def parse_revoked(raw_text: str) -> tuple[Revocation, ...]:
    """Parse the file of revoked keys.

    Raises:
        ConfigError: AG0421, when any line of it is not understood.
    """
    if len(raw_text) > MAX_CHARS:
        raise _malformed(0, "it is too large")
    blocks: list[_Block] = []
    is_headed = False
    for number, line in enumerate(raw_text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line.strip() or line.startswith("#"):
            continue
        if not is_headed:
            if line != HEADER:
                raise _malformed(number, f"the first line must be {HEADER!a}")
            is_headed = True
            continue
        word, _, rest = line.partition(" ")
        if word == "person":
            blocks.append(_Block(number, "person", _name(rest, number)))
        elif word == "keys":
            blocks.append(_Block(number, "keys", _name(rest, number)))
        elif not blocks:
            raise _malformed(number, "it belongs to no person")
        else:
            blocks[-1].add(word, rest, number)
    if not is_headed:
        raise _malformed(0, f"the first line must be {HEADER!a}")
    return tuple(block.done() for block in blocks)


def revoked_text(revocations: Iterable[Revocation]) -> str:
    """Return a whole file with these blocks."""
    return "\n".join([f"{HEADER}\n", *(revocation.text() for revocation in revocations)])


def append_revocation(raw_text: str | None, revocation: Revocation) -> str:
    """Return the file with one more block; what stands there, comments too, stays as it is.

    Raises:
        ConfigError: AG0421, when the file, or what would be added, is not understood.
    """
    if raw_text is None or not raw_text.strip():
        new = revoked_text([revocation])
    else:
        parse_revoked(raw_text)
        new = raw_text.rstrip("\n") + "\n\n" + revocation.text()
    parse_revoked(new)
    return new


def one_line(raw_reason: str) -> str:
    """Return a reason as it may stand in the file: one printable line of at most `MAX_NAME_CHARS`."""
    return printable(" ".join(raw_reason.split()), limit=MAX_NAME_CHARS)


@dataclass(slots=True)
class _Block:
    number: int
    scope: Scope
    name: str
    reason: str = ""
    fingerprints: list[str] = field(default_factory=list)
    heads: dict[str, FrozenHead] = field(default_factory=dict)

    def add(self, word: str, rest: str, number: int) -> None:
        if word == "key" and _is_fingerprint(rest) and rest not in self.fingerprints:
            self.fingerprints.append(rest)
        elif word == "head" and (head := _head(rest)) is not None and head.log not in self.heads:
            self.heads[head.log] = head
        elif word == "reason" and not self.reason:
            self.reason = _name(rest, number)
        else:
            raise _malformed(number, "it is not understood")

    def done(self) -> Revocation:
        if self.scope == "keys" and not self.fingerprints:
            raise _malformed(self.number, "it names no key")
        return Revocation(self.name, self.scope, tuple(self.fingerprints), self.heads, self.reason)


def _head(raw: str) -> FrozenHead | None:
    found = _parse_head(raw)
    if found is None or int(found[2]) >= 2**53:
        return None
    try:
        root = base64.b64decode(found[3], validate=True)
    except binascii.Error:
        return None
    head = FrozenHead(found[1], int(found[2]), root)
    # The last character of base64 has unused bits: one root would have several spellings.
    return head if head.text() == raw else None


def _name(raw: str, number: int) -> str:
    if not is_name(raw):
        raise _malformed(number, "a name or a reason is not one printable line")
    return raw


def is_name(raw: str) -> bool:
    """Whether a name, or a reason, can stand in the file: printable, not too long, no blanks around it."""
    return bool(raw) and raw == raw.strip() and len(raw) <= MAX_NAME_CHARS and printable(raw) == raw


def _malformed(number: int, what: str) -> ConfigError:
    place = f"{REVOKED_FILE}:{number}" if number else REVOKED_FILE
    return ConfigError(f"the file of revoked keys cannot be read: {what}", id="AG0421", where=place)


def frozen_heads(revocations: Sequence[Revocation], log: str) -> tuple[FrozenHead, ...]:
    """Return the different heads at which a record was frozen, smallest first."""
    found = {head for revocation in revocations if (head := revocation.heads.get(log)) is not None}
    return tuple(sorted(found, key=lambda head: (head.size, head.root)))
