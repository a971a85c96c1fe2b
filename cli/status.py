"""`agentgov status`: what is running here, what waits, where the record is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from agentgov.cli.screen import ago, plural, print_json, results
from agentgov.cli.session import Session
from agentgov.errors import AgentgovError
from agentgov.harness.control import Control
from agentgov.harness.state import RunState, live_runs
from agentgov.text import printable


def command(
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,"live":[...],...}.')] = False,
) -> None:
    """What is running here, what waits for you, where the record is.

    Examples:

      agentgov status

      agentgov status --json
    """
    session = Session.here()
    live = [(state, _ask_recorder(state)) for state in live_runs(session.layout)]
    recorded = session.is_recorded
    entries = session.stream.head().size if recorded else 0
    sealed = session.stream.sealed_size if recorded else 0
    runs = len(session.history.runs) if recorded else 0
    if as_json:
        print_json(
            {
                "v": 1,
                "record": {
                    "folder": str(session.layout.root),
                    "entries": entries,
                    "saved": sealed,
                    "runs": runs,
                    "log": session.stream.origin if recorded else None,
                },
                "state_folder": str(session.state.root),
                "live": [_live_json(state, told) for state, told in live],
            }
        )
        return
    out = results()
    waiting = sum(len(told.get("pending", ())) for _, told in live)
    if not recorded:
        out.line("nothing is recorded in this repository yet: agentgov run -- AGENT...", "bold")
        return
    running = plural(len(live), "run") + " running" if live else "nothing is running"
    out.line(running + (f", {plural(waiting, 'call')} waiting for you" if waiting else ""), "bold")
    now = session.clock.now_us()
    for state, told in live:
        calls = f"   {plural(told['calls'], 'call')}" if isinstance(told.get("calls"), int) else ""
        out.line(f"  {state.run}   {state.agent}, {state.place}, since {ago(state.started_us, now)}{calls}")
        if "error" in told:
            out.line(f"          {told['error']}", "yellow")
    counted = "1 entry" if entries == 1 else f"{entries} entries"
    out.line(f"  record  {counted}, {sealed} of them saved into git, {plural(runs, 'run')}")
    out.line(f"  folder  {session.layout.root}")
    out.line(f"  keys    {session.state.root}")
    out.line(
        "runs: agentgov log     is it whole: agentgov verify" + ("     agentgov pending" if waiting else ""),
        "dim",
    )


def _ask_recorder(state: RunState) -> Mapping[str, Any]:
    control = Control.of(state)
    try:
        status = control.status()
        return {**status, "pending": control.pending()}
    except AgentgovError as error:
        # One recorder that does not answer must not hide the others; it is shown as such.
        return {"error": printable(error.message)}


def _live_json(state: RunState, told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run": state.run,
        "agent": state.agent,
        "place": state.place,
        "workspace": state.workspace,
        "started_us": state.started_us,
        "told": dict(told),
    }
