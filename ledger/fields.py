"""What a field of a body may hold, said twice: as a check of a value, and as a pattern of its canonical text.

Rules this module keeps:
    * The check decides. The pattern is the quick way: it matches only text that is the canonical form of a
      value that the check accepts, so that one match of a whole line stands for parsing, checking and
      printing it again. What it does not match is parsed.
    * One exception is said with it: ascending lists are matched as lists of numbers, and `is_ascending` is
      asked for each.
    * Patterns match in linear time: no two neighbouring repetitions may take the same character.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from agentgov.ids import is_token

Check = Callable[[Any], bool]
Read = Callable[[str], Any]
MAX_LIST: Final = 4096

NUMBER: Final = r"(?:0|[1-9][0-9]{0,14})"
"""A number from 0 to 10^15 - 1: of those up to 2^53 all but a few, and no others."""
_HEX_64: Final = "[0-9a-f]{64}"
_OID: Final = "[0-9a-f]{40}(?:[0-9a-f]{24})?"
_TOKEN: Final = "[A-Za-z0-9][A-Za-z0-9_.:/+-]{0,63}"  # noqa: S105 - a pattern, not a password
_ORIGIN: Final = "agentgov/[0-9a-f]{32}"
_BASE64: Final = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
# Text that needs no escape; text that does is left to the parser.
_PLAIN: Final = r"[ !#-\[\]-~]*"
_parse: Read = json.JSONDecoder().decode


@dataclass(frozen=True, slots=True)
class Field:
    """What a field may hold.

    Attributes:
        check: Tells whether a value is allowed.
        pattern: Matches its canonical text; has no group.
        group: The same with one group, which holds what `read` takes, or nothing for null.
        read: Makes the value of what the group holds; None when that is the value.
    """

    check: Check
    pattern: str
    group: str
    read: Read | None = None


def text_of(pattern: str) -> Field:
    """A string that matches; the pattern has no group, and no character that JSON escapes."""
    matches = re.compile(pattern).fullmatch
    return Field(
        lambda value: type(value) is str and matches(value) is not None, f'"{pattern}"', f'"({pattern})"'
    )


def number(lowest: int) -> Field:
    """An integer from -1, 0 or 1 on."""
    pattern = {-1: f"(?:-1|{NUMBER})", 0: NUMBER, 1: "[1-9][0-9]{0,14}"}[lowest]
    return Field(lambda value: type(value) is int and value >= lowest, pattern, f"({pattern})", int)


def one_of(*names: str) -> Field:
    """One of these strings."""
    either = "|".join(map(re.escape, names))
    return Field(lambda value: type(value) is str and value in names, f'"(?:{either})"', f'"({either})"')


def maybe(field: Field) -> Field:
    """What the field allows, or null."""
    check = field.check
    return Field(
        lambda value: value is None or check(value),
        f"(?:null|{field.pattern})",
        f"(?:null|{field.group})",
        field.read,
    )


def record(**fields: Field) -> Field:
    """An object with exactly these fields."""
    inner = ",".join(f'"{name}":{fields[name].pattern}' for name in sorted(fields))
    pattern = rf"\{{{inner}\}}"
    checks = {name: field.check for name, field in fields.items()}
    # The fields of a line are sorted, those of a draft are not.
    return Field(
        lambda value: (
            type(value) is dict
            and value.keys() == checks.keys()
            and all(check(value[name]) for name, check in checks.items())
        ),
        pattern,
        f"({pattern})",
        _parse,
    )


def list_of(field: Field, *, lowest: int = 0) -> Field:
    """A list of up to `MAX_LIST` items, and at least so many."""
    check, item = field.check, field.pattern
    inner = f"{item}(?:,{item}){{0,{MAX_LIST - 1}}}"
    pattern = rf"\[{inner}\]" if lowest else rf"\[(?:{inner})?\]"
    return Field(
        lambda value: type(value) is list and lowest <= len(value) <= MAX_LIST and all(map(check, value)),
        pattern,
        f"({pattern})",
        _parse,
    )


def is_ascending(value: Any) -> bool:
    """Tell whether a value is a list of at most `MAX_LIST` integers from 1, each larger than the last."""
    if type(value) is not list or len(value) > MAX_LIST or any(type(n) is not int for n in value):
        return False
    return all(a < b for a, b in zip([0, *value], value, strict=False))


def _is_integer(value: Any) -> bool:
    return type(value) is int


DIGEST: Final = text_of(_HEX_64)
OID: Final = text_of(_OID)
TOKEN: Final = Field(lambda value: type(value) is str and is_token(value), f'"{_TOKEN}"', f'"({_TOKEN})"')
ORIGIN: Final = text_of(_ORIGIN)
BASE64: Final = text_of(_BASE64)
TEXT: Final = Field(lambda value: type(value) is str, f'"{_PLAIN}"', f'"({_PLAIN})"')
BOOLEAN: Final = Field(
    lambda value: type(value) is bool, "(?:true|false)", "(true|false)", lambda raw: raw == "true"
)
INTEGER: Final = Field(_is_integer, "(?:-?[1-9][0-9]{0,14}|0)", "(-?[1-9][0-9]{0,14}|0)", int)
ASCENDING: Final = Field(
    is_ascending,
    rf"\[(?:{NUMBER}(?:,{NUMBER}){{0,{MAX_LIST - 1}}})?\]",
    rf"\[((?:{NUMBER}(?:,{NUMBER}){{0,{MAX_LIST - 1}}})?)\]",
    lambda raw: [int(item) for item in raw.split(",")] if raw else [],
)
