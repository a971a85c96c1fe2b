"""Who stands behind a record and who approved in it, by the keys that signed and what the trust file says.

Rules this module keeps:
    * A person's signature is checked where it stands, whoever made it: a wrong one breaks the record there.
    * Who a key belongs to is for the trust file to say. Without one, only the key is named.
    * A revocation counts by place: what was signed below the frozen head stays good and reads "since left";
      what stands at or above it counts for nothing. It is a fault once a promotion counted it; until then it
      is only said. A record behind which nobody else stands is not relied on from there on.
    * A record that is not this clone's own needs a trusted person behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from agentgov.errors import AgentgovError, BrokenRecordError, IncompleteError
from agentgov.ids import RunId
from agentgov.ledger.endorsement import verify_endorsement
from agentgov.ledger.entry import Entry
from agentgov.ledger.revocation import FrozenHead
from agentgov.ledger.signing import Envelope, parse_envelope
from agentgov.ledger.sshkey import SshPublicKey
from agentgov.ledger.sshsig import parse_sshsig, verify_statement_alone
from agentgov.ledger.sshsig_check import needs_program
from agentgov.ledger.verify_report import Check, Finding, Status

# Each costs a process, some 7 ms.
MAX_ASKED: Final = 4096


class Persons(Protocol):
    """Who is trusted; `people.People` is one."""

    def principal(self, key: SshPublicKey, /) -> str | None:
        """Return the name of the person whose key this is; None for a stranger's."""
        ...

    def standing(self, signer: SshPublicKey, log: str, seq: int, /) -> str:
        """Return "member", "since left" or "revoked" for what a key signed in entry `seq` of a record."""
        ...

    def frozen_heads(self, log: str, /) -> Sequence[FrozenHead]:
        """Return every head that the record must go through because a key was revoked there."""
        ...


@dataclass(frozen=True, slots=True)
class Signed:
    """A statement of a person in the record.

    Attributes:
        seq: The entry that holds it.
        run: The run it is about; None for an endorsement.
        keys: The keys that signed it.
    """

    seq: int
    run: RunId | None
    keys: tuple[SshPublicKey, ...]


@dataclass(slots=True)
class Statements:
    """The statements of persons met while a record is read.

    Attributes:
        endorsements: Those who say that the record's key is theirs.
        approvals: Those who approved a result.
        unchecked: Places of approvals whose signatures could not be checked, and why.
        asked: How many signatures a program was asked about.
    """

    endorsements: list[Signed] = field(default_factory=list)
    approvals: list[Signed] = field(default_factory=list)
    unchecked: list[tuple[int, str]] = field(default_factory=list)
    counted: dict[int, int] = field(default_factory=dict)
    asked: int = 0

    def take_endorsement(self, entry: Entry, log: str, public_key: str) -> None:
        """Check who stands behind the record.

        Raises:
            BrokenRecordError: AG0212, AG0217, AG0218 or AG0283, when it is wrong.
            IncompleteError: AG0284, when it cannot be checked.
        """
        self._ask(entry)
        keys = verify_endorsement(entry.body, log, public_key)
        self.endorsements.append(Signed(entry.seq, None, tuple(keys)))

    def take_promotion(self, entry: Entry) -> None:
        """Note which approvals a promotion counts."""
        for place in entry.body["approvals"]:
            self.counted.setdefault(place, entry.seq)

    def take_approval(self, entry: Entry) -> None:
        """Check the signatures of an approval.

        Raises:
            BrokenRecordError: AG0212, AG0217 or AG0218, when one is wrong.
        """
        envelope = _envelope(entry)
        try:
            self._ask(entry)
            keys = verify_statement_alone(envelope)
        except BrokenRecordError:
            raise
        except AgentgovError as error:
            # Without ssh-keygen the chain still holds; that this was not checked is said at the end.
            self.unchecked.append((entry.seq, error.message))
            return
        self.approvals.append(Signed(entry.seq, entry.run, tuple(keys)))

    def _ask(self, entry: Entry) -> None:
        """Count the signatures that cost a process each: whoever writes a record says how many there are.

        Raises:
            BrokenRecordError: AG0212 or AG0218, when one is none.
            IncompleteError: AG0284, when there are too many.
        """
        keys = (parse_sshsig(item.signature).public_key for item in _envelope(entry).signatures)
        wanted = sum(map(needs_program, keys))
        if wanted and self.asked + wanted > MAX_ASKED:
            raise IncompleteError(
                f"more than {MAX_ASKED} signatures in it are by keys that only ssh-keygen can check",
                id="AG0284",
                where=f"entry {entry.seq}",
            )
        self.asked += wanted


def _envelope(entry: Entry) -> Envelope:
    return parse_envelope(entry.body["envelope"])


@dataclass(slots=True)
class Vouching:
    """What persons say about a record.

    Attributes:
        decides: Whether a trust file decided about the record's key; without one, its first sight does.
        checks: Lines of the report.
        findings: What is wrong.
        notes: Facts that are no fault.
    """

    decides: bool = False
    checks: list[Check] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def judge_statements(
    statements: Statements, people: Persons | None, log: str, entries: int, *, is_known: bool
) -> Vouching:
    """Say who stands behind a record of `entries` entries, and whose approvals in it count.

    Args:
        statements: What was signed in it.
        people: Who is trusted; None when no trust file applies.
        log: The record's origin.
        entries: How many entries hold.
        is_known: Whether its key is this clone's own, or was believed here before.
    """
    outcome = Vouching(decides=people is not None)
    _judge_signer(outcome, statements.endorsements, people, log, entries, is_known)
    _judge_approvals(outcome, statements, people, log)
    return outcome


def _judge_signer(
    outcome: Vouching,
    endorsements: Sequence[Signed],
    people: Persons | None,
    log: str,
    entries: int,
    is_known: bool,
) -> None:
    def say(status: Status, text: str) -> None:
        outcome.checks.append(Check("signer", status, text))

    keys = [(signed.seq, key) for signed in endorsements for key in signed.keys]
    if people is None:
        names = dict.fromkeys(key.fingerprint for _, key in keys)
        if names:
            say("ok", f"a person stands behind this record's key: {', '.join(names)}")
        elif not is_known:
            say("--", "nobody stands behind this record's key")
        else:
            say("--", "this record's key, trusted on first use; nobody stands behind it yet")
        return
    named = [(seq, key, name) for seq, key in keys if (name := people.principal(key)) is not None]
    counting = [item for item in named if people.standing(item[1], log, item[0]) != "revoked"]
    # The place from which on each of them counts no more; a record needs one who counts to its end.
    lasting = [_lasts_until(people, key, log, entries) for _, key, _ in counting]
    if counting and max(lasting) >= entries:
        names = dict.fromkeys(
            f"{name} ({standing})" if (standing := people.standing(key, log, seq)) != "member" else name
            for seq, key, name in counting
        )
        say("ok", f"stands behind this record's key, and is trusted: {', '.join(names)}")
    elif named:
        until = max(lasting, default=0)
        who = ", ".join(dict.fromkeys(name for _, _, name in named))
        why = f"{who} stood behind it, and was revoked: nothing from entry {until} on counts"
        say("untrusted", why)
        outcome.findings.append(Finding("revoked", why, until, error_id="AG0441"))
    elif is_known:
        strangers = dict.fromkeys(key.fingerprint for _, key in keys)
        said = f"; the trust file does not know {', '.join(strangers)}" if strangers else ""
        say("--", f"this record's key, trusted on first use; nobody trusted stands behind it yet{said}")
    else:
        strangers = dict.fromkeys(key.fingerprint for _, key in keys)
        why = (
            f"only {', '.join(strangers)} stands behind its key, whom the trust file does not know"
            if strangers
            else "nobody stands behind its key"
        )
        say("untrusted", why)
        outcome.findings.append(Finding("unknown-key", why, keys[0][0] if keys else 0, error_id="AG0280"))


def _lasts_until(people: Persons, key: SshPublicKey, log: str, entries: int) -> int:
    """The first place, at most `entries`, at which a key counts no more."""
    low, high = 0, entries
    while low < high:
        middle = (low + high) // 2
        if people.standing(key, log, middle) == "revoked":
            high = middle
        else:
            low = middle + 1
    return low


def _judge_approvals(outcome: Vouching, statements: Statements, people: Persons | None, log: str) -> None:
    if statements.unchecked:
        seq, why = statements.unchecked[0]
        count = len(statements.unchecked)
        outcome.checks.append(Check("approvals", "incomplete", f"{count} could not be checked: {why}"))
        outcome.findings.append(
            Finding("missing", f"{count} approvals could not be checked: {why}", seq, error_id="AG0442")
        )
    if not statements.approvals:
        return
    who: dict[str, int] = {}
    refused, idle = False, 0
    for signed in statements.approvals:
        revoked, counts = list[str](), False
        for key in signed.keys:
            name = None if people is None else people.principal(key)
            shown = key.fingerprint if name is None else name
            standing = "" if people is None or name is None else people.standing(key, log, signed.seq)
            if people is not None and name is None:
                shown += " (not in the trust file)"
            elif standing == "since left":
                shown += " (since left)"
            elif name is not None and standing == "revoked":
                revoked.append(name)
                shown += " (revoked)"
            counts = counts or standing in ("member", "since left")
            who[shown] = who.get(shown, 0) + 1
        promotion = statements.counted.get(signed.seq)
        if revoked and promotion is None:
            idle += 1
        elif revoked and not counts:
            refused = True
            why = (
                f"{revoked[0]} approved here after their keys were revoked, and entry {promotion} counted it"
            )
            outcome.findings.append(Finding("revoked", why, signed.seq, signed.run, error_id="AG0443"))
    if idle:
        what = "approval by a revoked key" if idle == 1 else "approvals by revoked keys"
        outcome.notes.append(f"{idle} {what}, counted by nothing")
    names = ", ".join(f"{count} by {name}" for name, count in who.items())
    text = f"{len(statements.approvals)}, each signed over exactly what it approves: {names}"
    outcome.checks.append(Check("approvals", "untrusted" if refused else "ok", text))
