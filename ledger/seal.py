"""Seals: the part of the record that lies in the user's repository, one commit per seal.

Rules: a seal's tree is flat and holds that seal only: `entries` and `signatures` (one line each per entry),
`checkpoint` (the signed head after it), `proof` (the inclusion proof of its last leaf, one hash a line);
earlier seals are its parents, one each. Objects first, then the ref, by compare-and-swap and never through a
symbolic ref, both durable. What is read is hashed by `CatFile`; a form that this program would not write is
refused.
"""

from __future__ import annotations

import base64
import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from agentgov.errors import AgentgovError, BrokenRecordError, IncompleteError
from agentgov.git import ZERO_OID, CatFile, Git, ObjectFormat, hash_object, is_oid
from agentgov.ledger.checkpoint import Checkpoint, parse_checkpoint, verify_checkpoint
from agentgov.ledger.entry import SignedEntry, parse_entry
from agentgov.ledger.note import decode_base64, parse_note
from agentgov.ledger.packfile import Kind, release, write_kept
from agentgov.ledger.wal import parse_signature

STALE_LOCK_SECONDS: Final = 5.0
"""A lock on a record's ref that is older than this, or of the future, was left by a git that was killed."""
_LOCK_POLL_SECONDS: Final = 0.05
REF_PREFIX: Final = "refs/agentgov/ledger/"
# Seals whose trees are read together; their content is held one seal at a time.
_WINDOW: Final = 64
# Usual seals have less than 1 MiB. What is larger than this is neither written nor read into memory.
MAX_OBJECT_BYTES: Final = 2**28
_FILES: Final = ("checkpoint", "entries", "proof", "signatures")
_is_tree_line = re.compile(rb"tree ([0-9a-f]{40}|[0-9a-f]{64})").fullmatch
_is_parent_line = re.compile(rb"parent ([0-9a-f]{40}|[0-9a-f]{64})").fullmatch


def ledger_ref(stream_id: str) -> str:
    """Return the ref that a stream's seals lie on."""
    return f"{REF_PREFIX}{stream_id}"


@dataclass(frozen=True, slots=True)
class Seal:
    """One seal as it is stored; nothing in it has been believed yet.

    Attributes:
        commit: Its commit.
        parent: The seal before it; None for the first.
        entries: The lines, each with its LF.
        signatures: One line of base64 for each.
        checkpoint: The signed note.
        proof: The inclusion proof of the last leaf, one line of base64 for each hash.
    """

    commit: str
    parent: str | None
    entries: bytes
    signatures: bytes
    checkpoint: bytes
    proof: bytes

    def lines(self) -> list[bytes]:
        """Return the entries' lines without LF.

        Raises:
            BrokenRecordError: AG0228, when there is none or the last has no LF.
        """
        return _lines(self.entries, "entries", self.commit)

    def count(self) -> int:
        """Return how many entries this seal holds."""
        return self.entries.count(b"\n")

    def size(self) -> int:
        """Return how many entries there are up to and with this seal, as its checkpoint says, unverified.

        Raises:
            BrokenRecordError: AG0207 or AG0209, when there is no checkpoint in it.
        """
        return parse_checkpoint(parse_note(self.checkpoint).text).size

    def first(self) -> int:
        """Return the number of its first entry, as its checkpoint says, unverified.

        Raises:
            BrokenRecordError: AG0228, when it holds more entries than there are, or none.
        """
        first = self.size() - self.count()
        if first < 0 or not self.entries or (first == 0) != (self.parent is None):
            raise seal_broken("its checkpoint does not fit its entries", self.commit)
        return first

    def records(self) -> Iterator[SignedEntry]:
        """Parse the entries and their signatures, which are not verified here.

        Raises:
            BrokenRecordError: AG0228, AG0220, AG0200, AG0202 or AG0203.
        """
        lines = self.lines()
        signatures = _lines(self.signatures, "signatures", self.commit)
        if len(lines) != len(signatures):
            raise seal_broken("entries and signatures are not as many", self.commit)
        first = self.first()
        for seq, (line, raw_signature) in enumerate(zip(lines, signatures, strict=True), first):
            yield SignedEntry(parse_entry(line), line, parse_signature(raw_signature, seq=seq))

    def proof_hashes(self) -> list[bytes]:
        """Return the hashes of the proof.

        Raises:
            BrokenRecordError: AG0228 or AG0207, when it cannot be read.
        """
        if not self.proof:
            return []
        try:
            return [decode_base64(line.decode("ascii")) for line in _lines(self.proof, "proof", self.commit)]
        except UnicodeDecodeError:
            raise seal_broken("its proof cannot be read", self.commit) from None

    def verify_checkpoint(self, origin: str, public_key: bytes) -> Checkpoint:
        """Return the checkpoint after verifying its signature.

        Raises:
            BrokenRecordError: AG0207, AG0208 or AG0209, as in `checkpoint.verify_checkpoint`.
        """
        return verify_checkpoint(self.checkpoint, origin, public_key)


class SealStore:
    """The seals of one stream in a repository.

    Args:
        git: The repository's shared git folder.
        stream_id: Which stream.
        object_format: How the repository names objects.

    Attributes:
        ref: The ref of the newest seal.
        new_packs: The packs that this object wrote and that nobody has taken in yet (see `packing`).
    """

    def __init__(self, git: Git, stream_id: str, object_format: ObjectFormat) -> None:
        self._git = git
        self._objects = CatFile(git, max_bytes=MAX_OBJECT_BYTES)
        self._format = object_format
        self._held: list[str] = []
        self.ref = ledger_ref(stream_id)
        self.new_packs: list[str] = []

    def newest(self) -> str | None:
        """Return the newest seal's commit; None when nothing is sealed.

        Raises:
            BrokenRecordError: AG0228, when the ref is a symbolic one or names no object.
        """
        result = self._git.run("for-each-ref", "--format=%(objectname) %(symref)", self.ref)
        fields = result.stdout.decode("ascii", "replace").split()
        if not fields:
            return None
        if len(fields) != 1 or not is_oid(fields[0]):
            raise seal_broken("its ref is not a plain one", self.ref)
        return fields[0]

    def read(self, commit: str) -> Seal:
        """Return one seal.

        Raises:
            IncompleteError: AG0017, when an object is missing.
            BrokenRecordError: AG0018, when an object is not what its name says; AG0228, when it is no seal.
        """
        tree, parent = self._read_commit(commit)
        files = self._read_tree(tree, commit)
        blobs: dict[str, bytes] = {}
        for name, oid in files.items():
            kind, blobs[name] = self._objects.read(oid)
            if kind != "blob":
                raise seal_broken("this is not a seal", commit)
        return Seal(
            commit=commit,
            parent=parent,
            entries=blobs["entries"],
            signatures=blobs["signatures"],
            checkpoint=blobs["checkpoint"],
            proof=blobs["proof"],
        )

    def parent(self, commit: str) -> str | None:
        """Return the seal before this one without reading what it holds.

        Raises:
            IncompleteError: AG0017; BrokenRecordError: AG0018 or AG0228, as `read`.
        """
        return self._read_commit(commit)[1]

    def newest_first(self, commit: str | None) -> Iterator[Seal]:
        """Walk from a seal back to the first one; raises as `read`."""
        while commit is not None:
            seal = self.read(commit)
            yield seal
            commit = seal.parent

    def oldest_first(
        self, commit: str | None, *, after: str | None = None, hashed: bool = True
    ) -> Iterator[Seal]:
        """Walk from the first seal, or the one after `after`, up to this one; raises as `read`.

        A few are held at a time.

        Args:
            commit: The seal to end with.
            after: A seal in its past to begin after.
            hashed: Compare the entries with git's name for them. Who computes the root over them and
                compares it with the signed head knows more than that.

        Raises:
            BrokenRecordError: AG0228 also when `after` is not in the past of this seal.
        """
        commits: list[tuple[str, str, str | None]] = []
        while commit != after:
            if commit is None:
                raise seal_broken("it does not continue the seal that was verified", after or self.ref)
            tree, parent = self._read_commit(commit)
            commits.append((commit, tree, parent))
            commit = parent
        commits.reverse()
        for first in range(0, len(commits), _WINDOW):
            yield from self._window(commits[first : first + _WINDOW], hashed)

    def _window(self, commits: Sequence[tuple[str, str, str | None]], hashed: bool) -> Iterator[Seal]:
        """Read some seals with few questions in turn: an answer costs less than waiting for it."""
        folders: list[dict[str, str]] = []
        fault: BrokenRecordError | IncompleteError | None = None
        try:
            for (commit, tree, _), (kind, data) in zip(
                commits, self._objects.read_all(tree for _, tree, _ in commits), strict=True
            ):
                folders.append(_parse_tree(tree, kind, data, commit))
        except (BrokenRecordError, IncompleteError) as error:
            # Those before it are good, and are to be read first.
            fault = error
        unhashed = frozenset() if hashed else frozenset(files["entries"] for files in folders)
        names = (files[name] for files in folders for name in _FILES)
        blobs = self._objects.read_all(names, unhashed=unhashed)
        for (commit, _, parent), _files in zip(commits, folders, strict=False):
            parts = {}
            for name in _FILES:
                kind, parts[name] = next(blobs)
                if kind != "blob":
                    blobs.close()
                    raise seal_broken("this is not a seal", commit)
            yield Seal(commit=commit, parent=parent, **parts)
        if fault is not None:
            raise fault

    def write(
        self,
        *,
        entries: bytes,
        signatures: bytes,
        checkpoint: bytes,
        proof: bytes,
        parent: str | None,
        ts: int,
    ) -> str:
        """Write a seal's objects, durably, as one pack, and return its commit; no ref moves.

        The pack is held back from `git gc` until `advance`. Only under the seal lock.

        Args:
            entries: As in `Seal`.
            signatures: As in `Seal`.
            checkpoint: As in `Seal`.
            proof: As in `Seal`.
            parent: The seal before.
            ts: The time of its last entry, microseconds since 1970 UTC.

        Raises:
            AgentgovError: AG0008 or AG0491, when git cannot write them; AG0451, when nobody could read them.
            OSError: The disk refuses.
        """
        contents = {"checkpoint": checkpoint, "entries": entries, "proof": proof, "signatures": signatures}
        if max(map(len, contents.values())) > MAX_OBJECT_BYTES:
            raise AgentgovError(
                f"more than {MAX_OBJECT_BYTES} bytes wait to be saved, too many for one seal",
                id="AG0451",
                where=self.ref,
                hint="agentgov ledger restart",
            )
        names = {name: hash_object(b"blob", data, self._format) for name, data in contents.items()}
        tree = b"".join(b"100644 %b\x00%b" % (name.encode(), bytes.fromhex(names[name])) for name in _FILES)
        size = parse_checkpoint(parse_note(checkpoint).text).size
        person = f"agentgov <agentgov@localhost> {ts // 1_000_000} +0000"
        headers = [f"tree {hash_object(b'tree', tree, self._format)}"]
        if parent is not None:
            headers.append(f"parent {parent}")
        headers += [f"author {person}", f"committer {person}"]
        commit = "\n".join([*headers, "", f"agentgov: entries up to {size}", ""]).encode()
        objects: list[tuple[Kind, bytes]] = [("blob", contents[name]) for name in _FILES]
        objects += [("tree", tree), ("commit", commit)]
        self._held.append(write_kept(self._git, objects, self._format))
        return hash_object(b"commit", commit, self._format)

    def advance(self, new: str, old: str | None) -> None:
        """Move the ref, if it still points at `old`; only under the seal lock.

        Raises:
            AgentgovError: AG0008, when somebody else has moved it, or git cannot write.
            OSError: The disk refuses.
        """
        expected = old if old is not None else ZERO_OID[self._format]
        words = ("update-ref", "--no-deref", self.ref, new, expected)
        if not self._git.run(*words, check=False).ok:
            self._clear_stale_lock()
            self._git.run(*words)
        for name in self._held:
            release(self._git, name)
        self.new_packs += self._held
        self._held = []

    def _clear_stale_lock(self) -> None:
        """Remove what a git that was killed left in the way of the ref.

        Only the holder of the seal lock moves this ref, and git's own clean-up locks it for moments only.
        """
        if self._git.git_dir is None:
            return
        path = self._git.git_dir / f"{self.ref}.lock"
        with contextlib.suppress(FileNotFoundError):
            first = path.lstat()
            while (now := path.lstat()).st_ino == first.st_ino and now.st_mtime_ns == first.st_mtime_ns:
                age_seconds = time.time() - now.st_mtime
                if not 0 <= age_seconds < STALE_LOCK_SECONDS:
                    path.unlink()
                    return
                time.sleep(_LOCK_POLL_SECONDS)

    def close(self) -> None:
        """End the git process that reads objects."""
        self._objects.close()

    def _read_commit(self, commit: str) -> tuple[str, str | None]:
        """Return the tree and the seal before."""
        kind, data = self._objects.read(commit)
        headers = data.partition(b"\n\n")[0].split(b"\n")
        tree = _is_tree_line(headers[0])
        parents = [match[1].decode() for match in map(_is_parent_line, headers) if match]
        if kind != "commit" or tree is None or len(parents) > 1:
            raise seal_broken("this is not a seal", commit)
        return tree[1].decode(), parents[0] if parents else None

    def _read_tree(self, tree: str, commit: str) -> dict[str, str]:
        kind, data = self._objects.read(tree)
        return _parse_tree(tree, kind, data, commit)


def _parse_tree(tree: str, kind: str, data: bytes, commit: str) -> dict[str, str]:
    width = len(tree) // 2
    files: dict[str, str] = {}
    place = 0
    while place < len(data):
        end = data.find(b"\x00", place)
        if end < 0 or len(data) < end + 1 + width:
            break
        mode, _, name = data[place:end].partition(b" ")
        if mode == b"100644":
            files[name.decode("ascii", "replace")] = data[end + 1 : end + 1 + width].hex()
        else:
            files["?"] = ""
        place = end + 1 + width
    if kind != "tree" or tuple(files) != _FILES:
        raise seal_broken("this is not a seal", commit)
    return files


def encode_proof(hashes: Sequence[bytes]) -> bytes:
    """Return the content of `proof`."""
    return b"".join(base64.b64encode(item) + b"\n" for item in hashes)


def seal_broken(what: str, where: str) -> BrokenRecordError:
    """Return the error for a seal that cannot be one."""
    return BrokenRecordError(f"a sealed part of the record is damaged: {what}", id="AG0228", where=where)


def _lines(data: bytes, what: str, commit: str) -> list[bytes]:
    if not data.endswith(b"\n"):
        raise seal_broken(f"{what} do not end in a line feed", commit)
    return data[:-1].split(b"\n")
