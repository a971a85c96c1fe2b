"""One thing a call would do to the world, whatever tool does it.

Rule kept here: an effect says how sure it is. `exact` is False where it was inferred (a whole-tree git
command, words taken from
a pipe, a script that was read); built-in rules judge inexact effects only where a mistake would cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Action = Literal["fs.read", "fs.write", "fs.delete", "net.connect", "exec"]
ACTIONS: tuple[Action, ...] = ("fs.read", "fs.write", "fs.delete", "net.connect", "exec")


@dataclass(frozen=True, slots=True)
class Effect:
    """What would happen.

    Attributes:
        action: the kind of effect.
        names: for fs.*: every absolute name of the path: the one acted on, the one written, then others.
        recursive: everything below the path is meant as well.
        exact: False when inferred rather than read.
        argv: for exec: the program and its arguments, wrappers taken off.
        host: for net.connect, lower case, without port.
        port: for net.connect; 0 when unknown.
        opaque: what this would do cannot be read.
        facts: what is known of an exec beyond its words ("force-push").
        text: the raw text an opaque effect came from.
    """

    action: Action
    names: tuple[str, ...] = ()
    recursive: bool = False
    exact: bool = True
    argv: tuple[str, ...] = ()
    host: str = ""
    port: int = 0
    opaque: bool = False
    facts: frozenset[str] = frozenset()
    text: str = ""


def names(*texts: str) -> frozenset[str]:
    """A set of the names in texts, apart by blanks."""
    return frozenset(name for text in texts for name in text.split())
