"""Reading the record back after anything may have happened: a crash, a copy, somebody's hand.

Rules: lines below the sealed size must equal the sealed bytes, and are dropped; the rest must follow the seal
without a gap, entry by entry; only bytes after the last LF of the newest segment are torn. They are kept
aside in a file named after the place and their hash before they are cut, so that a crash in between loses
nothing.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentgov.errors import BrokenRecordError
from agentgov.files import fsync_dir, open_private_dir, read_own_file, write_atomic
from agentgov.ledger.chain import NO_LEAF, LeafHash, leaf_hash, verify_link
from agentgov.ledger.entry import SignedEntry
from agentgov.ledger.merkle import Frontier
from agentgov.ledger.seal import SealStore, seal_broken
from agentgov.ledger.wal import Segment, list_segments, parse_record, split_torn


@dataclass(frozen=True, slots=True)
class Sealed:
    """The end of the sealed part.

    Attributes:
        size: How many entries are sealed.
        leaf: The last one's leaf.
        commit: The commit of the newest seal.
        frontier: The tree's frontier.
        ended: Whether the last one closed the record.
    """

    size: int
    leaf: LeafHash
    commit: str | None
    frontier: Frontier
    ended: bool = False


NOTHING_SEALED = Sealed(0, NO_LEAF, None, Frontier())


@dataclass(frozen=True, slots=True)
class Unsealed:
    """What stands after the seal: the newest segment, its complete records, and what is torn."""

    newest: Segment
    records: tuple[SignedEntry, ...]
    newest_bytes: bytes
    torn: bytes


def read_sealed(store: SealStore, commit: str | None, origin: str, public_key: bytes) -> Sealed:
    """Read the newest seal and verify its checkpoint and the proof of its last leaf.

    Raises:
        IncompleteError: AG0017, when objects are missing.
        BrokenRecordError: AG0018, AG0206 to AG0209, AG0228, when the seal is not what was signed.
    """
    if commit is None:
        return NOTHING_SEALED
    seal = store.read(commit)
    checkpoint = seal.verify_checkpoint(origin, public_key)
    seal.first()
    last = seal.lines()[-1]
    leaf = leaf_hash(last)
    frontier = Frontier.from_last_proof(checkpoint.size, leaf, seal.proof_hashes())
    if frontier.root() != checkpoint.root:
        raise seal_broken("its last entry is not under its checkpoint", commit)
    return Sealed(checkpoint.size, leaf, commit, frontier, is_end(last))


def claimed_end(store: SealStore) -> Sealed:
    """Read where the newest seal says that the sealed part ends, of a record whose key may be gone.

    No signature and no proof is verified, and the frontier stays empty.

    Raises:
        IncompleteError: AG0017, when objects are missing.
        BrokenRecordError: AG0018, AG0206 to AG0209, when it is no seal.
    """
    commit = store.newest()
    if commit is None:
        return NOTHING_SEALED
    seal = store.read(commit)
    seal.first()
    return Sealed(seal.size(), leaf_hash(seal.lines()[-1]), commit, NOTHING_SEALED.frontier)


def is_end(line: bytes) -> bool:
    """Tell whether a line is the one that closes a record; lines are canonical, so their bytes tell."""
    return b'},"key":0,"kind":"log.end","log":' in line


def read_unsealed(folder: Path, sealed: Sealed, origin: str) -> Unsealed:
    """Read the segments after the seal, each line checked and linked.

    Raises:
        BrokenRecordError: AG0222, when a part is missing; AG0220, AG0200 to AG0205, when a line is wrong.
    """
    segments = [segment for segment in list_segments(folder) if segment.first >= sealed.size]
    if not segments:
        raise BrokenRecordError(
            "the part of the record that is not sealed is missing",
            id="AG0222",
            where=str(folder),
            hint=("restore it from a backup", "or begin a new record: agentgov ledger restart"),
        )
    size, leaf = sealed.size, sealed.leaf
    records: list[SignedEntry] = []
    complete = torn = b""
    for segment in segments:
        if segment.first != size or torn:
            raise BrokenRecordError(
                f"the record goes on at entry {segment.first} instead of {size}",
                id="AG0222",
                where=str(segment.path),
            )
        complete, torn = split_torn(read_own_file(segment.path))
        for raw_record in complete.split(b"\n")[:-1]:
            signed = parse_record(raw_record, seq=size)
            verify_place(signed, size, leaf, origin)
            size, leaf = size + 1, signed.leaf()
            records.append(signed)
    return Unsealed(segments[-1], tuple(records), complete, torn)


def verify_place(signed: SignedEntry, seq: int, prev_leaf: bytes, origin: str) -> None:
    """Check that an entry stands where it belongs, in its own record.

    Raises:
        BrokenRecordError: AG0205, when it does not.
    """
    if signed.entry.log != origin:
        raise BrokenRecordError("this entry belongs to another record", id="AG0205", where=f"entry {seq}")
    verify_link(prev_leaf, signed.entry, seq=seq)


def drop_sealed(folder: Path, sealed: Sealed, store: SealStore) -> None:
    """Remove segments that a crash left behind although they are sealed; only under the append lock.

    Raises:
        BrokenRecordError: AG0220, when one of them is not what was sealed; then nothing is removed.
    """
    segments = list_segments(folder)
    stale = [segment for segment in segments if segment.first < sealed.size]
    if not stale:
        return
    known = _sealed_records(store, sealed, stale[0].first)
    ends = [segment.first for segment in segments[1:]] + [sealed.size]
    for segment, end in zip(stale, ends, strict=False):
        expected = b"".join(known[segment.first - stale[0].first : end - stale[0].first])
        if end > sealed.size or split_torn(read_own_file(segment.path)) != (expected, b""):
            raise BrokenRecordError(
                "this differs from what was sealed",
                id="AG0220",
                where=str(segment.path),
                hint="agentgov verify",
            )
    remove_segments(folder, stale)


def remove_segments(folder: Path, segments: Sequence[Segment]) -> None:
    """Remove sealed segments; another process may be quicker."""
    for segment in segments:
        with contextlib.suppress(FileNotFoundError):
            segment.path.unlink()
    fsync_dir(folder)


def keep_torn(root: Path, seq: int, torn: bytes) -> None:
    """Keep torn bytes aside, durably, before they are cut."""
    folder = open_private_dir(root / "torn")
    write_atomic(folder / f"{seq:016d}-{hashlib.sha256(torn).hexdigest()}", torn)


def torn_at(root: Path, seq: int) -> list[tuple[int, str]]:
    """Return size and SHA-256 of what was torn at a place, to be reported in the entry that goes there."""
    folder = root / "torn"
    if not folder.is_dir():
        return []
    prefix = f"{seq:016d}-"
    found = []
    for path in sorted(folder.glob(f"{prefix}*")):
        torn = read_own_file(path)
        found.append((len(torn), hashlib.sha256(torn).hexdigest()))
    return found


def _sealed_records(store: SealStore, sealed: Sealed, first: int) -> list[bytes]:
    parts: list[list[bytes]] = []
    for seal in store.newest_first(sealed.commit):
        signatures = seal.signatures.split(b"\n")
        lines = seal.lines()
        start = seal.first()
        records = [b"%b\t%b\n" % pair for pair in zip(lines, signatures, strict=False)]
        parts.append(records[max(0, first - start) :])
        if start <= first:
            break
    return [record for part in reversed(parts) for record in part]


def encode_signatures(records: Sequence[SignedEntry]) -> bytes:
    """Return the content of a seal's `signatures`."""
    return b"".join(base64.b64encode(record.signature) + b"\n" for record in records)
