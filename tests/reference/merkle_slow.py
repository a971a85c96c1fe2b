"""The Merkle tree, word by word from RFC 6962, section 2.1 (docs/format.md, "Merkle tree").

Each function recurses as the text of the RFC does; nothing is remembered between calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def leaf(line: bytes) -> bytes:
    """The hash of one entry."""
    return hashlib.sha256(b"\x00" + line).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """MTH(D[n])."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + root(leaves[:k]) + root(leaves[k:])).digest()


def path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH(m, D[n]), section 2.1.1: the proof that leaf m is in the tree."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), root(leaves[k:])]
    return [*path(m - k, leaves[k:]), root(leaves[:k])]


def consistency(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PROOF(m, D[n]), section 2.1.2, for 0 < m <= n."""
    return _subproof(m, leaves, True)


def split(n: int) -> int:
    """The largest power of two below n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def _subproof(m: int, leaves: Sequence[bytes], is_whole: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if is_whole else [root(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*_subproof(m, leaves[:k], is_whole), root(leaves[k:])]
    return [*_subproof(m - k, leaves[k:], False), root(leaves[:k])]
