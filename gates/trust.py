"""Who a signature belongs to: a principal of the trust file, or whoever works on this machine.

Rules kept here:
- A wrong signature is an error, an unknown signer is nobody; the two are never confused.
- One person is everybody whom a chain of lines that share a name or a key joins: neither a second key nor a
  second address makes a second person.
- A key of whoever works here is recognised also under its name in the trust file, and with it every other key
  of that person, so that an operator cannot count as somebody else.
- A certificate is nobody: whom it names is up to whoever issued it, not to the trust file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from agentgov.errors import AgentgovError, UntrustedSignerError
from agentgov.gates.review import Principal
from agentgov.ledger import sshsig

OPERATOR = "operator"
MAX_LINE_CHARS = 8192
# ssh-keygen(1), ALLOWED SIGNERS: principals, perhaps options, then the key.
_LINE = re.compile(r'\s*(?:"([^"]*)"|(\S+))\s.*?((?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+)\s+([A-Za-z0-9+/=]+)')


@dataclass(frozen=True)
class TrustedPersons:
    """Answers who made a signature.

    Attributes:
        allowed_signers: the trust file's text; empty when there is none.
        operator_key: the pinned key's line, or None.
        own_keys: the lines of other keys that the person who works here has.
    """

    allowed_signers: str
    operator_key: str | None = None
    own_keys: tuple[str, ...] = ()

    def identify(self, message: bytes, signature: bytes) -> Principal | None:
        """The principal behind a signature over `message`, or None when nobody trusts its key.

        Raises:
            BrokenRecordError: AG0217 or AG0218, when the signature is wrong or none.
        """
        parsed = sshsig.parse_sshsig(signature)
        key = sshsig.verify_ssh_alone(parsed, message)
        if "-cert-v" in key.algorithm:
            return None
        own = key.fingerprint in self._own_fingerprints
        if self.allowed_signers.strip():
            try:
                name = self.person_of(sshsig.verify_ssh(parsed, message, self.allowed_signers))
                return Principal(name, own or name in self._own_persons)
            except UntrustedSignerError:
                # The key may still be the operator's own.
                return Principal(OPERATOR, True) if own else None
        return Principal(OPERATOR, True) if own else None

    def person_of(self, name: str) -> str:
        """The one name of a person under which all of theirs are counted."""
        return self._persons.get(name.casefold(), name)

    @cached_property
    def _own_fingerprints(self) -> frozenset[str]:
        lines = (*self.own_keys, *(() if self.operator_key is None else (self.operator_key,)))
        return frozenset(found for line in lines if (found := _fingerprint(line)) is not None)

    @cached_property
    def _entries(self) -> list[tuple[list[str], str | None]]:
        found = []
        for line in self.allowed_signers.splitlines():
            if line.lstrip().startswith("#") or len(line) > MAX_LINE_CHARS:
                continue
            match = _LINE.match(line)
            if match is not None:
                names = [name for name in (match[1] or match[2]).split(",") if name]
                found.append((names, _fingerprint(f"{match[3]} {match[4]}")))
        return found

    @cached_property
    def _persons(self) -> dict[str, str]:
        """Every name, without case, to the first name of its person in the file."""
        leaders: dict[str, str] = {}

        def leader(item: str) -> str:
            while leaders.setdefault(item, item) != item:
                leaders[item] = item = leaders[leaders[item]]
            return item

        shown: dict[str, str] = {}
        for names, key in self._entries:
            items = [name.casefold() for name in names]
            shown |= {item: name for item, name in zip(items, names, strict=True) if item not in shown}
            for item in (*items[1:], *(() if key is None else (f"key {key}",))):
                leaders[leader(item)] = leader(items[0])
        first: dict[str, str] = {}
        for item, name in shown.items():
            first.setdefault(leader(item), name)
        return {item: first[leader(item)] for item in shown}

    @cached_property
    def _own_persons(self) -> frozenset[str]:
        own = self._own_fingerprints
        return frozenset(self.person_of(names[0]) for names, key in self._entries if names and key in own)


def _fingerprint(line: str) -> str | None:
    try:
        return sshsig.parse_public_key(line).fingerprint
    except AgentgovError:
        return None
