"""Canonical JSON: one value, one spelling, so that a signature over bytes is a signature over a value.

Rules (RFC 8785, restricted): the output is ASCII; keys match `[a-z][a-z0-9_]*` and are sorted; there are no
floats; an integer lies strictly between -2^53 and 2^53; containers nest at most 16 deep; the whole is at most
65,536 bytes. What does not print back identically is refused: duplicate keys, white space, `-0`, `1e3`, other
escapes. Bytes from outside lead to a `BrokenRecordError` and to nothing else.
"""

from __future__ import annotations

import json
import re
from typing import Final

from agentgov.errors import AgentgovError, BrokenRecordError

MAX_BYTES: Final = 65_536
MAX_DEPTH: Final = 16
MAX_INT: Final = 2**53 - 1

_is_key = re.compile(r"[a-z][a-z0-9_]*").fullmatch
# ensure_ascii would spell DEL as an escape, which RFC 8785 does not; other than ASCII is refused below
# anyway.
_print = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, sort_keys=True, separators=(",", ":")
).encode
_parse = json.JSONDecoder().decode


class _NotCanonicalError(Exception):
    """Why a value has no canonical form; never leaves this module."""


def encode(value: object, *, depth: int = 0) -> bytes:
    """Return the canonical bytes of `value`.

    Args:
        value: Made of dict, list, tuple, str, int, bool and None.
        depth: How deep the result will be nested in a larger value.

    Raises:
        AgentgovError: AG0201, when the value has no canonical form.
    """
    try:
        return _encode(value, depth)
    except _NotCanonicalError as error:
        raise AgentgovError(f"this cannot be written into the record: {error}", id="AG0201") from None


def decode(raw: bytes, *, max_bytes: int = MAX_BYTES) -> object:
    """Parse canonical bytes.

    Raises:
        BrokenRecordError: AG0200, when `raw` is not JSON or is not the canonical form of what it says.
    """
    if len(raw) > max_bytes:
        raise BrokenRecordError(f"longer than {max_bytes} bytes", id="AG0200")
    try:
        value: object = _parse(raw.decode("ascii"))
    except (ValueError, RecursionError):
        # UnicodeDecodeError, JSONDecodeError and the limit on the digits of an integer are all ValueErrors.
        raise BrokenRecordError("this is not canonical JSON", id="AG0200") from None
    try:
        printed = _encode(value, 0, max_bytes)
    except _NotCanonicalError as error:
        raise BrokenRecordError(f"this is not canonical JSON: {error}", id="AG0200") from None
    if printed != raw:
        raise BrokenRecordError("this is JSON, but not in its canonical form", id="AG0200")
    return value


def _encode(value: object, depth: int, max_bytes: int = MAX_BYTES) -> bytes:
    _check(value, depth)
    try:
        printed = _print(value).encode("ascii")
    except UnicodeEncodeError:
        raise _NotCanonicalError("text outside ASCII") from None
    if len(printed) > max_bytes:
        raise _NotCanonicalError(f"longer than {max_bytes} bytes")
    return printed


def _check(value: object, depth: int) -> None:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return
    if kind is int:
        if not -MAX_INT <= value <= MAX_INT:  # type: ignore[operator]
            raise _NotCanonicalError("an integer of more than 53 bits")
        return
    if kind is not dict and kind is not list and kind is not tuple:
        raise _NotCanonicalError(f"a value of type {kind.__name__}")
    depth += 1
    if depth > MAX_DEPTH:
        raise _NotCanonicalError(f"nested deeper than {MAX_DEPTH}")
    if kind is dict:
        for key, item in value.items():  # type: ignore[attr-defined]
            if type(key) is not str or _is_key(key) is None:
                raise _NotCanonicalError("a key that is not [a-z][a-z0-9_]*")
            if type(item) is not str:
                _check(item, depth)
        return
    for item in value:  # type: ignore[attr-defined]
        if type(item) is not str:
            _check(item, depth)
