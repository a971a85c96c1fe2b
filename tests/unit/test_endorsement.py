from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from agentgov.clock import SystemClock
from agentgov.errors import BrokenRecordError, ExitCode
from agentgov.git import discover
from agentgov.layout import StateHome
from agentgov.ledger.endorsement import PAYLOAD_TYPE, endorsement_payload, verify_endorsement
from agentgov.ledger.entry import Draft
from agentgov.ledger.signing import Envelope
from agentgov.ledger.sshsig import PersonKey, sign_statement
from agentgov.ledger.stream import Stream
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_report import Report
from agentgov.ledger.verify_source import RepositorySource, local_trust
from tests.conftest import MakeRepo

LOG, KEY = "agentgov/" + "a" * 32, "b" * 64


@pytest.fixture
def person(tmp_path: Path) -> PersonKey:
    path = tmp_path / "person"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return PersonKey(path, None, "test")


def signed(person: PersonKey, payload: bytes, payload_type: str = PAYLOAD_TYPE) -> dict[str, object]:
    return {"envelope": sign_statement(person, payload_type, payload).to_body()}


def test_an_endorsement_names_its_signer(person: PersonKey) -> None:
    (key,) = verify_endorsement(signed(person, endorsement_payload(LOG, KEY, ["c" * 40])), LOG, KEY)
    assert person.file is not None
    assert key.line == " ".join(person.file.with_suffix(".pub").read_text().split()[:2])


@pytest.mark.parametrize(
    "payload",
    [
        endorsement_payload("agentgov/" + "0" * 32, KEY, []),
        endorsement_payload(LOG, "0" * 64, []),
        endorsement_payload(LOG, KEY, []) + b" ",
        b"{}",
        b"[]",
        b"not json",
    ],
)
def test_an_endorsement_of_something_else_is_refused(person: PersonKey, payload: bytes) -> None:
    with pytest.raises(BrokenRecordError) as caught:
        verify_endorsement(signed(person, payload), LOG, KEY)
    assert caught.value.id == "AG0283"


def test_an_endorsement_of_another_type_is_refused(person: PersonKey) -> None:
    body = signed(person, endorsement_payload(LOG, KEY, []), "application/vnd.in-toto+json")
    with pytest.raises(BrokenRecordError):
        verify_endorsement(body, LOG, KEY)


def verify(repo: Path, state: StateHome) -> Report:
    found = discover(repo)
    return verify_ledger(RepositorySource(found), trust=local_trust(found, state))


def test_verify_says_who_stands_behind_the_record(
    make_repo: MakeRepo, state: StateHome, person: PersonKey
) -> None:
    repo = make_repo(files={"a": "1\n"})
    with Stream.open(discover(repo), state, clock=SystemClock(), random=os.urandom) as stream:
        before = {check.name: check for check in verify(repo, state).checks}["signer"]
        assert (before.status, "trusted on first use" in before.text) == ("--", True)
        payload = endorsement_payload(stream.origin, stream.public_key.hex(), [])
        stream.append([Draft("stream.endorse", None, signed(person, payload))], stream.log_signer())
        after = {check.name: check for check in verify(repo, state).checks}["signer"]
        assert (after.status, "SHA256:" in after.text) == ("ok", True)


def test_verify_refuses_an_endorsement_whose_signature_is_another(
    make_repo: MakeRepo, state: StateHome, person: PersonKey
) -> None:
    repo = make_repo(files={"a": "1\n"})
    with Stream.open(discover(repo), state, clock=SystemClock(), random=os.urandom) as stream:
        good = sign_statement(person, PAYLOAD_TYPE, endorsement_payload(LOG, KEY, []))
        own = endorsement_payload(stream.origin, stream.public_key.hex(), [])
        forged = Envelope(PAYLOAD_TYPE, own, good.signatures)
        stream.append([Draft("stream.endorse", None, {"envelope": forged.to_body()})], stream.log_signer())
        report = verify(repo, state)
    assert report.exit_code is ExitCode.BROKEN
    assert report.broken_at is not None
    assert report.broken_at.seq == 1
