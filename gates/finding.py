"""What `find` and `fd` would act on: the files their tests select, as far as these can be read."""

# Paths are text here: "..", links and a last slash must stay as they were written.
# ruff: noqa: PTH118, PTH119
from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence

from agentgov.gates.patterns import UNKNOWN, walk_below
from agentgov.gates.scope import MAX_EXPANSION, Scope, Word, plain

_LOOK_LIMIT = 5_000
_NAME_TESTS = {"-name", "-iname", "-path", "-wholename", "-ipath"}
_VALUE_TESTS = {
    "-type", "-mtime", "-mmin", "-size", "-maxdepth", "-mindepth", "-newer", "-user", "-group", "-perm",
    "-atime", "-ctime",
    "-amin", "-cmin", "-xtype", "-links", "-newermt", "-fstype", "-regextype",
}  # fmt: skip
_WIDENING = {"-o", "-or", "!", "-not", ",", "(", "-regex", "-iregex"}
_ACTIONS = {"-exec", "-execdir", "-ok", "-okdir", "-delete", "-fprint", "-fprint0", "-fls", "-fprintf"}


def is_find(argv: Sequence[Word]) -> bool:
    """True when the words run `find`."""
    return bool(argv) and argv[0][0].rsplit("/", 1)[-1] in ("find", "gfind")


def roots_of(argv: Sequence[Word]) -> tuple[list[Word], list[Word]]:
    """The starting points of a find, and the words of its expression."""
    index = 1
    while (index < len(argv) and argv[index][0] in ("-H", "-L", "-P", "-D")) or (
        index < len(argv) and argv[index][0].startswith("-O")
    ):
        index += 1
    start = index
    while index < len(argv) and not argv[index][0].startswith(("-", "(", "!", ",")):
        index += 1
    return list(argv[start:index]) or [(".",)], list(argv[index:])


def selected_by(argv: Sequence[Word], scope: Scope) -> list[tuple[Word, bool]]:
    """What a find selects: (path, recursive).

    With plain name tests the existing files are looked up, so that removing `*.pyc` is not taken for removing
    everything; any
    test that could widen the selection, and a tree too large to look through, gives the starting points
    themselves.
    """
    roots, expression = roots_of(argv)
    whole = [(root, True) for root in roots]
    names: list[tuple[str, str]] = []
    index = 0
    while index < len(expression):
        word = plain(expression[index][0])
        if word in _WIDENING:
            return whole
        if word in _ACTIONS:
            break
        if word in _NAME_TESTS and index + 1 < len(expression):
            if len(expression[index + 1]) != 1 or UNKNOWN in expression[index + 1][0]:
                return whole
            names.append((word, plain(expression[index + 1][0])))
            index += 1
        elif word in _VALUE_TESTS:
            index += 1
        index += 1
    if not names:
        return whole
    found: list[tuple[Word, bool]] = []
    seen = 0
    for root in roots:
        for value in root:
            for start, _ in scope.expand(value):
                for path in (start, *walk_below(start)):
                    seen += 1
                    if seen > _LOOK_LIMIT:
                        return whole
                    shown = os.path.join(value, os.path.relpath(path, start))
                    if all(_selects(test, glob, path, shown) for test, glob in names):
                        found.append(((path,), True))
    return found if len(found) <= MAX_EXPANSION else whole


def _selects(test: str, glob: str, path: str, shown: str) -> bool:
    subject = shown if "path" in test or "whole" in test else os.path.basename(path)
    if test.startswith("-i"):
        subject, glob = subject.lower(), glob.lower()
    return fnmatch.fnmatchcase(subject, glob)


def listed_by(argv: Sequence[Word], scope: Scope) -> tuple[str, ...]:
    """The paths a find prints, as far as they can be known."""
    return tuple(value for word, _ in selected_by(argv, scope) for value in word)
