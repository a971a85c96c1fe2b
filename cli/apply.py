"""`agentgov apply`: bring a run's result into your working tree, uncommitted."""

from __future__ import annotations

from typing import Annotated

import typer

from agentgov.cli.rollback import plan_json
from agentgov.cli.screen import notes, plural, print_json, results
from agentgov.cli.session import Session
from agentgov.text import printable


def command(
    run_name: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="The run; the last one if left out.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, change nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,...}.')] = False,
) -> None:
    """Bring a run's result into your working tree, uncommitted.

    Each file is merged with what you have. If one cannot be merged, nothing is written. Your index, branch
    and stash are not touched, and what stood there is saved in the record's store.

    Examples:

      agentgov apply

      agentgov apply 7kq2f --dry-run
    """
    from agentgov.harness import bringing

    session = Session.here()
    record, _ = session.resolve(run_name)
    with session.settled(record) as (work, run):
        application = bringing.plan_apply(work, run)
        if dry_run:
            if as_json:
                print_json({"v": 1, "run": run.run, **plan_json(application.plan)})
            else:
                results().block("\n".join(application.plan.lines()) or "nothing would change")
            return
        done = bringing.apply(work, run, application, random=session.random)
    if as_json:
        print_json({"v": 1, "run": run.run, "changed": done.changed, "saved": done.saved})
        return
    out = notes()
    if not done.changed:
        out.line(f"agentgov {run.run}: nothing to change: your working tree has it all")
        return
    out.line(
        f"agentgov {run.run}: {plural(done.changed, 'file')} changed in your working tree, uncommitted",
        "bold",
    )
    for path in done.edited:
        out.line(f"  edited    {printable(path)}   was changed meanwhile; that version stands", "yellow")
    for path in done.spared:
        out.line(f"  spared    {printable(path)}   holds what was written meanwhile", "yellow")
    out.line("  look      git diff")
    out.line(f"  saved     what stood there, as tree {done.saved[:7]} in the record's store")
