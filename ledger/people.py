"""Who a key belongs to, and whether what it signed in a record still counts.

Rules kept here:

- Persons come from the trust file (ssh-keygen(1), ALLOWED SIGNERS) and from `.agentgov/revoked`, both read
  from the protected branch by the caller; nothing here reads a file.
- One person is everybody whom a chain of lines that share a name or a key joins: neither a second key nor a
  second address makes a second person.
- A line that is not understood, that is for certificates or for another namespace gives nobody trust. A
  pattern names nobody: a person has to be counted, so a person has to be named. Nor does a name that could
  not stand in the file of revoked keys: a person has to be revocable.
- A key is asked about by its bytes, a place by record and entry number. The dates of a line say nothing here:
  a record's times are its writer's claim. Who goes is revoked, and a revocation has places.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from agentgov.errors import AgentgovError, ConfigError
from agentgov.ledger.revocation import FrozenHead, Revocation, frozen_heads, is_name, parse_revoked
from agentgov.ledger.sshkey import SshPublicKey, parse_public_key
from agentgov.ledger.sshsig import NAMESPACE

MAX_CHARS: Final = 4 * 1024 * 1024
MAX_LINE_CHARS: Final = 8192
Standing = Literal["member", "since left", "revoked"]

# The principals, in quotes if they hold a space; then whatever else.
_split_names = re.compile(r'[ \t]*(?:"([^"]*)"|([^ \t"]+))[ \t]+(.*)').fullmatch
_is_key_type = re.compile(r"(?:sk-)?(?:ssh|ecdsa)-[a-zA-Z0-9@.-]+").match
_OPTION = re.compile(r'([a-zA-Z][a-zA-Z-]*)(?:="([^"]*)")?(?:,|(?=[ \t])|$)')


@dataclass(frozen=True, slots=True)
class TrustLine:
    """One line of the trust file that was understood.

    Attributes:
        number: Its place, from 1.
        names: The principals that are names, not patterns.
        key: The key.
        is_usable: Whether it lets this key sign what agentgov asks people to sign.
        valid_before: The date after which ssh-keygen refuses the key; None when there is none.
    """

    number: int
    names: tuple[str, ...]
    key: SshPublicKey
    is_usable: bool
    valid_before: str | None


@dataclass(frozen=True)
class People:
    """The persons of one state of the protected branch.

    Attributes:
        lines: The lines of the trust file that were understood.
        problems: The others, for people: where, and what is wrong.
        revocations: The blocks of `.agentgov/revoked`.
    """

    lines: tuple[TrustLine, ...] = ()
    problems: tuple[str, ...] = ()
    revocations: tuple[Revocation, ...] = ()

    @classmethod
    def parse(cls, allowed_signers: str, revoked: str | None = None) -> People:
        """Read the trust file and the file of revoked keys.

        Raises:
            ConfigError: AG0421, when the file of revoked keys is not understood; AG0422, when the trust file
                is too large.
        """
        if len(allowed_signers) > MAX_CHARS:
            raise ConfigError("the trust file is too large", id="AG0422", where=".agentgov/allowed_signers")
        lines, problems = [], []
        for number, line in enumerate(allowed_signers.split("\n"), 1):
            if not line.strip(" \t\r") or line.lstrip(" \t").startswith("#"):
                continue
            try:
                lines.append(_parse_line(number, line.removesuffix("\r")))
            except AgentgovError as error:
                problems.append(f"line {number}: {error.message}")
        return cls(tuple(lines), tuple(problems), () if revoked is None else parse_revoked(revoked))

    def principal(self, key: SshPublicKey) -> str | None:
        """Return the one name of the person whose key this is, revoked or not; None for a stranger's.

        A key whose line is gone from the trust file is still known by the file of revoked keys.
        """
        for line in self._by_key.get(key.fingerprint, ()):
            if line.is_usable and line.names:
                return self.person_of(line.names[0])
        for revocation in self.revocations:
            if key.fingerprint in revocation.fingerprints:
                return self.person_of(revocation.name)
        return None

    def standing(self, signer: SshPublicKey | str, log: str, seq: int) -> Standing:
        """Tell what a signature in entry `seq` of a record is worth.

        Args:
            signer: The key that signed; or a principal, for whom the strictest of their keys decides.
            log: The record's origin.
            seq: The entry that holds the signature.

        Returns:
            "member" when nobody revoked it; "since left" when it was revoked and stands below the frozen
            head; "revoked" when it counts for nothing.
        """
        found = self.revocations_of(signer)
        if not found:
            return "member"
        return "since left" if all(seq < revocation.size_in(log) for revocation in found) else "revoked"

    def revocations_of(self, signer: SshPublicKey | str) -> list[Revocation]:
        """Return the revocations that hit a key, or any key of a principal."""
        if isinstance(signer, str):
            person = self.person_of(signer)
            return [r for r in self.revocations if self.person_of(r.name) == person]
        name = self.principal(signer)
        return [
            r
            for r in self.revocations
            if signer.fingerprint in r.fingerprints
            or (r.scope == "person" and name is not None and self.person_of(r.name) == name)
        ]

    def frozen_heads(self, log: str) -> tuple[FrozenHead, ...]:
        """Return every head at which this record was frozen: the record must go through all of them."""
        return frozen_heads(self.revocations, log)

    def person_of(self, name: str) -> str:
        """Return the one name under which all names of a person are counted.

        Names compare without case, and without the differences that Unicode makes between spellings.
        """
        return self._persons.get(_folded(name), name)

    def names_of(self, person: str) -> list[str]:
        """Return every name of a person, in the order of the trust file."""
        wanted = self.person_of(person)
        names = [name for line in self.lines for name in line.names if self.person_of(name) == wanted]
        return list(dict.fromkeys(names))

    def lines_of(self, person: str) -> list[TrustLine]:
        """Return the lines of the trust file that give a person a key."""
        wanted = self.person_of(person)
        return [line for line in self.lines if any(self.person_of(name) == wanted for name in line.names)]

    def persons(self) -> list[str]:
        """Return the persons of the trust file, then those who are named as revoked only."""
        names = [name for line in self.lines for name in line.names]
        names += [revocation.name for revocation in self.revocations]
        return list(dict.fromkeys(map(self.person_of, names)))

    @cached_property
    def _by_key(self) -> dict[str, list[TrustLine]]:
        found: dict[str, list[TrustLine]] = {}
        for line in self.lines:
            found.setdefault(line.key.fingerprint, []).append(line)
        return found

    @cached_property
    def _persons(self) -> dict[str, str]:
        """Every name, without case, to the first name of its person in the file."""
        groups: list[tuple[Sequence[str], Sequence[str]]] = []
        groups += [(line.names, (line.key.fingerprint,)) for line in self.lines]
        groups += [((revocation.name,), revocation.fingerprints) for revocation in self.revocations]
        return join_persons(groups)


def join_persons(groups: Iterable[tuple[Sequence[str], Sequence[str]]]) -> dict[str, str]:
    """Join names that share a key, and keys that share a name.

    Args:
        groups: Names and key fingerprints that belong together, in order.

    Returns:
        Every name, without case, to the first name of its person.
    """
    leaders: dict[str, str] = {}

    def leader(item: str) -> str:
        while leaders.setdefault(item, item) != item:
            leaders[item] = item = leaders[leaders[item]]
        return item

    shown: dict[str, str] = {}
    for names, keys in groups:
        items = [_folded(name) for name in names]
        for item, name in zip(items, names, strict=True):
            shown.setdefault(item, name)
        # A fingerprint holds a capital, which no name without case does: the two cannot meet.
        for item in (*items[1:], *keys):
            if items:
                leaders[leader(item)] = leader(items[0])
    first: dict[str, str] = {}
    for item, name in shown.items():
        first.setdefault(leader(item), name)
    return {item: first[leader(item)] for item in shown}


def _folded(name: str) -> str:
    # Two spellings that look the same would be two persons: Unicode, section 3.13 (D146), and its annex 15.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _parse_line(number: int, line: str) -> TrustLine:
    """Read one line as ssh-keygen does: principals, perhaps options, then the key."""
    found = None if len(line) > MAX_LINE_CHARS else _split_names(line)
    if found is None:
        raise _wrong("it is no line of principals and a key")
    written = [name for name in (found[1] or found[2] or "").split(",") if name]
    if not all(map(is_name, written)):
        raise _wrong("a name in it is too long, or cannot be printed")
    names = tuple(name for name in written if not set(name) & set("*?!"))
    options, rest = _options(found[3])
    key = parse_public_key(rest)
    namespaces = options.get("namespaces")
    usable = (
        "cert-authority" not in options
        and "-cert-v" not in key.algorithm
        and (namespaces is None or matches_list(NAMESPACE, namespaces))
    )
    return TrustLine(number, names, key, usable, options.get("valid-before"))


def _options(text: str) -> tuple[dict[str, str], str]:
    found: dict[str, str] = {}
    place = 0
    while _is_key_type(text, place) is None:
        match = _OPTION.match(text, place)
        name = None if match is None else match[1].lower()
        if match is None or name is None or name in found:
            raise _wrong("it is no line of principals and a key")
        value = match[2]
        if (value is None) != (name == "cert-authority") or name not in _KNOWN_OPTIONS:
            raise _wrong("an option is not known")
        found[name] = value or ""
        place = match.end()
        if text[place - 1 : place] != ",":
            # The end of the options: the key follows.
            return found, text[place:]
    return found, text[place:]


_KNOWN_OPTIONS: Final = frozenset({"cert-authority", "namespaces", "valid-after", "valid-before"})


def matches_list(text: str, patterns: str) -> bool:
    """Tell whether a list of patterns lets a text in (ssh_config(5), PATTERNS): a negated match refuses."""
    is_in = False
    for item in patterns.split(","):
        if _matches(text, item.removeprefix("!")):
            if item.startswith("!"):
                return False
            is_in = True
    return is_in


def _matches(text: str, pattern: str) -> bool:
    """Match `*` and `?`; no regular expression, whose time many stars would multiply."""
    at = place = 0
    star, resume = -1, 0
    while at < len(text):
        # The star first: a text may hold one too.
        if place < len(pattern) and pattern[place] == "*":
            star, resume, place = place, at, place + 1
        elif place < len(pattern) and pattern[place] in ("?", text[at]):
            at, place = at + 1, place + 1
        elif star >= 0:
            resume += 1
            at, place = resume, star + 1
        else:
            return False
    return not pattern[place:].strip("*")


def _wrong(what: str) -> ConfigError:
    return ConfigError(what, id="AG0422")
