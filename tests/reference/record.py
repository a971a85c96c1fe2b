"""A whole record, from its first entry to its last (docs/format.md, "Entry" to "Seals" and "Verifying")."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.reference import canonical_slow, merkle_slow, notes, persons, signatures, story
from tests.reference.kinds import read_page
from tests.reference.refused import Refused

KINDS = read_page()
_KEYS = ["body", "key", "kind", "log", "prev", "run", "seq", "ts", "v"]
_NEWER = re.compile(r"[a-z]{1,32}(\.[a-z_]{1,32})+")
_RUN = re.compile("[0123456789abcdefghjkmnpqrstvwxyz]{5}")
_NOT_BY_OLD_KEYS = ("key.rotate", "key.end")


@dataclass
class RawSeal:
    """One seal's four files."""

    entries: bytes
    signatures: bytes
    checkpoint: bytes
    proof: bytes


@dataclass
class Known:
    """What the reader knew of the record: its key, and heads that were seen (size, root, who saw them)."""

    key: bytes | None = None
    heads: Sequence[tuple[int, bytes, str]] = ()
    persons: Sequence[bytes] = ()


@dataclass
class Record:
    """What was read so far, and holds."""

    log: str
    leaves: list[bytes] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    keys: dict[int, tuple[bytes, str | None]] = field(default_factory=dict)
    runs: dict[str, story.Run] = field(default_factory=dict)
    continues: bool = False
    endorsed_by: list[bytes] = field(default_factory=list)
    boundary: int = 0
    sealed: int = 0
    is_ended: bool = False

    def take_seal(self, seal: RawSeal) -> None:
        """Check a seal's entries, one by one, then its checkpoint and proof."""
        first = len(self.leaves)
        lines, signed = _lines(seal.entries, first), _lines(seal.signatures, first)
        if len(lines) != len(signed):
            raise Refused("seal", "not as many signatures as entries", first)
        for line, raw_signature in zip(lines, signed, strict=True):
            self.take(line, raw_signature)
        try:
            self._check_head(seal)
        except Refused as error:
            raise Refused("seal", error.why, len(self.leaves)) from None
        self.boundary = self.sealed = len(self.leaves)

    def _check_head(self, seal: RawSeal) -> None:
        size, root = notes.open_checkpoint(seal.checkpoint, self.log, self.keys[0][0])
        if size != len(self.leaves) or root != merkle_slow.root(self.leaves):
            raise Refused("seal", "a signed head of other entries")
        expected = merkle_slow.path(size - 1, self.leaves)
        found = [
            notes.only_base64(line.decode("ascii", "replace")) for line in _lines(seal.proof, 0, least=0)
        ]
        if found != expected:
            raise Refused("seal", "another proof")

    def take(self, line: bytes, raw_signature: bytes) -> None:
        """Check one entry: form, log, place, link, signature's form, key, signature, keys, story, persons."""
        seq = len(self.leaves)
        entry = _parse(line, seq)
        if entry["log"] != self.log:
            raise Refused("other-log", entry["log"], seq)
        before = self.leaves[-1].hex() if self.leaves else "0" * 64
        if entry["seq"] != seq or entry["prev"] != before:
            raise Refused("order", "it does not follow", seq)
        try:
            signature = notes.only_base64(raw_signature.decode("ascii", "replace"))
        except Refused as error:
            raise Refused("signature", error.why, seq) from None
        if len(signature) != 64:
            raise Refused("signature", "not 64 bytes", seq)
        key = self._key_of(entry)
        if not signatures.is_acceptable_key(key):
            raise Refused("key", "a key that is refused", seq)
        if not signatures.verify(key, signature, signatures.pae(signatures.ENTRY_TYPE, line)):
            raise Refused("signature", "wrong", seq)
        if entry["kind"] not in KINDS:
            raise Refused("newer", entry["kind"], seq)
        self._change_keys(entry)
        if entry["run"] is not None:
            run = self.runs.setdefault(entry["run"], story.Run())
            story.tell(run, entry, continues=self.continues)
        elif entry["kind"] == "log.genesis":
            self.continues = entry["body"]["continues"] is not None
        if entry["kind"] == "stream.endorse":
            own = self.keys[0][0].hex()
            self.endorsed_by += persons.check_endorsement(entry["body"]["envelope"], self.log, own, seq)
        if entry["kind"] == "approval.given":
            persons.check_envelope(entry["body"]["envelope"], seq)
        self.is_ended = entry["kind"] == "log.end"
        self.entries.append(entry)
        self.leaves.append(merkle_slow.leaf(line))

    def _key_of(self, entry: dict[str, Any]) -> bytes:
        seq, kind, number = entry["seq"], entry["kind"], entry["key"]
        if self.is_ended:
            raise Refused("order", "the record has ended", seq)
        if seq == 0:
            return bytes.fromhex(entry["body"]["public_key"])
        if number not in self.keys:
            raise Refused("key", "not in use", seq)
        key, run = self.keys[number]
        who = KINDS[kind].who if kind in KINDS else "any"
        if who != "any" and (who == "log") != (number == 0):
            raise Refused("key", f"it may not sign {kind}", seq)
        if number != 0 and entry["run"] not in (None, run):
            raise Refused("key", "of another run", seq)
        if number != 0 and number < self.boundary and kind not in _NOT_BY_OLD_KEYS:
            raise Refused("key", "from before the last seal", seq)
        return key

    def _change_keys(self, entry: dict[str, Any]) -> None:
        seq, kind, body = entry["seq"], entry["kind"], entry["body"]
        if kind in ("log.genesis", "key.delegate", "key.rotate"):
            key = bytes.fromhex(body["public_key"])
            if not signatures.is_acceptable_key(key):
                raise Refused("key", "it introduces a key that is refused", seq)
            self.keys[seq] = (key, entry["run"])
        if kind in _NOT_BY_OLD_KEYS:
            del self.keys[entry["key"]]
        if kind == "key.lost":
            lost = body["lost"]
            if lost == 0 or lost not in self.keys or self.keys[lost][1] != entry["run"]:
                raise Refused("key", "no such key is lost", seq)
            del self.keys[lost]

    def compare(self, known: Known) -> set[str]:
        """Return what does not agree with what the reader knew."""
        found = set()
        own = self.keys[0][0]
        if known.key is not None and known.key != own:
            return {"other-key"}
        if known.key is None and not known.heads and not set(known.persons) & set(self.endorsed_by):
            found.add("unknown-key")
        for size, root, who in known.heads:
            if size > len(self.leaves):
                found.add("shorter")
            elif merkle_slow.root(self.leaves[:size]) != root:
                found.add("fork" if who == "copy" else "rewritten")
        if any(run.started and not run.ended for run in self.runs.values()):
            found.add("unfinished")
        return found


def read(log: str, seals: Sequence[RawSeal], tail: Sequence[tuple[bytes, bytes]] = ()) -> Record:
    """Read a record of which nothing is known; raises Refused at the first entry that does not hold."""
    record = Record(log)
    for seal in seals:
        record.take_seal(seal)
    for line, raw_signature in tail:
        record.take(line, raw_signature)
    return record


def _parse(line: bytes, place: int) -> dict[str, Any]:
    try:
        return _check_form(canonical_slow.parse(line))
    except Refused as error:
        raise Refused("line", error.why, place) from None


def _check_form(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict) or list(entry) != _KEYS or entry["v"] != 1 or entry["v"] is True:
        raise Refused("line", "not the keys of an entry")
    numbers = [entry["seq"], entry["key"], entry["ts"]]
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in numbers):
        raise Refused("line", "not numbers")
    if not (entry["key"] < entry["seq"] or entry["key"] == entry["seq"] == 0):
        raise Refused("line", "not a key from before")
    texts = [entry["log"], entry["prev"], entry["kind"], "" if entry["run"] is None else entry["run"]]
    if not all(isinstance(text, str) for text in texts) or not isinstance(entry["body"], dict):
        raise Refused("line", "not text")
    if not re.fullmatch("agentgov/[0-9a-f]{32}", entry["log"]) or not re.fullmatch(
        "[0-9a-f]{64}", entry["prev"]
    ):
        raise Refused("line", "not a log or a hash")
    if entry["run"] is not None and not _RUN.fullmatch(entry["run"]):
        raise Refused("line", "not a run")
    if (entry["kind"] == "log.genesis") != (entry["seq"] == 0):
        raise Refused("line", "not a kind that can stand here")
    if entry["kind"] in KINDS:
        _check_body(entry)
    elif not _NEWER.fullmatch(entry["kind"]):
        raise Refused("line", "not a kind")
    return entry


def _check_body(entry: dict[str, Any]) -> None:
    kind, body = KINDS[entry["kind"]], entry["body"]
    if {"+": entry["run"] is None, "-": entry["run"] is not None, "~": False}[kind.run]:
        raise Refused("line", "run must be set, or must not be")
    if body.keys() != kind.fields.keys():
        raise Refused("line", "other fields")
    for name, check in kind.fields.items():
        if not check(body[name]):
            raise Refused("line", f"{name} is not what it must be")
    if "from" in body:
        story.check_step_alone(entry["kind"], body, entry["seq"])


def _lines(data: bytes, seq: int, *, least: int = 1) -> list[bytes]:
    if data == b"" and least == 0:
        return []
    if not data.endswith(b"\n"):
        raise Refused("seal", "no line feed at the end", seq)
    return data[:-1].split(b"\n")
