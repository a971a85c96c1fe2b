"""Approvals that stand in a record more often, or elsewhere, than where they were given; and bad signers."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from agentgov.errors import AgentgovError
from agentgov.gates import trust as trust_module
from agentgov.gates.promotion import decide_promotion
from agentgov.gates.review import PAYLOAD_TYPE, Approval, GivenApproval, Principal
from agentgov.gates.trust import TrustedPersons
from agentgov.ids import RunId
from agentgov.ledger import sshsig
from agentgov.ledger.entry import Entry
from agentgov.ledger.signing import Envelope, EnvelopeSignature, pae
from tests.support import sshsigs
from tests.support.persons import LOG, OTHER_LOG, trust
from tests.unit.test_promotion import APPROVAL, FACTS

BOB = 4
TRUSTED = TrustedPersons(trust(("bob", BOB)))


def entered(seq: int, approval: Approval = APPROVAL, *, log: str = LOG, seed: int = BOB) -> Entry:
    payload = approval.to_payload()
    blob = sshsigs.sshsig(seed, pae(PAYLOAD_TYPE, payload))
    envelope = Envelope(PAYLOAD_TYPE, payload, (EnvelopeSignature("", blob),))
    body = {"envelope": envelope.to_body(), "message": None}
    return Entry(seq, "0" * 64, log, "approval.given", 1, RunId("7kq2f"), 0, body)


def test_an_approval_given_in_another_record_does_not_hold_in_this_one() -> None:
    here = GivenApproval(replace(APPROVAL, log=(LOG, 5, "a" * 64)), (Principal("bob"),), 7)
    there = GivenApproval(replace(APPROVAL, log=(OTHER_LOG, 5, "a" * 64)), (Principal("bob"),), 8)
    facts = replace(FACTS, log=LOG)
    assert decide_promotion(replace(facts, approvals=[here])).used == (7,)
    decision = decide_promotion(replace(facts, approvals=[there]))
    assert decision.used == ()
    assert decision.rejected == ("bob: it was given in another record",)


def test_an_entry_of_another_record_is_no_approval_in_this_one() -> None:
    assert [given.seq for given in TRUSTED.approvals([entered(7)], LOG)] == [7]
    assert TRUSTED.approvals([entered(7, log=OTHER_LOG)], LOG) == []


def test_an_approval_that_is_entered_again_and_again_is_looked_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    genuine = sshsig._ssh_keygen

    def count(arguments: list[str], *rest: object) -> object:
        asked.append(arguments[1])
        return genuine(arguments, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(sshsig, "_ssh_keygen", count)
    trusted = TrustedPersons(trust(("bob", BOB)))
    others = [replace(APPROVAL, given_us=APPROVAL.given_us + n) for n in range(20)]
    entries = [entered(seq) for seq in range(7, 1007)]
    entries += [entered(2000 + n, approval) for n, approval in enumerate(others)]
    found = trusted.approvals(entries, LOG)
    assert [given.seq for given in found[:2]] == [7, 2001]
    assert len(found) == 20
    # Once for the key, however many approvals it signed.
    assert asked == ["find-principals", "verify"]
    monkeypatch.setattr(trust_module, "MAX_APPROVALS", 3)
    assert [given.seq for given in trusted.approvals(entries, LOG)] == [2017, 2018, 2019]


def test_a_signature_that_does_not_hold_never_reaches_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stuck device, or an agent that signs something else: ssh-keygen hands on what it is given.
    forged = sshsig.parse_sshsig(sshsigs.sshsig(BOB, b"other")).armored().encode()

    def sign(*_: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess([], 0, forged, b"")

    monkeypatch.setattr(sshsig, "_ssh_keygen", sign)
    with pytest.raises(AgentgovError) as error:
        sshsig.sign_ssh(sshsig.PersonKey(tmp_path / "id", None, "test"), b"message")
    assert error.value.id == "AG0215"
