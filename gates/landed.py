"""What became of a landing that a crash left open: the branch itself says it.

Rules kept here:
- The intent names the commit that the merge has as its second parent, and the branch's commit before it.
- A merge of these two that holds another tree than the one they merge into is somebody else's work: it is
  never entered as what was approved.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from agentgov.errors import ConflictError
from agentgov.files import open_private_dir
from agentgov.gates.landing import Journal, merged_tree
from agentgov.git import Repository, check_oid, check_refname


def landed_commit(repo: Repository, target: str, old: str, head: str) -> str | None:
    """The merge of an intent's two commits that is on the branch, whatever tree it holds; None without one.

    Args:
        repo: the user's repository.
        target: the branch, as refs/heads/...
        old: the branch's commit at the intent.
        head: the intent's result commit.
    """
    tip = repo.ref(check_refname(target))
    if tip is None:
        return None
    git = repo.git()
    listing = git.run("rev-list", "--parents", "--merges", check_oid(tip), f"^{check_oid(old)}", check=False)
    for line in listing.stdout.decode("ascii", "replace").splitlines():
        commit, *parents = line.split()
        if parents == [old, head]:
            return commit
    return None


def recover_landing(repo: Repository, target: str, old: str, head: str, journal: Journal) -> str | None:
    """Closes an intent that a crash left open, by looking at the branch; returns the commit if it landed."""
    commit = landed_commit(repo, target, old, head)
    if commit is None:
        journal.failed("interrupted")
    elif _tree(repo, commit) != _expected_tree(repo, target, old, head):
        journal.failed("other-tree")
        return None
    else:
        journal.done(commit)
    return commit


def _tree(repo: Repository, commit: str) -> str:
    return repo.git().text("rev-parse", f"{check_oid(commit)}^{{tree}}")


def _expected_tree(repo: Repository, target: str, old: str, head: str) -> str | None:
    if repo.git().text("rev-parse", f"{check_oid(head)}^1") == old:
        return _tree(repo, head)
    with tempfile.TemporaryDirectory(dir=open_private_dir(repo.layout.root)) as scratch:
        try:
            return merged_tree(repo, Path(scratch), old, head, target)
        except ConflictError:
            return None
