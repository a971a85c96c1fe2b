"""Proofs by whoever stole keys: of the record, and of the person who stands behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from agentgov.errors import AgentgovError
from agentgov.gates.review import PAYLOAD_TYPE as IN_TOTO
from agentgov.ids import RunId
from agentgov.ledger import merkle
from agentgov.ledger.chain import leaf_hash
from agentgov.ledger.checkpoint import Checkpoint, sign_checkpoint
from agentgov.ledger.cosignature import cosign, witness_key
from agentgov.ledger.endorsement import PAYLOAD_TYPE as ENDORSEMENT
from agentgov.ledger.endorsement import endorsement_payload
from agentgov.ledger.entry import PAYLOAD_TYPE, Entry
from agentgov.ledger.note import Note, NoteKey
from agentgov.ledger.proof_extra import MAX_ENDORSEMENTS, Included, ProofExtra
from agentgov.ledger.proof_trust import ProofTrust, parse_trust, read_trust
from agentgov.ledger.proof_verify import ProofReport, verify_proof
from agentgov.ledger.revocation import FrozenHead, Revocation, revoked_text
from agentgov.ledger.signing import Envelope, EnvelopeSignature, PrivateKey, pae
from agentgov.ledger.tlog_proof import TlogProof
from tests.support import sshsigs
from tests.support.persons import LOG, ssh_key, trust
from tests.unit.test_promotion import APPROVAL

KEY, WITNESS = PrivateKey(b"\1" * 32), PrivateKey(b"\7" * 32)
WITNESS_KEY = witness_key("witness.example", WITNESS.public_key)
POLICY = f"witness W {WITNESS_KEY.text()}\nquorum W\n".encode()
ALICE, BOB = 3, 4
TRUSTED = trust(("alice", ALICE))
BY_KEY = parse_trust(NoteKey(LOG, KEY.public_key).text().encode())


def signed_by(
    kind: str, payload: bytes, *seeds: int, payload_type: str = ENDORSEMENT
) -> tuple[str, Envelope]:
    blobs = [sshsigs.sshsig(seed, pae(payload_type, payload)) for seed in seeds]
    return kind, Envelope(payload_type, payload, tuple(EnvelopeSignature("", blob) for blob in blobs))


STANDS = signed_by("stream.endorse", endorsement_payload(LOG, KEY.public_key.hex(), ["0" * 40]), ALICE)


def approval(**changed: Any) -> tuple[str, Envelope]:
    about = {"run": RunId("7kq2f"), "log": (LOG, 12, "6" * 64), **changed}
    payload = replace(APPROVAL, **about).to_payload()
    return signed_by("approval.given", payload, ALICE, BOB, payload_type=IN_TOTO)


class Record:
    """A record of heartbeats with statements of persons first, under one signed head."""

    def __init__(self, *statements: tuple[str, Envelope], beats: int = 4, ts: int = 1) -> None:
        self.lines: list[bytes] = []
        body: dict[str, object] = {
            "continues": None,
            "object_format": "sha1",
            "public_key": KEY.public_key.hex(),
        }
        self.add("log.genesis", body, ts)
        for kind, envelope in statements:
            self.add(kind, {"envelope": envelope.to_body()}, ts)
        for _ in range(beats):
            self.add("log.heartbeat", {}, ts)
        self.leaves = [leaf_hash(line) for line in self.lines]
        head = Checkpoint(LOG, len(self.leaves), merkle.root(self.leaves))
        self.note = sign_checkpoint(head, KEY.public_key, KEY.sign)

    def add(self, kind: str, body: dict[str, object], ts: int) -> None:
        run = "7kq2f" if kind == "approval.given" else None
        if run is not None:
            body["message"] = None
        entry = Entry(len(self.lines), "0" * 64, LOG, kind, ts, run, 0, body)  # type: ignore[arg-type]
        self.lines.append(entry.line())

    def head(self, size: int) -> FrozenHead:
        return FrozenHead(LOG, size, merkle.root(self.leaves[:size]))

    def include(self, index: int) -> Included:
        line = self.lines[index]
        proof = tuple(merkle.inclusion_proof(self.leaves, index))
        return Included(index, line, KEY.sign(pae(PAYLOAD_TYPE, line)), proof)

    def prove(self, index: int, behind: Sequence[int] = (1,), note: Note | None = None) -> bytes:
        main = self.include(index)
        extra = ProofExtra(main.line, main.signature, endorsements=tuple(map(self.include, behind)))
        return TlogProof(index, main.hashes, (note or self.note).to_bytes(), extra.to_bytes()).to_bytes()


def after_revoking(head: FrozenHead, policy: bytes = b"quorum none\n") -> ProofTrust:
    block = Revocation("alice", "person", (ssh_key(ALICE).fingerprint,), {LOG: head})
    files = {"allowed_signers": TRUSTED, "revoked": revoked_text([block])}
    return read_trust({**{name: text.encode() for name, text in files.items()}, "witnesses": policy})


def refused(error_id: str, raw: bytes, trusted: ProofTrust) -> str:
    with pytest.raises(AgentgovError) as error:
        verify_proof(raw, trusted)
    assert error.value.id == error_id
    return error.value.message


def test_a_record_written_anew_by_a_thief_is_not_vouched_for_by_whom_was_robbed() -> None:
    honest, forged = Record(STANDS), Record(STANDS, ts=666, beats=9)
    trusted = after_revoking(honest.head(5))
    # Entry 3 lies below the freeze, in a head that the freeze says nothing of.
    assert "was revoked" in refused("AG0406", forged.prove(3), trusted)
    assert "was revoked" in refused("AG0406", honest.prove(3), trusted)
    # In the frozen head itself it counts, and nothing else of that size does.
    whole = after_revoking(honest.head(6))
    assert verify_proof(honest.prove(3), whole).persons == ("alice (since left)",)
    refused("AG0405", Record(STANDS, ts=666).prove(3), whole)


def test_witnesses_that_are_asked_for_vouch_for_the_head_of_whoever_left() -> None:
    honest = Record(STANDS)
    trusted = after_revoking(honest.head(5), POLICY)
    line = cosign(honest.note, WITNESS_KEY, WITNESS.sign, seconds=5)
    seen = honest.prove(3, note=honest.note.with_signature(line))
    assert verify_proof(seen, trusted).persons == ("alice (since left)",)
    # Nobody's word for it, a witness that nobody asks for, and one that is not known.
    for policy in (POLICY, b"quorum none\n", f"witness W {WITNESS_KEY.text()}\nquorum none\n".encode()):
        raw = honest.prove(3) if policy == POLICY else seen
        refused("AG0406", raw, after_revoking(honest.head(5), policy))


def test_an_endorsement_made_after_the_freeze_is_none() -> None:
    record = Record(*[signed_by("stream.endorse", STANDS[1].payload, BOB)] * 3, STANDS)
    line = cosign(record.note, WITNESS_KEY, WITNESS.sign, seconds=5)
    raw = record.prove(2, (1, 4), record.note.with_signature(line))
    assert verify_proof(raw, after_revoking(record.head(5), POLICY)).persons == ("alice (since left)",)
    refused("AG0406", raw, after_revoking(record.head(4), POLICY))


def test_a_proof_carries_only_so_many_who_stand_behind_it() -> None:
    record = Record(*[STANDS] * (MAX_ENDORSEMENTS + 1))
    most = tuple(range(1, MAX_ENDORSEMENTS + 1))
    assert verify_proof(record.prove(0, most), parse_trust(TRUSTED.encode())).persons == ("alice",)
    refused("AG0404", record.prove(0, (*most, MAX_ENDORSEMENTS + 1)), BY_KEY)


def test_a_proven_approval_says_who_signed_it() -> None:
    record = Record(approval())
    known = parse_trust(TRUSTED.encode() + NoteKey(LOG, KEY.public_key).text().encode())
    stranger = f"{ssh_key(BOB).fingerprint} (none of your keys)"
    report: ProofReport = verify_proof(record.prove(1, ()), known)
    assert report.approved_by == ("alice", stranger)
    assert verify_proof(record.prove(2, ()), known).approved_by == ()


def test_a_proven_approval_that_nobody_signed_is_broken() -> None:
    (kind, envelope), (_, other) = approval(), approval(delta="e" * 64)
    refused("AG0217", Record((kind, replace(envelope, payload=other.payload))).prove(1, ()), BY_KEY)


def test_what_a_person_approved_elsewhere_is_no_approval_here() -> None:
    elsewhere = ("agentgov/" + "e" * 32, 12, "6" * 64)
    for wrong in (approval(run=RunId("5bd0a")), approval(log=elsewhere), STANDS):
        refused("AG0405", Record(("approval.given", wrong[1])).prove(1, ()), BY_KEY)
    for payload in (b"", b"[]", b"{}", b"[" * 20_000, b'{"predicate":' * 3000, b'{"predicate":1}'):
        wrong = signed_by("approval.given", payload, ALICE, payload_type=IN_TOTO)
        refused("AG0405", Record(wrong).prove(1, ()), BY_KEY)
