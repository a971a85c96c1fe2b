"""The rules of `[[policy.rule]]`: what a table may say, and what it means.

Rules kept here:
- A key that is not known, a value of another type, an unknown set, a duplicate id is an error with the line
  of the rule.
- Each kind of action needs its own subject: `fs.*` needs paths, `exec` programs, `net.connect` hosts. A rule
  for everything says
  so with `**` or `*`; nothing is meant by leaving it out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from agentgov.calls import Decision
from agentgov.errors import ConfigError
from agentgov.gates.effect import ACTIONS, Action
from agentgov.text import printable

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KEYS = frozenset({"id", "effect", "action", "paths", "programs", "hosts", "reason", "match", "not_match"})
_LISTS = ("paths", "programs", "hosts", "match", "not_match")
OUTSIDE = "@outside"
OPAQUE = "@opaque"
BUILTIN_PREFIX = "builtin-"


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        effect: what happens when it matches.
        paths: globs, sets already put in their place.
        programs: a program and the words that must follow, such as "git push".
        hosts: globs, with a port if one is meant.
        facts: for built-in rules: facts about an exec.
        where: file and line, or the name of the built-in set.
        exact_only: judge only effects that were read, not inferred.
    """

    id: str
    effect: Decision
    actions: tuple[Action, ...]
    paths: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    reason: str = ""
    match: tuple[str, ...] = ()
    not_match: tuple[str, ...] = ()
    where: str = ""
    exact_only: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """What this rule looks for, as the compiled policy names it."""
        found = [f"path {text}" for text in self.paths] + [f"program {text}" for text in self.programs]
        found += [f"host {text}" for text in self.hosts] + [f"fact {text}" for text in self.facts]
        return tuple(f"{self.id}: {text}" for text in found)


def parse_rules(
    raw_rules: Sequence[Mapping[str, Any]],
    sets: Mapping[str, Sequence[str]],
    *,
    lines: Sequence[int],
    where: str,
    label: str = "",
) -> tuple[Rule, ...]:
    """Gives raw tables their meaning.

    Args:
        raw_rules: the tables, in the order of the file.
        sets: the `[paths]` table and the built-in sets.
        lines: the line of each rule's header.
        where: the file's name.
        label: what stands behind the line, such as " on main".

    Raises:
        ConfigError: AG0100.
    """
    rules: list[Rule] = []
    for number, raw_rule in enumerate(raw_rules):
        place = f"{where}:{lines[number]}" if number < len(lines) else where
        rule = _parse_rule(raw_rule, sets, place, place + label)
        if rule.id in {earlier.id for earlier in rules}:
            raise _error(f"two rules are called {rule.id}", place)
        rules.append(rule)
    return tuple(rules)


def _error(message: str, where: str) -> ConfigError:
    return ConfigError(
        printable(message, limit=300),
        id="AG0100",
        where=where,
        hint="see .agentgov.toml.example for the forms of a rule",
    )


def _parse_rule(raw: Mapping[str, Any], sets: Mapping[str, Sequence[str]], place: str, where: str) -> Rule:
    unknown = sorted(set(raw) - _KEYS)
    if unknown:
        raise _error(f"a rule has no key {unknown[0]!a}; known are {', '.join(sorted(_KEYS))}", place)
    name = raw.get("id")
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise _error("a rule needs an id of lower-case letters, digits, '.', '-' and '_'", place)
    if name.startswith(BUILTIN_PREFIX) or name == "baseline":
        raise _error(f"{name}: ids that start with {BUILTIN_PREFIX} are taken", place)
    effect = raw.get("effect")
    if effect not in ("deny", "ask", "allow"):
        raise _error(f'{name}: effect must be "deny", "ask" or "allow"', place)
    lists = {key: _strings(raw.get(key, []), f"{name}: {key}", place) for key in _LISTS}
    reason = raw.get("reason", "")
    if not isinstance(reason, str):
        raise _error(f"{name}: reason must be text", place)
    rule = Rule(
        id=name,
        effect=cast("Decision", effect),
        actions=_actions(raw, lists, name, place),
        paths=_resolve(lists["paths"], sets, name, place),
        programs=lists["programs"],
        hosts=lists["hosts"],
        reason=reason,
        match=lists["match"],
        not_match=lists["not_match"],
        where=where,
    )
    _check_subjects(rule, place)
    return rule


def _strings(value: object, what: str, place: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(item, str) and item.strip() and "\x00" not in item for item in value
    ):
        raise _error(f"{what} must be a list of texts that are not empty", place)
    return tuple(cast("Sequence[str]", value))


def _actions(
    raw: Mapping[str, Any], lists: Mapping[str, tuple[str, ...]], name: str, place: str
) -> tuple[Action, ...]:
    value = raw.get("action")
    if value is None:
        derived = [action for key, action in (("programs", "exec"), ("hosts", "net.connect")) if lists[key]]
        if lists["paths"] or not derived:
            raise _error(f"{name}: action is missing; it is a list of {', '.join(ACTIONS)}", place)
        return tuple(cast("list[Action]", derived))
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, (list, tuple)) or not given or not all(item in ACTIONS for item in given):
        raise _error(f"{name}: action must be a list of {', '.join(ACTIONS)}", place)
    return tuple(dict.fromkeys(given))


def _resolve(
    texts: Sequence[str], sets: Mapping[str, Sequence[str]], name: str, place: str
) -> tuple[str, ...]:
    found: list[str] = []
    for text in texts:
        if text == OUTSIDE or not text.startswith("@"):
            found.append(text)
        elif text[1:] in sets:
            found += sets[text[1:]]
        else:
            raise _error(f"{name}: there is no set of paths called {text[1:]!a} in [paths]", place)
    for text in found:
        if ".." in text.removeprefix("!").split("/"):
            raise _error(f"{name}: a path of a rule cannot contain '..': {text!a}", place)
    return tuple(dict.fromkeys(found))


def _check_subjects(rule: Rule, place: str) -> None:
    needs = {
        "paths": (
            rule.paths,
            any(action.startswith("fs.") for action in rule.actions),
            "fs.read, fs.write or fs.delete",
        ),
        "programs": (rule.programs, "exec" in rule.actions, "exec"),
        "hosts": (rule.hosts, "net.connect" in rule.actions, "net.connect"),
    }
    for key, (given, wanted, actions) in needs.items():
        if wanted and not given:
            raise _error(f"{rule.id}: an action on {actions} needs {key}", place)
        if given and not wanted:
            raise _error(f"{rule.id}: {key} have no effect without the action {actions}", place)
    if rule.paths and all(text.startswith("!") for text in rule.paths):
        raise _error(f"{rule.id}: paths only takes away (every one starts with '!')", place)
