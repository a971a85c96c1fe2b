"""`agentgov rollback`: put everything back to the state after a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentgov.cli.screen import notes, plural, print_json, results
from agentgov.cli.session import Session, confirm
from agentgov.errors import UsageError
from agentgov.rollback.plan import Plan
from agentgov.text import encode_name, printable

if TYPE_CHECKING:
    from agentgov.harness.taking_back import PlannedRollback, RolledBack


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON values."""
    return {
        "actions": [{"path": encode_name(action.path), "verb": action.verb} for action in plan.actions],
        "kept": [encode_name(path) for path in plan.kept],
        "conflicts": [{"path": encode_name(found.path), "reason": found.reason} for found in plan.conflicts],
    }


def command(
    where: Annotated[
        str,
        typer.Argument(
            metavar="[RUN]:N | [RUN]:start", help="The moment: after call N, or before the first."
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,...}.')] = False,
) -> None:
    """Rollback puts everything back to a moment; it is not a revert of one call, nor an undo.

    Untracked files too. In the agent's clone, or in your own tree if the run worked in place. What is there
    is saved first; what you changed since is kept, or the rollback is refused. Your index, branches and
    stash are not touched.

    Examples:

      agentgov rollback :14 --dry-run

      agentgov rollback :start

      agentgov rollback 7kq2f:14 --yes
    """
    from agentgov.harness import taking_back

    session = Session.here()
    record, ref = session.resolve(where)
    if ref.point is None or ref.end is not None:
        raise UsageError(f"{where!a} names no moment", id="AG0309", hint="agentgov rollback :14, or :start")
    with session.settled(record) as (work, run):
        planned = taking_back.plan(work, run, ref.point)
        lines = list(planned.plan.lines())
        if dry_run:
            if as_json:
                print_json(
                    {
                        "v": 1,
                        "run": run.run,
                        "target": planned.target,
                        "root": str(run.root),
                        **plan_json(planned.plan),
                    }
                )
            else:
                results().block("\n".join(lines) or "nothing would change")
            return
        if planned.is_done(run):
            if as_json:
                print_json(_done_json(run.run, planned, None))
            else:
                notes().line(f"agentgov {run.run}: {run.root} is at {where} already")
            return
        if not planned.plan.conflicts:
            if not yes:
                notes().block("\n".join(lines))
            confirm(f"Put {run.root} back to {where}?", yes=yes)
        done = taking_back.roll_back(work, run, planned, random=session.random)
    if as_json:
        print_json(_done_json(run.run, planned, done))
        return
    out = notes()
    out.line(
        f"agentgov {run.run}: back at {where}; {plural(done.changed, 'file')} changed in {run.root}", "bold"
    )
    for path in done.kept:
        out.line(f"  kept      {printable(path)}   you changed it")
    for path in done.left:
        out.line(f"  left      {printable(path)}/   it is not empty")
    for path in done.edited:
        out.line(f"  edited    {printable(path)}   was changed meanwhile; that version stands", "yellow")
    for path in done.spared:
        out.line(f"  spared    {printable(path)}   holds what was written meanwhile", "yellow")
    out.line(f"  saved     what was there, as tree {done.saved[:7]} in the record's store")
    for problem in done.problems:
        out.line(f"  problem   {problem}", "yellow")


def _done_json(run: str, planned: PlannedRollback, done: RolledBack | None) -> dict[str, Any]:
    said: dict[str, Any] = {"v": 1, "run": run, "target": planned.target}
    said |= {"changed": 0, "saved": planned.seen.tree, "result": None, "problems": []}
    if done is not None:
        said |= {"changed": done.changed, "saved": done.saved, "result": done.result}
        said["problems"] = list(done.problems)
    for name in ("kept", "left", "edited", "spared"):
        said[name] = [encode_name(path) for path in getattr(done, name, ())]
    return said
