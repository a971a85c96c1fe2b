r"""Text from outside made safe to print, and byte names made safe to write as JSON.

Rules: what an agent, a file name or a payload says never reaches a terminal as a control: every control, bidi
or invisible character is shown as a backslash escape; bytes that are not UTF-8 are shown as `\xNN`. Nothing
is left out of what a person judges, for a shell runs what stands inside an escape sequence; only a tool's
output is rid of its sequences, mostly colours. A name that is not UTF-8 is kept exactly, as `{"b64": ...}`.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata

from agentgov.errors import BrokenRecordError

# ECMA-48: CSI; OSC, DCS, SOS, PM and APC run to ST or BEL (or, unfinished, to the end of the line, so that a
# missing terminator cannot swallow the lines after it); then two-character escapes. C1 forms are included.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c|(?=[\x1b\n])|\Z)"
    r"|\x1b[ -/]+[0-~]"
    r"|\x1b[0-~]"
)
# Invisible, reordering or overlaying characters that are not in category C.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u2800")
_ELLIPSIS = "..."


def printable(
    value: str | bytes, *, limit: int | None = None, newlines: bool = False, strip: bool = False
) -> str:
    """Return `value` as text that is safe on a reviewer's terminal.

    Args:
        value: Text, or bytes that should be UTF-8.
        limit: The most characters to return; a longer text ends in "...".
        newlines: Keep line feeds and tabs as they are; otherwise they are escaped.
        strip: Remove whole escape sequences instead of showing them; not for what a person judges.

    Returns:
        Text without controls, escape sequences, bidi controls, zero-width characters or surrogates.
    """
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    if text.isascii() and text.isprintable():
        return _cut(text, limit)
    if strip:
        text = _SEQUENCE.sub("", text)
    return _cut("".join(_shown(char, newlines) for char in text), limit)


def _shown(char: str, newlines: bool) -> str:
    if char.isascii() and char.isprintable():
        return char
    if newlines and char in "\n\t":
        return char
    # Cc controls, Cf bidi and zero-width, Cs surrogates, Co private, Cn unassigned, Zl/Zp line breaks.
    category = unicodedata.category(char)
    if category[0] == "C" or category in ("Zl", "Zp") or char in _INVISIBLE or _is_selector(char):
        return _escape(char)
    return char


def _is_selector(char: str) -> bool:
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"


def _escape(char: str) -> str:
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char)
    if named:
        return named
    code = ord(char)
    # surrogateescape puts a raw byte 0x80-0xff here: show the byte, not the carrier.
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _cut(text: str, limit: int | None) -> str:
    if limit is None or len(text) <= limit:
        return text
    return text[: max(0, limit - len(_ELLIPSIS))] + _ELLIPSIS[: max(0, limit)]


def encode_name(raw_name: bytes) -> str | dict[str, str]:
    """Return a file name as JSON: text when it is UTF-8, `{"b64": ...}` when it is not."""
    try:
        return raw_name.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(raw_name).decode("ascii")}


def decode_name(raw_value: object) -> bytes:
    """Return the bytes of a name that `encode_name` wrote.

    Raises:
        BrokenRecordError: AG0003, when `encode_name` would not have written it so.
    """
    name: bytes | None = None
    if isinstance(raw_value, str):
        try:
            name = raw_value.encode("utf-8")
        except UnicodeEncodeError:
            name = None
    elif isinstance(raw_value, dict) and list(raw_value) == ["b64"] and isinstance(raw_value["b64"], str):
        try:
            name = base64.b64decode(raw_value["b64"], validate=True)
        except (binascii.Error, ValueError):
            name = None
    # One name has one form: base64 of valid UTF-8, or with stray padding bits, is refused.
    if name is None or encode_name(name) != raw_value:
        raise BrokenRecordError("a name is neither text nor base64 of bytes that are not text", id="AG0003")
    return name
