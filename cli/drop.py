"""`agentgov drop`: throw a run's copy away; its record stays."""

from __future__ import annotations

from typing import Annotated

import typer

from agentgov.cli.screen import notes, print_json
from agentgov.cli.session import Session, confirm


def command(
    run_name: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="The run; the last one if left out.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,...}.')] = False,
) -> None:
    """Throw a run's copy away; its record, snapshots and result stay.

    Examples:

      agentgov drop

      agentgov drop 7kq2f --yes
    """
    from agentgov.harness import bringing

    session = Session.here()
    record, _ = session.resolve(run_name)
    with session.settled(record) as (work, run):
        if not run.in_place and run.root.is_dir():
            confirm(f"Remove the copy of run {run.run} at {run.root}?", yes=yes)
        there = bringing.drop(work, run, session.state)
    if as_json:
        print_json({"v": 1, "run": run.run, "removed": there})
    elif there:
        notes().line(f"agentgov {run.run}: the copy is gone, the record stays")
    else:
        notes().line(f"agentgov {run.run}: there was no copy; marked as dropped, the record stays")
