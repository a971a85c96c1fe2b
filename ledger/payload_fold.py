"""Payloads in the private store: one branch of commits per run and class, one blob per fold.

Rules this module keeps:
    * Order of writes: blobs, trees and commits; then all branches in one ref transaction; only then are the
      loose files removed. A crash before the refs leaves garbage objects, one after them leaves files that
      the tip names as folded: folding again drops those and adds nothing twice.
    * A file is folded only by who holds its lock, so never while somebody appends to it.
    * What is read back has been hashed (CatFile), and each payload is checked against its commitment again by
      the caller: the store is not trusted.
    * A branch grows by adding; only an erasure (payload_erase) writes it anew, without what is to go.
"""

from __future__ import annotations

import fcntl
import os
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agentgov.errors import BrokenRecordError
from agentgov.files import FileLock, fsync_dir, open_own_file, open_private_dir, read_own_file
from agentgov.git import CatFile, Git, check_oid
from agentgov.ids import RunId
from agentgov.layout import Layout
from agentgov.ledger.payload_records import SUFFIX, is_erased_record, record_places

REF_PREFIX: Final = "refs/agentgov/payloads"
BLOB_NAME: Final = "payloads"
_CLASSES: Final = ("args", "changes", "output", "patch")
_BATCH_BYTES: Final = 64 * 2**20
_CACHED_BLOBS: Final = 4
_SINGLE_RUNS: Final = 4
_HEADER: Final = "agentgov payloads"
_PERSON: Final = "agentgov <agentgov> 0 +0000"


@dataclass(slots=True)
class Dropped:
    """What an erasure took out of the branches.

    Attributes:
        digests: The commitments whose records were there.
        objects: The objects that those branches do not lead to any more.
        blobs: Those of them that hold the records.
    """

    digests: set[str] = field(default_factory=set)
    objects: set[str] = field(default_factory=set)
    blobs: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Branches:
    """What is known of one run in the store."""

    tips: dict[str, str] = field(default_factory=dict)
    places: dict[str, tuple[str, int, int]] = field(default_factory=dict)


class FoldedPayloads:
    """Reads and writes the payload branches of the private store.

    Args:
        layout: The repository's layout; the store borrows objects from its repository.
        store: The private bare repository.
        object_format: ``sha1`` or ``sha256``.
    """

    def __init__(self, layout: Layout, store: Path, object_format: str) -> None:
        self._layout = layout
        self._store = store
        self.object_format = object_format
        self._git = Git(store)
        self._cat: CatFile | None = None
        self._runs: dict[RunId, _Branches] = {}
        self._blobs: OrderedDict[str, bytes] = OrderedDict()

    def state(self, run: RunId) -> object:
        """Return something that differs after the run's branches moved; cheap, starts no process."""
        folder = self._store / REF_PREFIX / run
        return tuple(_changed_ns(path) for path in (folder, self._store / "packed-refs"))

    def load(self, run: RunId) -> None:
        """Index what the run's branches hold beyond what is known."""
        tips = self._tips(run)
        known = self._runs.setdefault(run, _Branches())
        for cls, old in known.tips.items():
            if tips.get(cls) != old and old not in self._history(tips.get(cls)):
                # An erasure wrote the branch anew: what was known of it leads to objects that are gone.
                known = self._runs[run] = _Branches()
                break
        for cls, tip in tips.items():
            for commit in self._history(tip, until=known.tips.get(cls)):
                blob = self._blob_of(self._commit(commit)[1])
                for digest, at, length in record_places(self._blob(blob)):
                    known.places.setdefault(digest, (blob, at, length))
            known.tips[cls] = tip

    def forget(self, run: RunId) -> None:
        """Drop the index of a run."""
        self._runs.pop(run, None)

    def find(self, run: RunId, digest: str) -> bytes | None:
        """Return the record stored under `digest`, unchecked, or None when `load` did not find one."""
        known = self._runs.get(run)
        place = known.places.get(digest) if known is not None else None
        if place is None:
            return None
        blob, at, length = place
        return self._blob(blob)[at : at + length]

    def add(self, run: RunId, files: list[tuple[str, bytes]]) -> None:
        """Append the records of `files` (name, whole records) to the run's branches, in one transaction.

        A class whose tip says that it has a file already takes nothing from it again.
        """
        self._ensure()
        tips = self._tips(run)
        updates: list[str] = []
        names = [name for name, _ in files]
        for cls in _CLASSES:
            tip = tips.get(cls)
            folded = self._commit(tip)[2] if tip is not None else frozenset()
            prefix = cls.encode() + b"\t"
            lines = [
                line + b"\n"
                for name, data in files
                if name not in folded
                for line in data.split(b"\n")
                if line.startswith(prefix) and not is_erased_record(line)
            ]
            if not lines:
                continue
            tree = self._write_tree(b"".join(lines))
            commit = self._write("commit", _commit_bytes(tree, tip, names))
            old = tip if tip is not None else "0" * len(commit)
            updates.append(f"update {REF_PREFIX}/{run}/{cls} {commit} {old}\n")
        if updates:
            self._git.run("update-ref", "--stdin", input="".join(["start\n", *updates, "commit\n"]).encode())

    def drop(self, gone: Mapping[RunId, Collection[str]]) -> Dropped:
        """Write the branches anew without the records of these commitments, in one transaction.

        Blobs without such a record stay as they are; a branch of which nothing is left goes. The objects
        that held the records are still in the store afterwards.
        """
        dropped = Dropped()
        updates: list[str] = []
        for run, tips in self._all_tips(gone).items():
            for cls, tip in tips.items():
                new = self._without(tip, frozenset(gone[run]), dropped)
                if new != tip:
                    ref = f"{REF_PREFIX}/{run}/{cls}"
                    updates.append(f"delete {ref} {tip}\n" if new is None else f"update {ref} {new} {tip}\n")
            self.forget(run)
        self._blobs.clear()
        if updates:
            self._git.run("update-ref", "--stdin", input="".join(["start\n", *updates, "commit\n"]).encode())
        return dropped

    def _without(self, tip: str, digests: frozenset[str], dropped: Dropped) -> str | None:
        """Return the tip of the branch without these records; None when it has no others."""
        links: list[tuple[str, str, frozenset[str], bytes | None]] = []
        left = 0
        for commit in reversed(self._history(tip)):
            _, tree, names = self._commit(commit)
            blob = self._blob_of(tree)
            data = self._blob(blob)
            places = record_places(data)
            kept = [place for place in places if place[0] not in digests]
            left += len(kept)
            is_same = len(kept) == len(places)
            if not is_same:
                dropped.digests.update(place[0] for place in places if place[0] in digests)
                dropped.blobs.add(blob)
                dropped.objects |= {tree, blob}
            records = None if is_same else b"".join(data[at : at + length + 1] for _, at, length in kept)
            links.append((commit, tree, names, records))
        if all(records is None for *_, records in links):
            return tip
        new: str | None = None
        touched = False
        for commit, tree, names, records in links:
            touched = touched or records is not None
            if not touched:
                new = commit
                continue
            dropped.objects.add(commit)
            if left:
                tree = tree if records is None else self._write_tree(records)
                new = self._write("commit", _commit_bytes(tree, new, sorted(names)))
        if not left:
            for commit, tree, _, _ in links:
                dropped.objects |= {commit, tree}
        return new if left else None

    def _all_tips(self, runs: Collection[RunId]) -> dict[RunId, dict[str, str]]:
        if len(runs) <= _SINGLE_RUNS:
            return {run: self._tips(run) for run in runs}
        found: dict[RunId, dict[str, str]] = {}
        for line in self._git.text(
            "for-each-ref", "--format=%(objectname) %(refname)", f"{REF_PREFIX}/"
        ).splitlines():
            oid, _, ref = line.partition(" ")
            run, _, cls = ref.removeprefix(f"{REF_PREFIX}/").partition("/")
            if RunId(run) in runs and cls in _CLASSES:
                found.setdefault(RunId(run), {})[cls] = check_oid(oid)
        return found

    def _history(self, tip: str | None, until: str | None = None) -> list[str]:
        """The commits of a branch, the newest first, down to but without `until`."""
        commits: list[str] = []
        while tip is not None and tip != until:
            commits.append(tip)
            tip = self._commit(tip)[0]
        return commits

    def close(self) -> None:
        """End the reading process, if there is one."""
        if self._cat is not None:
            self._cat.close()
            self._cat = None

    def _ensure(self) -> None:
        if (self._store / "HEAD").is_file():
            return
        open_private_dir(self._store)
        Git(None).run(
            "init",
            "-q",
            "--bare",
            "--template=",
            f"--object-format={self.object_format}",
            self._store.absolute(),
        )
        alternates = self._store / "objects" / "info" / "alternates"
        alternates.parent.mkdir(parents=True, exist_ok=True)
        if not alternates.exists():
            near = os.path.relpath(self._layout.common_dir / "objects", self._store / "objects")
            alternates.write_bytes(os.fsencode(near) + b"\n")

    def _tips(self, run: RunId) -> dict[str, str]:
        if not (self._store / "HEAD").is_file():
            return {}
        folder = f"{REF_PREFIX}/{run}/"
        listed = self._git.text("for-each-ref", "--format=%(objectname) %(refname)", folder)
        tips: dict[str, str] = {}
        for line in listed.splitlines():
            oid, _, ref = line.partition(" ")
            if ref.removeprefix(folder) in _CLASSES:
                tips[ref.removeprefix(folder)] = check_oid(oid)
        return tips

    def _write_tree(self, records: bytes) -> str:
        blob = self._write("blob", records)
        return check_oid(self._git.text("mktree", input=f"100644 blob {blob}\t{BLOB_NAME}\n".encode()))

    def _write(self, kind: str, data: bytes) -> str:
        return check_oid(self._git.text("hash-object", "-w", "-t", kind, "--stdin", input=data))

    def _read(self, oid: str, kind: str) -> bytes:
        if self._cat is None:
            self._cat = CatFile(self._git)
        found, data = self._cat.read(oid)
        if found != kind:
            raise _malformed(oid)
        return data

    def _commit(self, oid: str) -> tuple[str | None, str, frozenset[str]]:
        """Return parent, tree and the names of the folded files."""
        header, _, message = self._read(oid, "commit").partition(b"\n\n")
        fields = [line.split(b" ", 1) for line in header.split(b"\n")]
        trees = [
            value.decode("ascii", "replace") for name, *rest in fields if name == b"tree" for value in rest
        ]
        parents = [
            value.decode("ascii", "replace") for name, *rest in fields if name == b"parent" for value in rest
        ]
        if len(trees) != 1 or len(parents) > 1:
            raise _malformed(oid)
        names = message.decode("utf-8", "replace").splitlines()[2:]
        return (parents[0] if parents else None), trees[0], frozenset(names)

    def _blob_of(self, tree: str) -> str:
        """Return the only blob of a flat tree."""
        prefix = f"100644 {BLOB_NAME}\0".encode()
        data = self._read(tree, "tree")
        if not data.startswith(prefix) or len(data) != len(prefix) + len(tree) // 2:
            raise _malformed(tree)
        return data[len(prefix) :].hex()

    def _blob(self, oid: str) -> bytes:
        data = self._blobs.get(oid)
        if data is None:
            data = self._read(oid, "blob")
            self._blobs[oid] = data
            while len(self._blobs) > _CACHED_BLOBS:
                self._blobs.popitem(last=False)
        else:
            self._blobs.move_to_end(oid)
        return data


def fold_files(layout: Layout, folded: FoldedPayloads, run: RunId) -> None:
    """Move the run's files that nobody holds a lock on into the store, then remove them."""
    folder = layout.payloads / run
    if not folder.is_dir():
        return
    with FileLock(layout.payloads / "fold.lock"):
        held: list[tuple[Path, int]] = []
        try:
            for path in sorted(path for path in folder.iterdir() if path.suffix == SUFFIX):
                fd = _lock_if_free(path)
                if fd is not None:
                    held.append((path, fd))
            batch: list[tuple[str, bytes]] = []
            for path, _ in held:
                data = read_own_file(path)
                # What follows the last LF was torn by a crash and never acknowledged.
                batch.append((path.stem, data[: data.rfind(b"\n") + 1]))
                if sum(len(records) for _, records in batch) >= _BATCH_BYTES:
                    _move(folder, folded, run, batch)
                    batch = []
            if batch:
                _move(folder, folded, run, batch)
        finally:
            for _, fd in held:
                os.close(fd)


def _move(folder: Path, folded: FoldedPayloads, run: RunId, batch: list[tuple[str, bytes]]) -> None:
    folded.add(run, batch)
    for name, _ in batch:
        (folder / f"{name}{SUFFIX}").unlink(missing_ok=True)
    fsync_dir(folder)


def _lock_if_free(path: Path) -> int | None:
    try:
        fd = open_own_file(path)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _commit_bytes(tree: str, parent: str | None, names: list[str]) -> bytes:
    lines = [
        f"tree {tree}",
        *([f"parent {parent}"] if parent else []),
        f"author {_PERSON}",
        f"committer {_PERSON}",
    ]
    return "\n".join([*lines, "", _HEADER, "", *names, ""]).encode()


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _malformed(oid: str) -> BrokenRecordError:
    return BrokenRecordError(
        "the payload store holds something that was not written there", id="AG0263", where=oid
    )
