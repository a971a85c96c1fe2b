"""`agentgov answer`: answer a waiting call."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from agentgov.cli.screen import notes, print_json
from agentgov.cli.session import Session
from agentgov.errors import UsageError
from agentgov.harness.control import Control
from agentgov.harness.state import live_runs
from agentgov.ids import parse_run_ref


class Answer(StrEnum):
    """What a person may say."""

    YES = "yes"
    NO = "no"


def command(
    which: Annotated[
        str, typer.Argument(metavar="ID", help="The call, such as 7kq2f:11 (see: agentgov pending).")
    ],
    answer: Annotated[Answer, typer.Argument(help="yes lets this one call run, no refuses it.")],
    as_json: Annotated[
        bool, typer.Option("--json", help='One object: {"v":1,"id":...,"answer":...}.')
    ] = False,
) -> None:
    """Answer a waiting call: yes or no.

    The answer counts once, for this one call, and never from within the agent's own processes.

    Example:

      agentgov answer 7kq2f:11 yes
    """
    session = Session.here()
    ref = parse_run_ref(which)
    if not isinstance(ref.point, int) or ref.end is not None:
        raise UsageError(f"{which!a} is not a waiting call", id="AG0306", hint="agentgov pending")
    alive = [state for state in live_runs(session.layout) if ref.run is None or state.run.startswith(ref.run)]
    if len(alive) != 1:
        found = "no live run" if not alive else "more than one live run"
        raise UsageError(f"{which!a} names {found}", id="AG0307", hint="agentgov pending")
    run = alive[0].run
    Control.of(alive[0]).answer(ref.point, "allow" if answer is Answer.YES else "deny")
    if as_json:
        print_json({"v": 1, "id": f"{run}:{ref.point}", "answer": answer.value})
    else:
        words = "allowed once" if answer is Answer.YES else "refused"
        notes().line(f"agentgov {run}:{ref.point} {words}")
