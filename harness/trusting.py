"""A change to who is trusted: one commit on a new branch, made beside the user's work.

Rules kept here:

- It is built from objects alone: the user's index, HEAD, stash and work tree are not touched, nothing is
  checked out and nothing is pushed.
- It starts from the protected branch, which alone says who is trusted; the change counts once it is there.
- A branch is only ever made, never moved.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agentgov.errors import ConfigError, ConflictError, UsageError
from agentgov.gates.adoption import protected_commit
from agentgov.gates.landing import Person
from agentgov.git import Git, Repository
from agentgov.layout import StateHome

FOLDER: Final = ".agentgov"
_TREE: Final = b"040000"
_FILE: Final = b"100644"


@dataclass(frozen=True, slots=True)
class Protected:
    """Where trust is read from.

    Attributes:
        commit: The commit.
        name: The branch as people call it, such as `origin/main`.
        branch: The branch that a pull request would go to, such as `main`.
        remote: The remote that it lies on; None for a local one.
    """

    commit: str
    name: str
    branch: str
    remote: str | None


@dataclass(frozen=True, slots=True)
class TrustChange:
    """A commit that changes who is trusted, on a branch of its own.

    Attributes:
        branch: The branch, without `refs/heads/`.
        commit: The commit.
        base: Where it starts from.
        is_new: Whether it was made now; the same change may have been made before.
    """

    branch: str
    commit: str
    base: Protected
    is_new: bool


def find_protected(repo: Repository, state: StateHome) -> Protected:
    """Return where trust is read from.

    Raises:
        UsageError: AG0086, when there is no branch yet.
        ConfigError: AG0103 or AG0104, when what is pinned cannot be read.
    """
    found = protected_commit(repo, state)
    if found is None:
        raise UsageError(
            "there is no branch yet that could say who is trusted",
            id="AG0086",
            hint='git commit --allow-empty -m "start"',
        )
    commit, name = found
    remote = repo.remote_default()
    if remote is not None and name == f"{remote.remote}/{remote.branch.removeprefix('refs/heads/')}":
        return Protected(commit, name, remote.branch.removeprefix("refs/heads/"), remote.remote)
    short = name.removeprefix("refs/heads/")
    # A clone that was pushed from, and not cloned, does not know which branch is the remote's default one.
    upstream = repo.config(f"branch.{short}.remote")
    return Protected(commit, short, short, upstream if upstream in repo.remotes() else None)


def propose(
    repo: Repository,
    base: Protected,
    files: Mapping[str, str],
    subject: str,
    *,
    topic: str,
    person: Person,
    now_us: int,
) -> TrustChange:
    """Commit files of `.agentgov` on a new branch.

    Args:
        repo: The repository.
        base: What to start from.
        files: Names in the folder, and their new content.
        subject: The commit's first line.
        topic: A word or two for the branch's name.
        person: Who commits.
        now_us: When.

    Raises:
        ConfigError: AG0087, when something else than a folder stands in its place.
        ConflictError: AG0088, when the branch was just made by somebody else.
    """
    git = repo.git()
    root = _listing(git, f"{base.commit}^{{tree}}")
    folder = _folder(git, root, base)
    for name, text in files.items():
        blob = git.text("hash-object", "-w", "--stdin", input=text.encode("utf-8", "surrogateescape"))
        mode = folder[name.encode()][0] if name.encode() in folder else _FILE
        if mode not in (b"100644", b"100755"):
            raise ConfigError("a link or a folder stands in its place", id="AG0087", where=f"{FOLDER}/{name}")
        folder[name.encode()] = (mode, b"blob", blob.encode())
    root[FOLDER.encode()] = (_TREE, b"tree", _mktree(git, folder).encode())
    tree = _mktree(git, root)
    digest = hashlib.sha256(f"{base.commit} {tree}".encode()).hexdigest()[:7]
    branch = f"agentgov/keys-{_slug(topic)}-{digest}"
    existing = repo.ref(f"refs/heads/{branch}")
    if existing is not None:
        return TrustChange(branch, existing, base, is_new=False)
    date = f"@{now_us // 1_000_000} +0000"
    commit = git.text(
        "commit-tree",
        tree,
        "-p",
        base.commit,
        input=f"{subject}\n".encode(),
        env={
            "GIT_AUTHOR_NAME": person.name,
            "GIT_AUTHOR_EMAIL": person.email,
            "GIT_COMMITTER_NAME": person.name,
            "GIT_COMMITTER_EMAIL": person.email,
            "GIT_AUTHOR_DATE": date,
            "GIT_COMMITTER_DATE": date,
        },
    )
    done = git.run(
        "update-ref", "-m", subject, f"refs/heads/{branch}", commit, "0" * len(commit), check=False
    )
    if not done.ok:
        raise ConflictError(f"the branch could not be made: {done.message}", id="AG0088", where=branch)
    return TrustChange(branch, commit, base, is_new=True)


_Tree = dict[bytes, tuple[bytes, bytes, bytes]]


def _listing(git: Git, tree: str) -> _Tree:
    found: _Tree = {}
    for record in git.lines_z("ls-tree", "-z", tree):
        meta, _, name = record.partition(b"\t")
        mode, kind, oid = meta.split(b" ")
        found[name] = (mode, kind, oid)
    return found


def _folder(git: Git, root: _Tree, base: Protected) -> _Tree:
    entry = root.get(FOLDER.encode())
    if entry is None:
        return {}
    if entry[0] != _TREE:
        raise ConfigError(
            f"{FOLDER} is no folder on {base.name}", id="AG0087", where=f"git show {base.name}:{FOLDER}"
        )
    return _listing(git, entry[2].decode())


def _mktree(git: Git, entries: _Tree) -> str:
    lines = [b"%b %b %b\t%b\x00" % (mode, kind, oid, name) for name, (mode, kind, oid) in entries.items()]
    return git.text("mktree", "-z", "--missing", input=b"".join(lines))


def _slug(topic: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", topic.casefold()).strip("-")[:40].strip("-")
    return words or "change"
