r"""Git's wildmatch patterns as regular expressions over bytes. Pure.

Follows wildmatch.c of git 2.39 with WM_PATHNAME: `*`, `?` and `[...]` never match a slash, `**` does when it
stands between slashes or at an end; a malformed bracket never matches anything.
"""

from __future__ import annotations

import re

_CLASSES = {
    b"alnum": rb"0-9A-Za-z",
    b"alpha": rb"A-Za-z",
    b"blank": rb" \t",
    b"cntrl": rb"\x00-\x1f\x7f",
    b"digit": rb"0-9",
    b"graph": rb"\x21-\x7e",
    b"lower": rb"a-z",
    b"print": rb"\x20-\x7e",
    b"punct": rb"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    b"space": rb" \t\n\r\x0b\x0c",
    b"upper": rb"A-Z",
    b"xdigit": rb"0-9A-Fa-f",
}
_NEVER = rb"(?!)"


def translate(pattern: bytes) -> bytes:
    """Return a regular expression (for fullmatch, with DOTALL) equal to the pattern."""
    out: list[bytes] = []
    at, end = 0, len(pattern)
    while at < end:
        char = pattern[at : at + 1]
        if char == b"*":
            start = at
            while pattern[at : at + 1] == b"*":
                at += 1
            part, at = _stars(pattern, start, at)
            out.append(part)
        elif char == b"?":
            out.append(rb"[^/]")
            at += 1
        elif char == b"[":
            part, at = _bracket(pattern, at + 1)
            if not part:
                return _NEVER
            out.append(part)
        elif char == b"\\":
            # A lone backslash at the end stands for the end of the text, which no character matches.
            if at + 1 == end:
                return _NEVER
            out.append(re.escape(pattern[at + 1 : at + 2]))
            at += 2
        else:
            out.append(re.escape(char))
            at += 1
    return b"".join(out)


def _stars(pattern: bytes, start: int, after: int) -> tuple[bytes, int]:
    if after - start == 1:
        return rb"[^/]*", after
    opens = start == 0 or pattern[start - 1 : start] == b"/"
    rest = pattern[after:]
    if opens and rest.startswith(b"/"):
        return rb"(?:.*/)?", after + 1
    if opens and (not rest or rest.startswith(rb"\/")):
        return rb".*", after
    return rb"[^/]*", after


def _bracket(pattern: bytes, at: int) -> tuple[bytes, int]:
    """Translate a bracket whose `[` is before `at`; an empty result means that it is malformed."""
    end = len(pattern)
    negated = pattern[at : at + 1] in (b"!", b"^")
    at += negated
    members: set[int] = set()
    first = True
    previous: int | None = None
    while True:
        if at >= end:
            return b"", at
        char = pattern[at]
        if char == 0x5D and not first:
            break
        first = False
        if char == 0x2D and previous is not None and at + 1 < end and pattern[at + 1] != 0x5D:
            at += 1
            if pattern[at] == 0x5C:
                at += 1
                if at >= end:
                    return b"", at
            members.update(range(previous, pattern[at] + 1))
            previous = None
        elif char == 0x5B and pattern[at + 1 : at + 2] == b":":
            close = pattern.find(b"]", at + 2)
            if close < 0:
                return b"", at
            if close - 1 < at + 2 or pattern[close - 1] != 0x3A:
                # No ":]": the "[" is an ordinary member.
                members.add(char)
                previous = char
            else:
                name = pattern[at + 2 : close - 1]
                if name not in _CLASSES:
                    return b"", at
                matcher = re.compile(b"[" + _CLASSES[name] + b"]")
                members.update(c for c in range(256) if matcher.match(bytes([c])))
                at = close
                previous = None
        else:
            if char == 0x5C:
                at += 1
                if at >= end:
                    return b"", at
                char = pattern[at]
            members.add(char)
            previous = char
        at += 1
    if negated:
        members = set(range(256)) - members
    members.discard(0x2F)
    if not members:
        return _NEVER, at + 1
    return b"[" + b"".join(b"\\x%02x" % c for c in sorted(members)) + b"]", at + 1
