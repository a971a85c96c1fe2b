"""The hash that ties entries together: one for the chain and for the Merkle tree.

Rules: a leaf is SHA-256(0x00 || line) (RFC 6962, section 2.1), the line without its final LF; `prev` is the
leaf of the entry before, and 64 zeros in the first entry.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NewType

from agentgov.errors import BrokenRecordError

if TYPE_CHECKING:
    from agentgov.ledger.entry import Entry

LeafHash = NewType("LeafHash", bytes)
"""32 bytes."""

NO_LEAF: Final = LeafHash(bytes(32))
"""What the first entry names as the one before."""


def leaf_hash(line: bytes) -> LeafHash:
    """Return the leaf of an entry's exact bytes, without the LF."""
    return LeafHash(hashlib.sha256(b"\x00" + line).digest())


def verify_link(prev_leaf: bytes, entry: Entry, *, seq: int | None = None) -> None:
    """Check that `entry` follows the entry with this leaf, and has the expected place.

    Raises:
        BrokenRecordError: AG0205, when it does not.
    """
    if seq is not None and entry.seq != seq:
        raise BrokenRecordError(
            f"this place holds the entry numbered {entry.seq}", id="AG0205", where=f"entry {seq}"
        )
    if entry.prev != prev_leaf.hex():
        raise BrokenRecordError(
            "this entry does not follow the one before it", id="AG0205", where=f"entry {entry.seq}"
        )
