"""Endorsements: a person's SSH key stands behind a clone's record, and so behind its log key.

Rules:
    * The statement names the record, its log key and the repository's first commits, in sorted JSON without
      spaces; it is signed as a DSSE envelope by `ssh-keygen`.
    * One that names another record or another key is broken, whoever signed it.
    * Who the key belongs to is for a trust file to say; without one it is known by its fingerprint only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agentgov.errors import AgentgovError, BrokenRecordError, IncompleteError
from agentgov.ledger.signing import Envelope, parse_envelope
from agentgov.ledger.sshkey import SshPublicKey
from agentgov.ledger.sshsig import verify_statement_alone

PAYLOAD_TYPE: Final = "application/vnd.agentgov.endorsement.v1+json"


def endorsement_payload(log: str, public_key: str, roots: Sequence[str]) -> bytes:
    """Return what a person signs.

    Args:
        log: The record's origin.
        public_key: Its log key, 64 hex characters.
        roots: The ids of the repository's commits without parents.
    """
    statement = {"v": 1, "log": log, "public_key": public_key, "roots": sorted(roots)}
    return json.dumps(statement, sort_keys=True, separators=(",", ":")).encode("ascii")


def verify_endorsement(body: Mapping[str, Any], log: str, public_key: str) -> list[SshPublicKey]:
    """Check the body of a `stream.endorse` entry, and return the keys that signed it.

    Raises:
        BrokenRecordError: AG0283, when it is not about this record and key; AG0217 or AG0218, when a
            signature is wrong or none.
        IncompleteError: AG0284, when it cannot be checked, because ssh-keygen is missing.
    """
    envelope = parse_envelope(body["envelope"])
    try:
        said = json.loads(envelope.payload)
        fits = (
            envelope.payload_type == PAYLOAD_TYPE
            and endorsement_payload(said["log"], said["public_key"], said["roots"]) == envelope.payload
            and (said["log"], said["public_key"]) == (log, public_key)
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        fits = False
    if not fits:
        raise BrokenRecordError("an endorsement is not about this record", id="AG0283")
    return verify_persons(envelope, "an endorsement")


def verify_persons(envelope: Envelope, what: str) -> list[SshPublicKey]:
    """Check what persons signed, and return their keys.

    Raises:
        BrokenRecordError: AG0217 or AG0218, when a signature is wrong or none.
        IncompleteError: AG0284, when it cannot be checked, because ssh-keygen is missing.
    """
    try:
        return verify_statement_alone(envelope)
    except BrokenRecordError:
        raise
    except AgentgovError as error:
        raise IncompleteError(
            f"{what} cannot be checked: {error.message}", id="AG0284", hint=error.hint
        ) from error
