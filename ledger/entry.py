"""The entry: one line of canonical JSON, what is hashed and what is signed.

Rules: the nine keys are there, no others; `v` is 1; `seq` 0 is `log.genesis` and nothing else is; `key` names
an entry before this one (0 in the first); the body fits the kind. A line is parsed only if it is its own
canonical form, so that verification never has to encode again. Most lines are read by one pattern; it accepts
nothing that parsing would not, and what it does not match is parsed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from agentgov.errors import AgentgovError, BrokenRecordError
from agentgov.ids import RunId, is_run_id
from agentgov.ledger import canonical
from agentgov.ledger.bodies import KINDS, check_body, check_relations
from agentgov.ledger.chain import LeafHash, leaf_hash
from agentgov.ledger.lines import form_of

VERSION: Final = 1
PAYLOAD_TYPE: Final = "application/vnd.agentgov.entry.v1+json"
_KEYS: Final = ["body", "key", "kind", "log", "prev", "run", "seq", "ts", "v"]
_is_log = re.compile(r"agentgov/[0-9a-f]{32}").fullmatch
_is_hash = re.compile(r"[0-9a-f]{64}").fullmatch


@dataclass(frozen=True, slots=True)
class Draft:
    """What a writer wants to say; its place, time and signature are added when it is appended.

    Attributes:
        kind: One of the kinds in `bodies.py`.
        run: The run it belongs to; None for what concerns the whole record.
        body: The fields that the kind demands.
    """

    kind: str
    run: RunId | None
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A parsed entry.

    Attributes:
        seq: Its place, from 0.
        prev: The leaf before it, 64 hex characters.
        log: The origin of the stream, `agentgov/` and 32 hex characters.
        kind: What it says.
        ts: When the writer says it was, microseconds since 1970 UTC; no evidence of order.
        run: The run it belongs to, or None.
        key: The place of the entry that introduced the signing key; 0 is the log key.
        body: The kind's own fields.
    """

    seq: int
    prev: str
    log: str
    kind: str
    ts: int
    run: RunId | None
    key: int
    body: dict[str, Any] = field(hash=False)

    def line(self) -> bytes:
        """Return the canonical bytes, without LF.

        Raises:
            AgentgovError: AG0201, when the body has no canonical form or the line is too long.
        """
        body = canonical.encode(self.body, depth=1).decode("ascii")
        run = "null" if self.run is None else f'"{self.run}"'
        line = (
            f'{{"body":{body},"key":{self.key},"kind":"{self.kind}","log":"{self.log}","prev":"{self.prev}",'
            f'"run":{run},"seq":{self.seq},"ts":{self.ts},"v":{VERSION}}}'
        ).encode("ascii")
        if len(line) > canonical.MAX_BYTES:
            raise AgentgovError(
                f"this cannot be written into the record: longer than {canonical.MAX_BYTES} bytes",
                id="AG0201",
            )
        return line


@dataclass(frozen=True, slots=True)
class SignedEntry:
    """An entry with its exact bytes and the signature over them."""

    entry: Entry
    line: bytes
    signature: bytes

    def leaf(self) -> LeafHash:
        """Return the leaf of this entry."""
        return leaf_hash(self.line)


def parse_entry(raw_line: bytes) -> Entry:
    """Parse one line, without its LF.

    Raises:
        BrokenRecordError: AG0200, when it is not canonical JSON; AG0202, when it is not an entry; AG0203,
            when its body does not fit its kind.
    """
    return match_entry(raw_line) or decode_entry(raw_line)


def match_entry(raw_line: bytes) -> Entry | None:
    """Read a line by the pattern of its kind; None when that does not decide, whatever the reason."""
    at = raw_line.rfind(b'"kind":"') + 8
    kind = raw_line[at : raw_line.find(b'"', at)].decode("ascii", "replace")
    if kind not in KINDS or len(raw_line) > canonical.MAX_BYTES or not raw_line.isascii():
        return None
    form = form_of(kind)
    match = form.pattern.fullmatch(raw_line.decode("ascii"))
    if match is None:
        return None
    *fields, raw_key, log, prev, run, raw_seq, raw_ts = match.groups()
    body = dict(zip(form.names, fields, strict=True))
    for name, read in form.reads:
        if body[name] is not None:
            body[name] = read(body[name])
    seq, key = int(raw_seq), int(raw_key)
    if not (0 <= key < seq or key == seq == 0) or (kind == "log.genesis") != (seq == 0):
        return None
    try:
        check_relations(kind, body)
    except BrokenRecordError:
        return None
    return Entry(seq, prev, log, kind, int(raw_ts), RunId(run) if run else None, key, body)


def decode_entry(raw_line: bytes) -> Entry:
    """Parse one line the slow way, which names what is wrong; raises as `parse_entry`."""
    entry = decode_frame(raw_line)
    check_body(entry.kind, entry.run, entry.body, where=f"entry {entry.seq}")
    return entry


def decode_frame(raw_line: bytes) -> Entry:
    """Parse what all kinds of entries have in common; the kind may be unknown, and its body is not checked.

    Raises:
        BrokenRecordError: AG0200, when it is not canonical JSON; AG0202, when it is not an entry.
    """
    value = canonical.decode(raw_line)
    # The order of the keys is known: a canonical line has them sorted.
    if type(value) is not dict or list(value) != _KEYS:
        raise _malformed("the keys are not those of an entry", value)
    if value["v"] != VERSION or type(value["v"]) is not int:
        raise _malformed("a version that this program does not know", value)
    seq, key, ts = value["seq"], value["key"], value["ts"]
    if type(seq) is not int or type(key) is not int or type(ts) is not int or seq < 0 or ts < 0:
        raise _malformed("seq, key and ts must be numbers from 0", value)
    if not (0 <= key < seq or key == seq == 0):
        raise _malformed("the key is not one from before", value)
    log, prev, run, kind, body = value["log"], value["prev"], value["run"], value["kind"], value["body"]
    if type(log) is not str or _is_log(log) is None:
        raise _malformed("log is not the origin of a stream", value)
    if type(prev) is not str or _is_hash(prev) is None:
        raise _malformed("prev is not a hash", value)
    if run is not None and (type(run) is not str or not is_run_id(run)):
        raise _malformed("run is not the id of a run", value)
    if type(kind) is not str or type(body) is not dict or (kind == "log.genesis") != (seq == 0):
        raise _malformed("kind or body cannot stand here", value)
    return Entry(seq, prev, log, kind, ts, None if run is None else RunId(run), key, body)


def _malformed(what: str, value: object) -> BrokenRecordError:
    seq = value.get("seq") if type(value) is dict else None
    where = f"entry {seq}" if type(seq) is int else None
    return BrokenRecordError(f"this line is not an entry: {what}", id="AG0202", where=where)
