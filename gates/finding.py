"""What `find` and `fd` would act on: the files their tests select, as far as these can be read."""

# Paths are text here: "..", links and a last slash must stay as they were written.
# ruff: noqa: PTH118, PTH119
from __future__ import annotations

import fnmatch
import itertools
import os
import stat
from collections.abc import Sequence

from agentgov.gates.patterns import UNKNOWN, walk_below
from agentgov.gates.scope import MAX_EXPANSION, Scope, Word, plain

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
    everything; any test that could widen the selection gives the starting points themselves, and a tree too
    large to look through something below them.
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
        if word == "-empty":
            names.append((word, ""))
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
    for root in roots:
        for value in root:
            for start, _ in scope.expand(value):
                for path in itertools.chain((start,), walk_below(start)):
                    scope.looks[0] -= 1
                    if scope.looks[0] < 0 or len(found) > MAX_EXPANSION:
                        return [
                            (tuple(f"{item.rstrip('/')}/{UNKNOWN}" for item in word), True) for word in roots
                        ]
                    if all(_selects(test, glob, path, value, start) for test, glob in names):
                        found.append(((path,), ("-empty", "") not in names))
    return found


def _selects(test: str, glob: str, path: str, value: str, start: str) -> bool:
    if test == "-empty":
        return _is_empty(path)
    is_whole = "path" in test or "whole" in test
    subject = os.path.join(value, os.path.relpath(path, start)) if is_whole else os.path.basename(path)
    if test.startswith("-i"):
        subject, glob = subject.lower(), glob.lower()
    return fnmatch.fnmatchcase(subject, glob)


def _is_empty(path: str) -> bool:
    try:
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(path) as listing:
                return next(listing, None) is None
        return stat.S_ISREG(status.st_mode) and status.st_size == 0
    except OSError:
        return False


def listed_by(argv: Sequence[Word], scope: Scope) -> tuple[tuple[str, ...], bool]:
    """The paths a find prints, as far as they can be known, and whether they were looked up."""
    selected = selected_by(argv, scope)
    roots = roots_of(argv)[0]
    return tuple(value for word, _ in selected for value in word), not any(
        word in roots for word, _ in selected
    )
