"""People: whose key signs, who is trusted, and who stands behind this clone's record.

Rules kept here:

- No private key is read: `ssh-keygen` signs.
- Trust comes from the trust file on the branch in question, never from the work tree (`gates.trust` says who
  a signature belongs to).
- The operator's key is the one that this person's own git settings name; a key given by path is somebody
  else's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from agentgov.errors import AgentgovError, UntrustedSignerError
from agentgov.gates.adoption import endorsed_log, operator_key, pin_operator_key, protected_commit, read_at
from agentgov.git import Repository
from agentgov.harness.settled import Workplace
from agentgov.layout import StateHome
from agentgov.ledger.endorsement import PAYLOAD_TYPE, endorsement_payload
from agentgov.ledger.entry import Draft
from agentgov.ledger.people import People
from agentgov.ledger.revocation import REVOKED_FILE, Revocation, parse_revoked
from agentgov.ledger.signing import Envelope
from agentgov.ledger.sshkey import SshPublicKey, parse_public_key
from agentgov.ledger.sshsig import (
    PersonKey,
    find_person_key,
    parse_sshsig,
    sign_statement,
    verify_statement_alone,
)
from agentgov.text import printable

TRUST_FILE: Final = ".agentgov/allowed_signers"
MAX_TRUST_BYTES: Final = 4 * 1024 * 1024
_DEFAULT_KEYS: Final = ("id_ed25519", "id_ed25519_sk", "id_ecdsa", "id_ecdsa_sk", "id_rsa")


def default_keys(home: Path | None) -> list[Path]:
    """Where ssh looks for a person's keys."""
    return [] if home is None else [home / ".ssh" / name for name in _DEFAULT_KEYS]


def find_key(repo: Repository, home: Path | None, given: Path | None) -> PersonKey:
    """Return the key to sign with: the one given, else the one that the person's settings name.

    Raises:
        AgentgovError: AG0213 or AG0214, there is none; the hint is the command that makes one.
    """
    if given is not None:
        return PersonKey(given, None, "--key")
    return find_person_key(repo, defaults=default_keys(home))


def read_trust(repo: Repository, commit: str) -> str | None:
    """Return the trust file of a commit; None when it has none."""
    raw = read_at(repo, commit, TRUST_FILE, MAX_TRUST_BYTES)
    # ssh-keygen takes the end of a line from another system for a part of the key.
    return None if raw is None else raw.decode("utf-8", "replace").replace("\r\n", "\n")


def read_revoked(repo: Repository, commit: str) -> str | None:
    """Return the file of revoked keys of a commit; None when it has none."""
    raw = read_at(repo, commit, REVOKED_FILE, MAX_TRUST_BYTES)
    return None if raw is None else raw.decode("utf-8", "replace")


def read_people(repo: Repository, state: StateHome, *commits: str) -> People | None:
    """Return who is trusted by the first of these commits, else by the protected branch.

    Who was revoked on any of them counts as revoked: a branch that lags behind brings nobody back.

    Returns:
        None when there is neither a trust file nor anybody revoked.

    Raises:
        ConfigError: AG0421 or AG0422, when one of the files is not understood; AG0103, when one is a link, a
            folder or too large.
    """
    protected = protected_commit(repo, state)
    places = dict.fromkeys((*commits, *(() if protected is None else protected[:1])))
    trust: str | None = None
    revocations: dict[str, Revocation] = {}
    for number, commit in enumerate(places):
        if number == 0:
            trust = read_trust(repo, commit)
        revoked = read_revoked(repo, commit)
        if revoked is not None:
            revocations |= {revocation.text(): revocation for revocation in parse_revoked(revoked)}
    if trust is None and not revocations:
        return None
    return replace(People.parse(trust or ""), revocations=tuple(revocations.values()))


def demand_standing(repo: Repository, state: StateHome, commit: str | None, envelope: Envelope) -> None:
    """Refuse what would count nowhere, because a key that signed it was revoked.

    Args:
        repo: The repository.
        state: The user's state folder.
        commit: Where trust is read from, besides the protected branch; None for that branch alone.
        envelope: What was signed.

    Raises:
        UntrustedSignerError: AG0423, when that is so.
    """
    persons = read_people(repo, state, *(() if commit is None else (commit,)))
    for item in envelope.signatures if persons is not None else ():
        key = parse_sshsig(item.signature).public_key
        if persons is not None and persons.revocations_of(key):
            name = printable(persons.principal(key) or "this person", limit=80)
            raise UntrustedSignerError(
                f"the key of {name} was revoked",
                id="AG0423",
                where=key.fingerprint,
                hint="agentgov keys list",
            )


def own_public_keys(repo: Repository, home: Path | None) -> tuple[str, ...]:
    """Return the public keys of whoever works here: the one that the settings name, and those in `~/.ssh`.

    An approval by one of them is the operator's own, whether or not it was ever pinned.
    """
    files = [_public(path) for path in default_keys(home)]
    lines: list[str] = []
    try:
        named = find_person_key(repo)
    except AgentgovError:
        named = PersonKey(None, None, "none")
    if named.literal is not None:
        lines.append(named.literal)
    if named.file is not None:
        files.append(_public(named.file))
    for path in files:
        try:
            lines.append(parse_public_key(path.read_text("utf-8", "replace")).line)
        except (OSError, AgentgovError):
            # No such key, or nothing that ssh would take for one.
            continue
    return tuple(dict.fromkeys(lines))


def _public(path: Path) -> Path:
    return path if path.suffix == ".pub" else path.with_name(f"{path.name}.pub")


def public_part(key: PersonKey) -> SshPublicKey | None:
    """Return a person's public key; None when it does not lie beside the private one.

    Raises:
        BrokenRecordError: AG0210 or AG0218, when what lies there is none, or is refused.
    """
    if key.literal is not None:
        return parse_public_key(key.literal)
    try:
        text = "" if key.file is None else _public(key.file).read_text("utf-8", "replace")
    except FileNotFoundError:
        return None
    return parse_public_key(text) if text else None


def endorse(work: Workplace, state: StateHome, key: PersonKey, *, succeeds: bool = False) -> bool:
    """Let the operator's key stand behind this clone's record, once, and pin it on this machine.

    A record that succeeds another one is endorsed anew, by the pinned key; another key of the operator does
    so only when it is said to succeed that one.

    Args:
        work: What to work with.
        state: The user's state folder.
        key: The operator's key.
        succeeds: Whether it takes the place of the pinned one.

    Returns:
        Whether it was done now.

    Raises:
        AgentgovError: AG0215, ssh-keygen cannot sign.
        UntrustedSignerError: AG0423, the key was revoked.
    """
    pinned = operator_key(work.repo, state)
    if pinned is not None and not succeeds:
        mine = public_part(key)
        if endorsed_log(work.repo, state) == work.stream.origin or mine is None or mine.line != pinned:
            return False
    payload = endorsement_payload(work.stream.origin, work.stream.public_key.hex(), _root_commits(work.repo))
    envelope = sign_statement(key, PAYLOAD_TYPE, payload)
    demand_standing(work.repo, state, None, envelope)
    (public,) = verify_statement_alone(envelope)
    work.stream.append(
        [Draft("stream.endorse", None, {"envelope": envelope.to_body()})], work.stream.log_signer()
    )
    pin_operator_key(work.repo, state, public.line, work.stream.origin)
    return True


def _root_commits(repo: Repository) -> Sequence[str]:
    return repo.git().text("rev-list", "--max-parents=0", "HEAD").split()[:16]
