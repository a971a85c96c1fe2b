"""The Merkle tree over the leaves: roots, and proofs that are checked without the rest of the tree.

Rules (RFC 6962, section 2.1; RFC 9162, section 2.1): a node is SHA-256(0x01 || left || right); the root of no
leaves is SHA-256 of nothing; `verify_*` raise and never guess: a proof that is too long, too short or about
an impossible size is refused. Consistency from size 0 is an empty proof from the empty root; between equal
sizes it is an empty proof between equal roots.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from agentgov.errors import BrokenRecordError

EMPTY_ROOT: Final = hashlib.sha256().digest()
_HASH_BYTES: Final = 32


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node with two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The roots of the perfect subtrees of a growing tree: enough to append, in logarithmic space."""

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        """Start from nothing, or from the peaks of a tree, largest first.

        Raises:
            BrokenRecordError: AG0206, when there are not as many peaks as the size has set bits.
        """
        self.size = size
        self._peaks = list(peaks)
        if (
            size < 0
            or len(self._peaks) != size.bit_count()
            or any(len(p) != _HASH_BYTES for p in self._peaks)
        ):
            raise BrokenRecordError("these are not the peaks of a tree of that size", id="AG0206")

    @classmethod
    def from_last_proof(cls, size: int, leaf: bytes, proof: Sequence[bytes]) -> Frontier:
        """Return the frontier of `size` leaves, from the inclusion proof of the last of them.

        The siblings on the way up from the last leaf are exactly the peaks of the tree without it, smallest
        first. The caller compares `root()` with a signed one: the proof itself is not trusted.

        Raises:
            BrokenRecordError: AG0206, when the proof cannot belong to that size.
        """
        if size < 1:
            raise BrokenRecordError("an empty tree has no last leaf", id="AG0206")
        frontier = cls(size - 1, reversed(proof))
        frontier.append(leaf)
        return frontier

    def append(self, leaf: bytes) -> None:
        """Add one leaf at the end."""
        node, size = leaf, self.size
        while size & 1:
            node = node_hash(self._peaks.pop(), node)
            size >>= 1
        self._peaks.append(node)
        self.size += 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add many leaves at the end; the same as `append` for each, level by level."""
        nodes, level = list(leaves), self.size
        self.size += len(nodes)
        low: list[bytes] = []
        while nodes:
            if level & 1:
                nodes.insert(0, self._peaks.pop())
            if len(nodes) & 1:
                low.append(nodes.pop())
            nodes = [
                hashlib.sha256(b"\x01" + left + right).digest()
                for left, right in zip(nodes[::2], nodes[1::2], strict=True)
            ]
            level >>= 1
        self._peaks += reversed(low)

    def last_proof(self) -> list[bytes]:
        """Return the inclusion proof that the next leaf to be appended will have as the last one."""
        return self._peaks[::-1]

    def root(self) -> bytes:
        """Return the root of the tree so far."""
        if not self._peaks:
            return EMPTY_ROOT
        node = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            node = node_hash(peak, node)
        return node

    def copy(self) -> Frontier:
        """Return a frontier that grows on its own."""
        return Frontier(self.size, self._peaks)


def root(leaves: Iterable[bytes]) -> bytes:
    """Return the root of the tree over these leaves."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the siblings from leaf `index` up to the root, lowest first.

    Raises:
        ValueError: When there is no such leaf; the caller's mistake, never an outsider's.
    """
    return [root(leaves[first:last]) for first, last in inclusion_ranges(index, len(leaves))]


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """Return the leaves under each sibling from leaf `index` up, lowest first, as (first, one past the last).

    Raises:
        ValueError: When there is no such leaf; the caller's mistake, never an outsider's.
    """
    if not 0 <= index < size:
        raise ValueError("no such leaf")
    first, last, ranges = 0, size, []
    while last - first > 1:
        middle = first + _split(last - first)
        if index < middle:
            ranges.append((middle, last))
            last = middle
        else:
            ranges.append((first, middle))
            first = middle
    return ranges[::-1]


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """Return the proof that the tree over these leaves extends its own first `old_size` leaves.

    Raises:
        ValueError: When there are fewer leaves than that; the caller's mistake.
    """
    return [root(leaves[first:last]) for first, last in consistency_ranges(old_size, len(leaves))]


def consistency_ranges(old_size: int, size: int) -> list[tuple[int, int]]:
    """Return the leaves under each node of a consistency proof, as `inclusion_ranges`.

    Raises:
        ValueError: When the old tree is the larger one; the caller's mistake.
    """
    if not 0 <= old_size <= size:
        raise ValueError("the old tree is larger than the new one")
    if old_size in (0, size):
        return []
    # RFC 6962, section 2.1.2, SUBPROOF(m, D[n], b) without its recursion.
    first, last, ranges = 0, size, []
    while last != old_size:
        middle = first + _split(last - first)
        if old_size <= middle:
            ranges.append((middle, last))
            last = middle
        else:
            ranges.append((first, middle))
            first = middle
    if first != 0:
        ranges.append((first, last))
    return ranges[::-1]


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes
) -> None:
    """Check that `leaf` is number `index` of the tree with this size and root (RFC 9162, 2.1.3.2).

    Raises:
        BrokenRecordError: AG0206, when the proof does not show it.
    """
    if not 0 <= index < size or any(len(item) != _HASH_BYTES for item in proof):
        raise BrokenRecordError("an inclusion proof that cannot be right", id="AG0206")
    node, position, last = leaf, index, size - 1
    for sibling in proof:
        if last == 0:
            raise BrokenRecordError("an inclusion proof that is too long", id="AG0206")
        if position & 1 or position == last:
            node = node_hash(sibling, node)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        position, last = position >> 1, last >> 1
    if last != 0 or node != expected_root:
        raise BrokenRecordError("an inclusion proof that does not lead to the root", id="AG0206")


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the new tree extends the old one (RFC 9162, 2.1.4.2).

    Raises:
        BrokenRecordError: AG0206, when the proof does not show it.
    """
    if not 0 <= old_size <= new_size or any(len(item) != _HASH_BYTES for item in proof):
        raise BrokenRecordError("a consistency proof that cannot be right", id="AG0206")
    if old_size in (0, new_size):
        expected = EMPTY_ROOT if old_size == 0 else new_root
        known_new = new_root if new_size else EMPTY_ROOT
        if proof or old_root != expected or new_root != known_new or len(new_root) != _HASH_BYTES:
            raise BrokenRecordError("a consistency proof between other roots", id="AG0206")
        return
    nodes = list(proof)
    if old_size.bit_count() == 1:
        nodes.insert(0, old_root)
    if not nodes:
        raise BrokenRecordError("a consistency proof that is too short", id="AG0206")
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = nodes[0]
    for sibling in nodes[1:]:
        if last == 0:
            raise BrokenRecordError("a consistency proof that is too long", id="AG0206")
        if position & 1 or position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        position, last = position >> 1, last >> 1
    if last != 0 or old != old_root or new != new_root:
        raise BrokenRecordError("a consistency proof that does not lead to the roots", id="AG0206")


def _split(size: int) -> int:
    """The largest power of two below `size`, for sizes of two and more."""
    return 1 << ((size - 1).bit_length() - 1)
