"""`agentgov pending`: calls that wait for a person's yes or no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from agentgov.cli.screen import Screen, notes, print_json, results
from agentgov.cli.session import Session
from agentgov.harness.control import Control
from agentgov.harness.state import live_runs


def command(
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,"pending":[...]}.')] = False,
) -> None:
    """Calls that wait for a person's yes or no.

    A rule with `effect = "ask"` holds a call until somebody answers; no answer in time means no.

    Examples:

      agentgov pending

      agentgov answer 7kq2f:11 yes
    """
    session = Session.here()
    asks = [ask for state in live_runs(session.layout) for ask in Control.of(state).pending()]
    if as_json:
        print_json({"v": 1, "pending": asks})
        return
    if not asks:
        notes().line("nothing waits for you here")
        return
    for ask in asks:
        show_ask(results(), ask)


def show_ask(out: Screen, ask: Mapping[str, Any]) -> None:
    """Print one waiting call and how to answer it."""
    who = f"sub-agent {ask['actor_type'] or ask['actor']}" if ask["actor"] else "the main agent"
    out.line(f"agentgov asks  {ask['id']}   {who}", "bold")
    out.line(f"  {ask['tool']:<7} {ask['what']}")
    if ask["effects"]:
        out.line(f"  would   {', '.join(ask['effects'])}")
    intent = f"        intent  {ask['intent']}" if ask["intent"] else ""
    out.line(f"  rule    {', '.join(ask['rules'])} ({ask['where']}){intent}")
    minutes, seconds = divmod(ask["left_seconds"], 60)
    out.line(f"  no answer in {minutes}:{seconds:02d} means no")
    out.line(f"  agentgov answer {ask['id']} yes        agentgov answer {ask['id']} no")
    out.line(f"  the whole call: agentgov show {ask['id']}")
