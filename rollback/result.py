"""The result tree: what a run would land, made from what its workspace looked like before and after.

Rules:
- It is the base commit's tree plus the paths that changed during the run; every other path keeps the base's
  object.
- Tracked files and new files that are not ignored count; empty folders and anything that git would take for
  its own folder are left out.
- Contents are what `git add` would store, by the base's attributes; no filter runs. What cannot be
  converted here, or lies in a submodule or a nested repository, is a problem: the path keeps the base's
  object, the problem is named, and a result with problems is not landed.
- Where the workspace differed from the base when the run started, only the run's own change counts: it is
  merged into the base's version, and where that is not clean it is a problem.
- The delta digest is SHA-256 of `git diff-tree -r -z --raw --full-index --no-renames <base> <result>`, with
  `--ignore-submodules=none` where a .gitmodules says otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agentgov.errors import BrokenRecordError, ConflictError
from agentgov.git import Git, Repository, check_oid
from agentgov.rollback.attributes import Conversion, Refusal, read_conversions
from agentgov.rollback.merging import merge_bytes
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.trees import (
    FILE,
    FOLDER,
    GITLINK,
    PROGRAM,
    Node,
    edit_tree,
    lookup,
    node_changes,
    parents,
)
from agentgov.rollback.worktree import is_git_name
from agentgov.text import encode_name, printable

ProblemKind = Literal["submodule", "nested", "skipped", "overlap", "untracked", "name"] | Refusal

_PROBLEMS: dict[ProblemKind, str] = {
    "filter": "is under a filter driver (such as Git LFS), which is not run on an agent's content",
    "ident": "has ident expansion, which is not undone here",
    "encoding": "has a working-tree-encoding, which is not converted here",
    "submodule": "is a submodule: commit and land the change there",
    "nested": "is a git repository of its own: commit and land the change there",
    "skipped": "could not be captured (too large, or not a plain file)",
    "overlap": "had changes before the run that are in no commit, and the run's change meets them",
    "untracked": "was there before the run and is in no commit: only its owner can add it",
    "name": "would be a file and a folder at once",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A path whose change cannot land.

    Attributes:
        path: The path.
        kind: Why.
    """

    path: bytes
    kind: ProblemKind

    @property
    def text(self) -> str:
        """One line for a person, safe to print."""
        return f"{printable(self.path)} {_PROBLEMS[self.kind]}"


@dataclass(frozen=True, slots=True)
class Result:
    """What a run would land.

    Attributes:
        tree: The result tree; it is in the store.
        base: The base commit.
        base_tree: Its tree.
        delta: The delta digest, 64 hex characters.
        changed: The paths at which the result differs from the base.
        problems: What cannot land; only a result without problems may.
        dropped: Paths left out because git would take them for its own.
    """

    tree: str
    base: str
    base_tree: str
    delta: str
    changed: tuple[bytes, ...]
    problems: tuple[Problem, ...]
    dropped: tuple[bytes, ...]


def problems_payload(problems: Iterable[Problem]) -> bytes:
    """The problems as JSON, for the record."""
    listed = [{"path": encode_name(problem.path), "kind": problem.kind} for problem in problems]
    return json.dumps({"v": 1, "problems": listed}, sort_keys=True, separators=(",", ":")).encode("ascii")


def _never_ignored(path: bytes) -> bool:
    return False


def bind_result(
    repo: Repository,
    store: ObjectStore,
    base_commit: str,
    start_tree: str,
    end_tree: str,
    scratch: Path,
    *,
    is_ignored: Callable[[bytes], bool] = _never_ignored,
    nested: Collection[bytes] = (),
    skipped: Collection[bytes] = (),
) -> Result:
    """Make the result tree of a run.

    Args:
        repo: The user's repository, never the workspace's: its settings decide on conversions.
        store: Where the snapshots are, and the result will be.
        base_commit: The commit that the run started from.
        start_tree: The snapshot before the run.
        end_tree: The snapshot after it.
        scratch: An existing private folder for temporary files.
        is_ignored: The ignore rules pinned at the start of the run; asked for what the base does not have.
        nested: Folders in the workspace that are repositories of their own.
        skipped: What the last snapshot left out and the first one did not.
    """
    base_tree = _tree_of(store, base_commit)
    binding = _Binding(repo, store, base_tree, scratch, frozenset(nested), frozenset(skipped))
    binding.collect(node_changes(store, start_tree, end_tree), is_ignored)
    with store.batch():
        edits = binding.edits()
        try:
            tree = edit_tree(store, base_tree, edits)
        except ConflictError:
            edits = binding.without_collisions(edits)
            tree = edit_tree(store, base_tree, edits)
    if not edits:
        tree = base_tree
    return Result(
        tree,
        base_commit,
        base_tree,
        delta_digest(store, base_tree, tree),
        tuple(sorted(edits)),
        tuple(sorted(set(binding.problems), key=lambda problem: (problem.path, problem.kind))),
        tuple(binding.dropped),
    )


def delta_digest(store: ObjectStore, base: str, result: str) -> str:
    """SHA-256 of git's raw diff between two trees or commits, as an auditor computes it."""
    listing = Git(store.dir).run(
        "diff-tree", "-r", "-z", "--raw", "--full-index", "--no-renames", check_oid(base), check_oid(result)
    )
    return hashlib.sha256(listing.stdout).hexdigest()


def export_to_repo(
    repo: Repository, store: ObjectStore, oids: Iterable[str], *, exclude: Iterable[str] = ()
) -> None:
    """Bring objects, and all that they need, into the user's repository; git hashes and checks each of them.

    Args:
        repo: Where they go.
        store: Where they are.
        oids: Trees or commits.
        exclude: Trees or commits that the repository has, such as the base: what they reach is not sent.

    Raises:
        AgentgovError: AG0008, when an object is missing or git's own check refuses it.
    """
    wanted = [check_oid(oid) for oid in oids] + [f"^{check_oid(oid)}" for oid in exclude]
    pack = Git(store.dir).run(
        "pack-objects", "--stdout", "--revs", "--local", "--thin", "--delta-base-offset", "-q",
        input="".join(f"{line}\n" for line in wanted).encode("ascii"),
    )  # fmt: skip
    # gitformat-pack(5): the number of objects stands at bytes 8 to 11.
    if int.from_bytes(pack.stdout[8:12], "big"):
        repo.git().run("index-pack", "--stdin", "--fix-thin", "--strict", input=pack.stdout)


def _tree_of(store: ObjectStore, commit: str) -> str:
    kind, data = store.read(check_oid(commit))
    first, _, _ = data.partition(b"\n")
    if kind != "commit" or not first.startswith(b"tree "):
        raise BrokenRecordError(f"the base of a run is a {kind}, not a commit", id="AG0181", where=commit)
    return check_oid(first[5:].decode("ascii", "replace"))


@dataclass(frozen=True, slots=True)
class _Change:
    base: Node | None
    start: Node | None
    end: Node | None


class _Binding:
    """The work of one `bind_result`."""

    def __init__(
        self,
        repo: Repository,
        store: ObjectStore,
        base_tree: str,
        scratch: Path,
        nested: frozenset[bytes],
        skipped: frozenset[bytes],
    ) -> None:
        self._repo = repo
        self._store = store
        self.base_tree = base_tree
        self._scratch = scratch
        self._nested = nested
        self._skipped = skipped
        self._trusts_mode = repo.config_bool("core.fileMode", True)
        self._changes: dict[bytes, _Change] = {}
        self._conversions: dict[bytes, Conversion] = {}
        self.problems: list[Problem] = []
        self.dropped: list[bytes] = []

    def collect(
        self,
        changes: dict[bytes, tuple[Node | None, Node | None]],
        is_ignored: Callable[[bytes], bool],
    ) -> None:
        """Decide which changes count."""
        for path in sorted(self._skipped - set(changes)):
            if self._base(path) is not None or not is_ignored(path):
                self.problems.append(Problem(path, "skipped"))
        for path, (start, end) in sorted(changes.items()):
            start, end, base = _leaf(start), _leaf(end), self._base(path)
            if start is None and end is None:
                continue
            if any(is_git_name(name) for name in path.split(b"/")):
                self.dropped.append(path)
                continue
            outside = self._foreign(path)
            if outside is not None:
                self.problems.append(outside)
            elif path in self._skipped:
                self.problems.append(Problem(path, "skipped"))
            elif base is not None or not is_ignored(path):
                self._changes[path] = _Change(base, start, end)
        files = [path for path, change in self._changes.items() if _any_file(change)]
        self._conversions = read_conversions(self._repo, self._store, self.base_tree, files, self._scratch)

    def edits(self) -> dict[bytes, Node | None]:
        """What to change in the base's tree."""
        found: dict[bytes, Node | None] = {}
        for path, change in self._changes.items():
            outcome = self._land(path, change)
            if isinstance(outcome, Problem):
                self.problems.append(outcome)
            elif outcome != change.base:
                found[path] = outcome
        return found

    def without_collisions(self, edits: dict[bytes, Node | None]) -> dict[bytes, Node | None]:
        """Leave out what would be a file and a folder at once, and name it."""
        kept: dict[bytes, Node | None] = {}
        for path, node in sorted(edits.items(), key=lambda edit: (edit[1] is not None, edit[0])):
            try:
                edit_tree(self._store, self.base_tree, {**kept, path: node})
            except ConflictError:
                self.problems.append(Problem(path, "name"))
            else:
                kept[path] = node
        return kept

    def _base(self, path: bytes) -> Node | None:
        return _leaf(lookup(self._store, self.base_tree, path))

    def _foreign(self, path: bytes) -> Problem | None:
        for folder in (path, *parents(path)):
            node = self._base(folder)
            if node is not None and node.mode == GITLINK:
                return Problem(folder, "submodule")
            if folder in self._nested:
                return Problem(folder, "nested")
        return None

    def _land(self, path: bytes, change: _Change) -> Node | Problem | None:
        base, start, end = change.base, change.start, change.end
        is_clean = self._is_clean(path, change)
        if end is None:
            return None if base is None or is_clean else Problem(path, "overlap")
        if base is None and start is not None:
            return Problem(path, "untracked")
        mode = self._mode(change, end)
        if not end.is_file:
            return end if is_clean else Problem(path, "overlap")
        if base is not None and start is not None and start.is_file and base.is_file and start.oid == end.oid:
            return Node(mode, base.oid)
        conversion = self._conversions[path]
        data = self._store.blob(end.oid)
        refusal = conversion.refusal(data)
        if refusal is not None:
            return Problem(path, refusal)
        replaces = self._store.blob(base.oid) if base is not None and base.is_file else None
        content: bytes | None = conversion.to_git(data, replaces)
        if not is_clean and content != replaces:
            if replaces is None or start is None or not start.is_file or content is None:
                return Problem(path, "overlap")
            ancestor = conversion.to_git(self._store.blob(start.oid), replaces)
            content = merge_bytes(replaces, ancestor, content, self._scratch)
        if content is None:
            return Problem(path, "overlap")
        if base is not None and content == replaces:
            return Node(mode, base.oid)
        return Node(mode, end.oid if content == data else self._store.write(b"blob", content))

    def _is_clean(self, path: bytes, change: _Change) -> bool:
        """Whether the run started from the base's version of a path."""
        base, start = change.base, change.start
        if base is None or start is None:
            return base is start
        if not (base.is_file and start.is_file):
            return base == start
        if base.oid == start.oid:
            return True
        conversion = self._conversions[path]
        data = self._store.blob(start.oid)
        if conversion.filter or conversion.ident or conversion.encoding:
            # What the filter would make of it is unknown: a deletion, or a change of the mode, is the run's
            # own; a change of the content is refused anyway.
            return True
        replaces = self._store.blob(base.oid)
        return data == conversion.to_work_tree(replaces) or conversion.to_git(data, replaces) == replaces

    def _mode(self, change: _Change, end: Node) -> int:
        """The mode to land: the run's change of it, or the base's."""
        base, start = change.base, change.start
        if not end.is_file:
            return end.mode
        has_file = base is not None and base.is_file
        if not self._trusts_mode:
            return base.mode if base is not None and has_file else FILE
        if base is not None and has_file and start is not None and start.is_file and start.mode == end.mode:
            return base.mode
        return PROGRAM if end.mode == PROGRAM else FILE


def _leaf(node: Node | None) -> Node | None:
    return None if node is None or node.mode == FOLDER else node


def _any_file(change: _Change) -> bool:
    return any(node is not None and node.is_file for node in (change.base, change.start, change.end))
