"""What a proof of ours carries besides its entry's place: the entry, and what it takes to check it.

Rules: one object of canonical JSON with exactly the fields below; entries are exact lines, bytes are base64;
every entry besides the first has its own index and inclusion proof in the same checkpoint; entries of one
list stand in the order of their numbers, each once. Parsing believes nothing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from agentgov.errors import BrokenRecordError
from agentgov.ledger import canonical
from agentgov.ledger.note import decode_base64
from agentgov.ledger.tlog_proof import MAX_BYTES, MAX_HASHES

VERSION: Final = 1
MAX_ITEMS: Final = 256
# Each of them may hold many signatures of persons.
MAX_ENDORSEMENTS: Final = 8
_KEYS: Final = {"endorsements", "entry", "keys", "payloads", "related", "signature", "timestamp", "v"}
_INCLUDED: Final = {"entry", "index", "proof", "signature"}
_PAYLOAD: Final = {"class", "field", "salt", "value"}


@dataclass(frozen=True, slots=True)
class Included:
    """One more entry of the record, with its place in the same checkpoint's tree."""

    index: int
    line: bytes
    signature: bytes
    hashes: tuple[bytes, ...]

    def to_json(self) -> dict[str, Any]:
        """Return its form in the file."""
        return {
            "entry": self.line.decode("ascii"),
            "index": self.index,
            "proof": [_encode(item) for item in self.hashes],
            "signature": _encode(self.signature),
        }


@dataclass(frozen=True, slots=True)
class ProvenPayload:
    """A payload, with the salt that its commitment needs."""

    cls: str
    field: str
    salt: bytes
    value: bytes

    def to_json(self) -> dict[str, Any]:
        """Return its form in the file."""
        return {
            "class": self.cls,
            "field": self.field,
            "salt": _encode(self.salt),
            "value": _encode(self.value),
        }


@dataclass(frozen=True, slots=True)
class ProofExtra:
    """Everything that a proof of an entry carries.

    Attributes:
        line: The entry's exact bytes, without LF.
        signature: Its signature.
        related: The other entries of the same call.
        keys: The entries that introduced the session keys that signed those above.
        endorsements: Entries by which persons stand behind the record's log key.
        payloads: Payloads that the entries commit to.
        timestamp: A time stamp over the checkpoint as the log key signed it (RFC 3161, TimeStampResp), or
            None.
    """

    line: bytes
    signature: bytes
    related: tuple[Included, ...] = ()
    keys: tuple[Included, ...] = ()
    endorsements: tuple[Included, ...] = ()
    payloads: tuple[ProvenPayload, ...] = ()
    timestamp: bytes | None = None

    def to_bytes(self) -> bytes:
        """Return the canonical JSON."""
        value = {
            "endorsements": [item.to_json() for item in self.endorsements],
            "entry": self.line.decode("ascii"),
            "keys": [item.to_json() for item in self.keys],
            "payloads": [item.to_json() for item in self.payloads],
            "related": [item.to_json() for item in self.related],
            "signature": _encode(self.signature),
            "timestamp": None if self.timestamp is None else _encode(self.timestamp),
            "v": VERSION,
        }
        # An entry may be as long as canonical JSON may be as a whole; a proof may be longer.
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("ascii")


def parse_extra(raw: bytes) -> ProofExtra:
    """Parse what a proof carries.

    Raises:
        BrokenRecordError: AG0404, when it is nothing that this program would write.
    """
    try:
        value = canonical.decode(raw, max_bytes=MAX_BYTES)
        if not isinstance(value, Mapping) or value.keys() != _KEYS or type(value["v"]) is not int:
            raise _malformed("its fields are others")
        if value["v"] != VERSION:
            raise _malformed("a newer program wrote it")
        timestamp = value["timestamp"]
        return ProofExtra(
            _line(value["entry"]),
            _bytes(value["signature"]),
            _included(value["related"]),
            _included(value["keys"]),
            _included(value["endorsements"], MAX_ENDORSEMENTS),
            tuple(map(_payload, _list(value["payloads"], MAX_ITEMS))),
            None if timestamp is None else _bytes(timestamp),
        )
    except BrokenRecordError as error:
        if error.id == "AG0404":
            raise
        raise _malformed(error.message) from None


def _included(raw: object, most: int = MAX_ITEMS) -> tuple[Included, ...]:
    items = []
    for item in _list(raw, most):
        if not isinstance(item, Mapping) or item.keys() != _INCLUDED:
            raise _malformed("an entry in it has other fields")
        index = item["index"]
        if type(index) is not int or index < 0:
            raise _malformed("an entry in it has no number")
        hashes = tuple(map(_bytes, _list(item["proof"], MAX_HASHES)))
        items.append(Included(index, _line(item["entry"]), _bytes(item["signature"]), hashes))
    if any(a.index >= b.index for a, b in pairwise(items)):
        raise _malformed("the entries in it are not in order")
    return tuple(items)


def _payload(raw: object) -> ProvenPayload:
    if not isinstance(raw, Mapping) or raw.keys() != _PAYLOAD:
        raise _malformed("a payload in it has other fields")
    cls, field = raw["class"], raw["field"]
    if type(cls) is not str or type(field) is not str:
        raise _malformed("a payload in it has no name")
    return ProvenPayload(cls, field, _bytes(raw["salt"]), _bytes(raw["value"]))


def _list(raw: object, most: int) -> Sequence[object]:
    if not isinstance(raw, list) or len(raw) > most:
        raise _malformed(f"a list in it is none, or has more than {most} items")
    return raw


def _line(raw: object) -> bytes:
    if type(raw) is not str:
        raise _malformed("an entry in it is no text")
    return raw.encode("ascii")


def _bytes(raw: object) -> bytes:
    if type(raw) is not str:
        raise _malformed("bytes in it are no text")
    return decode_base64(raw)


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _malformed(what: str) -> BrokenRecordError:
    return BrokenRecordError(f"what this proof carries cannot be read: {what}", id="AG0404")
