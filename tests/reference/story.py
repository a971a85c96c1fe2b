"""What the entries of one run must say together (docs/format.md, "Kinds" and "The story of a run")."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.reference.refused import Refused

_BEFORE_START = ("key.delegate", "key.rotate", "key.end", "key.lost", "policy.adopted", "log.heartbeat")
_AFTER_END = (
    *("approval.given", "change.unattributed", "payload.erased", "payload.pruned", "promote.done"),
    *("promote.failed", "promote.intent", "result.bind", "run.apply", "run.drop", "run.end", "run.rollback"),
)
_MAY_CHANGE_ALONE = ("change.unattributed", "run.rollback", "run.end")


@dataclass
class Run:
    """One run, as far as it was told."""

    started: bool = False
    ended: bool = False
    tree: str = ""
    end_tree: str = ""
    calls: dict[int, str] = field(default_factory=dict)  # asked, open, denied, done
    actors: set[int] = field(default_factory=lambda: {0})
    approvals: set[int] = field(default_factory=set)
    promoting: bool = False
    carried: bool = False  # it started in the record that this one continues

    def open(self) -> list[int]:
        """The calls that may be running."""
        return [] if self.ended else sorted(n for n, state in self.calls.items() if state == "open")


def check_step_alone(kind: str, body: dict[str, Any], seq: int) -> None:
    """Check what the fields of one step say together."""
    differ = body["from"] != body["tree"]
    if differ != (body["changes"] is not None):
        raise Refused("line", "changes and trees", seq)
    if differ and not body["open"] and kind not in _MAY_CHANGE_ALONE:
        raise Refused("line", "a change while no call is open", seq)
    if kind == "change.unattributed" and (body["open"] or not differ):
        raise Refused("line", "no unattributed change", seq)
    if kind == "run.rollback" and body["open"]:
        raise Refused("line", "a rollback while a call is open", seq)
    if kind == "call.result" and body["n"] not in body["open"]:
        raise Refused("line", "its own call is not open", seq)


def tell(run: Run, entry: dict[str, Any], *, continues: bool) -> None:
    """Check one entry of a run against those before it, and go on."""
    kind, body, seq = entry["kind"], entry["body"], entry["seq"]
    if kind == "run.start":
        if run.started or run.carried:
            raise Refused("calls", "it starts twice", seq)
        run.started, run.tree = True, body["tree"]
        return
    if not run.started and kind in _BEFORE_START:
        return
    if not run.started:
        if not continues or kind not in _AFTER_END:
            raise Refused("calls", "it has not started", seq)
        run.carried = True
        # Nothing here says with which files it ended: its first step, or its first result, does.
        first = body["from"] if "from" in body else body["tree"] if kind == "result.bind" else None
        if run.tree == "" and first is not None:
            run.tree = first
    if kind.startswith("call."):
        _check_call(run, kind, body, seq)
    if "from" in body:
        if body["from"] != run.tree:
            raise Refused("snapshots", "another tree before", seq)
        if body["open"] != run.open():
            raise Refused("calls", "other calls are open", seq)
        run.tree = body["tree"]
    _go_on(run, kind, body, seq)


def _check_call(run: Run, kind: str, body: dict[str, Any], seq: int) -> None:
    state = run.calls.get(body["n"])
    if run.ended:
        raise Refused("calls", "a call after the end", seq)
    if kind == "call.request":
        if body["n"] != len(run.calls) + 1 or body["actor"] not in run.actors:
            raise Refused("calls", "another number or actor", seq)
    elif state != {"call.answer": "asked", "call.result": "open"}[kind]:
        raise Refused("calls", f"the call is {state}", seq)


def _go_on(run: Run, kind: str, body: dict[str, Any], seq: int) -> None:
    if kind == "call.request":
        decided = {"allow": "open", "ask": "asked", "deny": "denied"}
        run.calls[body["n"]] = decided[body["verdict"]["decision"]]
    elif kind == "call.answer":
        run.calls[body["n"]] = "open" if body["answer"] == "allow" else "denied"
    elif kind == "call.result":
        run.calls[body["n"]] = "done"
    elif kind == "actor.seen":
        # After the end no agent is known any more, the main one neither.
        known = set() if run.ended else run.actors
        if body["parent"] not in known or body["actor"] in known:
            raise Refused("calls", "an actor twice, or of a parent not known", seq)
        run.actors.add(body["actor"])
    elif kind == "run.end":
        if run.ended:
            raise Refused("calls", "it ends twice", seq)
        run.ended, run.end_tree = True, body["tree"]
    elif kind == "result.bind" and body["tree"] != run.tree and body["tree"] != run.end_tree:
        raise Refused("snapshots", "a result of other files", seq)
    elif kind == "approval.given":
        run.approvals.add(seq)
    elif kind == "promote.intent":
        if run.promoting or not set(body["approvals"]) <= run.approvals:
            raise Refused("calls", "two promotions, or approvals that are none", seq)
        run.promoting = True
    elif kind in ("promote.done", "promote.failed"):
        if not run.promoting and not run.carried:
            raise Refused("calls", "no promotion is open", seq)
        run.promoting = False
