"""Whether snapshots are all there: their trees, and every object those reach.

Rules kept here:

- An id counts as present only when everything below it is: a tree without its blobs cannot be rolled back to.
- Commits count by their tree; their history is the user's.
- What the private store itself holds is hashed: an object that is not what its name says is not there. What
  it borrows is hashed when it is read.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable

from agentgov.errors import AgentgovError
from agentgov.git import CatFile, Git, check_oid, hash_object


def missing_objects(store: Git, oids: Iterable[str]) -> set[str]:
    """Return those of `oids` (trees or commits) that are missing, or reach something that is.

    Args:
        store: The private store, with the user's repository as its alternate.
        oids: Full object ids.

    Raises:
        AgentgovError: git cannot read the store.
    """
    asked = [check_oid(oid) for oid in dict.fromkeys(oids)]
    if not asked:
        return set()
    answers = store.run(
        "cat-file",
        "--batch-check=%(objectname)",
        input="".join(f"{oid}^{{tree}}\n" for oid in asked).encode(),
    ).stdout.decode("ascii", "replace")
    trees = {
        oid: answer
        for oid, answer in zip(asked, answers.splitlines(), strict=True)
        if not answer.endswith(("missing", "ambiguous"))
    }
    missing = set(asked) - trees.keys()
    with _Stored(store) as stored:
        if not _is_whole(store, set(trees.values()), stored):
            missing |= {oid for oid, tree in trees.items() if not _is_whole(store, {tree}, stored)}
    return missing


def _is_whole(store: Git, trees: set[str], stored: _Stored) -> bool:
    if not trees:
        return True
    asked = "".join(f"{tree}\n" for tree in sorted(trees)).encode()
    try:
        found = store.run(
            "rev-list", "--objects", "--no-object-names", "--missing=print", "--stdin", input=asked
        ).stdout.decode("ascii", "replace")
    except AgentgovError:
        # git gives up on a tree that cannot be parsed: that is not whole either.
        return False
    return all(not oid.startswith("?") and stored.is_sound(oid) for oid in found.split())


class _Stored:
    """The objects that a store itself holds, loose or packed; each is hashed once."""

    def __init__(self, store: Git) -> None:
        self._store = store
        self._objects = os.fsencode(store.git_dir or "") + b"/objects/"
        self._cat = CatFile(store)
        self._packed = _packed(store, self._objects)
        self._sound: dict[str, bool] = {}

    def is_sound(self, oid: str) -> bool:
        """Whether an object is what its name says; one that is only borrowed counts as such."""
        sound = self._sound.get(oid)
        if sound is None:
            sound = self._sound[oid] = self._hash(oid)
        return sound

    def _hash(self, oid: str) -> bool:
        try:
            with open(b"%b%b/%b" % (self._objects, oid[:2].encode(), oid[2:].encode()), "rb") as file:
                raw = zlib.decompress(file.read())
        except FileNotFoundError:
            return oid not in self._packed or self._read(oid)
        except (OSError, zlib.error):
            return False
        head, _, data = raw.partition(b"\x00")
        return hash_object(head.partition(b" ")[0], data, "sha1" if len(oid) == 40 else "sha256") == oid

    def _read(self, oid: str) -> bool:
        try:
            self._cat.read(oid)
        except AgentgovError:
            return False
        return True

    def __enter__(self) -> _Stored:
        return self

    def __exit__(self, *_: object) -> None:
        self._cat.close()


def _packed(store: Git, objects: bytes) -> set[str]:
    """The objects in the store's own packs, as their indexes say."""
    try:
        names = os.listdir(objects + b"pack")  # noqa: PTH208 - paths here are bytes
    except OSError:
        return set()
    found: set[str] = set()
    for name in names:
        if name.endswith(b".idx"):
            with open(objects + b"pack/" + name, "rb") as file:
                listing = store.run("show-index", f"--object-format={_format_of(store)}", input=file.read())
            found.update(line.split(b" ")[1].decode("ascii") for line in listing.stdout.splitlines())
    return found


def _format_of(store: Git) -> str:
    return store.text("rev-parse", "--show-object-format")
