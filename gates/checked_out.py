"""Brings a clean, checked-out work tree to the commit that its branch was moved to.

Rules kept here:
- Only a work tree on that branch, with nothing staged and no tracked file changed, is touched; anything else
  is left and said.
- Nothing that git does not track is overwritten, ignored files included: `read-tree` alone would remove
  those.
- No hook and no filter runs: where a changed path has a filter, the tree is left.
"""

# Paths are text here: "..", links and a last slash must stay as they were written.
# ruff: noqa: PTH112, PTH114, PTH118
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from agentgov.errors import AgentgovError
from agentgov.git import Git, Repository, check_oid
from agentgov.text import printable


@dataclass(frozen=True)
class TreeUpdate:
    """What became of a work tree.

    Attributes:
        place: the work tree.
        updated: it now shows the new commit.
        reason: why it was left, for people; empty when updated.
        help: the command that brings it there.
    """

    place: Path
    updated: bool
    reason: str = ""
    help: str = ""


@dataclass(frozen=True)
class _WorkTree:
    place: Path
    branch: str | None


def work_trees_on(repo: Repository, target: str) -> list[Path]:
    """The work trees in which a branch is checked out."""
    found: list[_WorkTree] = []
    place: Path | None = None
    branch: str | None = None
    for record in [*repo.git().lines_z("worktree", "list", "--porcelain", "-z"), b"worktree "]:
        key, _, value = record.partition(b" ")
        if key == b"worktree":
            if place is not None:
                found.append(_WorkTree(place, branch))
            place, branch = Path(os.fsdecode(value)), None
        elif key == b"branch":
            branch = os.fsdecode(value)
    return [tree.place for tree in found if tree.branch == target]


def update_work_trees(repo: Repository, target: str, old: str, new: str) -> list[TreeUpdate]:
    """Updates the user's work tree when it is on `target` and clean; says of every other what was left."""
    updates = []
    own = None if repo.work_tree is None else os.path.realpath(repo.work_tree)
    for place in work_trees_on(repo, target):
        if os.path.realpath(place) == own:
            reason = _update(repo, check_oid(old), check_oid(new))
        else:
            reason = "it is another work tree on this branch"
        # Quoting is the shell's: a path may hold blanks.
        command = f"git -C {printable(_quoted(place))} read-tree -m -u {old} {new}"
        updates.append(TreeUpdate(place, not reason, reason, "" if not reason else command))
    return updates


def _quoted(place: Path) -> str:
    import shlex

    return shlex.quote(str(place))


def _update(repo: Repository, old: str, new: str) -> str:
    """Updates the work tree; returns why not, or nothing."""
    git = repo.git(with_work_tree=True)
    quiet = _without_filters(repo)
    if _is_busy(repo):
        return "a merge, rebase or similar is going on"
    # Against the old commit: the branch has moved already, so HEAD names the new one.
    if not git.run("diff-index", "--quiet", "--cached", old, "--", check=False, config=quiet).ok:
        return "something is staged"
    if _is_changed(git, quiet):
        return "it has uncommitted changes"
    added, paths = _paths(git, old, new)
    in_the_way = next((path for path in added if _is_occupied(repo.require_work_tree(), path)), None)
    if in_the_way is not None:
        return f"{printable(in_the_way, limit=80)} is there and not tracked"
    if _has_filter(git, paths):
        return "a changed file has a filter (such as LFS), and promote runs none"
    dry = git.run("read-tree", "-m", "-u", "-n", old, new, check=False, config=quiet)
    if not dry.ok:
        return dry.message
    try:
        git.run("read-tree", "-m", "-u", old, new, config=quiet)
    except AgentgovError as error:
        return error.message
    git.run("update-index", "-q", "--refresh", check=False, config=quiet)
    return ""


def _is_changed(git: Git, quiet: dict[str, str]) -> bool:
    # status compares content where times differ, and writes nothing; renames would shift its columns.
    listing = git.lines_z(
        "status",
        "--porcelain",
        "-z",
        "--untracked-files=no",
        "--no-renames",
        "--ignore-submodules=dirty",
        config=quiet,
    )
    # The second column is the work tree against the index; the first is the index against the moved HEAD.
    return any(record[1:2] not in (b" ", b"") for record in listing)


def _is_busy(repo: Repository) -> bool:
    names = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply", "BISECT_LOG")
    return any((repo.git_dir / name).exists() for name in names)


def _without_filters(repo: Repository) -> dict[str, str]:
    listing = Git(repo.git_dir).plain(
        "config", "-z", "--name-only", "--get-regexp", r"^filter\..*", cwd=repo.work_tree
    )
    names = {
        key.decode("utf-8", "surrogateescape").rsplit(".", 1)[0]
        for key in listing.stdout.split(b"\x00")
        if key
    }
    quiet: dict[str, str] = {}
    for name in names:
        quiet |= {
            f"{name}.clean": "",
            f"{name}.smudge": "",
            f"{name}.process": "",
            f"{name}.required": "false",
        }
    return quiet


def _paths(git: Git, old: str, new: str) -> tuple[list[bytes], list[bytes]]:
    records = git.lines_z("diff-tree", "-r", "-z", "--name-status", "--no-renames", old, new)
    pairs = list(zip(records[::2], records[1::2], strict=True))
    return [path for status, path in pairs if status == b"A"], [path for _, path in pairs]


def _is_occupied(work_tree: Path, path: bytes) -> bool:
    if os.path.lexists(os.path.join(os.fsencode(work_tree), path)):
        return True
    parts = path.split(b"/")
    for count in range(1, len(parts)):
        parent = os.path.join(os.fsencode(work_tree), *parts[:count])
        if os.path.lexists(parent) and (os.path.islink(parent) or not os.path.isdir(parent)):
            return True
    return False


def _has_filter(git: Git, paths: list[bytes]) -> bool:
    if not paths:
        return False
    answers = git.lines_z(
        "check-attr", "-z", "--stdin", "filter", input=b"".join(path + b"\x00" for path in paths)
    )
    return any(value not in (b"unspecified", b"unset", b"") for value in answers[2::3])
