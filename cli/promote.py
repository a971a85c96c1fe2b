"""`agentgov promote`: merge a run's result into a branch, through its gates."""

from __future__ import annotations

from typing import Annotated

import typer

from agentgov.cli.gate import FALLBACK_EMAIL, FALLBACK_NAME, request_for
from agentgov.cli.screen import notes, print_json
from agentgov.cli.session import Session


def command(
    run_name: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="The run; the last one if left out.")
    ] = None,
    into: Annotated[
        str | None, typer.Option("--into", metavar="BRANCH", help="The branch; the run's own if left out.")
    ] = None,
    policy_ref: Annotated[
        str | None, typer.Option("--policy-ref", metavar="REF", help="Take the rules from this ref.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,"commit":...}.')] = False,
) -> None:
    """Merge a run's result into a local branch, through its gates.

    The record must verify and the rules agree; a protected branch needs approvals of exactly this result.
    The branch is moved only from where it was looked at. Your checked-out tree follows only if it is clean.

    Exit code 10: the rules forbid it. 11: an approval is missing. 12 or 3: the record does not hold.

    Examples:

      agentgov promote 7kq2f --into main

      agentgov promote 7kq2f --into feature/parser
    """
    from agentgov.harness import promoting

    session = Session.here()
    record, _ = session.resolve(run_name)
    request = request_for(session, record, into, policy_ref, verified=True)
    with session.settled(record) as (work, run):
        done = promoting.promote(work, run, request)
    decision = done.decision
    if as_json:
        print_json(
            {
                "v": 1,
                "run": run.run,
                "commit": done.commit,
                "target": request.target,
                "tier": decision.tier,
                "approved_by": list(decision.counted),
                "self_approved": decision.self_approved,
                "work_trees": [
                    {"path": str(update.place), "updated": update.updated, "reason": update.reason}
                    for update in done.updates
                ],
            }
        )
        return
    branch = request.target.removeprefix("refs/heads/")
    out = notes()
    out.line(f"agentgov {run.run}: {branch} is now {done.commit[:7]}, tier {decision.tier}", "bold")
    if request.person.name == FALLBACK_NAME:
        out.line(
            f"  by        {FALLBACK_NAME} <{FALLBACK_EMAIL}>: git config user.name and user.email", "yellow"
        )
    if decision.self_approved:
        out.line("  approved  by yourself: marked self-approved", "yellow")
    elif decision.counted:
        out.line(f"  approved  by {', '.join(decision.counted)}")
    for update in done.updates:
        if update.updated:
            out.line(f"  updated   {update.place}")
        else:
            out.line(f"  left      {update.place}: {update.reason}", "yellow")
            out.line(f"            {update.help}")
    out.line(f"  look      git show {done.commit[:7]}        agentgov drop {run.run} removes the copy")
