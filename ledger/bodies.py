"""What each kind of entry says: its fields, whose key may sign it, and whether it belongs to a run.

Rules: unknown kinds and unknown, missing or ill-typed fields are refused; there is no free text, path,
address or argument, only tokens, numbers, object ids and commitments; `open` is strictly ascending; `changes`
is there exactly when `from` and `tree` differ, and a call's entry may only differ while a call is open. The
log key never signs `call.*`; a session key signs for its own run only, and never introduces or buries another
key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from agentgov.errors import BrokenRecordError
from agentgov.ids import is_token

Check = Callable[[Any], bool]
MAX_LIST: Final = 4096
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

_is_digest = re.compile(r"[0-9a-f]{64}").fullmatch
_is_oid = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}").fullmatch
_is_origin = re.compile(r"agentgov/[0-9a-f]{32}").fullmatch
_is_base64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?").fullmatch


@dataclass(frozen=True, slots=True)
class Kind:
    """The rules for one kind of entry.

    Attributes:
        fields: Every field and what it must be.
        run: Whether `run` must be set, must be null, or may be either.
        signer: Whose key may sign it.
    """

    fields: Mapping[str, Check]
    run: Literal["set", "null", "any"]
    signer: Literal["log", "session", "any"]


def _number(lowest: int) -> Check:
    return lambda value: type(value) is int and value >= lowest


def _one_of(*names: str) -> Check:
    return lambda value: type(value) is str and value in names


def _maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _record(**fields: Check) -> Check:
    # The fields of a line are sorted, those of a draft are not.
    return lambda value: (
        type(value) is dict and value.keys() == fields.keys() and all(c(value[n]) for n, c in fields.items())
    )


def _list_of(check: Check) -> Check:
    return lambda value: type(value) is list and len(value) <= MAX_LIST and all(map(check, value))


def _digest(value: Any) -> bool:
    return type(value) is str and _is_digest(value) is not None


def _oid(value: Any) -> bool:
    return type(value) is str and _is_oid(value) is not None


def _token(value: Any) -> bool:
    return type(value) is str and is_token(value)


def _bool(value: Any) -> bool:
    return type(value) is bool


def _text(value: Any) -> bool:
    return type(value) is str


def _base64(value: Any) -> bool:
    return type(value) is str and _is_base64(value) is not None


def _origin(value: Any) -> bool:
    return type(value) is str and _is_origin(value) is not None


def _ascending(value: Any) -> bool:
    if type(value) is not list or len(value) > MAX_LIST or any(type(n) is not int for n in value):
        return False
    return all(a < b for a, b in zip([0, *value], value, strict=False))


_COUNT, _NUMBER, _PLACE = _number(0), _number(1), _one_of("workspace", "in-place")
_COMMITMENT = _digest
_EXIT = _maybe(lambda value: type(value) is int)
_ENVELOPE = _record(
    payload=_base64,
    payload_type=_text,
    signatures=lambda v: _list_of(_record(keyid=_text, sig=_base64))(v) and len(v) > 0,
)
_VERDICT = _record(decision=_one_of("allow", "ask", "deny"), policy=_digest, rules=_list_of(_token))
_CAPTURE = _record(
    files=_one_of("watch", "scan"),
    gateway=_one_of("off", "on"),
    hooks=_bool,
    keys=_one_of("open", "closed"),
    ledger=_one_of("open", "closed"),
    sandbox=_token,
)
_STEP: dict[str, Check] = {
    "changes": _maybe(_COMMITMENT),
    "from": _oid,
    "how": _one_of("incremental", "full"),
    "open": _ascending,
    "tree": _oid,
}

KINDS: Final[Mapping[str, Kind]] = {
    "log.genesis": Kind(
        {
            "continues": _maybe(_record(leaf=_digest, log=_origin, size=_NUMBER)),
            "object_format": _one_of("sha1", "sha256"),
            "public_key": _digest,
        },
        "null",
        "log",
    ),
    "log.recovered": Kind({"sha256": _digest, "torn_bytes": _NUMBER}, "null", "log"),
    "log.heartbeat": Kind({}, "any", "any"),
    "log.end": Kind(
        {"next": _maybe(_record(log=_origin, public_key=_digest)), "reason": _one_of(*END_REASONS)},
        "null",
        "log",
    ),
    "pin.forgotten": Kind({"log": _origin, "root": _digest, "size": _NUMBER}, "null", "any"),
    "key.delegate": Kind({"public_key": _digest, "purpose": _one_of("run")}, "set", "log"),
    "key.rotate": Kind({"public_key": _digest}, "set", "session"),
    "key.end": Kind({}, "set", "session"),
    "key.lost": Kind({"lost": _NUMBER}, "set", "log"),
    "stream.endorse": Kind({"envelope": _ENVELOPE}, "null", "log"),
    "policy.adopted": Kind(
        {
            "digest": _digest,
            "source": _one_of(
                "built-in", "organisation", "policy-ref", "pinned", "remote-default", "default-branch", "base"
            ),
            "text": _COMMITMENT,
        },
        "any",
        "any",
    ),
    "run.start": Kind(
        {
            "agent": _token,
            "agent_version": _maybe(_token),
            "base": _oid,
            "capture": _CAPTURE,
            "how": _one_of("incremental", "full"),
            "intent": _maybe(_COMMITMENT),
            "policy": _digest,
            "start": _COMMITMENT,
            "tree": _oid,
            "workspace": _one_of("in-place", "clone"),
        },
        "set",
        "any",
    ),
    "actor.seen": Kind({"actor": _NUMBER, "parent": _COUNT, "who": _COMMITMENT}, "set", "session"),
    "call.request": Kind(
        {**_STEP, "actor": _COUNT, "args": _COMMITMENT, "n": _NUMBER, "tool": _token, "verdict": _VERDICT},
        "set",
        "session",
    ),
    "call.answer": Kind(
        {"answer": _one_of("allow", "deny"), "by": _one_of("operator", "timeout", "run-ended"), "n": _NUMBER},
        "set",
        "session",
    ),
    "call.result": Kind(
        {
            **_STEP,
            "n": _NUMBER,
            "output": _maybe(_COMMITMENT),
            "status": _one_of("ok", "error", "interrupted"),
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
            "state": _one_of("finished", "interrupted", "stopped", "failed"),
        },
        "set",
        "any",
    ),
    "result.bind": Kind(
        {"base": _oid, "delta": _digest, "problems": _maybe(_COMMITMENT), "result": _oid, "tree": _oid},
        "set",
        "any",
    ),
    "run.rollback": Kind({**_STEP, "place": _PLACE, "target": _oid, "to": _number(-1)}, "set", "any"),
    "run.apply": Kind({"place": _PLACE, "result": _oid, "saved": _oid}, "set", "any"),
    "run.drop": Kind({}, "set", "any"),
    "approval.given": Kind({"envelope": _ENVELOPE, "message": _maybe(_COMMITMENT)}, "set", "any"),
    "promote.intent": Kind(
        {
            "approvals": _ascending,
            "base": _oid,
            "delta": _digest,
            "head": _oid,
            "old": _oid,
            "policy": _digest,
            "result": _oid,
            "self_approved": _bool,
            "target": _COMMITMENT,
            "tier": _token,
        },
        "set",
        "any",
    ),
    "promote.done": Kind({"commit": _oid}, "set", "any"),
    "promote.failed": Kind({"reason": _token}, "set", "any"),
    "payload.erased": Kind(
        {
            "commitment": _COMMITMENT,
            "entry": _COUNT,
            "field": _one_of(*PAYLOAD_FIELDS),
            "reason": _maybe(_COMMITMENT),
        },
        "set",
        "any",
    ),
    "payload.pruned": Kind(
        {
            "before": _NUMBER,
            "cause": _one_of("retention", "size", "operator"),
            "class": _one_of(*PAYLOAD_CLASSES),
            "count": _COUNT,
        },
        "set",
        "any",
    ),
}

STEPS: Final = frozenset(name for name, kind in KINDS.items() if kind.fields.keys() >= _STEP.keys())
"""The kinds that are a step in the run's sequence of snapshots; `run.start` gives the first tree."""

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
    for name, check in rules.fields.items():
        if not check(body[name]):
            raise BrokenRecordError(f"{kind}: {name} is not what it must be", id="AG0203", where=where)
    if kind in STEPS:
        _check_step(kind, body, where)


def _check_step(kind: str, body: Mapping[str, Any], where: str | None) -> None:
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
