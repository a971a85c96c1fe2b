"""The options and arguments of a command, told apart the way most programs do.

Rule kept here: an option that is not known counts as a flag, so that what follows is judged as an argument.
"""

from __future__ import annotations

from collections.abc import Iterable

from agentgov.gates.scope import Word


def positional(words: Iterable[Word], with_value: set[str]) -> list[Word]:
    """The arguments that are not options, nor the value of one that takes a value."""
    found: list[Word] = []
    skip = only_plain = False
    for word in words:
        value = word[0]
        if skip:
            skip = False
        elif only_plain or not value.startswith("-") or value == "-":
            found.append(word)
        elif value == "--":
            only_plain = True
        else:
            skip = value in with_value
    return found


def has(words: Iterable[Word], short: str, *long: str) -> bool:
    """True when an option is given: one of the letters in a cluster, or a long name."""
    for word in words:
        value = word[0]
        if value == "--":
            return False
        if value.startswith("--"):
            if value.split("=")[0] in long:
                return True
        elif value.startswith("-") and any(letter in value[1:] for letter in short):
            return True
    return False


def option_value(words: list[Word], *names: str) -> Word | None:
    """The value of an option, attached or not; None when it is not given."""
    for index, word in enumerate(words):
        value = word[0]
        if value in names and index + 1 < len(words):
            return words[index + 1]
        for name in names:
            if name.startswith("--") and value.startswith(name + "="):
                return (value[len(name) + 1 :],)
            if len(name) == 2 and value.startswith(name) and len(value) > 2 and not value.startswith("--"):
                return (value[2:],)
    return None
