"""The kinds of entries, as the tables of docs/format.md say them ("Kinds").

The page is parsed and becomes the checker: a type that the page does not define cannot be used in its table.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Check = Callable[[Any], bool]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "format.md"
_TOKENS = re.compile(r"\s*([A-Za-z][A-Za-z0-9_-]*|-?[0-9]+\.\.|[{}\[\]:,|?+])")


@dataclass(frozen=True)
class Kind:
    """One row: whether `run` stands (+, -, ~), who may sign, and the fields of the body."""

    run: str
    who: str
    fields: dict[str, Check]


def read_page(page: Path = PAGE) -> dict[str, Kind]:
    """Return the kinds that the page defines."""
    section = page.read_text().split("\n## Kinds\n")[1].split("\n## ")[0]
    rows = [_cells(line) for line in section.splitlines() if line.startswith("| ")]
    meanings = {
        name: meaning for names, meaning in (row for row in rows if len(row) == 2) for name in [names]
    }
    types = _Types(
        {name.strip("`"): _code(meaning)[-1] for name, meaning in meanings.items() if "`" in meaning}
    )
    types.step = ", ".join(_code(meanings["`step`"]))
    kinds = {}
    for row in rows:
        if len(row) == 4 and row[0].startswith("`"):
            fields = types.fields(", ".join(_code(row[3])))
            kinds[row[0].strip("`")] = Kind(row[1], row[2], fields)
    return kinds


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]*)`", cell)


def _is_hex(*lengths: int) -> Check:
    return lambda v: isinstance(v, str) and len(v) in lengths and re.fullmatch("[0-9a-f]*", v) is not None


def _is_base64(value: Any) -> bool:
    try:
        return isinstance(value, str) and base64.b64encode(base64.b64decode(value)).decode() == value
    except ValueError:
        return False


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_ascending(value: Any) -> bool:
    if not isinstance(value, list) or len(value) > 4096 or not all(map(_is_integer, value)):
        return False
    return all(low < high for low, high in zip([0, *value], value, strict=False))


_NAMED: dict[str, Check] = {
    "c": _is_hex(64),
    "digest": _is_hex(64),
    "oid": _is_hex(40, 64),
    "origin": lambda v: isinstance(v, str) and re.fullmatch(r"agentgov/[0-9a-f]{32}", v) is not None,
    "token": lambda v: (
        isinstance(v, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:/+-]{0,63}", v) is not None
    ),
    "base64": _is_base64,
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "integer": _is_integer,
    "ascending": _is_ascending,
}


class _Types:
    """Reads the language of types; `compound` holds the types that the page writes out."""

    def __init__(self, compound: dict[str, str]) -> None:
        self.compound = {name: text for name, text in compound.items() if text.startswith("{")}
        self.step = ""
        self._tokens: list[str] = []

    def fields(self, text: str) -> dict[str, Check]:
        """Read `name: type, ...`; the word `step` alone stands for its five fields."""
        text = re.sub(r"(?:^|(?<=, ))step(?=,|$)", self.step, text)
        saved, self._tokens = self._tokens, _TOKENS.findall(text)
        try:
            found = self._fields(end="")
        finally:
            self._tokens = saved
        return found

    def _fields(self, end: str) -> dict[str, Check]:
        found: dict[str, Check] = {}
        while self._tokens and self._tokens[0] != end:
            if found:
                self._take(",")
            name = self._tokens.pop(0)
            self._take(":")
            found[name] = self._type()
        return found

    def _take(self, token: str) -> bool:
        if not self._tokens or self._tokens.pop(0) != token:
            raise ValueError(f"the page's table lacks {token!r} before {self._tokens[:5]}")
        return True

    def _next(self, token: str) -> bool:
        return bool(self._tokens) and self._tokens[0] == token and self._take(token)

    def _type(self) -> Check:
        check = self._base()
        return (lambda v: v is None or check(v)) if self._next("?") else check

    def _base(self) -> Check:
        if self._next("["):
            item = self._type()
            self._take("]")
            lowest = 1 if self._next("+") else 0
            return lambda v: isinstance(v, list) and lowest <= len(v) <= 4096 and all(map(item, v))
        if self._next("{"):
            inner = self._fields(end="}")
            self._take("}")
            return _object(inner)
        word = self._tokens.pop(0)
        if word.endswith(".."):
            least = int(word[:-2])
            return lambda v: _is_integer(v) and v >= least
        if word in self.compound:
            return _object(self.fields(self.compound[word][1:-1]))
        if word in _NAMED:
            return _NAMED[word]
        words = [word]
        while self._next("|"):
            words.append(self._tokens.pop(0))
        return lambda v: isinstance(v, str) and v in words


def _object(fields: dict[str, Check]) -> Check:
    return lambda v: (
        isinstance(v, dict) and v.keys() == fields.keys() and all(fields[name](v[name]) for name in fields)
    )
