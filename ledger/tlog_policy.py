"""Which logs and witnesses are believed, and how many witnesses are enough (c2sp.org/tlog-policy).

Rules: lines end in LF; items are separated by spaces and tabs; empty lines and lines that begin with `#` are
passed over; bytes of 0x80 and above are opaque, other control characters than tab and LF are refused. A name
is defined once, before it is used, and is a member of at most one group; `none` cannot be defined; there is
exactly one `quorum`. A key stands for one log and for one witness only, whatever its name. A log's key signs
notes, a witness's key cosigns; one of an algorithm that this program does not know is kept, and never counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from agentgov.errors import BrokenRecordError, ConfigError
from agentgov.ledger.note import (
    COSIGNATURE_ED25519,
    ECDSA,
    ED25519,
    NoteKey,
    parse_any_key,
)

MAX_BYTES: Final = 1_000_000
MAX_LINES: Final = 10_000
NONE: Final = "none"
_RFC_6962: Final = 0x05
_has_control = re.compile(rb"[^\t\n\x20-\x7e\x80-\xff]").search
# int() alone accepts "+5", "1_0" and "07".
_is_threshold = re.compile(r"[1-9][0-9]{0,5}").fullmatch


@dataclass(frozen=True, slots=True)
class Group:
    """A group of witnesses and groups: it has witnessed what `threshold` of its members have."""

    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """A parsed policy.

    Attributes:
        logs: The logs' keys; a key's name is its log's origin.
        witnesses: The witnesses' keys by the names they have in this policy.
        groups: The groups by name, in the order of their definition: members come before their group.
        quorum: The name of a witness or a group, or `none`.
        raw: The file, byte for byte.
    """

    logs: tuple[NoteKey, ...]
    witnesses: Mapping[str, NoteKey]
    groups: Mapping[str, Group]
    quorum: str
    raw: bytes = field(repr=False)

    @classmethod
    def parse(cls, raw: bytes, *, where: str | None = None) -> Policy:
        """Parse a policy file.

        Args:
            raw: Its bytes.
            where: Its name, for errors.

        Raises:
            ConfigError: AG0402, when it is not one; the line is named.
        """
        return _Parser(where).parse(raw)

    def is_met(self, names: Collection[str]) -> bool:
        """Whether these witnesses, by their names in this policy, are enough; names it does not know are not.

        A policy whose quorum is `none` is met by nobody at all: `demands_witnesses` tells.
        """
        if self.quorum == NONE:
            return True
        met = {name for name in names if name in self.witnesses}
        for name, group in self.groups.items():
            if sum(member in met for member in group.members) >= group.threshold:
                met.add(name)
        return self.quorum in met

    @property
    def demands_witnesses(self) -> bool:
        """Whether a quorum is asked for."""
        return self.quorum != NONE

    def names_of(self, keys: Collection[NoteKey]) -> frozenset[str]:
        """Return the names that these keys have in this policy."""
        return frozenset(name for name, key in self.witnesses.items() if key in keys)

    def to_bytes(self) -> bytes:
        """Return the file, byte for byte."""
        return self.raw

    def text(self) -> str:
        """Return the file as text; bytes that are not UTF-8 are surrogate escapes."""
        return self.raw.decode("utf-8", "surrogateescape")


class _Parser:
    """Reads a policy line by line."""

    def __init__(self, where: str | None) -> None:
        self._where = where
        self._number = 0
        self._logs: dict[bytes, NoteKey] = {}
        self._witnesses: dict[str, NoteKey] = {}
        self._witness_keys: set[bytes] = set()
        self._groups: dict[str, Group] = {}
        self._members: set[str] = set()
        self._quorum: str | None = None

    def parse(self, raw: bytes) -> Policy:
        """Return the policy."""
        if len(raw) > MAX_BYTES or raw.count(b"\n") > MAX_LINES:
            raise self._refused(f"longer than {MAX_BYTES} bytes or {MAX_LINES} lines")
        if _has_control(raw):
            raise self._refused("a control character")
        if raw and not raw.endswith(b"\n"):
            raise self._refused("the last line does not end in a line feed")
        take: dict[str, Callable[[list[str]], None]] = {
            "log": self._log,
            "witness": self._witness,
            "group": self._group,
            "quorum": self._take_quorum,
        }
        for raw_line in raw.split(b"\n"):
            self._number += 1
            # Other white space than space and tab is refused above, or opaque: str.split() knows more.
            words = [word for word in re.split(rb"[ \t]+", raw_line) if word]
            if not words or words[0].startswith(b"#"):
                continue
            items = [word.decode("utf-8", "surrogateescape") for word in words]
            if items[0] not in take:
                raise self._refused("a line that is neither log, witness, group nor quorum")
            take[items[0]](items[1:])
        if self._quorum is None:
            self._number = 0
            raise self._refused("there is no quorum line")
        return Policy(tuple(self._logs.values()), self._witnesses, self._groups, self._quorum, raw)

    def _log(self, items: list[str]) -> None:
        if not 1 <= len(items) <= 2:
            raise self._refused("a log has a key and at most a URL")
        key = self._key(items[0])
        if key.algorithm == COSIGNATURE_ED25519:
            raise self._refused("a log's key is one that cosigns")
        if key.public_key in self._logs:
            raise self._refused("a log's key stands here twice")
        self._logs[key.public_key] = key

    def _witness(self, items: list[str]) -> None:
        if not 2 <= len(items) <= 3:
            raise self._refused("a witness has a name, a key and at most a URL")
        self._check_new(items[0])
        key = self._key(items[1])
        if key.algorithm in (ED25519, ECDSA, _RFC_6962):
            raise self._refused("a witness's key is not one that cosigns")
        if key.public_key in self._witness_keys:
            raise self._refused("a witness's key stands here twice")
        self._witness_keys.add(key.public_key)
        self._witnesses[items[0]] = key

    def _group(self, items: list[str]) -> None:
        if len(items) < 3:
            raise self._refused("a group has a name, a number and at least one member")
        name, raw_threshold, *members = items
        self._check_new(name)
        for member in members:
            if member not in self._witnesses and member not in self._groups:
                raise self._refused("a group's member is not defined before it")
            if member in self._members:
                raise self._refused("a name is a group's member twice")
            self._members.add(member)
        known = {"all": len(members), "any": 1}
        threshold = known.get(raw_threshold, 0)
        if not threshold and _is_threshold(raw_threshold):
            threshold = int(raw_threshold)
        if not 1 <= threshold <= len(members):
            raise self._refused(
                "a group's number is neither all, any nor from 1 to the number of its members"
            )
        self._groups[name] = Group(threshold, tuple(members))

    def _take_quorum(self, items: list[str]) -> None:
        if self._quorum is not None:
            raise self._refused("a second quorum line")
        if len(items) != 1:
            raise self._refused("a quorum is one name")
        if items[0] != NONE and items[0] not in self._witnesses and items[0] not in self._groups:
            raise self._refused("the quorum's name is not defined before it")
        self._quorum = items[0]

    def _check_new(self, name: str) -> None:
        if name == NONE:
            raise self._refused("none is no name for a witness or a group")
        if name in self._witnesses or name in self._groups:
            raise self._refused("a name is defined twice")

    def _key(self, raw_text: str) -> NoteKey:
        try:
            return parse_any_key(raw_text)
        except BrokenRecordError as error:
            raise self._refused(error.message) from None

    def _refused(self, what: str) -> ConfigError:
        place = f"line {self._number}" if self._number else None
        where = ", ".join(item for item in (self._where, place) if item) or None
        return ConfigError(f"this is not a policy of witnesses: {what}", id="AG0402", where=where)


def is_supported(key: NoteKey) -> bool:
    """Whether this program can verify what a key of this type signs."""
    return key.algorithm in (ED25519, COSIGNATURE_ED25519)
