"""Lands a result on a branch: the merge, the merge commit with its trailers, the compare-and-swap, recovery.

Rules kept here:
- The merge is computed in a scratch repository of our own, with pinned settings: no hook, filter or merge
  driver of anybody runs.
- promote.intent, seal, merge commit, compare-and-swap, promote.done, in this order (`gates.landed` says what
  became of an intent that a crash left open).
- A branch is only ever moved from the commit that the decision was about, and only under its own name: a
  symbolic ref would move another branch than the one whose gates were asked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agentgov.errors import AgentgovError, ConflictError, UsageError
from agentgov.gates.tiers import ChangedPath
from agentgov.git import Git, Repository, check_oid, check_refname
from agentgov.ids import RunId
from agentgov.ledger.checkpoint import Checkpoint
from agentgov.text import printable

MERGE_SETTINGS: Mapping[str, str] = {
    "merge.directoryRenames": "false",
    "merge.renames": "true",
    "merge.renameLimit": "7000",
    "merge.renormalize": "false",
    "merge.default": "text",
    "merge.conflictStyle": "merge",
    "diff.renames": "true",
}
"""What a merge result depends on, besides git's version; an approval names them."""
_NO_ATTRIBUTES = {"core.attributesFile": "/dev/null"}
_SCRATCH_NAME = "landing.git"

Export = Callable[[Sequence[str]], None]
"""Brings objects, with all they need, into the user's repository; it re-hashes them."""


@dataclass(frozen=True)
class Person:
    """Who moves the branch."""

    name: str
    email: str


@dataclass(frozen=True)
class Landing:
    """What would land.

    Attributes:
        target: the branch, as refs/heads/...
        old: its commit now.
        base: the commit that the run began at.
        result_tree: the tree bound to the run.
        result_commit: a commit of it on the base: the second parent of the merge.
        tree: the tree of the merge.
        delta: the digest of the change from `old` to `tree`.
        result_delta: the digest of the change from `base` to `result_tree`.
    """

    run: RunId
    target: str
    old: str
    base: str
    result_tree: str
    result_commit: str
    tree: str
    delta: str
    result_delta: str

    @property
    def base_is_head(self) -> bool:
        """The target has not moved since the run began."""
        return self.old == self.base


class Journal(Protocol):
    """Where a landing is recorded; each call returns after it is durable."""

    def intent(self, landing: Landing) -> None:
        """Enters promote.intent."""

    def seal(self) -> Checkpoint:
        """Seals, and returns the head that the trailers name."""

    def done(self, commit: str) -> None:
        """Enters promote.done."""

    def failed(self, reason: str) -> None:
        """Enters promote.failed; `reason` is a token."""


def delta_digest(git: Git, old: str, new: str) -> str:
    """SHA-256 (hex) of git's raw diff between two trees or commits, as an auditor computes it."""
    listing = git.run(
        "diff-tree", "-r", "-z", "--raw", "--full-index", "--no-renames", check_oid(old), check_oid(new)
    )
    return hashlib.sha256(listing.stdout).hexdigest()


def changed_paths(git: Git, old: str, new: str) -> list[ChangedPath]:
    """The paths of a change with their modes and number of lines."""
    lines: dict[bytes, int | None] = {}
    for record in git.lines_z(
        "diff-tree", "-r", "-z", "--numstat", "--no-renames", check_oid(old), check_oid(new)
    ):
        added, removed, path = record.split(b"\t", 2)
        lines[path] = None if added == b"-" else int(added) + int(removed)
    records = iter(git.lines_z("diff-tree", "-r", "-z", "--raw", "--full-index", "--no-renames", old, new))
    found = []
    for meta in records:
        old_mode, new_mode = meta.lstrip(b":").split()[:2]
        path = next(records)
        found.append(ChangedPath(path, old_mode.decode("ascii"), new_mode.decode("ascii"), lines.get(path)))
    return found


@dataclass(frozen=True)
class LandingRequest:
    """What is asked for.

    Attributes:
        subject: one line on what the run was for; untrusted, it is made printable.
        now_us: the time of the commits.
    """

    run: RunId
    target: str
    base: str
    result_tree: str
    subject: str
    person: Person
    now_us: int


def prepare_landing(repo: Repository, request: LandingRequest, scratch: Path, export: Export) -> Landing:
    """Computes what would land. Moves nothing; objects are added to the user's repository.

    Args:
        repo: the user's repository.
        request: what is to land where.
        scratch: an existing private folder, for a repository of our own.
        export: brings the result tree.

    Raises:
        UsageError: AG0117 it is no plain branch.
        ConflictError: AG0114 the branch is gone; AG0115 the result does not merge cleanly.
        AgentgovError: AG0008 when git fails.
    """
    git = repo.git()
    old = branch_tip(repo, request.target)
    export([request.result_tree])
    message = f"{_subject(request)}\n\nAgent-Run: {request.run}\n"
    commit = _commit(git, request, request.result_tree, [request.base], message)
    tree = request.result_tree
    if old != request.base:
        tree = merged_tree(repo, scratch, old, commit, request.target)
    return Landing(
        run=request.run,
        target=request.target,
        old=old,
        base=request.base,
        result_tree=request.result_tree,
        result_commit=commit,
        tree=tree,
        delta=delta_digest(git, old, tree),
        result_delta=delta_digest(git, request.base, request.result_tree),
    )


def branch_tip(repo: Repository, target: str) -> str:
    """The commit of a branch that may be landed on.

    Raises:
        UsageError: AG0016 no ref name; AG0117 no branch, or another name of one.
        ConflictError: AG0114 the branch is gone.
    """
    if not check_refname(target).startswith("refs/heads/"):
        raise UsageError(f"{printable(target, limit=100)} is not a branch", id="AG0117")
    listing = repo.git().run("for-each-ref", "--format=%(objectname) %(symref) %(refname)", target).stdout
    for line in listing.decode("utf-8", "surrogateescape").splitlines():
        oid, symref, name = line.split(" ")
        if name != target:
            # A branch in a folder of that name.
            continue
        if symref:
            raise UsageError(
                f"{_short(target)} is only another name of {printable(symref, limit=100)}",
                id="AG0117",
                hint=f"--into {_short(symref)}",
            )
        return check_oid(oid)
    raise ConflictError(f"there is no branch {_short(target)}", id="AG0114", where=str(repo.common_dir))


def _short(target: str) -> str:
    return printable(target.removeprefix("refs/heads/"), limit=100)


def _subject(request: LandingRequest) -> str:
    words = " ".join(printable(request.subject, limit=160).split())
    return f"{words} (run {request.run})" if words else f"Result of run {request.run}"


def _commit(git: Git, request: LandingRequest, tree: str, parents: Iterable[str], message: str) -> str:
    # The time is the caller's, so that preparing twice gives the same commit.
    date = f"{request.now_us // 1_000_000} +0000"
    name, email = _ident(request.person.name) or "unknown", _ident(request.person.email)
    env = {
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_AUTHOR_DATE": date,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": email,
        "GIT_COMMITTER_DATE": date,
    }
    arguments = [part for parent in parents for part in ("-p", check_oid(parent))]
    config = {"i18n.commitEncoding": "UTF-8"}
    return check_oid(
        git.text(
            "commit-tree",
            check_oid(tree),
            *arguments,
            input=message.encode("utf-8", "replace"),
            env=env,
            config=config,
        )
    )


def _ident(text: str) -> str:
    return re.sub(r"[<>\x00-\x1f\x7f]", "", text).strip()


@contextmanager
def _scratch_repository(repo: Repository, scratch: Path) -> Iterator[Git]:
    import shutil

    place = scratch / _SCRATCH_NAME
    shutil.rmtree(place, ignore_errors=True)
    Git(None).run(
        "init",
        "-q",
        "--bare",
        "--template=",
        f"--object-format={repo.object_format}",
        str(place),
        cwd=scratch,
    )
    (place / "objects" / "info").mkdir(parents=True, exist_ok=True)
    (place / "objects" / "info" / "alternates").write_text(f"{repo.objects_dir.resolve()}\n")
    try:
        yield Git(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def merged_tree(repo: Repository, scratch: Path, old: str, commit: str, target: str) -> str:
    """The tree that merging `commit` into `old` gives, brought into the user's repository.

    Raises:
        ConflictError: AG0115, it does not merge cleanly.
        AgentgovError: AG0008, git fails.
    """
    with _scratch_repository(repo, scratch) as git:
        if repo.is_shallow and (shallow := repo.common_dir / "shallow").exists() and git.git_dir is not None:
            (git.git_dir / "shallow").write_bytes(shallow.read_bytes())
        config = {**MERGE_SETTINGS, **_NO_ATTRIBUTES}
        merged = git.run(
            "merge-tree",
            "--write-tree",
            "--name-only",
            "-z",
            "--no-messages",
            old,
            commit,
            check=False,
            config=config,
        )
        fields = merged.stdout.split(b"\x00")
        if merged.returncode == 1:
            paths = [printable(path, limit=80) for path in fields[1:] if path]
            branch, where = _short(target), ", ".join(paths[:5]) or "conflicts"
            raise ConflictError(
                f"the result does not merge cleanly into {branch}: {where}",
                id="AG0115",
                where=str(repo.common_dir),
                hint=f"merge by hand (agentgov apply), or start a new run from {branch}",
            )
        if not merged.ok:
            raise AgentgovError(f"git merge-tree: {merged.message}", id="AG0008", where=str(repo.common_dir))
        tree = check_oid(fields[0].decode("ascii", "replace").strip())
        pack = git.run(
            "pack-objects",
            "--stdout",
            "--revs",
            "--local",
            "-q",
            input=f"{tree}\n^{old}\n^{commit}\n".encode("ascii"),
        )
        # gitformat-pack(5): the number of objects stands at bytes 8 to 11.
        if int.from_bytes(pack.stdout[8:12], "big"):
            repo.git().run("index-pack", "--stdin", "--fix-thin", "--strict", input=pack.stdout)
        return tree


def merge_message(request: LandingRequest, checkpoint: Checkpoint, *, self_approved: bool) -> str:
    """The message of the merge commit; its trailers are what CI and auditors look for."""
    trailers = [
        f"Agent-Run: {request.run}",
        f"Agent-Ledger: {checkpoint.origin} {checkpoint.size} {checkpoint.root.hex()}",
    ]
    if self_approved:
        trailers.append("Agent-Approval: self-approved")
    return f"Merge {_subject(request)}\n\n" + "\n".join(trailers) + "\n"


def land(
    repo: Repository,
    landing: Landing,
    request: LandingRequest,
    journal: Journal,
    *,
    self_approved: bool = False,
) -> str:
    """Moves the branch. Returns the merge commit.

    The caller has decided that it may land, with these very facts.

    Raises:
        ConflictError: AG0114 when the branch moved meanwhile; nothing was changed then.
    """
    journal.intent(landing)
    checkpoint = journal.seal()
    git = repo.git()
    message = merge_message(request, checkpoint, self_approved=self_approved)
    commit = _commit(git, request, landing.tree, [landing.old, landing.result_commit], message)
    swapped = git.run(
        "update-ref",
        "--no-deref",
        "-m",
        f"agentgov: promote {landing.run}",
        landing.target,
        commit,
        landing.old,
        check=False,
        env={
            "GIT_COMMITTER_NAME": _ident(request.person.name) or "unknown",
            "GIT_COMMITTER_EMAIL": _ident(request.person.email),
        },
    )
    if not swapped.ok and repo.ref(landing.target) != commit:
        journal.failed("target-moved" if repo.ref(landing.target) != landing.old else "ref-refused")
        raise ConflictError(
            f"{_short(landing.target)} was not moved: {swapped.message}",
            id="AG0114",
            where=str(repo.common_dir),
            hint=f"agentgov promote {landing.run}",
        )
    journal.done(commit)
    return commit
