"""Bring a run's result into the user's own work tree, uncommitted; or give its workspace up.

Rules kept here:

- The result is merged three-way with what stands in the tree; when one file cannot be merged, nothing is
  written.
- What stood there is saved in the store, under a ref, before anything is written.
- A run that worked in place has its result there already.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from agentgov.clock import Random
from agentgov.errors import ConflictError, IncompleteError, UsageError
from agentgov.files import open_private_dir
from agentgov.harness import holds, workspace
from agentgov.harness.settled import SettledRun, Workplace
from agentgov.layout import StateHome
from agentgov.ledger.entry import Draft, Entry
from agentgov.rollback.applying import Application, apply_result, plan_application
from agentgov.rollback.restore import recover
from agentgov.text import printable

_JOURNAL = "apply-journal"


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of it.

    Attributes:
        changed: How many files and links changed.
        saved: A tree of what stood there, at the paths that changed.
        edited: Paths that somebody changed while it was done; their version stands.
        spared: Files with somebody's late writes that were left beside them.
    """

    changed: int
    saved: str
    edited: tuple[bytes, ...]
    spared: tuple[bytes, ...]


def saved_ref(run: str) -> str:
    """The ref in the private store that keeps what an application replaced."""
    return f"refs/agentgov/saved/{run}"


def plan_apply(work: Workplace, run: SettledRun) -> Application:
    """Plan to bring the result in; writes to the private store only.

    Raises:
        UsageError: AG0076, the run worked in the user's tree.
        IncompleteError: AG0077, it has no result.
    """
    if run.in_place:
        raise UsageError(
            f"run {run.run} worked in place: its result is in your tree already", id="AG0076",
            hint=f"agentgov rollback {run.run}:start takes it back",
        )  # fmt: skip
    bound = _result(run)
    recover(_journal(work, run))
    root = work.repo.require_work_tree()
    base_tree = f"{bound.body['base']}^{{tree}}"
    with tempfile.TemporaryDirectory(dir=open_private_dir(work.repo.layout.run_dir(run.run))) as scratch:
        return plan_application(
            work.repo,
            work.store,
            root,
            work.repo.git().text("rev-parse", "--verify", "--end-of-options", base_tree),
            bound.body["result"],
            Path(scratch),
        )


def apply(work: Workplace, run: SettledRun, application: Application, *, random: Random) -> Applied:
    """Do what was planned, and enter it.

    Raises:
        ConflictError: AG0078, a file cannot be merged; nothing was changed.
        DivergedError: AG0176, the tree changed after the plan was made; nothing was changed.
    """
    if application.plan.conflicts:
        names = ", ".join(printable(conflict.path) for conflict in application.plan.conflicts[:5])
        raise ConflictError(
            f"not applied, nothing was changed: cannot be merged with your tree: {names}", id="AG0078",
            hint=("commit or move your changes to these files first", f"agentgov diff {run.run}"),
        )  # fmt: skip
    store = work.store
    # What stood there and what will stand there: undoing needs both, and earlier applications stay.
    for tree, title in ((application.saved, "before apply"), (application.written, "after apply")):
        earlier = store.ref(saved_ref(run.run))
        commit = store.write_commit(
            tree,
            [] if earlier is None else [earlier],
            f"{run.run}: {title}",
            author="agentgov",
            email="agentgov@localhost",
            ts_us=work.clock.now_us(),
        )
        store.set_ref(saved_ref(run.run), commit)
    done = apply_result(work.repo.require_work_tree(), store, application, _journal(work, run), random=random)
    body = {"result": _result(run).body["result"], "place": "in-place", "saved": application.saved}
    run.enter([Draft("run.apply", run.run, body)])
    run.save()
    return Applied(done.changed, application.saved, done.edited, done.saved)


def _journal(work: Workplace, run: SettledRun) -> Path:
    return open_private_dir(work.repo.layout.run_dir(run.run)) / _JOURNAL


def _result(run: SettledRun) -> Entry:
    if run.record.result is None:
        raise IncompleteError(f"run {run.run} has no result", id="AG0077", hint=f"agentgov show {run.run}")
    return run.record.result


def drop(work: Workplace, run: SettledRun, state: StateHome) -> bool:
    """Remove the run's clone and what held its borrowed objects; the record stays.

    Returns:
        Whether there was a clone.
    """
    there = workspace.drop(state, run.run)
    if run.in_place:
        holds.release(work.repo.git_dir, run.run)
    if not run.record.dropped:
        run.enter([Draft("run.drop", run.run, {})])
        run.save()
    return there
