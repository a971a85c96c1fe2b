"""`agentgov log`: the runs of this repository, newest first."""

from __future__ import annotations

from typing import Annotated

import typer

from agentgov.cli.screen import ago, notes, plural, print_json, results
from agentgov.cli.session import Session
from agentgov.report.runs import RunView, run_view

SHOWN = 20


def command(
    all_runs: Annotated[bool, typer.Option("--all", "-a", help="Every run, not the last 20.")] = False,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many runs.")] = SHOWN,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,"runs":[...]}.')] = False,
) -> None:
    """The runs of this repository, newest first.

    "files only" means that the agent has no hooks: its calls were not seen, its file changes were.

    Examples:

      agentgov log

      agentgov log --all --json
    """
    session = Session.here()
    history = session.history
    newest = list(reversed(list(history)))
    chosen = newest if all_runs or (as_json and count == SHOWN) else newest[:count]
    views = [run_view(run, session.payloads, session.is_live) for run in chosen]
    if as_json:
        print_json({"v": 1, "runs": [view.to_json() for view in views]})
        return
    if not views:
        notes().line("no run yet: agentgov run -- AGENT...")
        return
    now = session.clock.now_us()
    results().columns(
        ["RUN", "WHEN", "WHO", "AGENT", "INTENT", "CALLS", "DENIED", "FILES", "STATE"],
        [_row(view, now) for view in views],
        right=(5, 6, 7),
        elastic=4,
    )
    out = notes()
    if any(not view.hooks for view in views):
        out.line('"files only": no hooks for that agent, calls were not seen.')
    if len(chosen) < len(newest):
        out.line(f"{plural(len(newest) - len(chosen), 'older run')}: agentgov log --all")


def _row(view: RunView, now: int) -> list[str]:
    agent = " ".join(part for part in (view.agent, view.agent_version) if part) or "?"
    return [
        view.run,
        "?" if view.started_us is None else ago(view.started_us, now),
        view.operator or "?",
        agent,
        view.intent or "(none given)",
        str(view.calls) if view.hooks else "-",
        str(view.denied) if view.hooks else "-",
        "?" if view.files is None else str(view.files),
        state_words(view),
    ]


def state_words(view: RunView) -> str:
    """One or two words: where it landed, whether calls were seen, or how it ended."""
    if view.landed is not None:
        return f"landed {view.landed[:7]}"
    if view.state in ("running", "OPEN"):
        return view.state
    state = "files only" if not view.hooks and view.state == "finished" else view.state
    return f"{state}, dropped" if view.dropped else state
