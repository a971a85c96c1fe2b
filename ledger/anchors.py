"""Anchors: heads of a record that somebody other than its writer has seen, signed or stamped.

Rules: an anchor says that a tree of this size had this root; it is made only after the evidence behind it has
been verified. A record agrees with an anchor when its own root at that size is the same; one that is shorter
than an anchor was cut, one with another root was rewritten or forked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AnchorKind = Literal["witness", "timestamp", "copy"]


@dataclass(frozen=True, slots=True)
class Anchor:
    """A head that was seen outside this record.

    Attributes:
        kind: A witness's cosignature, a time stamp, or another copy of the record.
        size: How many entries it covers.
        root: The root of the tree over them, 32 bytes.
        who: The witness's name, the authority's name, or where the copy lies.
        ts: When it was seen, microseconds since 1970 UTC as the witness or the authority says; None for a
            copy.
    """

    kind: AnchorKind
    size: int
    root: bytes
    who: str
    ts: int | None = None
