"""Whom the reader of a proof believes: persons, logs and witnesses, from one file or one folder.

Rules: a line that begins with `log`, `witness`, `group` or `quorum` belongs to a policy of witnesses
(`tlog_policy`), a lone verifier key is a log's, certificates in PEM form are time stamp authorities', every
other one is a line of allowed_signers (`people`). In a folder these are the files `witnesses`,
`allowed_signers`, `revoked` and `timestamp-authorities.pem`, as `.agentgov` has them. A policy without a
quorum line must not name witnesses. Nothing to believe is an error, never "anything goes".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agentgov.errors import BrokenRecordError, ConfigError
from agentgov.ledger.note import NoteKey, parse_key
from agentgov.ledger.people import People
from agentgov.ledger.tlog_policy import Policy

if TYPE_CHECKING:
    from agentgov.ledger.timestamps import Authorities

MAX_BYTES: Final = 1_000_000
FILES: Final = ("allowed_signers", "revoked", "timestamp-authorities.pem", "witnesses")
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_END: Final = b"-----END CERTIFICATE-----"
_is_policy_line = re.compile(rb"[ \t]*(?:log|witness|group|quorum)[ \t]").match
_is_key_line = re.compile(rb"[ \t]*([^ \t#+]+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+)[ \t]*").fullmatch


@dataclass(frozen=True, slots=True)
class ProofTrust:
    """Whom somebody believes.

    Attributes:
        logs: Verifier keys of logs; a key's name is its log's origin.
        people: The persons trusted, and those revoked.
        policy: The witnesses, and how many are enough.
        authorities: The time stamp authorities; None when none is named.
    """

    logs: tuple[NoteKey, ...]
    people: People
    policy: Policy
    authorities: Authorities | None = None


def parse_trust(raw: bytes, *, where: str | None = None) -> ProofTrust:
    """Read a file of keys.

    Raises:
        ConfigError: AG0411, when it holds nobody, or a line of it is not understood; AG0402, when its lines
            about witnesses are no policy; AG0422, when it is too large; AG0464, when a certificate is none.
    """
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"longer than {MAX_BYTES} bytes", id="AG0411", where=where)
    policy_lines, person_lines, keys, asks = [], [], [], False
    pem_lines: list[bytes] = []
    for raw_line in raw.replace(b"\r\n", b"\n").split(b"\n"):
        if raw_line == _BEGIN or (pem_lines and pem_lines[-1] != _END):
            pem_lines.append(raw_line)
            continue
        if _is_policy_line(raw_line):
            policy_lines.append(raw_line)
            asks = asks or raw_line.split()[0] == b"quorum"
            continue
        key = _is_key_line(raw_line)
        if key is not None:
            keys.append(_log_key(key[1], where))
        else:
            person_lines.append(raw_line)
    if not asks and not any(line.split()[0] in (b"witness", b"group") for line in policy_lines):
        policy_lines.append(b"quorum none")
    policy = Policy.parse(b"".join(line + b"\n" for line in policy_lines), where=where)
    people = People.parse(b"\n".join(person_lines).decode("utf-8", "replace"))
    pem = b"".join(line + b"\n" for line in pem_lines)
    return _trust((*keys, *policy.logs), people, policy, _authorities(pem or None, where), where)


def read_trust(files: Mapping[str, bytes], *, where: str | None = None) -> ProofTrust:
    """Read the files of a folder like `.agentgov`, by their names; those of other names are passed over.

    Raises:
        ConfigError: AG0411, when they name nobody; AG0402, AG0421, AG0422 or AG0464, when one is not
            understood.
    """
    revoked = files.get("revoked")
    people = People.parse(
        files.get("allowed_signers", b"").decode("utf-8", "replace"),
        None if revoked is None else revoked.decode("utf-8", "replace"),
    )
    policy = Policy.parse(files.get("witnesses", b"quorum none\n"), where="witnesses")
    authorities = _authorities(files.get("timestamp-authorities.pem"), "timestamp-authorities.pem")
    return _trust(policy.logs, people, policy, authorities, where)


def _authorities(pem: bytes | None, where: str | None) -> Authorities | None:
    if pem is None:
        return None
    from agentgov.ledger.timestamps import Authorities

    return Authorities.parse(pem, where=where)


def _trust(
    logs: tuple[NoteKey, ...],
    people: People,
    policy: Policy,
    authorities: Authorities | None,
    where: str | None,
) -> ProofTrust:
    if people.problems:
        # Whoever gives keys by hand has to learn that one of them was not understood.
        raise ConfigError(
            f"a line is neither a person's key, a log's key nor about witnesses: {people.problems[0]}",
            id="AG0411",
            where=where,
        )
    if not logs and not people.lines:
        raise ConfigError(
            "these keys name neither a person nor a log to believe",
            id="AG0411",
            where=where,
            hint="put a person's allowed_signers line in it, or the record's key from: agentgov keys list",
        )
    return ProofTrust(logs, people, policy, authorities)


def _log_key(raw_text: bytes, where: str | None) -> NoteKey:
    try:
        return parse_key(raw_text.decode("utf-8", "replace"))
    except BrokenRecordError as error:
        raise ConfigError(f"a log's key is none: {error.message}", id="AG0411", where=where) from None
