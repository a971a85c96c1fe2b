"""Refs that keep what a workspace borrows: `git gc --prune=now` in the user's repository must break nothing.

Rules kept here:

- One ref per run and repository, `refs/agentgov/held/<run>`: it names a commit whose parents are all commits
  the workspace started with, and whose tree holds the rest. Many refs would slow down every push of every
  developer.
- The ref is there before anything is borrowed, and goes only when the workspace is dropped.
- Nothing else in the repository is touched: no branch, no reflog, no index.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agentgov.git import Git, Repository, check_oid
from agentgov.ids import RunId

HELD_PREFIX = "refs/agentgov/held/"
_IDENTITY = "agentgov <agentgov@localhost> 0 +0000"


@dataclass(frozen=True, slots=True)
class Ref:
    """A ref of the user's repository.

    Attributes:
        name: The full name.
        oid: What it points at; "" for a symbolic one that points nowhere.
        symbolic: What a symbolic ref names.
    """

    name: str
    oid: str
    symbolic: str


@dataclass(frozen=True, slots=True)
class Borrowed:
    """What a workspace takes from a repository.

    Attributes:
        commits: Commits, to be held with all that is reachable from them.
        others: (type, id) of trees and blobs that tags name.
        tags: Annotated tag objects: small, and copied instead of held.
    """

    commits: tuple[str, ...]
    others: tuple[tuple[str, str], ...]
    tags: tuple[str, ...]


def held_ref(run: RunId) -> str:
    """The ref that keeps what a run's workspace borrows."""
    return HELD_PREFIX + run


def read_refs(git: Git, prefixes: Iterable[str]) -> list[Ref]:
    """List the refs below `prefixes`."""
    fields = "%(refname)%00%(objectname)%00%(symref)"
    output = git.run("for-each-ref", f"--format={fields}", *prefixes).stdout
    refs = []
    for line in output.split(b"\n")[:-1]:
        name, oid, symbolic = line.decode("utf-8", "surrogateescape").split("\x00")
        refs.append(Ref(name, oid, symbolic))
    return refs


def sort_out(git: Git, oids: Iterable[str]) -> Borrowed:
    """Find out what kind each object is, and follow annotated tags; what is missing is left out."""
    kinds: dict[str, list[str]] = {"commit": [], "tree": [], "blob": [], "tag": []}
    todo = list(dict.fromkeys(check_oid(oid) for oid in oids))
    seen = set(todo)
    while todo:
        asked = "".join(f"{oid}\n" for oid in todo).encode()
        found_tags = []
        for line in git.run("cat-file", "--batch-check", input=asked).stdout.decode().splitlines():
            oid, _, rest = line.partition(" ")
            kind = rest.partition(" ")[0]
            if kind in kinds:
                kinds[kind].append(oid)
            if kind == "tag":
                found_tags.append(oid)
        todo = []
        for oid in found_tags:
            target = git.text("cat-file", "tag", oid).partition("\n")[0].removeprefix("object ")
            if target not in seen:
                seen.add(target)
                todo.append(check_oid(target))
    others = [(kind, oid) for kind in ("tree", "blob") for oid in kinds[kind]]
    return Borrowed(tuple(kinds["commit"]), tuple(others), tuple(kinds["tag"]))


def hold(repo: Repository, run: RunId, borrowed: Borrowed) -> str:
    """Make the ref; the id of its commit, which is the same for the same things borrowed."""
    git = repo.git()
    mode = {"tree": "040000", "blob": "100644"}
    entries = "".join(
        f"{mode[kind]} {kind} {oid}\t{number}\n" for number, (kind, oid) in enumerate(borrowed.others)
    )
    tree = git.text("mktree", input=entries.encode())
    lines = [f"tree {tree}", *(f"parent {oid}" for oid in borrowed.commits)]
    lines += [
        f"author {_IDENTITY}",
        f"committer {_IDENTITY}",
        "",
        f"What the workspace of run {run} borrows",
        "",
    ]
    commit = git.text("hash-object", "-t", "commit", "-w", "--stdin", input="\n".join(lines).encode())
    git.run("update-ref", held_ref(run), commit)
    return commit


def release(git_dir: Path, run: RunId) -> None:
    """Remove the ref, if it is there."""
    git = Git(git_dir)
    if git.run("rev-parse", "--verify", "--quiet", held_ref(run), check=False).ok:
        git.run("update-ref", "-d", held_ref(run))


def copy_tags(source: Git, target: Git, tags: Iterable[str]) -> None:
    """Copy annotated tag objects, and only them, from one repository to another, hashing what arrives."""
    asked = "".join(f"{oid}\n" for oid in tags).encode()
    if asked:
        pack = source.run("pack-objects", "-q", "--stdout", input=asked).stdout
        # Not unpack-objects: it leaves out what an alternate has.
        target.run("index-pack", "--stdin", input=pack)
