"""One pattern for the whole canonical line of each kind of entry: the quick way to read a line.

Rules this module keeps:
    * A pattern matches only lines that the slow way (`canonical.decode`, then `bodies.check_body`) accepts,
      but for what no pattern can say: the relations between fields, which `entry.parse_entry` checks.
    * A line that does not match is not wrong: the slow way decides, and names what is wrong.
    * Patterns are made from the table of kinds, so that the form is written down once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from agentgov.ledger.bodies import KINDS
from agentgov.ledger.fields import DIGEST, NUMBER, ORIGIN, Read

# Numbers up to 2^53, which the pattern of numbers up to 10^15 would miss: the time has 16 digits.
_TIME: Final = f"(?:[1-8][0-9]{{15}}|{NUMBER})"
_RUN_ID: Final = "[0-9a-hjkmnp-tv-z]{5}"
_RUN: Final = {"set": f'"({_RUN_ID})"', "null": "null()", "any": f'(?:null|"({_RUN_ID})")'}


@dataclass(frozen=True, slots=True)
class LineForm:
    """How lines of one kind are read.

    The pattern's groups are the fields of the body in their order, then `key`, `log`, `prev`, `run`, `seq`
    and `ts`. A group without a match, or an empty one for `run`, stands for null.

    Attributes:
        kind: The kind.
        pattern: Matches a whole line, as text.
        names: The fields of the body, sorted.
        reads: Those whose group is not yet the value, with what makes it.
    """

    kind: str
    pattern: re.Pattern[str]
    names: tuple[str, ...]
    reads: tuple[tuple[str, Read], ...]


@lru_cache(maxsize=len(KINDS))
def form_of(kind: str) -> LineForm:
    """Return the form of a kind.

    Raises:
        KeyError: When there is no such kind; the caller has looked.
    """
    fields = KINDS[kind].fields
    names = tuple(sorted(fields))
    body = ",".join(f'"{name}":{fields[name].group}' for name in names)
    reads = tuple((name, read) for name in names if (read := fields[name].read) is not None)
    return LineForm(kind, re.compile(rf'\{{"body":\{{{body}{_rest(kind)}'), names, reads)


@lru_cache(maxsize=len(KINDS))
def body_of(
    kind: str, names: tuple[str, ...], loose: tuple[str, ...] = (), upto: str = ""
) -> re.Pattern[str]:
    """Return what a line of a kind begins with: its body, without the brace that closes it.

    Args:
        kind: The kind.
        names: The fields that are groups.
        loose: Those of them of which the caller compares the text with one that is known to be right: any
            text without a quotation mark or a bracket is matched there.
        upto: The field whose value is left out, with those after it.
    """
    fields = KINDS[kind].fields
    parts = []
    for name in sorted(fields):
        field = fields[name]
        if name == upto:
            parts.append(f'"{name}":')
            break
        text = field.group if name in names else field.pattern
        if name in loose:
            text = {'"': '"([^"]*)"', "[": r"\[([^\]]*)\]"}.get(field.group.lstrip("\\")[0], "([0-9]*)")
        parts.append(f'"{name}":{text}')
    return re.compile(rf'\{{"body":\{{{",".join(parts)}')


@lru_cache(maxsize=len(KINDS))
def end_of(kind: str) -> re.Pattern[str]:
    """Return what a line of a kind ends with: the brace that closes its body, and what follows."""
    return re.compile(_rest(kind))


def _rest(kind: str) -> str:
    """The pattern of what follows the fields of the body."""
    return (
        rf'\}},"key":({NUMBER}),"kind":"{re.escape(kind)}","log":{ORIGIN.group},'
        rf'"prev":{DIGEST.group},"run":{_RUN[KINDS[kind].run]},"seq":({NUMBER}),"ts":({_TIME}),"v":1\}}'
    )
