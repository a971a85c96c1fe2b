"""The private object store: loose objects written without spawning git, read back with their hash checked.

Rules:
- An object is complete and on disk before it has its name: temporary file, fsync, rename. Inside `batch()`
  the fsyncs are joined, and names appear at its end; nothing may point to them earlier.
- An object counts as present only when this store has it itself, or the caller says that it is reachable from
  a commit that is held (`known`). What merely lies in the user's objects can vanish in their next gc.
- An existing object's mtime is freshened, or a prune by age would take it.
- What is read is hashed again: a swapped file is an error, never another content.

The layout is gitrepository-layout(5), so every git command can read the store.
"""

# Paths here are bytes, built per object: pathlib would cost more than the writing.
# ruff: noqa: PTH102, PTH104, PTH105, PTH108

from __future__ import annotations

import hashlib
import os
import zlib
from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agentgov.errors import BrokenRecordError, IncompleteError
from agentgov.files import open_private_dir
from agentgov.ledger.pack_index import PackedNames
from agentgov.rollback import refs
from agentgov.rollback.durable import TemporaryFiles, fsync_paths, start_writeback, syncfs
from agentgov.rollback.treeform import (
    MODE_DIR,
    Delta,
    Tree,
    empty_tree,
    encode_tree,
    merge_names,
    parse_tree,
)

if TYPE_CHECKING:
    from agentgov.git import CatFile

_TREES_CACHED = 4096
# More files than this are made durable by one syncfs instead of one fsync each.
_SYNCFS_FROM = 24


class ObjectStore:
    """A bare git repository that borrows the user's objects and is written by this class.

    Args:
        store_dir: Where the bare repository is or shall be.
        alternates_objects_dir: The user's `objects` folder, or None.
        object_format: "sha1" or "sha256", as the user's repository.
        durable: Whether writes reach the disk before they have a name; off only for measurements.
    """

    def __init__(
        self,
        store_dir: Path,
        alternates_objects_dir: Path | None,
        object_format: str = "sha1",
        *,
        durable: bool = True,
    ) -> None:
        self.dir = store_dir
        self.alternates = alternates_objects_dir
        self.object_format = object_format
        self.durable = durable
        self.empty_tree = empty_tree(object_format)
        self._objects = os.fsencode(store_dir) + b"/objects/"
        self._hash = hashlib.sha256 if object_format == "sha256" else hashlib.sha1
        self._trees: OrderedDict[str, Tree] = OrderedDict()
        self._cat: CatFile | None = None
        self._temporary = TemporaryFiles(self._objects[:-1])
        self._packed = PackedNames(store_dir / "objects", len(self.empty_tree) // 2)
        self._depth = 0
        self._pending: dict[str, bytes] = {}

    def ensure(self) -> None:
        """Create the repository, or complete one whose creation was cut short. Idempotent.

        Raises:
            AgentgovError: AG0004, when a link stands in its place: what it leads to is not ours to write.
        """
        open_private_dir(self.dir)
        for name in ("objects/info", "objects/pack", "refs/heads", "refs/agentgov"):
            (self.dir / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        version = 1 if self.object_format == "sha256" else 0
        config = f"[core]\n\trepositoryformatversion = {version}\n\tbare = true\n\tfilemode = true\n"
        config += "\tlogAllRefUpdates = false\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"
        if version:
            config += "[extensions]\n\tobjectFormat = sha256\n"
        self._create("config", config.encode())
        if self.alternates is not None:
            # Relative, so that a repository that is moved keeps its snapshots.
            near = os.path.relpath(self.alternates, self.dir / "objects")
            self._create("objects/info/alternates", os.fsencode(near) + b"\n")
        # Last, because git takes a folder without HEAD for no repository at all.
        self._create("HEAD", b"ref: refs/heads/none\n")

    def _create(self, name: str, data: bytes) -> None:
        path = self.dir / name
        if path.exists() and path.read_bytes() == data:
            return
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.replace(temporary, path)

    # Writing

    def write(self, kind: bytes, data: bytes, known: Container[str] = ()) -> str:
        """Store an object and return its id.

        Args:
            kind: b"blob", b"tree" or b"commit".
            data: The content.
            known: Ids that are reachable from a commit that is held elsewhere and need no copy.
        """
        header = b"%s %d\0" % (kind, len(data))
        hasher = self._hash(header)
        hasher.update(data)
        oid = hasher.hexdigest()
        if oid in known or self._is_here(oid):
            return oid
        packer = zlib.compressobj(1)
        self._put(oid, [packer.compress(header), packer.compress(data), packer.flush()])
        return oid

    def write_stream(
        self, chunks: Iterable[bytes], size_bytes: int, known: Container[str] = ()
    ) -> str | None:
        """Store a large blob without holding it in memory.

        Returns:
            Its id, or None when the chunks were not `size_bytes` long (the file changed meanwhile).
        """
        header = b"blob %d\0" % size_bytes
        hasher = self._hash(header)
        packer = zlib.compressobj(1)
        fd, temporary = self._temporary.take()
        total = 0
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(packer.compress(header))
                for chunk in chunks:
                    total += len(chunk)
                    hasher.update(chunk)
                    file.write(packer.compress(chunk))
                file.write(packer.flush())
            oid = hasher.hexdigest()
            if total != size_bytes:
                return None
            if oid not in known and not self._is_here(oid):
                self._queue(oid, temporary)
                temporary = b""
            return oid
        finally:
            if temporary:
                os.unlink(temporary)

    def write_tree(self, entries: Iterable[tuple[int, bytes, str]], known: Container[str] = ()) -> str:
        """Store a tree of (mode, name, id) entries and return its id."""
        return self.write(b"tree", encode_tree(entries), known)

    def write_commit(
        self, tree: str, parents: Iterable[str], message: str, *, author: str, email: str, ts_us: int
    ) -> str:
        """Store a commit and return its id; the same arguments always give the same id."""
        who = f"{author} <{email}> {ts_us // 1_000_000} +0000"
        lines = [
            f"tree {tree}",
            *(f"parent {p}" for p in parents),
            f"author {who}",
            f"committer {who}",
            "",
            message,
        ]
        text = "\n".join(lines).replace("\0", "")
        return self.write(b"commit", text.encode("utf-8", "replace") + b"\n")

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Join the fsyncs of all writes inside; on an error none of them is kept."""
        self._depth += 1
        try:
            yield
        except BaseException:
            if self._depth == 1:
                self._abandon()
            raise
        else:
            if self._depth == 1:
                self._flush()
        finally:
            self._depth -= 1

    def _is_here(self, oid: str) -> bool:
        if oid in self._pending:
            return True
        try:
            os.utime(self._loose(oid))
        except FileNotFoundError:
            return False
        except PermissionError:
            # Another user's object: it is there, only its age cannot be set.
            return True
        return True

    def holds(self, oid: str) -> bool:
        """Whether this store itself holds the object, loose or packed; freshens a loose one."""
        return self._is_here(oid) or oid in self._packed

    def _put(self, oid: str, parts: list[bytes]) -> None:
        fd, temporary = self._temporary.take()
        try:
            data = b"".join(parts)
            while data:
                data = data[os.write(fd, data) :]
            if self.durable and self._depth:
                start_writeback(fd)
        except BaseException:
            os.unlink(temporary)
            raise
        finally:
            os.close(fd)
        self._queue(oid, temporary)

    def prepare(self, count: int = 16) -> None:
        """Have temporary files ready for the next writes: to be called when nobody waits."""
        self._temporary.fill(count)

    def _queue(self, oid: str, temporary: bytes) -> None:
        self._pending[oid] = temporary
        if not self._depth:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        pending, folders = self._pending, set()
        try:
            if self.durable and not (len(pending) > _SYNCFS_FROM and syncfs(self._objects)):
                fsync_paths(pending.values())
            for oid, temporary in pending.items():
                fan = self._objects + oid[:2].encode()
                try:
                    os.rename(temporary, self._loose(oid))
                except FileNotFoundError:
                    # Made on first use; and git prunes fan-out folders that are empty.
                    os.mkdir(fan, 0o700)
                    os.rename(temporary, self._loose(oid))
                folders.add(fan)
        except BaseException:
            self._abandon()
            raise
        self._pending = {}
        if self.durable and not (len(folders) > _SYNCFS_FROM and syncfs(self._objects)):
            fsync_paths(folders)

    def _abandon(self) -> None:
        for temporary in self._pending.values():
            with suppress(OSError):
                os.unlink(temporary)
        self._pending = {}

    def _loose(self, oid: str) -> bytes:
        raw = oid.encode()
        return b"%s%s/%s" % (self._objects, raw[:2], raw[2:])

    # Reading

    def read(self, oid: str) -> tuple[str, bytes]:
        """Return (kind, content) of an object of this store or of the user's repository.

        Raises:
            IncompleteError: It is in neither.
            BrokenRecordError: AG0151, when what is stored under the id has another hash.
        """
        path = self._pending.get(oid) or self._loose(oid)
        try:
            with open(path, "rb") as file:
                packed = file.read()
        except OSError:
            return self._read_packed(oid)
        try:
            raw = zlib.decompress(packed)
            head, _, data = raw.partition(b"\0")
            kind, _, size = head.partition(b" ")
            whole = int(size) == len(data)
        except (zlib.error, ValueError):
            whole = False
        if not whole or self._hash(raw).hexdigest() != oid:
            raise BrokenRecordError("a stored object is not what its id says", id="AG0151", where=oid)
        return kind.decode("ascii"), data

    def _read_packed(self, oid: str) -> tuple[str, bytes]:
        from agentgov.git import CatFile, Git

        for _ in range(2):
            if self._cat is None:
                self._cat = CatFile(Git(self.dir))
            try:
                return self._cat.read(oid)
            except IncompleteError:
                # A repack since its start moves objects where the running process does not look.
                self._close_cat()
        raise IncompleteError("an object of a snapshot is missing", id="AG0152", where=oid)

    def blob(self, oid: str) -> bytes:
        """Return the content of a blob."""
        return self._typed(oid, "blob")

    def tree(self, oid: str) -> Tree:
        """Return the entries of a tree as name -> (mode, id). The dict is shared: do not change it."""
        cached = self._trees.get(oid)
        if cached is not None:
            self._trees.move_to_end(oid)
            return cached
        raw = b"" if oid == self.empty_tree else self._typed(oid, "tree")
        return self._remember(oid, parse_tree(raw, self.object_format, oid))

    def _remember(self, oid: str, tree: Tree) -> Tree:
        self._trees[oid] = tree
        if len(self._trees) > _TREES_CACHED:
            self._trees.popitem(last=False)
        return tree

    def _typed(self, oid: str, wanted: str) -> bytes:
        kind, data = self.read(oid)
        if kind != wanted:
            raise BrokenRecordError(f"an object is a {kind}, not a {wanted}", id="AG0153", where=oid)
        return data

    def leaves(self, tree: str, prefix: bytes = b"") -> Iterator[tuple[bytes, int, str]]:
        """Yield (path, mode, id) of every file, link, gitlink and empty folder, sorted within each folder."""
        for name, (mode, oid) in sorted(self.tree(tree).items()):
            if mode == MODE_DIR and oid != self.empty_tree:
                yield from self.leaves(oid, prefix + name + b"/")
            else:
                yield prefix + name, mode, oid

    def diff(self, old: str | None, new: str | None, prefix: bytes = b"") -> Iterator[Delta]:
        """Yield every leaf that differs between two trees (None = no tree); equal subtrees are not read.

        An empty folder is a leaf of mode 40000: a folder that gets its first file is the deletion of that
        leaf, one that loses its last file is its addition.
        """
        if old == new:
            return
        before = self.tree(old) if old else {}
        after = self.tree(new) if new else {}
        for name in merge_names(before, after):
            was, now = before.get(name), after.get(name)
            if was == now:
                continue
            path = prefix + name
            was_tree = was[1] if was and was[0] == MODE_DIR and was[1] != self.empty_tree else None
            now_tree = now[1] if now and now[0] == MODE_DIR and now[1] != self.empty_tree else None
            was_leaf = was if was and was_tree is None else None
            now_leaf = now if now and now_tree is None else None
            if was_leaf or now_leaf:
                yield Delta(path, *(was_leaf or (None, None)), *(now_leaf or (None, None)))
            if was_tree or now_tree:
                yield from self.diff(was_tree, now_tree, path + b"/")

    def set_ref(self, name: str, oid: str) -> None:
        """Point a ref of the store at an object; see `refs.set_ref`."""
        refs.set_ref(self.dir, name, oid, durable=self.durable)

    def ref(self, name: str) -> str | None:
        """Return the object a ref of the store points at, or None."""
        return refs.read_ref(self.dir, name)

    def _close_cat(self) -> None:
        if self._cat is not None:
            self._cat.close()
            self._cat = None

    def close(self) -> None:
        """End the reading process, if one was started, and remove unused temporary files."""
        self._close_cat()
        self._temporary.close()
