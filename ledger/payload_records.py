"""Lines of payload records: where each stands, and what an erasure leaves of one.

A record is class TAB field TAB commitment TAB base64(salt) TAB base64(value) LF. In a file that is still
written to, an erased one keeps its length and its first three parts; the rest is overwritten.
"""

from __future__ import annotations

from typing import Final

SUFFIX: Final = ".payloads"
ERASED: Final = b"-"
"""What salt and value are overwritten with; no base64 has it."""
_HEAD_BYTES: Final = 160


def is_erased_record(line: bytes) -> bool:
    """Whether this is what an erasure leaves of a record in a file that is still written to."""
    rest = line.split(b"\t", 3)[-1]
    return line.count(b"\t") == 3 and len(rest) > 0 and rest.count(ERASED) == len(rest)


def record_places(data: bytes) -> list[tuple[str, int, int]]:
    """Commitment, offset and length of each whole record in `data`."""
    places: list[tuple[str, int, int]] = []
    at = 0
    while (end := data.find(b"\n", at)) >= 0:
        parts = data[at : min(end, at + _HEAD_BYTES)].split(b"\t", 3)
        if len(parts) == 4:
            places.append((parts[2].decode("ascii", "replace"), at, end - at))
        at = end + 1
    return places
