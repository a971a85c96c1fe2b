"""Proofs that whoever has a record's key could make up: rules that no signed head can bend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from agentgov.errors import AgentgovError
from agentgov.ids import RunId
from agentgov.ledger import merkle
from agentgov.ledger.chain import leaf_hash
from agentgov.ledger.checkpoint import Checkpoint, sign_checkpoint
from agentgov.ledger.entry import PAYLOAD_TYPE, Entry
from agentgov.ledger.note import NoteKey
from agentgov.ledger.proof_extra import Included, ProofExtra
from agentgov.ledger.proof_trust import parse_trust
from agentgov.ledger.proof_verify import ProofReport, verify_proof
from agentgov.ledger.signing import PrivateKey, pae
from agentgov.ledger.tlog_proof import TlogProof
from tests.support.ledger import request

LOG, SESSION = PrivateKey(b"\1" * 32), PrivateKey(b"\2" * 32)
ORIGIN = "agentgov/" + "0" * 32
RUN, OTHER = RunId("7kq2f"), RunId("5bd0a")
TRUST = parse_trust(NoteKey(ORIGIN, LOG.public_key).text().encode())
GENESIS = {"continues": None, "object_format": "sha1", "public_key": LOG.public_key.hex()}
DELEGATE = {"public_key": SESSION.public_key.hex(), "purpose": "run"}


def entry(seq: int, kind: str, body: dict[str, Any], run: RunId | None, key: int, log: str = ORIGIN) -> bytes:
    return Entry(seq, "0" * 64, log, kind, 1, run, key, body).line()


def forged(
    last: bytes,
    signer: PrivateKey,
    *,
    keys: Sequence[int] = (),
    behind: Sequence[int] = (),
    delegate: bytes | None = None,
    delegated_by: PrivateKey = LOG,
) -> ProofReport:
    """Check a proof of the third entry; the log key signs a head over whatever stands in the tree."""
    signed = [
        (entry(0, "log.genesis", GENESIS, None, 0), LOG),
        (delegate or entry(1, "key.delegate", DELEGATE, RUN, 0), delegated_by),
        (last, signer),
    ]
    leaves = [leaf_hash(line) for line, _ in signed]

    def include(number: int) -> Included:
        line, key = signed[number]
        signature = key.sign(pae(PAYLOAD_TYPE, line))
        return Included(number, line, signature, tuple(merkle.inclusion_proof(leaves, number)))

    main = include(2)
    extra = ProofExtra(
        main.line,
        main.signature,
        keys=tuple(map(include, keys)),
        endorsements=tuple(map(include, behind)),
    )
    head = Checkpoint(ORIGIN, len(leaves), merkle.root(leaves))
    note = sign_checkpoint(head, LOG.public_key, LOG.sign)
    proof = TlogProof(2, main.hashes, note.to_bytes(), extra.to_bytes())
    return verify_proof(proof.to_bytes(), TRUST)


def call(run: RunId = RUN, key: int = 1) -> bytes:
    return entry(2, "call.request", request(1).body, run, key)


def test_what_is_right_holds() -> None:
    assert forged(call(), SESSION, keys=[1]).entries[0].kind == "call.request"
    assert forged(entry(2, "log.heartbeat", {}, None, 0), LOG).entries[0].seq == 2


def refused(error_id: str, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(AgentgovError) as error:
        forged(*args, **kwargs)
    assert error.value.id == error_id


def test_an_entry_stands_where_it_says() -> None:
    refused("AG0405", entry(3, "log.heartbeat", {}, None, 0), LOG)


def test_an_entry_of_another_record_is_none_of_this_one() -> None:
    refused("AG0405", entry(2, "log.heartbeat", {}, None, 0, "agentgov/" + "f" * 32), LOG)


def test_the_log_key_signs_no_call() -> None:
    refused("AG0405", call(key=0), LOG)


def test_a_session_key_signs_for_its_own_run_only() -> None:
    refused("AG0405", call(OTHER), SESSION, keys=[1])


def test_a_session_key_introduces_no_session_key() -> None:
    refused("AG0405", entry(2, "key.delegate", DELEGATE, RUN, 1), SESSION, keys=[1])


def test_a_delegated_key_is_delegated_by_the_log_key() -> None:
    refused("AG0211", call(), SESSION, keys=[1], delegated_by=SESSION)


def test_an_endorsement_is_entered_by_the_log_key() -> None:
    envelope = {"payload": "", "payload_type": "x", "signatures": [{"keyid": "", "sig": ""}]}
    line = entry(1, "stream.endorse", {"envelope": envelope}, None, 0)
    beat = entry(2, "log.heartbeat", {}, None, 0)
    refused("AG0211", beat, LOG, behind=[1], delegate=line, delegated_by=SESSION)
    refused("AG0283", beat, LOG, behind=[1], delegate=line)
