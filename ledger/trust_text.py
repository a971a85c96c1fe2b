"""Changes to the text of a trust file: a key more, or one that counts no more; the rest stays as it is.

Rules kept here:

- A key is added for agentgov's own namespace only: to trust somebody's commits is another decision.
- A key belongs to one person. One that is another's already is refused: it would make one person of two.
- A line that is left behind by a revocation is not removed, so that what it signed can still be named; it is
  dated, so that stock tools refuse it from then on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from agentgov.errors import BrokenRecordError, ConflictError, UsageError
from agentgov.ledger.people import People
from agentgov.ledger.sshkey import SshPublicKey, parse_public_key
from agentgov.ledger.sshsig import NAMESPACE
from agentgov.text import printable

MAX_IMPORTED = 1000
_ALIKE = frozenset({"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC"})
_is_principal = re.compile(r"[^\s,\"'*?!#][^\s,\"'*?!]{0,255}").fullmatch
_date_option = re.compile(r'valid-before="[^"]*"', re.IGNORECASE)
_split_line = re.compile(r'([ \t]*(?:"[^"]*"|[^ \t"]+)[ \t]+)(.*)', re.DOTALL).fullmatch


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that is to be trusted, and whose it is."""

    principal: str
    key: SshPublicKey


def check_principal(raw_name: str) -> str:
    """Return a name that may stand in a trust file.

    Raises:
        UsageError: AG0424, when it may not.
    """
    if any(map(_is_mixed, re.split(r"[^\w]|_", raw_name))):
        raise UsageError(
            f"{raw_name!a} mixes letters that look alike: it could be taken for somebody else",
            id="AG0424",
            hint="write each part of the name in one alphabet",
        )
    if not _is_principal(raw_name) or printable(raw_name) != raw_name:
        raise UsageError(
            f"{printable(raw_name, limit=80)!a} cannot name a person in a trust file",
            id="AG0424",
            hint="an e-mail address, or any word without spaces, commas, quotes, * ? and !",
        )
    return raw_name


def _is_mixed(word: str) -> bool:
    """Whether a word has letters of several of the alphabets that share shapes (Unicode TR 39, 5.1)."""
    alphabets = {unicodedata.name(char, "").partition(" ")[0] for char in word if char.isalpha()}
    return len(alphabets & _ALIKE) > 1


def add_keys(raw_text: str, revoked: str | None, new: Iterable[NewKey]) -> tuple[str, list[NewKey]]:
    """Return the trust file with these keys, and those of them that were not in it.

    Raises:
        ConflictError: AG0425, when a key is another person's, or the person or the key was revoked.
        UsageError: AG0424, when a name cannot stand there; AG0426, when a key is of a kind that is not added.
        ConfigError: AG0421 or AG0422, when what stands there is not understood.
    """
    text, added = raw_text, []
    for item in new:
        people = People.parse(text, revoked)
        _check_new(people, item)
        held = [line for line in people.lines_of(item.principal) if line.is_usable]
        if any(line.key == item.key for line in held):
            continue
        separator = "" if not text or text.endswith("\n") else "\n"
        text += f'{separator}{item.principal} namespaces="{NAMESPACE}" {item.key.line}\n'
        added.append(item)
    return text, added


def _check_new(people: People, item: NewKey) -> None:
    name = check_principal(item.principal)
    if not item.key.is_addable:
        raise UsageError(
            "a key of this kind is not added to a trust file",
            id="AG0426",
            where=f"{printable(item.key.algorithm, limit=60)} {item.key.fingerprint}",
            hint="an Ed25519, ECDSA or hardware key, or RSA of 2048 bits and more: agentgov keys new",
        )
    # A line for another namespace makes a person too.
    lines = (line for line in people.lines if line.key == item.key and line.names)
    holder = next((people.person_of(line.names[0]) for line in lines), people.principal(item.key))
    gone = [r for r in people.revocations if item.key.fingerprint in r.fingerprints]
    gone += [r for r in people.revocations_of(name) if r.scope == "person"]
    if gone:
        raise ConflictError(
            f"{printable(gone[0].name, limit=80)} was revoked",
            id="AG0425",
            where=item.key.fingerprint,
            hint="whoever comes back gets a new key; in .agentgov/revoked, their `person` becomes `keys`",
        )
    if holder is not None and holder != people.person_of(name):
        raise ConflictError(
            f"this key is {printable(holder, limit=80)}'s, and would make one person of two",
            id="AG0425",
            where=item.key.fingerprint,
        )


def date_keys(raw_text: str, fingerprints: Collection[str], date: str) -> str:
    """Return the trust file with the lines of these keys dated, so that ssh-keygen refuses them.

    Args:
        raw_text: The file.
        fingerprints: The keys.
        date: The day from which on they are refused, such as `20261120`.
    """
    lines = raw_text.split("\n")
    for known in People.parse(raw_text).lines:
        parts = _split_line(lines[known.number - 1])
        if parts is None or known.key.fingerprint not in fingerprints:
            continue
        names, rest = parts.groups()
        if known.valid_before is None:
            is_bare = re.match(r"(?:sk-)?(?:ssh|ecdsa)-", rest) is not None
            rest = f'valid-before="{date}"{" " if is_bare else ","}{rest}'
        elif known.valid_before[: len(date)] >= date:
            # The date of a key that was to end some day: a later one would let it go on.
            rest = _date_option.sub(f'valid-before="{date}"', rest, count=1)
        lines[known.number - 1] = names + rest
    return "\n".join(lines)


def parse_keys(raw_text: str, principal: str | None) -> list[NewKey]:
    """Read keys to import: the lines of a trust file, or bare public keys, as forges list them for a user.

    Args:
        raw_text: The file.
        principal: Whose the bare keys are; with it, a line of a trust file is refused.

    Raises:
        UsageError: AG0427, when a line is neither, whose it is was not said, or there are none or too many.
        BrokenRecordError: AG0210, when a key is refused.
    """
    found: list[NewKey] = []
    for number, raw_line in enumerate(raw_text.split("\n"), 1):
        line = raw_line.strip(" \t\r")
        if not line or line.startswith("#"):
            continue
        found += _parse_line(line, number, principal)
    if not 0 < len(found) <= MAX_IMPORTED:
        raise UsageError(f"there must be 1 to {MAX_IMPORTED} keys, not {len(found)}", id="AG0427")
    return found


def _parse_line(line: str, number: int, principal: str | None) -> list[NewKey]:
    try:
        key = parse_public_key(line)
    except BrokenRecordError as error:
        if error.id == "AG0210":
            raise
    else:
        if principal is None:
            raise _unreadable(
                number, "whose key it is was not said", "agentgov keys import FILE --for PERSON"
            )
        return [NewKey(principal, key)]
    people = People.parse(line)
    if principal is not None or len(people.lines) != 1 or not people.lines[0].is_usable:
        raise _unreadable(number, "it is no public key, nor a line of a trust file")
    only = people.lines[0]
    if not only.names:
        raise _unreadable(number, "it names nobody")
    return [NewKey(name, only.key) for name in only.names[:1]]


def _unreadable(number: int, what: str, *hint: str) -> UsageError:
    return UsageError(
        f"these keys cannot be imported: {what}", id="AG0427", where=f"line {number}", hint=hint
    )
