"""Merging the packs that seals are written as, so that a long record is few packs and no loose objects.

Rules this module keeps:
    * Only packs that a seal of ours was written as, or that were merged here, are merged and removed. The
      user's objects, packs and settings are not touched.
    * A pack is removed only after the one that holds its objects was checked object by object and is on disk
      with its index: a crash between two steps leaves objects twice, never not at all. All of them are
      reachable from the record's ref, so `git gc`, also with `--prune=now`, may run at the same time.
    * A pack that somebody marked `.keep`, or that a multi-pack-index may name, is left alone.
    * The cost of a seal does not grow with the record: eight packs of one level make one of the next, so an
      object is written again once a level.
    * The caller holds the seal lock, so no two processes merge at once.

`.git/agentgov/packs` lists our packs, `LEVEL SP NAME LF` each. It is a hint: what it does not list is merged
by the user's `git gc` only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from agentgov.errors import AgentgovError
from agentgov.files import fsync_dir, read_own_file, write_atomic
from agentgov.git import Git, ObjectFormat
from agentgov.ledger.packfile import DURABLE, pack_folder

PACKS_PER_LEVEL: Final = 8
_MAX_LIST_BYTES: Final = 2**20
_is_listed = re.compile(rb"([0-9]{1,2}) ([0-9a-f]{40}|[0-9a-f]{64})").fullmatch
# One thread: an agent works beside us. No limit of size: it would split a pack, and we read one name back.
_CONFIG: Final = {**DURABLE, "pack.packSizeLimit": "0", "pack.threads": "1"}


class PackMerger:
    """Keeps a repository's packs of seals few.

    Args:
        git: The repository's shared git folder.
        root: The folder that agentgov keeps its own files in.
        object_format: How the repository names objects.
    """

    def __init__(self, git: Git, root: Path, object_format: ObjectFormat) -> None:
        self._git = git
        self._folder = pack_folder(git)
        self._list = root / "packs"
        self._format = object_format

    def add(self, names: Iterable[str]) -> int:
        """Take new packs of seals in, and merge what has become many.

        Returns:
            How many packs were merged away.

        Raises:
            AgentgovError: AG0008, when git cannot pack; AG0491, when what it packed is not what was asked
                for. Every object is then still there.
            BrokenRecordError: AG0021, when the list is no file of ours.
            OSError: The disk refuses.
        """
        fd = os.open(self._list, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, "".join(f"0 {name}\n" for name in names).encode())
        finally:
            os.close(fd)
        return self._merge()

    def _merge(self) -> int:
        known = self._known()
        level, merged = 0, 0
        while any(found >= level for found, _ in known):
            same = [name for found, name in known if found == level and not self._is_held(name)]
            if len(same) >= PACKS_PER_LEVEL:
                new = self.pack(oid for name in same for oid in self._objects_in(name))
                kept = [(found, name) for found, name in known if name not in same]
                # Listed before anything is removed: a crash in between leaves a pack too many.
                self._remember([*known, (level + 1, new)])
                for name in same:
                    if name != new:
                        self._remove(name)
                        merged += 1
                known = [*kept, (level + 1, new)]
                self._remember(known)
            level += 1
        return merged

    def pack(self, oids: Iterable[str]) -> str:
        """Write one pack with exactly these objects, durably, check it, and return its name.

        Raises:
            AgentgovError: AG0008 or AG0491, as `add`.
            OSError: The disk refuses.
        """
        objects = set(oids)
        raw_list = "".join(f"{oid}\n" for oid in sorted(objects)).encode()
        new = self._git.text(
            "pack-objects",
            "--quiet",
            "--delta-base-offset",
            self._folder / "pack",
            input=raw_list,
            config=_CONFIG,
        )
        self._git.run("verify-pack", self._folder / f"pack-{new}.idx")
        if self._objects_in(new) != objects:
            raise AgentgovError(
                "git packed other objects than it was asked to; all of them are still there",
                id="AG0491",
                where=str(self._folder / f"pack-{new}.idx"),
                hint="git fsck --full",
            )
        fsync_dir(self._folder)
        return new

    def _objects_in(self, name: str) -> set[str]:
        raw_index = (self._folder / f"pack-{name}.idx").read_bytes()
        listed = self._git.run("show-index", f"--object-format={self._format}", input=raw_index)
        return {line.split()[1].decode("ascii") for line in listed.stdout.splitlines()}

    def _known(self) -> list[tuple[int, str]]:
        """Return our packs that are still there, with their levels; `git gc` takes them away at any time."""
        raw_list = read_own_file(self._list, max_bytes=_MAX_LIST_BYTES)
        matches = [_is_listed(line) for line in raw_list.split(b"\n")]
        # Of a pack that is listed twice the last level counts.
        levels = {match[2].decode("ascii"): int(match[1]) for match in matches if match}
        known = [(level, name) for name, level in levels.items()]
        return [(level, name) for level, name in known if (self._folder / f"pack-{name}.idx").is_file()]

    def _remember(self, packs: Iterable[tuple[int, str]]) -> None:
        write_atomic(self._list, "".join(f"{level} {name}\n" for level, name in packs).encode())

    def _is_held(self, name: str) -> bool:
        held = (self._folder / f"pack-{name}.keep", self._folder / "multi-pack-index")
        return any(path.exists() for path in held)

    def _remove(self, name: str) -> None:
        # The index first: without it a reader does not know the pack, and looks for the merged one.
        for suffix in (".idx", ".rev", ".pack"):
            (self._folder / f"pack-{name}{suffix}").unlink(missing_ok=True)
