"""The last part of a run, for its recorder and for what comes after it: look once more, bind the result.

Rules kept here:
- The user's repository decides how contents are converted, never the workspace.
- What cannot be bound is said in the record's problems; the run still ends in good order.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agentgov.files import open_private_dir
from agentgov.git import Repository
from agentgov.ids import RunId
from agentgov.ledger.entry import Draft
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.result import bind_result, problems_payload
from agentgov.rollback.snapshot import Snapshot, Snapshotter
from agentgov.rollback.worktree import is_git_name

if TYPE_CHECKING:
    from agentgov.config import SnapshotsTable
    from agentgov.ledger.payloads import PayloadStore
    from agentgov.rollback.ignore import IgnoreRules


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound result.

    Attributes:
        draft: The entry that says so.
        tree: The result tree.
        problems: What keeps it from landing, one line each.
    """

    draft: Draft
    tree: str
    problems: Sequence[str]


def result_ref(run: RunId) -> str:
    """The ref in the private store that keeps a run's result."""
    return f"refs/agentgov/results/{run}"


def bind(
    repo: Repository,
    store: ObjectStore,
    payloads: PayloadStore,
    run: RunId,
    *,
    base: str,
    start_tree: str,
    end_tree: str,
    root: Path,
    is_ignored: Callable[[bytes], bool],
    skipped: Collection[bytes] = (),
) -> Bound:
    """Make a run's result tree and the entry that binds it to the last snapshot.

    Args:
        repo: The user's repository.
        store: Where the snapshots are, and the result will be.
        payloads: Where problems are kept.
        run: The run.
        base: The commit it started from.
        start_tree: Its first snapshot.
        end_tree: Its last one.
        root: The workspace, to find repositories in it; need not exist any more.
        is_ignored: The ignore rules of the run.
        skipped: What the last snapshot left out and the first one did not.

    Raises:
        AgentgovError: The result cannot be made.
    """
    changed = [delta.path for delta in store.diff(start_tree, end_tree)]
    with tempfile.TemporaryDirectory(dir=open_private_dir(repo.layout.run_dir(run))) as scratch:
        result = bind_result(
            repo,
            store,
            base,
            start_tree,
            end_tree,
            Path(scratch),
            is_ignored=is_ignored,
            nested=find_nested(root, changed),
            skipped=skipped,
        )
    store.set_ref(result_ref(run), result.tree)
    problems = None
    if result.problems:
        problems = payloads.put(run, "args", "text", problems_payload(result.problems))
        payloads.sync()
    body = {
        "tree": end_tree,
        "base": base,
        "result": result.tree,
        "delta": result.delta,
        "problems": problems,
    }
    return Bound(Draft("result.bind", run, body), result.tree, [problem.text for problem in result.problems])


def look(store: ObjectStore, root: Path, rules: IgnoreRules, last: str, settings: SnapshotsTable) -> Snapshot:
    """Take a full snapshot of a workspace without its recorder; what `last` holds counts as captured.

    Raises:
        AgentgovError: AG0156, when it cannot be read.
    """
    snapshotter = Snapshotter(
        root,
        store,
        rules,
        tracked=[delta.path for delta in store.diff(store.empty_tree, last)],
        max_file_bytes=settings.max_file_bytes,
        secret_patterns=settings.secret,
        watch=False,
    )
    try:
        return snapshotter.start()
    finally:
        snapshotter.close()


def find_nested(root: Path, paths: Iterable[bytes]) -> set[bytes]:
    """Return the folders above changed paths that are git repositories of their own."""
    known: dict[bytes, bool] = {}
    for path in paths:
        parts = path.split(b"/")[:-1]
        for depth in range(1, len(parts) + 1):
            folder = b"/".join(parts[:depth])
            if folder not in known:
                known[folder] = _holds_git(root, folder)
    return {folder for folder, is_nested in known.items() if is_nested}


def _holds_git(root: Path, folder: bytes) -> bool:
    try:
        return any(is_git_name(os.fsencode(entry.name)) for entry in (root / os.fsdecode(folder)).iterdir())
    except OSError:
        return False
