"""Packing our own seals, so that a long record never lies there as thousands of loose objects.

Rules this module keeps:
    * Only objects of seals that the ref names already: `git gc`, also with `--prune=now`, keeps whatever is
      reachable, so it and this may run at once, in any order.
    * A loose object is removed only after a pack that holds it was checked object by object and is on disk
      with its index; a crash between two steps leaves an object twice, never not at all.
    * The user's own objects, packs and settings are not touched. A pack of ours is merged with others of its
      size and then removed, unless somebody marked it `.keep` or a multi-pack-index names it.
    * The cost of a seal does not grow with the record: each object is packed once for each level of sizes.
    * The caller holds the seal lock, so no two processes pack at once.

`.git/agentgov/loose` grows by one byte for each seal since the last pack; `.git/agentgov/packs` lists our own
packs, `LEVEL SP NAME LF` each. Both are hints: whoever loses them packs later, or merges less.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from agentgov.errors import AgentgovError
from agentgov.files import fsync_dir, read_own_file, write_atomic
from agentgov.git import Git
from agentgov.ledger.seal import SealStore

SEALS_PER_PACK: Final = 64
PACKS_PER_LEVEL: Final = 8
_MAX_LIST_BYTES: Final = 2**20
_is_listed = re.compile(rb"([0-9]{1,2}) ([0-9a-f]{40}|[0-9a-f]{64})").fullmatch
# One thread: an agent works beside us. No limit of size: it would split a pack, and we read one name back.
_CONFIG: Final = {
    "core.fsync": "objects,reference,pack-metadata",
    "pack.packSizeLimit": "0",
    "pack.threads": "1",
    "pack.writeBitmapHashCache": "false",
}


class SealPacker:
    """Packs the seals of one repository.

    Args:
        git: The repository's shared git folder.
        objects: The folder of its objects.
        root: The folder that agentgov keeps its own files in.
        every: After how many seals to pack.
    """

    def __init__(self, git: Git, objects: Path, root: Path, *, every: int = SEALS_PER_PACK) -> None:
        self._git = git
        self._objects = objects
        self._packs = objects / "pack"
        self._counter = root / "loose"
        self._list = root / "packs"
        self._every = every

    def after_seal(self, store: SealStore) -> bool:
        """Count one more seal, and pack when it is time to; call it after the ref has moved.

        Returns:
            Whether something was packed.

        Raises:
            AgentgovError: AG0008, when git cannot pack; AG0491, when what it packed is not what was asked
                for. Every object is then still there.
            IncompleteError, BrokenRecordError: As `SealStore.read`.
            OSError: The disk refuses.
        """
        if self._count() < self._every:
            return False
        self.pack(store)
        return True

    def pack(self, store: SealStore) -> int:
        """Pack the loose seals up to the newest one, whatever their number; raises as `after_seal`.

        Returns:
            How many objects are loose no more.
        """
        loose = self._loose_objects(store)
        if loose:
            name = self._write_pack(loose)
            for oid, _ in loose:
                self._loose_path(oid).unlink(missing_ok=True)
            self._remember([*self._known(), (0, name)])
            self._merge()
        self._counter.unlink(missing_ok=True)
        return len(loose)

    def _count(self) -> int:
        fd = os.open(self._counter, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            os.write(fd, b".")
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def _loose_path(self, oid: str) -> Path:
        return self._objects / oid[:2] / oid[2:]

    def _loose_objects(self, store: SealStore) -> list[tuple[str, str]]:
        """Return the loose objects of seals, each with its file name; the walk ends at a packed seal."""
        found: dict[str, str] = {}
        commit = store.newest()
        while commit is not None and self._loose_path(commit).is_file():
            objects, parent = store.objects_of(commit)
            for oid, name in objects:
                if oid not in found and self._loose_path(oid).is_file():
                    found[oid] = name
            commit = parent
        return list(found.items())

    def _write_pack(self, objects: Sequence[tuple[str, str]]) -> str:
        """Write a pack with exactly these objects, durably, check it, and return its name."""
        # The names group what is alike for delta compression; they are not stored.
        raw_list = "".join(f"{oid} {name}\n" for oid, name in objects).encode()
        prefix = self._packs / "pack"
        name = self._git.text(
            "pack-objects", "--quiet", "--delta-base-offset", prefix, input=raw_list, config=_CONFIG
        )
        index = self._packs / f"pack-{name}.idx"
        self._git.run("verify-pack", index)
        if self._names_in(index) != {oid for oid, _ in objects}:
            raise AgentgovError(
                "git packed other objects than it was asked to; all of them are still there",
                id="AG0491",
                where=str(index),
                hint="git fsck --full",
            )
        fsync_dir(self._packs)
        return name

    def _names_in(self, index: Path) -> set[str]:
        listed = self._git.run("show-index", f"--object-format={self._format}", input=index.read_bytes())
        return {line.split()[1].decode("ascii") for line in listed.stdout.splitlines()}

    @property
    def _format(self) -> str:
        return self._git.text("rev-parse", "--show-object-format")

    def _known(self) -> list[tuple[int, str]]:
        """Return our packs that are still there, with their levels; `git gc` takes them away at any time."""
        try:
            raw_list = read_own_file(self._list, max_bytes=_MAX_LIST_BYTES)
        except FileNotFoundError:
            return []
        matches = [_is_listed(line) for line in raw_list.split(b"\n")]
        known = [(int(match[1]), match[2].decode("ascii")) for match in matches if match]
        return [(level, name) for level, name in known if (self._packs / f"pack-{name}.idx").is_file()]

    def _remember(self, packs: Iterable[tuple[int, str]]) -> None:
        unique = dict.fromkeys(packs)
        write_atomic(self._list, "".join(f"{level} {name}\n" for level, name in unique).encode())

    def _merge(self) -> None:
        """Make one pack of many of the same level, then look at the next level."""
        if (self._packs / "multi-pack-index").exists():
            return
        level = 0
        while True:
            known = self._known()
            same = [name for found, name in known if found == level and not self._is_kept(name)]
            if not same and not any(found > level for found, _ in known):
                return
            if len(same) >= PACKS_PER_LEVEL:
                objects: set[str] = set()
                for name in same:
                    objects |= self._names_in(self._packs / f"pack-{name}.idx")
                merged = self._write_pack([(oid, "") for oid in sorted(objects)])
                self._remember([*known, (level + 1, merged)])
                for name in same:
                    if name != merged:
                        self._remove_pack(name)
                self._remember((found, name) for found, name in self._known() if name not in same)
            level += 1

    def _is_kept(self, name: str) -> bool:
        return (self._packs / f"pack-{name}.keep").exists()

    def _remove_pack(self, name: str) -> None:
        # The index first: without it a reader does not know the pack, and looks for the merged one.
        for suffix in (".idx", ".rev", ".pack"):
            (self._packs / f"pack-{name}{suffix}").unlink(missing_ok=True)
