"""Who a signature belongs to: a principal of the trust file, or whoever works on this machine.

Rules kept here:
- A wrong signature is an error, an unknown signer is nobody; the two are never confused.
- One person is everybody whom a chain of lines that share a name or a key joins (`ledger.people`).
- A key of whoever works here is recognised also under its name in the trust file, and with it every other key
  of that person, so that an operator cannot count as somebody else.
- A certificate is nobody: whom it names is up to whoever issued it, not to the trust file.
- Who is not revoked must pass `ssh-keygen`'s own reading of the trust file too, dates included. For who is,
  the place in the record decides, and nothing else.
- A line that only `ssh-keygen` understands names nobody: whom it names could be neither counted nor revoked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Final

from agentgov.errors import AgentgovError, UntrustedSignerError
from agentgov.gates.review import GivenApproval, Principal, verify_approval
from agentgov.ledger import sshsig
from agentgov.ledger.entry import Entry
from agentgov.ledger.people import People
from agentgov.ledger.signing import parse_envelope
from agentgov.ledger.sshkey import SshPublicKey, parse_public_key

OPERATOR = "operator"
# Each of them may have many signatures, and some cost a process.
MAX_APPROVALS: Final = 256
Place = tuple[str, int]
"""A record's origin and the number of one of its entries."""


@dataclass(frozen=True)
class TrustedPersons:
    """Answers who made a signature.

    Attributes:
        allowed_signers: the trust file's text; empty when there is none.
        operator_key: the pinned key's line, or None.
        own_keys: the lines of other keys that the person who works here has.
        revoked: who was revoked, with the trust file's persons; read from `allowed_signers` alone when None.
    """

    allowed_signers: str
    operator_key: str | None = None
    own_keys: tuple[str, ...] = ()
    revoked: People | None = None
    _passed: dict[str, bool] = field(default_factory=dict, init=False, repr=False, compare=False)

    def identify(self, message: bytes, signature: bytes, place: Place | None = None) -> Principal | None:
        """The principal behind a signature over `message`, or None when nobody trusts its key.

        Args:
            message: what must have been signed.
            signature: a binary SSHSIG.
            place: the entry of the record that holds it; None when it stands in none.

        Returns:
            Also whoever was revoked, with their standing: the caller decides what that is worth.

        Raises:
            BrokenRecordError: AG0217 or AG0218, when the signature is wrong or none.
        """
        parsed = sshsig.parse_sshsig(signature)
        key = sshsig.verify_ssh_alone(parsed, message)
        if "-cert-v" in key.algorithm:
            return None
        own = key.fingerprint in self._own_fingerprints
        if self.people.revocations_of(key):
            return self._revoked(key, own, place)
        name = self.people.principal(key)
        if name is not None and self._passes(parsed, message):
            return Principal(name, own or name in self._own_persons)
        # The key may still be the operator's own.
        return Principal(OPERATOR, True) if own else None

    def identify_at(self, log: str, seq: int) -> Callable[[bytes, bytes], Principal | None]:
        """`identify` for a signature in one entry of a record."""
        return partial(self.identify, place=(log, seq))

    def approvals(self, entries: Iterable[Entry], log: str) -> list[GivenApproval]:
        """The approvals among the entries of a run, in one record, by anybody trusted.

        A broken one, or a stranger's, counts for nothing; of one that was entered several times the first
        stands; and no more than the newest `MAX_APPROVALS` are looked at.
        """
        given: dict[str, Entry] = {}
        for entry in entries:
            # One of a record that this one continues has a number that names another entry here.
            if entry.log == log:
                given.setdefault(json.dumps(entry.body["envelope"]), entry)
        found = []
        for entry in [*given.values()][-MAX_APPROVALS:]:
            try:
                envelope = parse_envelope(entry.body["envelope"])
                found.append(verify_approval(envelope, self.identify_at(log, entry.seq), seq=entry.seq))
            except AgentgovError:
                continue
        return found

    def person_of(self, name: str) -> str:
        """The one name of a person under which all of theirs are counted."""
        return self.people.person_of(name)

    @cached_property
    def people(self) -> People:
        """The persons of the trust file."""
        return People.parse(self.allowed_signers) if self.revoked is None else self.revoked

    def _passes(self, signature: sshsig.SshSignature, message: bytes) -> bool:
        """Whether `ssh-keygen` reads the trust file alike; asked once for each key."""
        fingerprint = signature.public_key.fingerprint
        if fingerprint not in self._passed:
            try:
                sshsig.verify_ssh(signature, message, self.allowed_signers)
                self._passed[fingerprint] = True
            except UntrustedSignerError:
                self._passed[fingerprint] = False
        return self._passed[fingerprint]

    def _revoked(self, key: SshPublicKey, own: bool, place: Place | None) -> Principal:
        name = self.people.principal(key)
        # Outside of a record there is no place that the freeze could have come after.
        standing = "revoked" if place is None else self.people.standing(key, *place)
        return Principal(OPERATOR if name is None else name, own or name in self._own_persons, standing)

    @cached_property
    def _own_fingerprints(self) -> frozenset[str]:
        lines = (*self.own_keys, *(() if self.operator_key is None else (self.operator_key,)))
        return frozenset(found for line in lines if (found := _fingerprint(line)) is not None)

    @cached_property
    def _own_persons(self) -> frozenset[str]:
        own = self._own_fingerprints
        return frozenset(
            self.person_of(line.names[0])
            for line in self.people.lines
            if line.names and line.key.fingerprint in own
        )


def _fingerprint(line: str) -> str | None:
    try:
        return parse_public_key(line).fingerprint
    except AgentgovError:
        return None
