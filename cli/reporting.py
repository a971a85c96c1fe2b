"""What `agentgov run` says before, while and after an agent runs; all of it on stderr.

Rules kept here:

- The first line says which workspace it is; the last lines are the next commands.
- While the agent owns the terminal nothing is written over it: what happens then is told in the summary.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentgov.cli.pending import show_ask
from agentgov.cli.screen import Screen, duration, notes, plural
from agentgov.harness.request import RunInfo, RunOutcome
from agentgov.harness.steps import FileTotal
from agentgov.ids import RunId
from agentgov.text import encode_name, printable

RULER = 98
SHOWN_FILES = 5
SHOWN_DENIED = 5
_MISSING_SHOWN = 10


class RunReporter:
    """Tells a person."""

    def __init__(self, out: Screen | None = None) -> None:
        """Write to `out`, stderr by default."""
        self._out = out or notes()
        self._info: RunInfo | None = None
        self._quiet = False

    def first_use(self, record: Path) -> None:
        """Say what a first run creates, and that nothing is sent."""
        self._out.line(f"agentgov: first run here. Record: {_short(record)} (local, nothing is sent).")

    def policy(self, source: str, digest: str, *, changed: bool) -> None:
        """Say which rules are on, at first use and whenever they change."""
        rules = "built-in defaults" if source == "built-in" else f"{source}, {digest[:4]}"
        self._out.line(f"agentgov: rules {'changed' if changed else 'adopted'}: {rules}.")

    def recovered(self, run: RunId) -> None:
        """Say that an earlier run was closed."""
        self._out.line(f"agentgov {run}: its recorder was killed; closed as interrupted.")

    def started(self, info: RunInfo) -> None:
        """Say who works where, and what is seen."""
        self._info = info
        self._quiet = info.place == "in-place" and os.isatty(1)
        agent = " ".join(part for part in (info.agent, info.agent_version) if part)
        branch = (info.base_branch or "commit").removeprefix("refs/heads/")
        if info.place == "clone":
            where = f"in a copy of {branch} {info.base[:7]}"
            dirty = _counted(info.left_out_dirty, "left out") + _counted(info.included_dirty, "copied")
        else:
            where, dirty = f"in place, on {branch} {info.base[:7]}", ""
        self._out.line(f"agentgov {info.run}: {agent}, {where}{dirty}", "bold")
        seen = "hooks and files" if info.hooks else "files only: this agent has no hooks"
        carried = f"; {', '.join(map(str, info.carried[:_MISSING_SHOWN]))} carried" if info.carried else ""
        watched = "" if info.files == "watch" else " (by scanning)"
        unprotected = "; rules: built-in defaults, unprotected" if info.unprotected else ""
        self._out.line(f"agentgov {info.run}: recording {seen}{watched}; no sandbox{unprotected}{carried}")
        if info.place == "clone":
            self._out.line(f"agentgov {info.run}: the copy is {_short(info.root)}", "dim")

    def warning(self, text: str) -> None:
        """Say that something is not as it should be."""
        if not self._quiet:
            self._out.line(f"agentgov{self._run()}: {text}", "yellow")

    def asks(self, ask: dict[str, Any]) -> None:
        """Say that a call waits; only where the agent does not own the terminal."""
        if self._quiet:
            # A bell is all that a full-screen agent's terminal can take; `agentgov pending` has the rest.
            self._out.stream.write("\a")
            self._out.stream.flush()
        else:
            show_ask(self._out, ask)

    def denied(self, n: int, what: str, rules: Sequence[str], where: str) -> None:
        """Say at once that a call was denied, where the terminal is free."""
        if not self._quiet:
            by = ", ".join(rules) or "no answer"
            self._out.line(f"agentgov{self._run()}:{n} denied  {what}  ({by})   why: agentgov show :{n}")

    def finished(self, outcome: RunOutcome) -> None:
        """Print the summary."""
        self._quiet = False
        _summary(self._out, outcome)

    def _run(self) -> str:
        return "" if self._info is None else f" {self._info.run}"


def _summary(out: Screen, outcome: RunOutcome) -> None:
    info = outcome.info
    took = duration(outcome.took_us)
    head = f"-- agentgov {info.run}: {info.agent} {outcome.state}, exit {outcome.exit_code}, {took} "
    out.line(head + "-" * max(2, RULER - len(head)), "bold")
    denied = len(outcome.denied)
    if not info.hooks:
        out.line("  calls      -   not seen: this agent has no hooks (files only)")
    elif not outcome.saw_hooks:
        out.line("  calls      0   no hook was heard from the agent: do not take this for no calls", "red")
    else:
        seen = f"{outcome.ran} ran, {denied} denied, {outcome.unrecorded} seen without a record"
        out.line(f"  calls   {outcome.calls:>4}   {seen}")
    names = ", ".join(_file(file) for file in outcome.files[:SHOWN_FILES])
    more = f" and {len(outcome.files) - SHOWN_FILES} more" if len(outcome.files) > SHOWN_FILES else ""
    lines = f"      {outcome.lines_with_call} of {outcome.lines} changed lines belong to a call"
    out.line(f"  files   {len(outcome.files):>4}   {names}{more}{lines if outcome.lines else ''}".rstrip())
    for call in outcome.denied[:SHOWN_DENIED]:
        rules = f"rule {', '.join(call.rules)}" if call.by == "policy" else f"no, by {call.by}"
        where = f", {call.where}" if call.where else ""
        out.line(f"  denied    :{call.n}   {call.what}      {rules}{where}", "red")
    if denied > SHOWN_DENIED:
        out.line(f"            and {denied - SHOWN_DENIED} more: agentgov show")
    for problem in outcome.problems:
        out.line(f"  problem   {problem}", "yellow")
    if outcome.ended:
        words = "1 process" if outcome.ended == 1 else f"{outcome.ended} processes"
        out.line(f"  ended     {words} that the agent had left running")
    if outcome.skipped:
        shown = ", ".join(f"{printable(path)} ({why})" for path, why in outcome.skipped[:SHOWN_FILES])
        out.line(f"  not kept  {plural(len(outcome.skipped), 'file')} in no snapshot: {shown}")
    own = "your own tree and branch: not touched" if info.place == "clone" else "worked in your own tree"
    if outcome.state == "failed":
        out.line("  record    NOT whole: recording failed, see above        agentgov verify", "red")
    else:
        out.line(f"  record    signed, on this machine only        {own}")
    out.line("  look      agentgov show            agentgov diff")
    if info.place == "clone":
        out.line("  take it   agentgov apply           into your working tree, uncommitted")
        out.line("  land it   agentgov promote         merged into your branch, through its gates")
        out.line("  drop it   agentgov drop            the copy goes, the record stays")
    else:
        out.line("  take back  agentgov rollback :start   (your edits are kept)")


def _counted(count: int, what: str) -> str:
    return f"; {plural(count, 'uncommitted file')} {what}" if count else ""


def _file(file: FileTotal) -> str:
    if file.binary:
        return f"{printable(file.path)} ({'binary' if file.kind == 'file' else file.kind})"
    counts = [f"+{file.added}" if file.added else "", f"-{file.deleted}" if file.deleted else ""]
    return " ".join([printable(file.path), *(count for count in counts if count)])


def _short(path: Path) -> str:
    text = str(path)
    home = os.environ.get("HOME", "")
    if home and text.startswith(home + "/"):
        return "~" + text[len(home) :]
    cwd = str(Path.cwd())
    return text[len(cwd) + 1 :] if text.startswith(cwd + "/") else text


class JsonReporter(RunReporter):
    """Tells a program: nothing but the summary, as one object on stderr (stdout is the agent's)."""

    def first_use(self, record: Path) -> None:
        """Nothing."""

    def policy(self, source: str, digest: str, *, changed: bool) -> None:
        """Nothing."""

    def recovered(self, run: RunId) -> None:
        """Nothing."""

    def started(self, info: RunInfo) -> None:
        """Nothing; the object at the end has it."""

    def warning(self, text: str) -> None:
        """Nothing; the object at the end has it."""

    def asks(self, ask: dict[str, Any]) -> None:
        """Nothing; it waits in `agentgov pending`."""

    def denied(self, n: int, what: str, rules: Sequence[str], where: str) -> None:
        """Nothing; the object at the end has it."""

    def finished(self, outcome: RunOutcome) -> None:
        """Print the object."""
        import json

        self._out.stream.write(json.dumps(outcome_json(outcome)) + "\n")


def outcome_json(outcome: RunOutcome) -> dict[str, Any]:
    """Return a run's summary as JSON values (`{"v": 1, ...}`)."""
    info = outcome.info
    return {
        "v": 1,
        "run": info.run,
        "agent": info.agent,
        "agent_version": info.agent_version,
        "model": outcome.model,
        "state": outcome.state,
        "exit": outcome.exit_code,
        "took_us": outcome.took_us,
        "place": info.place,
        "workspace": str(info.root),
        "base": info.base,
        "branch": info.base_branch,
        "hooks": info.hooks,
        "saw_hooks": outcome.saw_hooks,
        "calls": outcome.calls,
        "ran": outcome.ran,
        "unrecorded": outcome.unrecorded,
        "denied": [
            {"n": call.n, "what": call.what, "rules": list(call.rules), "where": call.where, "by": call.by}
            for call in outcome.denied
        ],
        "files": [
            {
                "path": encode_name(file.path),
                "added": None if file.binary else file.added,
                "deleted": None if file.binary else file.deleted,
            }
            for file in outcome.files
        ],
        "lines": outcome.lines,
        "lines_with_call": outcome.lines_with_call,
        "policy": {"digest": info.policy, "source": info.policy_source, "unprotected": info.unprotected},
        "tree": outcome.tree,
        "result": outcome.result,
        "problems": list(outcome.problems),
        "skipped": [{"path": encode_name(path), "reason": why} for path, why in outcome.skipped],
        "warnings": list(outcome.warnings),
        "ended": outcome.ended,
    }
