"""What this implementation says of a record that does not hold."""

from __future__ import annotations


class Refused(Exception):  # noqa: N818 - the word of the page
    """The record does not hold.

    Attributes:
        code: The word that docs/format.md has for it.
        seq: The entry at which a reader stops; None where it is about no single entry.
    """

    def __init__(self, code: str, why: str, seq: int | None = None) -> None:
        super().__init__(f"{code} at entry {seq}: {why}")
        self.code, self.why, self.seq = code, why, seq
