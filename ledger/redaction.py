"""The one funnel that takes secrets out of what is about to be stored.

Rules this module keeps:
    * It works on bytes, JSON text included: what was valid JSON stays valid JSON, since a span never starts
      or ends inside an escape and a marker needs none.
    * A run of exactly 40 or 64 hexadecimal digits is never touched: it is an object id or a digest, and a
      record without its ids is worthless.
    * Code stays code: an assignment is redacted only when its value looks like a literal secret, not like a
      name, a call, a path, a placeholder or a reference to a variable.
    * Equal secrets in one value get the same number, so that a reader sees that they were equal.
    * Redacting twice gives what redacting once gave.
    * Work is linear: a plain search for a keyword goes first, and a pattern runs only where its keyword
      stands, over a bounded stretch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from agentgov.ledger.redaction_literals import literals_of
from agentgov.ledger.redaction_patterns import GENERIC_KEYWORDS, RULES, Rule, generic_secret

_HEX = frozenset(b"0123456789abcdefABCDEF")
_ID_LENGTHS = (40, 64)
_MARKER = re.compile(rb"\[REDACTED:[a-z-]{1,24}:#([0-9]{1,6})\]")
_MARKER_START = b"[REDACTED:"
_MAX_PASSES = 8


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    end: int
    kind: bytes


class Redactor:
    """Replaces secrets by ``[REDACTED:kind:#n]``.

    Args:
        env: Environment of the run; the values of variables whose names speak of secrets are redacted
            wherever they stand.
        extra_values: Further literal secrets, for example the values of a ``.env`` file.
    """

    def __init__(self, env: Mapping[str, str] | None = None, extra_values: Iterable[str] = ()) -> None:
        self._literals = literals_of(env or {}, extra_values)

    def redact(self, value: bytes) -> bytes:
        """Return `value` with every recognised secret replaced; the same object when there is none."""
        spans = list(self._spans(value))
        if not spans:
            return value
        numbers: dict[bytes, int] = {}
        highest = max((int(match[1]) for match in _MARKER.finditer(value)), default=0)
        # What stood glued to a secret may show as one itself once that is gone.
        for _ in range(_MAX_PASSES):
            parts: list[bytes] = []
            done = 0
            for span in _merged(value, spans):
                number = numbers.setdefault(value[span.start : span.end], highest + len(numbers) + 1)
                parts += (value[done : span.start], b"[REDACTED:%s:#%d]" % (span.kind, number))
                done = span.end
            value = b"".join([*parts, value[done:]])
            spans = list(self._spans(value))
            if not spans:
                break
        return value

    def redact_text(self, value: str) -> str:
        """Return `value` redacted; surrogates, which stand for bytes that were not UTF-8, survive."""
        return self.redact(value.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def _spans(self, value: bytes) -> Iterator[_Span]:
        lowered = value.lower()
        for rule in RULES:
            for keyword in rule.keywords:
                yield from _hits(value, lowered if rule.any_case else value, keyword, rule)
        for keyword, pattern in GENERIC_KEYWORDS:
            yield from _generic_hits(value, lowered, keyword, pattern)
        for literal in self._literals:
            start = value.find(literal)
            while start >= 0:
                end = start + len(literal)
                if not _inside_id(value, start, end) and not _inside_marker(value, start, end):
                    yield _Span(start, end, b"env")
                start = value.find(literal, end)


def _hits(value: bytes, haystack: bytes, keyword: bytes, rule: Rule) -> Iterator[_Span]:
    at = haystack.find(keyword)
    while at >= 0:
        match = rule.pattern.match(value, at)
        resume = at + len(keyword)
        if match is not None:
            start, end = match.span("secret")
            resume = max(resume, end)
            if (
                (rule.accept is None or rule.accept(match["secret"]))
                and not _inside_id(value, start, end)
                and not _inside_marker(value, start, end)
            ):
                yield _Span(start, end, rule.kind)
        at = haystack.find(keyword, resume)


def _generic_hits(value: bytes, lowered: bytes, keyword: bytes, kind: bytes) -> Iterator[_Span]:
    at = lowered.find(keyword)
    while at >= 0:
        span = generic_secret(value, at, at + len(keyword))
        resume = at + len(keyword)
        if span is not None:
            start, end = span
            resume = max(resume, end)
            if not _inside_id(value, start, end) and not _inside_marker(value, start, end):
                yield _Span(start, end, kind)
        at = lowered.find(keyword, resume)


def _merged(value: bytes, spans: list[_Span]) -> list[_Span]:
    """Overlapping spans become one, under the kind of the one that starts first (the longest of those)."""
    merged: list[_Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        end = span.end
        # A bounded pattern may stop inside a UTF-8 sequence; half a letter must not stay behind.
        while end < len(value) and value[end] & 0xC0 == 0x80:
            end += 1
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            merged[-1] = _Span(last.start, max(last.end, end), last.kind)
        else:
            merged.append(_Span(span.start, end, span.kind))
    return merged


def _inside_id(value: bytes, start: int, end: int) -> bool:
    """Whether the span lies in a run of exactly 40 or 64 hexadecimal digits."""
    if not all(byte in _HEX for byte in value[start:end]):
        return False
    left, right, limit = start, end, _ID_LENGTHS[-1]
    while left > 0 and value[left - 1] in _HEX and right - left <= limit:
        left -= 1
    while right < len(value) and value[right] in _HEX and right - left <= limit:
        right += 1
    return right - left in _ID_LENGTHS


def _inside_marker(value: bytes, start: int, end: int) -> bool:
    """Whether the span is a marker that stands there already, or part of one."""
    opening = value.rfind(_MARKER_START, max(0, start - 48), start + len(_MARKER_START))
    match = _MARKER.match(value, opening) if opening >= 0 else None
    return match is not None and match.start() <= start and end <= match.end()
