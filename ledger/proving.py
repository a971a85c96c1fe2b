"""Making proofs that stand alone, from a record in a repository.

Rules this module keeps:
    * Only sealed entries are proven, in a head that the log key has signed; of the heads that cover them, the
      one that most witnesses have cosigned, then the newest.
    * Nothing is taken from the repository on its word: what is made is verified against the record's own key
      before it is returned.
    * The cost is a walk over the seals' commits, and a few seals read whole for each hash: what the seals
      keep of the tree (the proof of their last leaf) stands for everything before them. The leaves of at most
      a few seals are in memory.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Final

from agentgov.errors import BrokenRecordError, IncompleteError, UsageError
from agentgov.git import Git, Repository
from agentgov.ledger.chain import leaf_hash
from agentgov.ledger.cosignature import verify_cosignature
from agentgov.ledger.cosigned import read_cosigned, read_timestamps
from agentgov.ledger.entry import SignedEntry
from agentgov.ledger.merkle import Frontier, inclusion_ranges
from agentgov.ledger.note import Note, NoteKey, parse_note
from agentgov.ledger.people import People
from agentgov.ledger.proof_extra import MAX_ENDORSEMENTS, Included, ProofExtra, ProvenPayload
from agentgov.ledger.proof_trust import ProofTrust
from agentgov.ledger.proof_verify import verify_proof
from agentgov.ledger.records import find_records
from agentgov.ledger.seal import Seal, SealStore
from agentgov.ledger.tlog_policy import Policy
from agentgov.ledger.tlog_proof import TlogProof

_KEPT_SEALS: Final = 8
_ENDORSES: Final = b'"kind":"stream.endorse"'
_listed_seal = re.compile(rb"commit ([0-9a-f]{40,64})\n([^\n]*)\n").match
_says_size = re.compile(rb"agentgov: entries up to (0|[1-9][0-9]{0,15})").fullmatch


@dataclass(slots=True)
class _ReadSeal:
    """What is kept of a seal that was read whole."""

    first: int
    seal: Seal
    leaves: list[bytes]


class SealedTree:
    """The tree over the sealed entries of one record, read as far as it is needed.

    Use it as a context manager, or close it.

    Args:
        repository: Where the record lies: as its own, fetched from a remote, or kept in an archive.
        stream_id: Which record.

    Raises:
        IncompleteError: AG0415, when nothing of it is sealed, or its beginning is not here.
    """

    def __init__(self, repository: Repository, stream_id: str) -> None:
        self._git = Git(repository.common_dir)
        self.stream_id = stream_id
        self.origin = f"agentgov/{stream_id}"
        self._store = SealStore(self._git, stream_id, repository.object_format)
        self._read_seals: dict[int, _ReadSeal] = {}
        tip = self._store.newest() or _elsewhere(repository, stream_id)
        if tip is None:
            raise IncompleteError("nothing of this record is saved here", id="AG0415", where=self._store.ref)
        self._commits, self._sizes = self._walk(tip)

    @property
    def size(self) -> int:
        """How many entries are sealed."""
        return self._sizes[-1]

    def heads(self, beyond: int) -> list[int]:
        """Return the sizes of the signed heads that cover entry `beyond`, smallest first."""
        return self._sizes[bisect_right(self._sizes, beyond) :]

    def note(self, size: int) -> Note:
        """Return the signed head of this size.

        Raises:
            BrokenRecordError: AG0207, when it is none.
        """
        return parse_note(self._seal_before(size).seal.checkpoint)

    def record(self, index: int) -> SignedEntry:
        """Return one entry with its exact bytes and signature.

        Raises:
            UsageError: AG0409, when there is no such entry among the sealed ones.
        """
        if not 0 <= index < self.size:
            raise UsageError(f"there is no saved entry {index}", id="AG0409", where=self.origin)
        read = self._seal_of(index)
        for signed in read.seal.records():
            if signed.entry.seq == index:
                return signed
        raise _unfit(f"entry {index} is not where it must be")

    def inclusion_proof(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that entry `index` stands in the head over `size` entries, one of `heads`."""
        return tuple(self._root(first, last) for first, last in inclusion_ranges(index, size))

    def endorsements(self) -> list[int]:
        """Return the numbers of the entries by which persons stand behind this record's key, oldest first."""
        found = []
        for number, commit in enumerate(self._commits):
            seal = self._store.read(commit)
            if _ENDORSES not in seal.entries:
                continue
            first = self._first(number)
            for index, line in enumerate(seal.lines(), first):
                if _ENDORSES in line:
                    found.append(index)
        return found

    def close(self) -> None:
        """End the git process."""
        self._store.close()

    def __enter__(self) -> SealedTree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _walk(self, tip: str) -> tuple[list[str], list[int]]:
        """List the seals, oldest first, with the sizes after them."""
        commits: list[str] = []
        sizes: list[int] = []
        listed = self._git.run("rev-list", "--format=%s", tip, check=False)
        place = 0
        while listed.ok and (match := _listed_seal(listed.stdout, place)) is not None:
            commits.append(match[1].decode())
            # A seal's message is a hint, as good as the check at the end; another program's may say nothing.
            size = _says_size(match[2])
            sizes.append(int(size[1]) if size else self._store.read(commits[-1]).size())
            place = match.end()
        if not commits or place != len(listed.stdout):
            # It says what is missing or damaged.
            commits, sizes = [], []
            for seal in self._store.newest_first(tip):
                commits.append(seal.commit)
                sizes.append(seal.size())
        commits.reverse()
        sizes.reverse()
        if any(a >= b for a, b in pairwise([0, *sizes])):
            raise _unfit("its signed heads do not grow")
        if self._store.parent(commits[0]) is not None:
            raise IncompleteError("the beginning of this record is not here", id="AG0415", where=commits[0])
        return commits, sizes

    def _first(self, number: int) -> int:
        return self._sizes[number - 1] if number else 0

    def _seal_of(self, index: int) -> _ReadSeal:
        """Read the seal that holds an entry."""
        return self._read(bisect_right(self._sizes, index))

    def _seal_before(self, size: int) -> _ReadSeal:
        """Read the seal that ends at `size`."""
        number = bisect_left(self._sizes, size)
        if number == len(self._sizes) or self._sizes[number] != size:
            raise UsageError(f"there is no signed head over {size} entries", id="AG0409", where=self.origin)
        return self._read(number)

    def _read(self, number: int) -> _ReadSeal:
        known = self._read_seals.pop(number, None)
        if known is None:
            seal = self._store.read(self._commits[number])
            leaves = [bytes(leaf_hash(line)) for line in seal.lines()]
            first = self._first(number)
            if first + len(leaves) != self._sizes[number]:
                raise _unfit(f"entries {first} to {self._sizes[number] - 1} are not as many as they must be")
            known = _ReadSeal(first, seal, leaves)
        self._read_seals[number] = known
        if len(self._read_seals) > _KEPT_SEALS:
            del self._read_seals[next(iter(self._read_seals))]
        return known

    def _root(self, first: int, last: int) -> bytes:
        """The root over entries `first` to `last` - 1, which are one node of the tree."""
        frontier, place = Frontier(), first
        number = bisect_left(self._sizes, last) - 1
        if number >= 0 and self._sizes[number] > first:
            # The newest head before the end: of its peaks, the lowest are those of the entries from `first`
            # on, because `first` is a multiple of a power of two that is larger than what follows it.
            read = self._read(number)
            place = self._sizes[number]
            peaks = Frontier.from_last_proof(place, read.leaves[-1], read.seal.proof_hashes())
            count = (place - first).bit_count()
            frontier = Frontier(place - first, peaks.last_proof()[:count][::-1])
        while place < last:
            read = self._seal_of(place)
            leaves = read.leaves[place - read.first : last - read.first]
            for leaf in leaves:
                frontier.append(leaf)
            place += len(leaves)
        return frontier.root()


def _elsewhere(repository: Repository, stream_id: str) -> str | None:
    """The newest seal of a record that is not this clone's own; what it holds is checked as any other."""
    places = find_records(repository, problems=[])
    return next((place.tip for place in places if place.stream_id == stream_id), None)


def make_proof(
    tree: SealedTree,
    repository: Repository,
    index: int,
    *,
    related: Sequence[int] = (),
    payloads: Sequence[ProvenPayload] = (),
    policy: Policy | None = None,
) -> TlogProof:
    """Make a proof of an entry, and of others of the same call, that verifies alone.

    Args:
        tree: The record.
        repository: Where cosignatures lie.
        index: The entry.
        related: The other entries.
        payloads: What the entries commit to and the proof shall show.
        policy: The witnesses known here: a head that is enough for it is taken before another one.

    Raises:
        UsageError: AG0409, when there is no such sealed entry.
        IncompleteError: AG0017 or AG0415, when a part of the record is missing.
        BrokenRecordError: When the record is damaged: what was made does not verify.
    """
    main = tree.record(index)
    others = [tree.record(number) for number in sorted(related)]
    keys = sorted({signed.entry.key for signed in (main, *others)} - {0})
    behind = tree.endorsements()
    floor = max((index, *related, *behind[:1]))
    size, note = _choose_head(tree, repository, floor, policy)
    stamp = read_timestamps(repository, tree.stream_id).get(tree.note(size).to_bytes())
    behind = [number for number in behind if number < size][-MAX_ENDORSEMENTS:]

    def include(signed: SignedEntry) -> Included:
        number = signed.entry.seq
        return Included(number, signed.line, signed.signature, tree.inclusion_proof(number, size))

    extra = ProofExtra(
        main.line,
        main.signature,
        tuple(map(include, others)),
        tuple(include(tree.record(number)) for number in keys),
        tuple(include(tree.record(number)) for number in behind),
        tuple(payloads),
        stamp,
    )
    proof = TlogProof(index, tree.inclusion_proof(index, size), note.to_bytes(), extra.to_bytes())
    verify_proof(proof.to_bytes(), ProofTrust((log_key(tree),), People(), Policy.parse(b"quorum none\n")))
    return proof


def log_key(tree: SealedTree) -> NoteKey:
    """Return the log key as the record itself names it: nobody has vouched for it."""
    return NoteKey(tree.origin, bytes.fromhex(tree.record(0).entry.body["public_key"]))


def _choose_head(
    tree: SealedTree, repository: Repository, beyond: int, policy: Policy | None
) -> tuple[int, Note]:
    """Return the head to prove in, with every cosignature that is known of it."""
    best = (False, 0, tree.size)
    chosen = tree.note(tree.size)
    sizes = frozenset(tree.heads(beyond))
    for size, notes in read_cosigned(repository, tree.stream_id).items():
        if size not in sizes:
            continue
        own = note = tree.note(size)
        for other in notes:
            if other.text == own.text:
                for signature in other.signatures:
                    note = note.with_signature(signature)
        met, note = _vouched(note, own, policy)
        rank = (met, len(note.signatures) - len(own.signatures), size)
        if rank > best:
            best, chosen = rank, note
    return best[2], chosen


def _vouched(note: Note, own: Note, policy: Policy | None) -> tuple[bool, Note]:
    """Drop what claims to be a known witness's and is not; tell whether the rest is enough for the policy."""
    if policy is None:
        return False, note
    kept, names = own, set()
    for signature in note.signatures:
        known = [(name, key) for name, key in policy.witnesses.items() if key.names(signature)]
        try:
            for name, key in known:
                verify_cosignature(own, signature, key)
                names.add(name)
        except BrokenRecordError:
            continue
        kept = kept.with_signature(signature)
    return policy.demands_witnesses and policy.is_met(names), kept


def _unfit(what: str) -> BrokenRecordError:
    return BrokenRecordError(f"the saved parts of this record do not fit together: {what}", id="AG0413")
