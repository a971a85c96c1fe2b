"""What each kind of entry says: its fields, whose key may sign it, and whether it belongs to a run.

Rules: unknown kinds and unknown, missing or ill-typed fields are refused; there is no free text, path,
address or argument, only tokens, numbers, object ids and commitments; `open` is strictly ascending; `changes`
is there exactly when `from` and `tree` differ, and a call's entry may only differ while a call is open. The
log key never signs `call.*`; a session key signs for its own run only, and never introduces or buries another
key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from agentgov.errors import BrokenRecordError
from agentgov.ledger.fields import (
    ASCENDING,
    BASE64,
    BOOLEAN,
    DIGEST,
    INTEGER,
    OID,
    ORIGIN,
    TEXT,
    TOKEN,
    Field,
    is_ascending,
    list_of,
    maybe,
    number,
    one_of,
    record,
)

END_REASONS: Final = ("rotated", "restarted", "retired")
PAYLOAD_CLASSES: Final = ("args", "changes", "output", "patch")
PAYLOAD_FIELDS: Final = (
    "args",
    "changes",
    "intent",
    "message",
    "output",
    "patch",
    "reason",
    "start",
    "target",
    "text",
    "who",
)


@dataclass(frozen=True, slots=True)
class Kind:
    """The rules for one kind of entry.

    Attributes:
        fields: Every field and what it must be.
        run: Whether `run` must be set, must be null, or may be either.
        signer: Whose key may sign it.
    """

    fields: Mapping[str, Field]
    run: Literal["set", "null", "any"]
    signer: Literal["log", "session", "any"]


_COUNT, _NUMBER, _PLACE = number(0), number(1), one_of("workspace", "in-place")
_COMMITMENT = DIGEST
_EXIT = maybe(INTEGER)
_ENVELOPE = record(
    payload=BASE64,
    payload_type=TEXT,
    signatures=list_of(record(keyid=TEXT, sig=BASE64), lowest=1),
)
_VERDICT = record(decision=one_of("allow", "ask", "deny"), policy=DIGEST, rules=list_of(TOKEN))
_CAPTURE = record(
    files=one_of("watch", "scan"),
    gateway=one_of("off", "on"),
    hooks=BOOLEAN,
    keys=one_of("open", "closed"),
    ledger=one_of("open", "closed"),
    sandbox=TOKEN,
)
_STEP: dict[str, Field] = {
    "changes": maybe(_COMMITMENT),
    "from": OID,
    "how": one_of("incremental", "full"),
    "open": ASCENDING,
    "tree": OID,
}

KINDS: Final[Mapping[str, Kind]] = {
    "log.genesis": Kind(
        {
            "continues": maybe(record(leaf=DIGEST, log=ORIGIN, size=_NUMBER)),
            "object_format": one_of("sha1", "sha256"),
            "public_key": DIGEST,
        },
        "null",
        "log",
    ),
    "log.recovered": Kind({"sha256": DIGEST, "torn_bytes": _NUMBER}, "null", "log"),
    "log.heartbeat": Kind({}, "any", "any"),
    "log.end": Kind(
        {"next": maybe(record(log=ORIGIN, public_key=DIGEST)), "reason": one_of(*END_REASONS)},
        "null",
        "log",
    ),
    "pin.forgotten": Kind({"log": ORIGIN, "root": DIGEST, "size": _NUMBER}, "null", "any"),
    "key.delegate": Kind({"public_key": DIGEST, "purpose": one_of("run")}, "set", "log"),
    "key.rotate": Kind({"public_key": DIGEST}, "set", "session"),
    "key.end": Kind({}, "set", "session"),
    "key.lost": Kind({"lost": _NUMBER}, "set", "log"),
    "stream.endorse": Kind({"envelope": _ENVELOPE}, "null", "log"),
    "policy.adopted": Kind(
        {
            "digest": DIGEST,
            "source": one_of(
                "built-in", "organisation", "policy-ref", "pinned", "remote-default", "default-branch", "base"
            ),
            "text": _COMMITMENT,
        },
        "any",
        "any",
    ),
    "run.start": Kind(
        {
            "agent": TOKEN,
            "agent_version": maybe(TOKEN),
            "base": OID,
            "capture": _CAPTURE,
            "how": one_of("incremental", "full"),
            "intent": maybe(_COMMITMENT),
            "policy": DIGEST,
            "start": _COMMITMENT,
            "tree": OID,
            "workspace": one_of("in-place", "clone"),
        },
        "set",
        "any",
    ),
    "actor.seen": Kind({"actor": _NUMBER, "parent": _COUNT, "who": _COMMITMENT}, "set", "session"),
    "call.request": Kind(
        {**_STEP, "actor": _COUNT, "args": _COMMITMENT, "n": _NUMBER, "tool": TOKEN, "verdict": _VERDICT},
        "set",
        "session",
    ),
    "call.answer": Kind(
        {"answer": one_of("allow", "deny"), "by": one_of("operator", "timeout", "run-ended"), "n": _NUMBER},
        "set",
        "session",
    ),
    "call.result": Kind(
        {
            **_STEP,
            "n": _NUMBER,
            "output": maybe(_COMMITMENT),
            "status": one_of("ok", "error", "interrupted"),
            "took_us": _COUNT,
        },
        "set",
        "session",
    ),
    "change.unattributed": Kind(dict(_STEP), "set", "any"),
    "run.end": Kind(
        {
            **_STEP,
            "ended": _COUNT,
            "exit": _EXIT,
            "state": one_of("finished", "interrupted", "stopped", "failed"),
        },
        "set",
        "any",
    ),
    "result.bind": Kind(
        {"base": OID, "delta": DIGEST, "problems": maybe(_COMMITMENT), "result": OID, "tree": OID},
        "set",
        "any",
    ),
    "run.rollback": Kind({**_STEP, "place": _PLACE, "target": OID, "to": number(-1)}, "set", "any"),
    "run.apply": Kind({"place": _PLACE, "result": OID, "saved": OID}, "set", "any"),
    "run.drop": Kind({}, "set", "any"),
    "approval.given": Kind({"envelope": _ENVELOPE, "message": maybe(_COMMITMENT)}, "set", "any"),
    "promote.intent": Kind(
        {
            "approvals": ASCENDING,
            "base": OID,
            "delta": DIGEST,
            "head": OID,
            "old": OID,
            "policy": DIGEST,
            "result": OID,
            "self_approved": BOOLEAN,
            "target": _COMMITMENT,
            "tier": TOKEN,
        },
        "set",
        "any",
    ),
    "promote.done": Kind({"commit": OID}, "set", "any"),
    "promote.failed": Kind({"reason": TOKEN}, "set", "any"),
    "payload.erased": Kind(
        {
            "commitment": _COMMITMENT,
            "entry": _COUNT,
            "field": one_of(*PAYLOAD_FIELDS),
            "reason": maybe(_COMMITMENT),
        },
        "set",
        "any",
    ),
    "payload.pruned": Kind(
        {
            "before": _NUMBER,
            "cause": one_of("retention", "size", "operator"),
            "class": one_of(*PAYLOAD_CLASSES),
            "count": _COUNT,
        },
        "set",
        "any",
    ),
}

STEPS: Final = frozenset(name for name, kind in KINDS.items() if kind.fields.keys() >= _STEP.keys())
"""The kinds that are a step in the run's sequence of snapshots; `run.start` gives the first tree."""

_LISTS: Final = {
    name: tuple(f for f, field in kind.fields.items() if field is ASCENDING) for name, kind in KINDS.items()
}
_MAY_CHANGE_ALONE: Final = frozenset({"change.unattributed", "run.rollback", "run.end"})


def check_body(kind: str, run: str | None, body: Mapping[str, Any], *, where: str | None = None) -> None:
    """Check that a body says what its kind demands, and no more.

    Raises:
        BrokenRecordError: AG0203, when it does not.
    """
    rules = KINDS.get(kind)
    if rules is None:
        raise BrokenRecordError(
            "an entry of a kind that this program does not know", id="AG0203", where=where
        )
    if (rules.run == "set" and run is None) or (rules.run == "null" and run is not None):
        belongs = "must name a run" if run is None else "names a run and must not"
        raise BrokenRecordError(f"{kind} {belongs}", id="AG0203", where=where)
    if body.keys() != rules.fields.keys():
        raise BrokenRecordError(f"{kind} has other fields than it must", id="AG0203", where=where)
    for name, field in rules.fields.items():
        if not field.check(body[name]):
            raise BrokenRecordError(f"{kind}: {name} is not what it must be", id="AG0203", where=where)
    check_relations(kind, body, where=where)


def check_relations(kind: str, body: Mapping[str, Any], *, where: str | None = None) -> None:
    """Check what no single field can show: lists that ascend, and what the fields of a step say together.

    Raises:
        BrokenRecordError: AG0203, when they do not fit.
    """
    for name in _LISTS.get(kind, ()):
        if not is_ascending(body[name]):
            raise BrokenRecordError(f"{kind}: {name} is not what it must be", id="AG0203", where=where)
    if kind not in STEPS:
        return
    changed = body["from"] != body["tree"]
    if changed != (body["changes"] is not None):
        raise BrokenRecordError(f"{kind}: changes and trees do not agree", id="AG0203", where=where)
    if changed and not body["open"] and kind not in _MAY_CHANGE_ALONE:
        raise BrokenRecordError(f"{kind}: a change while no call is open", id="AG0203", where=where)
    if kind == "change.unattributed" and (not changed or body["open"]):
        raise BrokenRecordError(f"{kind}: no change, or a call is open", id="AG0203", where=where)
    if kind == "call.result" and body["n"] not in body["open"]:
        raise BrokenRecordError(f"{kind}: its own call is not open", id="AG0203", where=where)
    if kind == "run.rollback" and body["open"]:
        raise BrokenRecordError(f"{kind}: a call is open", id="AG0203", where=where)
