"""Snapshots of a workspace: the raw tree of all its files, taken at call boundaries.

Rules:
- The user's index, HEAD, stash, hooks and filters play no part: contents are stored as they are on disk.
- A snapshot is incremental (only what the watcher named was looked at) or full (everything was), and says
  which. It is full at the start, without a complete watch, after an overflow, after a change of an ignore or
  attribute file, in doubt, and when the caller asks: at intervals and at the end of a run.
- When `take` returns, every object of the tree is durable in the store (or known to be held elsewhere).
- Ignore rules and the tracked set are pinned at the start, so what was captured stays captured.
"""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from agentgov.errors import AgentgovError
from agentgov.rollback import statcache
from agentgov.rollback.ignore import IgnoreRules
from agentgov.rollback.leftout import DEFAULT_MAX_FILE_BYTES, DEFAULT_SECRETS, SecretNames, Skip
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.scan import Scanner
from agentgov.rollback.watch import Changes, Watcher

if TYPE_CHECKING:
    from agentgov.git import Git

How = Literal["incremental", "full"]
# Anchored at the NUL between rows, because a name may look like a row.
_TREE_ROW = re.compile(rb"(?:\A|\0)[0-7]{6} (?:blob|tree) ([0-9a-f]+)\t")
_RULE_FILES = frozenset((b".gitignore", b".gitattributes"))


class Snapshot(NamedTuple):
    """One state of the workspace.

    Attributes:
        tree: Id of the tree in the store.
        how: Whether everything was looked at, or only what was named.
        skipped: What is in the workspace but not in the tree, other than ignored files.
    """

    tree: str
    how: How
    skipped: tuple[Skip, ...]


class Snapshotter:
    """Takes the snapshots of one run.

    Args:
        root: The workspace.
        store: The private object store; `ensure` was called on it.
        rules: The ignore rules; frozen by `start`.
        tracked: Paths that are always captured: the index's, and when a run resumes, the last tree's.
        base_known: Ids reachable from a commit that stays held while the snapshots are needed.
        max_file_bytes: Larger untracked files are left out.
        secret_patterns: Untracked names that are left out, in gitignore form.
        watch: Use the watcher where there is one.
        cache_path: Where records are kept between runs; None keeps none.
        now_ns: The wall clock, compared with the files' times.
    """

    def __init__(
        self,
        root: Path,
        store: ObjectStore,
        rules: IgnoreRules,
        *,
        tracked: Iterable[bytes],
        base_known: Container[str] = frozenset(),
        max_file_bytes: int = DEFAULT_MAX_FILE_BYTES,
        secret_patterns: Sequence[str] = DEFAULT_SECRETS,
        watch: bool = True,
        cache_path: Path | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._root = root
        self._store = store
        self._rules = rules
        self._known = base_known
        self._cache_path = cache_path
        self._watcher = Watcher.open() if watch else None
        store_stat = store.dir.stat()
        try:
            self._scanner = Scanner(
                root,
                store,
                rules,
                tracked=tracked,
                known=base_known,
                secrets=SecretNames(secret_patterns),
                max_file_bytes=max_file_bytes,
                watcher=self._watcher,
                now_ns=now_ns,
                never={(store_stat.st_dev, store_stat.st_ino)},
            )
        except OSError as error:
            self.close()
            raise _unreadable(root, error) from error
        self._last: Snapshot | None = None

    @property
    def fd(self) -> int | None:
        """What becomes readable when something changed; None without a watcher."""
        return self._watcher.fd if self._watcher is not None else None

    @property
    def is_watching(self) -> bool:
        """Whether changes are seen as they happen, in every folder."""
        return self._watcher is not None and self._watcher.complete

    def start(self) -> Snapshot:
        """Take the first snapshot, a full one, and pin the rules.

        Raises:
            AgentgovError: AG0156, when the workspace cannot be read or the store not be written.
        """
        seed: statcache.Seed = {}
        if self._cache_path is not None:
            seed = statcache.load(
                self._cache_path, os.fstat(self._scanner.root_fd), self._store.object_format
            )
        snapshot = self._commit(None, seed)
        self._rules.freeze()
        return snapshot

    def take(self, full: bool = False) -> Snapshot:
        """Take a snapshot of what is there now.

        Args:
            full: Look at everything, whatever the watcher says.

        Raises:
            AgentgovError: AG0156, when the workspace cannot be read or the store not be written. The next
                call then looks at everything.
        """
        if self._last is None:
            return self.start()
        changes = self._watcher.drain() if self._watcher is not None and self._watcher.complete else None
        if changes is None or full or self._needs_full(changes):
            return self._commit(None)
        if not changes.names:
            return self._last
        return self._commit(changes.names)

    def pending(self) -> bool:
        """Return whether something may have changed since the last snapshot."""
        if self._last is None or self._scanner.doubt or not self.is_watching or self._watcher is None:
            return True
        poll = select.poll()
        poll.register(self._watcher.fd, select.POLLIN)
        return bool(poll.poll(0))

    def _needs_full(self, changes: Changes) -> bool:
        if changes.overflow or self._scanner.doubt:
            return True
        return any(not _RULE_FILES.isdisjoint(names) for names in changes.names.values())

    def _commit(self, names: dict[bytes, set[bytes]] | None, seed: statcache.Seed | None = None) -> Snapshot:
        try:
            with self._store.batch():
                if names is None:
                    self._scanner.full(seed)
                else:
                    self._scanner.apply(names)
                tree = self._scanner.tree.write(self._store, self._known)
        except BaseException as error:
            # The tree in memory names objects that were not kept.
            self._scanner.forget()
            if isinstance(error, OSError):
                raise _unreadable(self._root, error) from error
            raise
        skipped = self._scanner.skips()
        self._last = Snapshot(tree, "incremental", skipped)
        return Snapshot(tree, "full" if names is None else "incremental", skipped)

    def close(self) -> None:
        """Save the records for the next run and release everything. Idempotent."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.close()
        scanner = getattr(self, "_scanner", None)
        if scanner is None or self._last is None:
            if scanner is not None:
                scanner.close()
            return
        if self._cache_path is not None and not scanner.doubt:
            # Without it the next start only takes longer.
            with suppress(OSError):
                root = os.fstat(scanner.root_fd)
                statcache.save(self._cache_path, scanner.tree, root, self._store.object_format)
        scanner.close()
        self._last = None


def known_objects(git: Git, commit: str) -> set[str]:
    """Return the ids of all trees and blobs of a commit.

    Raises:
        AgentgovError: AG0008, when the commit's trees cannot be read.
    """
    result = git.run("ls-tree", "-r", "-t", "-z", "--full-tree", commit)
    known = {match[1].decode("ascii") for match in _TREE_ROW.finditer(result.stdout)}
    known.add(git.text("rev-parse", "--verify", f"{commit}^{{tree}}"))
    return known


def tracked_paths(git: Git) -> list[bytes]:
    """Return the paths in the index of a work tree; `git` was made with that work tree."""
    result = git.run("ls-files", "-z", "--full-name")
    return [path for path in result.stdout.split(b"\0") if path]


def _unreadable(root: Path, error: OSError) -> AgentgovError:
    return AgentgovError(
        f"a snapshot could not be taken: {error.strerror or error}",
        id="AG0156",
        where=os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(root),
        hint="check free space, permissions and the limit of open files (ulimit -n)",
    )
