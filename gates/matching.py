"""Which rules an effect touches, at the places of one run."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from agentgov.gates.effect import Action, Effect
from agentgov.gates.patterns import PathSet, literal_of, mentions
from agentgov.gates.places import Places
from agentgov.gates.rules import OPAQUE, OUTSIDE, Rule


class RuleMatcher:
    """One rule with its paths made absolute."""

    def __init__(self, rule: Rule, places: Places) -> None:
        self.rule = rule
        self._places = places
        self._paths = PathSet([text for text in rule.paths if text != OUTSIDE], places)

    def keys(self, effect: Effect) -> list[str]:
        """The keys of the rule that the effect touches."""
        if effect.action not in self.rule.actions:
            return []
        if effect.action == "net.connect":
            return [f"{self.rule.id}: host {text}" for text in self.rule.hosts if _host_matches(text, effect)]
        if effect.action == "exec":
            found = [
                f"{self.rule.id}: program {text}"
                for text in self.rule.programs
                if _program_matches(text, effect)
            ]
            return found + [
                f"{self.rule.id}: fact {text}" for text in self.rule.facts if text in effect.facts
            ]
        return [f"{self.rule.id}: path {text}" for text in self._touched(effect)]

    def _touched(self, effect: Effect) -> Iterable[str]:
        # From above, a built-in rule counts only what is there, and only its removal or its reading.
        strict = self.rule.exact_only
        recursive = effect.recursive and not (strict and effect.action == "fs.write")
        touched = self._paths.touched(
            effect.names, recursive=recursive, look_inside=effect.action != "fs.read", must_exist=strict
        )
        if OUTSIDE in self.rule.paths and self._places.is_outside(effect.names[0]):
            return [*touched, OUTSIDE]
        return touched

    def mentioned(self, text: str) -> list[tuple[Action, str]]:
        """What of the rule an unreadable text mentions: (action, key) for every action it could be."""
        found: list[tuple[Action, str]] = []
        subjects = (("path", self.rule.paths), ("program", self.rule.programs), ("host", self.rule.hosts))
        for kind, patterns in subjects:
            for pattern in patterns:
                literal = literal_of(pattern) if kind != "program" else pattern
                if literal is None or literal.startswith("@") or not mentions(text, literal):
                    continue
                found += [
                    (action, f"{self.rule.id}: {kind} {pattern}")
                    for action in self.rule.actions
                    if _kind_of(action) == kind
                ]
        return found


def _kind_of(action: Action) -> str:
    return {"exec": "program", "net.connect": "host"}.get(action, "path")


def _host_matches(pattern: str, effect: Effect) -> bool:
    host, colon, port = pattern.lower().rpartition(":")
    if not colon or not port.isdigit():
        host, port = pattern.lower(), ""
    if port and str(effect.port) != port:
        return False
    return fnmatch.fnmatchcase(effect.host, host) or (host.startswith("*.") and effect.host == host[2:])


def _program_matches(pattern: str, effect: Effect) -> bool:
    if pattern == OPAQUE:
        return effect.opaque
    if effect.opaque or not effect.argv:
        return False
    wanted = pattern.split()
    program = effect.argv[0].rsplit("/", 1)[-1]
    if not (fnmatch.fnmatchcase(program, wanted[0]) or effect.argv[0] == wanted[0]):
        return False
    options = [word for word in wanted[1:] if word.startswith("-")]
    words = [word for word in wanted[1:] if not word.startswith("-")]
    return all(_has_option(option, effect.argv[1:]) for option in options) and _leads(words, effect.argv[1:])


def _has_option(option: str, argv: tuple[str, ...]) -> bool:
    for word in argv:
        if word == "--":
            return False
        if word == option or word.startswith(option + "="):
            return True
        if re.fullmatch(r"-\w", option) and re.fullmatch(r"-\w+", word) and option[1] in word:
            return True
    return False


def _leads(words: list[str], argv: tuple[str, ...]) -> bool:
    # The words must come first; options, and one word behind each that may be its value, are stepped over.
    rest = list(words)
    after_option = False
    for word in argv:
        if not rest:
            return True
        if word.startswith("-"):
            after_option = "=" not in word
        elif fnmatch.fnmatchcase(word, rest[0]):
            rest.pop(0)
            after_option = False
        elif after_option:
            after_option = False
        else:
            return False
    return not rest
