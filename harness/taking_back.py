"""Rollback of a run: everything back to the state after a call, in the workspace or in the user's tree.

Rules kept here:

- What is there now is snapshotted before anything is planned: the snapshot is the copy that nothing can lose.
- What a person changed since the run's last snapshot is theirs: where the target would overwrite it, the
  rollback is refused, and nothing is changed.
- The rollback is an entry, and the result is bound anew, so that what is promoted later is what is there.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentgov.clock import Random
from agentgov.errors import ConflictError, IncompleteError
from agentgov.git import Git
from agentgov.harness.settled import SettledRun, Workplace
from agentgov.ids import Point
from agentgov.ledger.entry import Draft
from agentgov.rollback.plan import Plan, plan_rollback
from agentgov.rollback.presence import missing_objects
from agentgov.rollback.restore import apply_plan, uncaptured
from agentgov.rollback.snapshot import Snapshot
from agentgov.rollback.worktree import WorkTree
from agentgov.text import printable


@dataclass(frozen=True, slots=True)
class PlannedRollback:
    """What a rollback would do.

    Attributes:
        point: The call's number, `start` or `end`.
        target: The tree to go back to.
        seen: What is there now.
        plan: The way from there to the target.
    """

    point: Point
    target: str
    seen: Snapshot
    plan: Plan

    def is_done(self, run: SettledRun) -> bool:
        """Whether there is nothing to do: not even an edit, or a rollback cut short, to enter."""
        bound = run.record.result
        is_bound = bound is not None and bound.body["tree"] == run.tree
        return not self.plan.conflicts and self.plan.is_empty and self.seen.tree == run.tree and is_bound


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What a rollback did.

    Attributes:
        changed: How many files and links changed.
        saved: The tree of what was there before.
        kept: Paths that a person had changed and that stay as they are.
        left: Folders that the target does not have and that are not empty.
        edited: Paths that somebody changed while it was done; their version stands.
        spared: Files with somebody's late writes that were left beside them.
        result: The result tree bound anew; None when it could not be.
        problems: What keeps that result from landing.
    """

    changed: int
    saved: str
    kept: tuple[bytes, ...]
    left: tuple[bytes, ...]
    edited: tuple[bytes, ...]
    spared: tuple[bytes, ...]
    result: str | None
    problems: tuple[str, ...]


def plan(work: Workplace, run: SettledRun, point: Point) -> PlannedRollback:
    """Look at the tree and plan the way to `point`; changes nothing but the private store.

    Raises:
        UsageError: AG0264, there is no such call.
        IncompleteError: AG0070, the workspace is gone; AG0074, the snapshot is not whole.
    """
    target = run.record.tree_at(point)
    if missing_objects(Git(work.store.dir), [target]):
        raise IncompleteError(
            f"the snapshot at {run.run}:{point} is not whole any more", id="AG0074", hint="agentgov verify"
        )
    seen = run.look()
    with WorkTree(run.root, work.store.object_format) as tree:
        way = plan_rollback(
            work.store, seen.tree, target, run.tree, in_the_way=uncaptured(tree, work.store, seen.tree)
        )
    return PlannedRollback(point, target, seen, way)


def roll_back(work: Workplace, run: SettledRun, planned: PlannedRollback, *, random: Random) -> RolledBack:
    """Do what was planned, and enter it.

    Raises:
        ConflictError: AG0075, a person changed what would be overwritten, or something stands in the way.
        DivergedError: AG0176, the tree changed after the plan was made; nothing was changed.
        AgentgovError: As `rollback.restore.apply_plan`.
    """
    if planned.plan.conflicts:
        names = ", ".join(printable(conflict.path) for conflict in planned.plan.conflicts[:5])
        raise ConflictError(
            f"not rolled back, nothing was changed: in conflict: {names}", id="AG0075",
            hint=("move or commit what you changed, then run it again", "--dry-run shows the whole plan"),
        )  # fmt: skip
    run.enter_edits(planned.seen)
    saved = run.tree
    done = apply_plan(run.root, work.store, planned.plan, run.journal, random=random)
    after = run.look()
    body = run.step(after.tree, f"rollback to {planned.point}", after)
    body |= {"to": _number(planned.point, run), "target": planned.target, "place": run.place}
    run.enter([Draft("run.rollback", run.run, body)])
    bound = run.rebind()
    run.save()
    return RolledBack(
        done.changed,
        saved,
        planned.plan.kept,
        done.left,
        done.edited,
        done.saved,
        None if bound is None else bound.tree,
        () if bound is None else tuple(bound.problems),
    )


def _number(point: Point, run: SettledRun) -> int:
    if isinstance(point, int):
        return point
    return -1 if point == "start" else max(run.record.calls, default=-1)
