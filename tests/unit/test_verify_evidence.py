"""Payloads that are gone on purpose, and who signed what: shown, counted, and never taken for one another."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from agentgov.cli.verify_show import hints
from agentgov.clock import Clock, Random
from agentgov.errors import ExitCode
from agentgov.git import discover
from agentgov.ids import RunId
from agentgov.layout import StateHome
from agentgov.ledger.chain import leaf_hash
from agentgov.ledger.endorsement import PAYLOAD_TYPE, endorsement_payload
from agentgov.ledger.entry import Draft
from agentgov.ledger.merkle import root
from agentgov.ledger.payloads import Payload
from agentgov.ledger.people import People
from agentgov.ledger.revocation import FrozenHead, Revocation, revoked_text
from agentgov.ledger.sshkey import parse_public_key
from agentgov.ledger.sshsig import PersonKey, sign_statement
from agentgov.ledger.stream import Stream
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_report import Level, Report
from agentgov.ledger.verify_source import RepositorySource, Trust, local_trust
from tests.conftest import MakeRepo
from tests.support.ledgers import MACHINE, RUN, Writer, payload_store
from tests.unit.test_entry import BODIES


class Without:
    """A payload store from which some commitments are gone."""

    def __init__(self, inner: Any, *gone: str) -> None:
        self._inner, self._gone = inner, gone

    def get(self, run: RunId, digest: str, /) -> Payload | None:
        return None if digest in self._gone else self._inner.get(run, digest)


class Made:
    """One run with one call, and a way to say more and to verify."""

    def __init__(self, repo: Path, state: StateHome, clock: Clock, rng: Random) -> None:
        self.repository, self.state = discover(repo), state
        self.payloads = payload_store(repo, rng)
        self.stream = Stream.open(self.repository, state, clock=clock, random=rng, machine=MACHINE)
        self.writer = Writer(self.stream, self.payloads, RUN, self.repository.require_head_commit())
        self.writer.start()
        self.asked = self.writer.request().entry
        self.answered = self.writer.result(1, 3).entry
        self.output: str = self.answered.body["output"]

    def say(self, kind: str, body: dict[str, Any], run: RunId | None = RUN) -> None:
        self.stream.append([Draft(kind, run, body)], self.stream.log_signer())

    def erase(self, commitment: str, **changes: Any) -> None:
        body = {"commitment": commitment, "entry": self.answered.seq, "field": "output"}
        self.say("payload.erased", {**body, "reason": None, **changes})

    def verify(self, *gone: str, own: bool = True, **options: Any) -> Report:
        trust = local_trust(self.repository, self.state, machine=MACHINE) if own else Trust()
        return verify_ledger(
            RepositorySource(self.repository),
            trust=trust,
            payloads=Without(self.payloads, *gone),
            is_live=lambda run: True,
            **options,
        )


@pytest.fixture
def made(make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random) -> Made:
    return Made(make_repo(), state, clock, rng)


def _check(report: Report, name: str) -> tuple[str, str]:
    return next((check.status, check.text) for check in report.checks if check.name == name)


def test_an_erased_payload_is_shown_and_no_fault(made: Made) -> None:
    assert made.verify(made.output).exit_code is ExitCode.INCOMPLETE
    made.erase(made.output, reason=made.payloads.put(RUN, "args", "reason", b"a token was printed"))
    report = made.verify(made.output)
    assert report.exit_code is ExitCode.OK
    assert report.missing == {}
    text = f"output of entry {made.answered.seq} (a token was printed)"
    assert _check(report, "erased") == ("--", f"1 erased on purpose: {text}")
    assert report.to_json()["gone_on_purpose"] == {"erased": [text], "pruned": {}}
    assert "erased" in report.to_json()["not_checked"]


def test_a_tombstone_covers_what_it_names_and_nothing_else(made: Made) -> None:
    args = made.asked.body["args"]
    made.erase(made.output)
    report = made.verify(made.output, args)
    assert report.exit_code is ExitCode.INCOMPLETE
    assert report.missing == {"args": 1}
    assert report.findings[0].seq == made.asked.seq


def test_a_payload_that_is_said_to_be_erased_and_is_still_here_is_noted(made: Made) -> None:
    made.erase(made.output)
    report = made.verify()
    assert report.exit_code is ExitCode.OK
    assert any("still here" in note for note in report.notes)


def test_what_was_let_go_is_counted_and_what_came_later_is_missing(made: Made) -> None:
    prune = {"class": "output", "before": made.answered.seq + 1, "cause": "retention", "count": 1}
    made.say("payload.pruned", prune)
    made.writer.request()
    later = made.writer.result(2).entry
    report = made.verify(made.output)
    assert report.exit_code is ExitCode.OK
    assert report.pruned == {"output": 1}
    assert _check(report, "let go") == ("--", "past their time, as the record says: 1 output")
    both = made.verify(made.output, later.body["output"])
    assert both.missing == {"output": 1}
    assert both.findings[0].seq == later.seq


# Persons.


@pytest.fixture
def person(tmp_path: Path) -> PersonKey:
    path = tmp_path / "person"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return PersonKey(path, None, "test")


def _line(person: PersonKey) -> str:
    assert person.file is not None
    return " ".join(person.file.with_suffix(".pub").read_text().split()[:2])


def _endorse(made: Made, person: PersonKey) -> None:
    payload = endorsement_payload(made.stream.origin, made.stream.public_key.hex(), [])
    made.say("stream.endorse", {"envelope": sign_statement(person, PAYLOAD_TYPE, payload).to_body()}, None)


def _approve(made: Made, person: PersonKey) -> None:
    envelope = sign_statement(person, "application/vnd.in-toto+json", b"{}")
    made.say("approval.given", {"envelope": envelope.to_body(), "message": None})


def _revoked(made: Made, person: PersonKey, size: int) -> People:
    key = parse_public_key(_line(person))
    head = FrozenHead(made.stream.origin, size, bytes.fromhex(_root(made, size)))
    text = revoked_text([Revocation("alice", "person", (key.fingerprint,), {head.log: head})])
    return People.parse(f"alice {_line(person)}\n", text)


def _size(made: Made) -> int:
    return len(list(made.stream.entries()))


def _root(made: Made, size: int) -> str:
    lines = [signed.line for signed in made.stream.entries()]
    return root([leaf_hash(line) for line in lines[:size]]).hex()


def test_a_foreign_record_needs_a_trusted_person_behind_it(made: Made, person: PersonKey) -> None:
    alice = People.parse(f"alice {_line(person)}\n")
    nobody = made.verify(own=False, people=alice)
    assert (nobody.exit_code, nobody.level) == (ExitCode.UNTRUSTED, Level.SIGNED)
    _endorse(made, person)
    made.stream.seal()
    trusted = made.verify(own=False, people=alice)
    assert (trusted.exit_code, trusted.level) == (ExitCode.OK, Level.CHECKPOINT)
    assert "alice" in _check(trusted, "signer")[1]
    stranger = made.verify(own=False, people=People.parse(""))
    assert stranger.exit_code is ExitCode.UNTRUSTED
    assert "does not know" in stranger.findings[0].why
    assert made.verify(own=True, people=People.parse("")).exit_code is ExitCode.OK


def test_a_record_whose_only_endorser_was_revoked_counts_up_to_there(made: Made, person: PersonKey) -> None:
    _endorse(made, person)
    size = _size(made)
    left = made.verify(own=False, people=_revoked(made, person, size))
    assert left.exit_code is ExitCode.OK
    assert "alice (since left)" in _check(left, "signer")[1]
    made.say("log.heartbeat", {}, None)
    later = made.verify(own=False, people=_revoked(made, person, size))
    assert [(found.code, found.seq) for found in later.findings] == [("revoked", size)]
    assert later.exit_code is ExitCode.UNTRUSTED


def test_an_approval_is_checked_and_its_signer_named(made: Made, person: PersonKey) -> None:
    _approve(made, person)
    report = made.verify(people=People.parse(f"alice {_line(person)}\n"))
    assert _check(report, "approvals")[1].endswith("1 by alice")
    assert "not in the trust file" in _check(made.verify(people=People.parse("")), "approvals")[1]


def _promote(made: Made, *approvals: int) -> None:
    body = BODIES["promote.intent"] | {"approvals": list(approvals)}
    made.say("promote.intent", body)
    made.say("promote.done", BODIES["promote.done"])


def test_an_approval_by_a_revoked_key_is_a_fault_only_where_a_promotion_counted_it(
    made: Made, person: PersonKey
) -> None:
    _approve(made, person)
    size = _size(made)
    before = made.verify(people=_revoked(made, person, size))
    assert before.exit_code is ExitCode.OK
    assert "since left" in _check(before, "approvals")[1]
    _approve(made, person)
    idle = made.verify(people=_revoked(made, person, size))
    assert (idle.exit_code, idle.findings) == (ExitCode.OK, [])
    assert "1 approval by a revoked key, counted by nothing" in idle.notes
    _promote(made, size - 1)
    promoted = made.verify(people=_revoked(made, person, size))
    assert "revoked" not in {found.code for found in promoted.findings}
    _promote(made, size)
    after = made.verify(people=_revoked(made, person, size))
    (found,) = [found for found in after.findings if found.code == "revoked"]
    assert (found.seq, found.run) == (size, RUN)
    assert f"entry {size + 3} counted it" in found.why
    assert after.exit_code is ExitCode.UNTRUSTED
    assert hints(after) == ["the key was revoked: ask for a new approval"]


def test_an_approval_whose_signature_is_another_breaks_the_record_there(
    made: Made, person: PersonKey
) -> None:
    envelope = sign_statement(person, "application/vnd.in-toto+json", b"{}").to_body()
    made.say("approval.given", {"envelope": {**envelope, "payload": "e30K"}, "message": None})
    report = made.verify()
    assert [found.code for found in report.findings] == ["signature"]
    assert report.exit_code is ExitCode.BROKEN
