"""What the commands that change who is trusted have in common: the change as a branch, and its next step."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentgov.cli.screen import Screen
from agentgov.cli.session import Session
from agentgov.errors import AgentgovError, UsageError

if TYPE_CHECKING:
    from agentgov.harness.trusting import Protected, TrustChange
    from agentgov.ledger.people import People
    from agentgov.ledger.sshkey import SshPublicKey

MAX_KEYS_BYTES = 1024 * 1024


@dataclass(frozen=True)
class TrustFiles:
    """The two files as they stand on the protected branch.

    Attributes:
        base: That branch.
        signers: The trust file's text, byte for byte; empty when there is none.
        revoked: The file of revoked keys; None when there is none.
    """

    base: Protected
    signers: str
    revoked: str | None

    @classmethod
    def read(cls, session: Session) -> TrustFiles:
        """Read them.

        Raises:
            UsageError: AG0086, there is no branch yet.
            ConfigError: AG0103, one of them is a link or a folder.
        """
        from agentgov.gates.adoption import read_at
        from agentgov.harness.people import MAX_TRUST_BYTES, TRUST_FILE, read_revoked
        from agentgov.harness.trusting import find_protected

        base = find_protected(session.repo, session.state)
        raw = read_at(session.repo, base.commit, TRUST_FILE, MAX_TRUST_BYTES) or b""
        # Bytes that are no text must come back as they were.
        signers = raw.decode("utf-8", "surrogateescape")
        return cls(base, signers, read_revoked(session.repo, base.commit))

    def people(self) -> People:
        """The persons they name.

        Raises:
            ConfigError: AG0421 or AG0422, when one of them is not understood.
        """
        from agentgov.ledger.people import People

        return People.parse(self.signers, self.revoked)

    def propose(self, session: Session, files: Mapping[str, str], subject: str, topic: str) -> TrustChange:
        """Commit changed files on a branch of their own."""
        from agentgov.cli.gate import FALLBACK_EMAIL, FALLBACK_NAME
        from agentgov.gates.landing import Person
        from agentgov.harness.trusting import propose

        person = Person(
            session.repo.config("user.name") or FALLBACK_NAME,
            session.repo.config("user.email") or FALLBACK_EMAIL,
        )
        now = session.clock.now_us()
        return propose(session.repo, self.base, files, subject, topic=topic, person=person, now_us=now)


def say_change(out: Screen, change: TrustChange) -> None:
    """Print what to do with a branch; it counts once it is merged."""
    branch, base = shlex.quote(change.branch), change.base
    out.line(f"  branch    {change.branch}  {change.commit[:7]}; your files and your branch are as they were")
    if base.remote is None:
        out.line(f"  it counts once it is on {base.name}:")
        out.line(f"    git diff {shlex.quote(base.branch)} {branch}        then: git merge {branch}")
        return
    out.line(f"  it counts once it is on {base.name}: push it, then open a pull request into {base.branch}")
    out.line(f"    git push {shlex.quote(base.remote)} {branch}")


def change_json(change: TrustChange) -> dict[str, Any]:
    """The change for programs."""
    return {
        "branch": change.branch,
        "commit": change.commit,
        "base": change.base.name,
        "base_commit": change.base.commit,
        "remote": change.base.remote,
        "into": change.base.branch,
        "is_new": change.is_new,
    }


def own_email(session: Session) -> str:
    """Who works here, as git knows them.

    Raises:
        UsageError: AG0321, git does not say.
    """
    email = session.repo.config("user.email")
    if not email:
        raise UsageError(
            "git does not know who you are here",
            id="AG0321",
            hint="name the person: agentgov keys trust PERSON",
        )
    return email


def read_keys(source: str) -> str:
    """The text of a file of keys, or of standard input for `-`.

    Raises:
        UsageError: AG0322, it cannot be read, or is too large.
    """
    import sys

    try:
        if source == "-":
            raw = sys.stdin.buffer.read(MAX_KEYS_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                raw = file.read(MAX_KEYS_BYTES + 1)
    except OSError as error:
        raise UsageError(f"these keys cannot be read: {error.strerror}", id="AG0322", where=source) from None
    if len(raw) > MAX_KEYS_BYTES:
        raise UsageError("this is too large for a file of keys", id="AG0322", where=source)
    return raw.decode("utf-8", "replace")


def own_key(session: Session) -> SshPublicKey:
    """The public part of the key that this person signs with.

    Raises:
        AgentgovError: AG0213 or AG0214, there is none; AG0323, its public part is not there.
    """
    from agentgov.cli.gate import home_folder
    from agentgov.harness.people import find_key, public_part

    person = find_key(session.repo, home_folder(), None)
    key = public_part(person)
    if key is None:
        where = None if person.file is None else str(person.file)
        raise AgentgovError(
            "the public part of your key is not beside it",
            id="AG0323",
            where=where,
            hint=f"ssh-keygen -y -f {shlex.quote(where or 'KEY')} > {shlex.quote(where or 'KEY')}.pub",
        )
    return key
