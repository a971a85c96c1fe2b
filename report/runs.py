"""Runs as people and programs read them: the rows of `log`, the calls of `show`, as plain data.

Rules kept here:

- No printing and no I/O but payload look-ups; each view has `to_json`, versioned by its caller.
- Figures come from the record alone. What cannot be known (files of an erased payload) is None, not zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from agentgov.ids import RunId
from agentgov.ledger.history import CallRecord, History, RunRecord
from agentgov.report.facts import (
    FileFact,
    PayloadReader,
    actor_names,
    call_facts,
    changed_files,
    intent_of,
    payload_text,
    start_facts,
    why_missing,
)
from agentgov.text import encode_name

IsLive = Callable[[RunId], bool]
READING_KINDS = frozenset({"read", "search"})


@dataclass(frozen=True, slots=True)
class CallView:
    """One call.

    Attributes:
        n: Its number.
        at_us: When it was asked for, microseconds UTC.
        offset_us: The same, since the run's start.
        actor: Who made it, as a name.
        tool: The agent's name for the tool.
        what: The command, path or address, on one line.
        reads_only: Whether it only reads by its kind.
        decision: What policy said.
        status: `ok`, `error`, `interrupted`, `denied` or `open`.
        answered: Whether somebody or something answered for it.
        denied_by: `policy`, `operator`, `timeout` or `run-ended`; None when it was allowed.
        rules: The rules that decided.
        took_us: How long it ran.
        files: What changed while it was open; None when that cannot be read.
        shared: Whether other calls were open at the same time, so that a change may be theirs.
    """

    n: int
    at_us: int
    offset_us: int
    actor: str
    tool: str
    what: str
    reads_only: bool
    decision: str
    status: str
    denied_by: str | None
    answered: bool
    rules: tuple[str, ...]
    took_us: int | None
    files: Sequence[FileFact] | None
    shared: bool

    def to_json(self) -> dict[str, Any]:
        """Return the call as JSON values."""
        return {
            "n": self.n,
            "at_us": self.at_us,
            "actor": self.actor,
            "tool": self.tool,
            "what": self.what,
            "decision": self.decision,
            "status": self.status,
            "denied_by": self.denied_by,
            "answered": self.answered,
            "rules": list(self.rules),
            "took_us": self.took_us,
            "shared": self.shared,
            "files": None if self.files is None else [file_json(file) for file in self.files],
        }


@dataclass(frozen=True, slots=True)
class RunView:
    """One run, without its calls.

    Attributes:
        state: `running`, `OPEN` (not ended, and nobody is recording it), or how it ended.
        intent_missing: Why the intent that was given cannot be shown; None when it can, or none was given.
        landed: The commit that it was promoted as.
    """

    run: RunId
    started_us: int | None
    ended_us: int | None
    operator: str | None
    agent: str | None
    agent_version: str | None
    model: str | None
    intent: str | None
    intent_missing: str | None
    workspace: str | None
    base: str | None
    base_branch: str | None
    result: str | None
    policy: str | None
    hooks: bool
    calls: int
    ran: int
    denied: int
    files: int | None
    state: str
    exit: int | None
    landed: str | None
    dropped: bool

    def to_json(self) -> dict[str, Any]:
        """Return the run as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


def file_json(file: FileFact) -> dict[str, Any]:
    """Return one changed path as JSON values."""
    return {
        "path": encode_name(file.path),
        "status": file.status,
        "kind": file.kind,
        "executable": file.executable,
        "added": None if file.binary else file.added,
        "deleted": None if file.binary else file.deleted,
        "calls": list(file.calls),
    }


def run_view(run: RunRecord, reader: PayloadReader, is_live: IsLive) -> RunView:
    """Return what is known about one run."""
    start = None if run.start is None else run.start.body
    facts = start_facts(run, reader)
    operator = facts.get("operator")
    landed = next((promotion.commit for promotion in reversed(run.promotions) if promotion.commit), None)
    return RunView(
        run=run.run,
        started_us=None if run.start is None else run.start.ts,
        ended_us=None if run.end is None else run.end.ts,
        operator=_text(operator.get("name")) if isinstance(operator, dict) else _text(operator),
        agent=None if start is None else start["agent"],
        agent_version=None if start is None else start["agent_version"],
        model=_model(run, reader),
        intent=intent_of(run, reader),
        intent_missing=None
        if run.start is None
        else why_missing(run, reader, run.start, "intent", "changes"),
        workspace=None if start is None else start["workspace"],
        base=None if start is None else start["base"],
        base_branch=_text(facts.get("branch")),
        result=None if run.result is None else run.result.body["result"],
        policy=None if start is None else start["policy"],
        hooks=start is not None and start["capture"]["hooks"],
        calls=len(run.calls),
        ran=sum(call.result is not None for call in run.calls.values()),
        denied=len(run.denied),
        files=_count_files(run, reader),
        state=_state(run, is_live),
        exit=None if run.end is None else run.end.body["exit"],
        landed=landed,
        dropped=run.dropped,
    )


def log_views(history: History, reader: PayloadReader, is_live: IsLive) -> list[RunView]:
    """Return every run, newest first."""
    return [run_view(run, reader, is_live) for run in reversed(list(history))]


def call_views(run: RunRecord, reader: PayloadReader) -> list[CallView]:
    """Return every call of a run, in order of their numbers."""
    names = actor_names(run, reader)
    return [call_view(run, call, reader, names) for _, call in sorted(run.calls.items())]


def call_view(
    run: RunRecord, call: CallRecord, reader: PayloadReader, names: dict[int, str] | None = None
) -> CallView:
    """Return one call."""
    facts = call_facts(call, run, reader)
    began = run.start.ts if run.start is not None else call.request.ts
    files = _files_of_call(run, call.n, reader)
    return CallView(
        n=call.n,
        at_us=call.request.ts,
        offset_us=max(0, call.request.ts - began),
        actor=(names or actor_names(run, reader)).get(call.actor, f"agent-{call.actor}"),
        tool=_text(facts.get("tool")) or call.tool,
        what=_text(facts.get("what")) or "",
        reads_only=facts.get("kind") in READING_KINDS,
        decision=call.decision,
        # Nothing goes on after the end: what has no result then was cut off.
        status="interrupted" if call.status == "open" and run.end is not None else call.status,
        denied_by=_denied_by(call),
        answered=call.answer is not None,
        rules=tuple(call.request.body["verdict"]["rules"]),
        took_us=call.took_us,
        files=files,
        shared=any(step.owner == "shared" and call.n in step.open and step.changes for step in run.steps),
    )


def call_detail(run: RunRecord, call: CallRecord, reader: PayloadReader) -> dict[str, Any]:
    """Return all that is known about one call as JSON values, arguments and output too."""
    facts = call_facts(call, run, reader)
    output = None if call.result is None else call.result.body["output"]
    return call_view(run, call, reader).to_json() | {
        "input": facts.get("input"),
        "cwd": facts.get("cwd"),
        "model": facts.get("model"),
        "effects": facts.get("effects"),
        "reason": facts.get("reason"),
        "where": facts.get("where"),
        "policy": call.request.body["verdict"]["policy"],
        "output": payload_text(reader, run.run, output),
        "missing": _missing(run, call, reader),
        "from": call.from_tree,
        "tree": call.tree_after,
        "entries": [entry.seq for entry in (call.request, call.answer, call.result) if entry is not None],
    }


def _missing(run: RunRecord, call: CallRecord, reader: PayloadReader) -> dict[str, str]:
    """Why each of a call's payloads that cannot be shown is missing."""
    asked = [(call.request, "args", "args"), (call.request, "changes", "changes")]
    if call.result is not None:
        asked += [(call.result, "output", "output"), (call.result, "changes", "changes")]
    found = ((key, why_missing(run, reader, entry, key, cls)) for entry, key, cls in asked)
    return {key: why for key, why in found if why is not None}


def total_files(run: RunRecord, reader: PayloadReader) -> Sequence[FileFact] | None:
    """Sum the run's steps up by path; None when a step's list is missing.

    A path that is changed twice counts its lines twice: it is what was done, not the difference that is left.
    """
    totals: dict[bytes, FileFact] = {}
    for step in run.steps:
        if step.kind == "run.rollback":
            continue
        files = changed_files(run, reader, step.changes)
        if files is None:
            return None
        for file in files:
            old = totals.get(file.path)
            totals[file.path] = file if old is None else _sum(old, file)
    return list(totals.values())


def _sum(a: FileFact, b: FileFact) -> FileFact:
    return FileFact(
        a.path,
        b.status,
        a.added + b.added,
        a.deleted + b.deleted,
        a.binary or b.binary,
        tuple(sorted({*a.calls, *b.calls})),
        b.kind,
        a.executable if b.executable is None else b.executable,
    )


def _files_of_call(run: RunRecord, n: int, reader: PayloadReader) -> Sequence[FileFact] | None:
    """What changed while the call was open and is, or may be, its doing."""
    found: list[FileFact] = []
    for step in run.steps:
        if step.changes is None or n not in step.open:
            continue
        files = changed_files(run, reader, step.changes)
        if files is None:
            return None
        found += [file for file in files if n in file.calls or (not file.calls and step.owner == n)]
    return found


def _count_files(run: RunRecord, reader: PayloadReader) -> int | None:
    files = total_files(run, reader)
    return None if files is None else len(files)


def _state(run: RunRecord, is_live: IsLive) -> str:
    if run.end is None:
        return "running" if is_live(run.run) else "OPEN"
    return run.state


def _model(run: RunRecord, reader: PayloadReader) -> str | None:
    for call in _newest(run.calls.values()):
        model = _text(call_facts(call, run, reader).get("model"))
        if model:
            return model
    return None


def _newest(calls: Iterable[CallRecord]) -> list[CallRecord]:
    return list(calls)[-1:]


def _denied_by(call: CallRecord) -> str | None:
    if call.allowed is not False:
        return None
    return "policy" if call.answer is None else str(call.answer.body["by"])


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
