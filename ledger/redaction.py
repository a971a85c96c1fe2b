"""The one funnel that takes secrets out of what is about to be stored.

Rules this module keeps:
    * It works on bytes, JSON text included: what was valid JSON stays valid JSON, since a span never starts
      or ends inside an escape and a marker needs none.
    * A run of exactly 40 or 64 hexadecimal digits is left alone: it is an object id or a digest, and a record
      without its ids is worthless. Only when the environment holds that very run as a secret, it is one.
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
from functools import cached_property
from re import Pattern

from agentgov.ledger.redaction_literals import literals_of
from agentgov.ledger.redaction_patterns import GENERIC_NAMES, RULES, Rule, generic_secret
from agentgov.ledger.redaction_wrapped import wrapped_hits

_HEX = frozenset(b"0123456789abcdefABCDEF")
_ID_LENGTHS = (40, 64)
_MARKER = re.compile(rb"\[REDACTED:[a-z-]{1,24}:#([0-9]{1,6})\]")
_MARKER_START = b"[REDACTED:"
_MAX_PASSES = 8
# Longer than any pattern but that of a private key, which nothing that stands beside it can cut.
_REACH = 32 * 1024


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
        extra_values: Further literal secrets, for example the values of a ``.env`` file; taken when the first
            value is redacted.
    """

    def __init__(self, env: Mapping[str, str] | None = None, extra_values: Iterable[str] = ()) -> None:
        self._env = env or {}
        self._extra_values = extra_values

    @cached_property
    def _literals(self) -> tuple[bytes, ...]:
        return literals_of(self._env, self._extra_values)

    def redact(self, value: bytes) -> bytes:
        """Return `value` with every recognised secret replaced; the same object when there is none."""
        spans = list(self._spans(value, [(0, len(value))]))
        if not spans:
            return value
        numbers: dict[bytes, int] = {}
        highest = max((int(match[1]) for match in _MARKER.finditer(value)), default=0)
        # What stood glued to a secret may show as one itself once that is gone.
        for _ in range(_MAX_PASSES):
            parts: list[bytes] = []
            places: list[tuple[int, int]] = []
            done = size = 0
            for span in _merged(value, spans):
                number = numbers.setdefault(value[span.start : span.end], highest + len(numbers) + 1)
                marker = b"[REDACTED:%s:#%d]" % (span.kind, number)
                size += span.start - done
                places.append((size, size + len(marker)))
                size += len(marker)
                parts += (value[done : span.start], marker)
                done = span.end
            value = b"".join([*parts, value[done:]])
            spans = list(self._spans(value, _around(places, len(value))))
            if not spans:
                break
        return value

    def redact_text(self, value: str) -> str:
        """Return `value` redacted; surrogates, which stand for bytes that were not UTF-8, survive."""
        return self.redact(value.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def _spans(self, value: bytes, ranges: list[tuple[int, int]]) -> Iterator[_Span]:
        """Find secrets whose keyword lies in one of these ranges."""
        lowered = value.lower()
        for start, end in ranges:
            for rule in RULES:
                yield from _hits(value, lowered if rule.any_case else value, rule, start, end)
            for keyword, kind in GENERIC_NAMES:
                yield from _generic_hits(value, lowered, keyword, kind, start, end)
            for literal in self._literals:
                yield from _literal_hits(value, literal, start, end)
            if self._literals:
                for span in wrapped_hits(value, self._literals, start, end):
                    yield _Span(*span, b"env")


def _around(places: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """The stretches in which a pattern can reach one of these places."""
    ranges: list[tuple[int, int]] = []
    for start, end in places:
        start, end = max(0, start - _REACH), min(size, end + _REACH)
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))
    return ranges


def _hits(value: bytes, haystack: bytes, rule: Rule, at: int, end: int) -> Iterator[_Span]:
    while (keyword := rule.keyword.search(haystack, at, end)) is not None:
        match = rule.pattern.match(value, keyword.start())
        at = keyword.end()
        if match is not None:
            span = match.span("secret")
            at = max(at, span[1])
            if (rule.accept is None or rule.accept(match["secret"])) and _is_free(value, *span):
                yield _Span(*span, rule.kind)


def _generic_hits(
    value: bytes, lowered: bytes, keyword: Pattern[bytes], kind: bytes, at: int, end: int
) -> Iterator[_Span]:
    while (name := keyword.search(lowered, at, end)) is not None:
        span = generic_secret(value, *name.span())
        at = name.end()
        if span is not None:
            at = max(at, span[1])
            if _is_free(value, *span):
                yield _Span(*span, kind)


def _literal_hits(value: bytes, literal: bytes, at: int, end: int) -> Iterator[_Span]:
    while (start := value.find(literal, at, end)) >= 0:
        at = start + len(literal)
        run = _hex_run(value, start, at)
        is_part_of_id = run in _ID_LENGTHS and run != len(literal)
        if not is_part_of_id and not _inside_marker(value, start, at):
            yield _Span(start, at, b"env")


def _is_free(value: bytes, start: int, end: int) -> bool:
    return not _inside_id(value, start, end) and not _inside_marker(value, start, end)


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
    return _hex_run(value, start, end) in _ID_LENGTHS


def _hex_run(value: bytes, start: int, end: int) -> int:
    """The length of the run of hexadecimal digits that the span lies in, as far as it matters; 0 for none."""
    if not all(byte in _HEX for byte in value[start:end]):
        return 0
    left, right, limit = start, end, _ID_LENGTHS[-1]
    while left > 0 and value[left - 1] in _HEX and right - left <= limit:
        left -= 1
    while right < len(value) and value[right] in _HEX and right - left <= limit:
        right += 1
    return right - left


def _inside_marker(value: bytes, start: int, end: int) -> bool:
    """Whether the span is a marker that stands there already, or part of one."""
    opening = value.rfind(_MARKER_START, max(0, start - 48), start + len(_MARKER_START))
    match = _MARKER.match(value, opening) if opening >= 0 else None
    return match is not None and match.start() <= start and end <= match.end()
