"""A landing in a real record, with an approval signed by a real SSH key."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from agentgov.clock import FixedClock, Random
from agentgov.errors import BrokenRecordError, UntrustedSignerError
from agentgov.gates.journal import StreamJournal
from agentgov.gates.landing import LandingRequest, Person, land, prepare_landing
from agentgov.gates.review import PAYLOAD_TYPE, Approval, Principal, verify_approval
from agentgov.gates.trust import TrustedPersons
from agentgov.git import discover
from agentgov.ids import RunId
from agentgov.layout import StateHome
from agentgov.ledger import sshsig
from agentgov.ledger.payloads import PayloadStore
from agentgov.ledger.redaction import Redactor
from agentgov.ledger.signing import Envelope
from agentgov.ledger.stream import Stream
from tests.conftest import GitRunner, MakeRepo

RUN = RunId("7kq2f")
APPROVAL = Approval(
    run=RUN,
    target="refs/heads/main",
    base="1" * 40,
    head="1" * 40,
    result="2" * 40,
    delta="3" * 64,
    policy="4" * 64,
    log=("agentgov/" + "5" * 32, 12, "6" * 64),
    git_version="2.47.1",
    merge_settings={},
    given_us=1_000,
    expires_us=2_000,
)


@pytest.fixture
def key(tmp_path: Path) -> sshsig.PersonKey:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "id"], check=True, timeout=60
    )
    return sshsig.PersonKey(tmp_path / "id", None, "test")


def test_a_persons_signature_is_known_by_trust_file_or_pin(key: sshsig.PersonKey, tmp_path: Path) -> None:
    envelope = sshsig.sign_statement(key, PAYLOAD_TYPE, APPROVAL.to_payload())
    line = (tmp_path / "id.pub").read_text()
    trust = f"bob@example.org {line}"
    both = TrustedPersons(trust, line)
    assert verify_approval(envelope, TrustedPersons(trust).identify).principals == (
        Principal("bob@example.org"),
    )
    assert verify_approval(envelope, both.identify).principals == (
        Principal("bob@example.org", is_operator_key=True),
    )
    assert verify_approval(envelope, TrustedPersons("", line).identify).principals == (
        Principal("operator", is_operator_key=True),
    )
    with pytest.raises(UntrustedSignerError):
        verify_approval(envelope, TrustedPersons("").identify)
    forged = Envelope(PAYLOAD_TYPE, replace(APPROVAL, result="9" * 40).to_payload(), envelope.signatures)
    with pytest.raises(BrokenRecordError):
        verify_approval(forged, both.identify)


def test_intent_is_sealed_before_the_branch_moves(
    make_repo: MakeRepo, git: GitRunner, state: StateHome, clock: FixedClock, rng: Random, tmp_path: Path
) -> None:
    repo = make_repo()
    found = discover(repo)
    base = git(repo, "rev-parse", "HEAD")
    tree = git(
        repo, "mktree", input=f"100644 blob {git(repo, 'hash-object', '-w', 'README.md')}\tnew\n".encode()
    )
    with Stream.open(found, state, clock=clock, random=rng) as stream:
        payloads = PayloadStore(found.layout, found.layout.store, found.object_format, Redactor(), rng)
        journal = StreamJournal(stream, payloads, RUN, "4" * 64, "low", (), self_approved=True)
        request = LandingRequest(
            RUN, "refs/heads/main", base, tree, "", Person("Alice", "a@example.org"), 1_767_323_045_000_000
        )
        landing = prepare_landing(found, request, tmp_path, lambda oids: None)
        commit = land(found, landing, request, journal)
        entries = [signed.entry for signed in stream.entries()]
        intent, done = entries[-2], entries[-1]
        assert (intent.kind, done.kind, done.body) == ("promote.intent", "promote.done", {"commit": commit})
        assert intent.body["head"] == git(repo, "rev-parse", f"{commit}^2")
        assert (intent.body["result"], intent.body["old"]) == (tree, base)
        trailer = git(repo, "log", "-1", "--format=%(trailers:key=Agent-Ledger,valueonly)", commit).split()
        assert trailer[:2] == [stream.origin, str(intent.seq + 1)]
        payload = payloads.get(RUN, intent.body["target"])
        assert payload is not None
        assert payload.value == b"refs/heads/main"
