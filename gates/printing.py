"""What a few programs print, as far as it can be known without running them."""

from __future__ import annotations

import base64
import re

from agentgov.gates.scope import Scope, is_known, plain

_SIMPLE_PATTERN = re.compile(r"\^?(?:[\w/ -]|\\\.|\.)*\$?")


def filtered(words: tuple[str, ...], pattern: str, *, inverted: bool) -> tuple[str, ...]:
    """The words that `grep` lets through."""
    # Only patterns that cannot take long; any other keeps every word.
    if not _SIMPLE_PATTERN.fullmatch(pattern):
        return words
    return tuple(
        word for word in words if (re.search(pattern, word) is None) == inverted or not is_known(word)
    )


def listed(value: str, scope: Scope) -> list[str]:
    """The names that `ls` shows for an argument."""
    # As `ls` shows them: from the folder it runs in.
    if value == plain(value):
        return [value]
    start = f"{scope.folders[0].rstrip('/')}/"
    return [path.removeprefix(start) for path, is_exact in scope.expand(value) if is_exact]


def decoded(text: str) -> str | None:
    """What `base64 -d` makes of a text; None when it is no text."""
    try:
        return base64.b64decode(text, validate=False).decode("utf-8")
    except ValueError:
        return None
