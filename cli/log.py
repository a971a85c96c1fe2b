"""`agentgov log`: the runs of this repository, newest first, and the calls that fit a search."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from agentgov.cli.screen import ago, duration, notes, print_json, results
from agentgov.cli.session import Session
from agentgov.cli.when import parse_when
from agentgov.report.runs import RunView
from agentgov.report.search import FoundCall, Query, find_calls, find_runs
from agentgov.report.search_index import open_index

SHOWN = 20
PROGRESS_FROM = 20_000


def command(
    text: Annotated[
        str | None,
        typer.Option(
            "--grep",
            metavar="TEXT",
            help="Calls whose tool, command or arguments hold this text (the first 4 KiB).",
        ),
    ] = None,
    regexp: Annotated[
        bool, typer.Option("--regexp", "-E", help="TEXT is a regular expression (Python's re).")
    ] = False,
    tool: Annotated[
        str | None, typer.Option("--tool", metavar="NAME", help="Calls of this tool; a glob is fine.")
    ] = None,
    path: Annotated[
        str | None,
        typer.Option(
            "--path", metavar="PATH", help="Calls that changed this file, folder or glob, from the root."
        ),
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="NAME", help="Of this agent, or this kind of sub-agent.")
    ] = None,
    denied: Annotated[bool, typer.Option("--denied", help="Calls that were not allowed.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="Not before: 2026-11-20, 3h, 2d, yesterday.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Before that moment.")] = None,
    intent: Annotated[
        str | None, typer.Option("--intent", metavar="TEXT", help="Runs whose intent holds this text.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="All of them, not the last 20.")] = False,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many.")] = SHOWN,
    as_json: Annotated[
        bool, typer.Option("--json", help='One object: {"v":1,"runs":[...]} or {"v":1,"calls":[...]}.')
    ] = False,
) -> None:
    """The runs of this repository, newest first; or the calls that fit a search.

    --grep, --tool, --path and --denied look for calls; --agent, --since, --until and --intent narrow
    either. Upper case in TEXT makes its case count. "files only" means that the agent has no hooks: its
    calls were not seen, its file changes were. What is printed here comes from an index of the record,
    made again whenever needed; to check the record itself: agentgov verify.

    Examples:

      agentgov log

      agentgov log --denied --since yesterday

      agentgov log --grep 'npm install' --agent claude

      agentgov log --path src/ --tool Edit --all --json
    """
    session = Session.here()
    session.close_dead_runs()
    now = session.clock.now_us()
    query = Query(
        text=None if regexp else text,
        pattern=text if regexp else None,
        tool=tool,
        path=path,
        agent=agent,
        denied=denied,
        since_us=None if since is None else parse_when(since, now),
        until_us=None if until is None else parse_when(until, now),
        intent=intent,
    )
    limit = None if everything or (as_json and count == SHOWN) else count
    with open_index(session.repo, session.payloads, _progress) as index:
        if query.wants_calls:
            calls = find_calls(index, query, None if limit is None else limit + 1)
        else:
            runs, total = find_runs(index, query, limit, session.is_live)
    if query.wants_calls:
        _show_calls(calls, limit, now, as_json=as_json)
    else:
        _show_runs(runs, total, now, as_json=as_json, searched=query != Query())


def _show_runs(runs: Sequence[RunView], total: int, now: int, *, as_json: bool, searched: bool) -> None:
    if as_json:
        print_json({"v": 1, "runs": [run.to_json() for run in runs]})
        return
    if not runs:
        notes().line("no run fits" if searched else "no run yet: agentgov run -- AGENT...")
        return
    results().columns(
        ["RUN", "WHEN", "WHO", "AGENT", "INTENT", "CALLS", "DENIED", "FILES", "STATE"],
        [_run_row(run, now) for run in runs],
        right=(5, 6, 7),
        elastic=4,
    )
    out = notes()
    if any(not run.hooks for run in runs):
        out.line('"files only": no hooks for that agent, calls were not seen.')
    if len(runs) < total:
        older = total - len(runs)
        out.line(f"{older} older run{'s' if older > 1 else ''}: agentgov log --all")


def _show_calls(calls: Sequence[FoundCall], limit: int | None, now: int, *, as_json: bool) -> None:
    shown = calls if limit is None else calls[:limit]
    if as_json:
        print_json({"v": 1, "calls": [call.to_json() for call in shown]})
        return
    if not shown:
        notes().line("no call fits")
        return
    results().columns(
        ["CALL", "WHEN", "WHO", "TOOL", "WHAT", "VERDICT", "TOOK", "CHANGED"],
        [_call_row(call, now) for call in shown],
        elastic=4,
    )
    out = notes()
    if len(shown) < len(calls):
        out.line("there are more: --all, or -n COUNT")
    out.line(f"one of them whole: agentgov show {shown[0].run}:{shown[0].n}")


def _run_row(view: RunView, now: int) -> list[str]:
    agent = " ".join(part for part in (view.agent, view.agent_version) if part) or "?"
    return [
        view.run,
        "?" if view.started_us is None else ago(view.started_us, now),
        view.operator or "?",
        agent,
        view.intent or ("(not here)" if view.intent_missing else "(none given)"),
        str(view.calls) if view.hooks else "-",
        str(view.denied) if view.hooks else "-",
        "?" if view.files is None else str(view.files),
        state_words(view),
    ]


def _call_row(call: FoundCall, now: int) -> list[str]:
    changed = " ".join(
        part for part, lines in ((f"+{call.added}", call.added), (f"-{call.deleted}", call.deleted)) if lines
    )
    who = call.actor if call.actor != "main" else call.agent or "main"
    return [
        f"{call.run}:{call.n}",
        ago(call.at_us, now),
        who,
        call.tool,
        call.what,
        "DENIED" if call.status == "denied" else call.status,
        "-" if call.took_us is None else duration(call.took_us),
        changed,
    ]


def state_words(view: RunView) -> str:
    """One or two words: where it landed, whether calls were seen, or how it ended."""
    if view.landed is not None:
        return f"landed {view.landed[:7]}"
    if view.state in ("running", "OPEN"):
        return view.state
    state = "files only" if not view.hooks and view.state == "finished" else view.state
    return f"{state}, dropped" if view.dropped else state


def _progress(count: int) -> None:
    """A progress line for long work, on a terminal only."""
    if count >= PROGRESS_FROM and sys.stderr.isatty():
        sys.stderr.write(f"\ragentgov: indexing the record, {count} entries")
        sys.stderr.flush()
