"""Cosignatures, against the vectors of other projects and against every change of one byte."""

from __future__ import annotations

import base64
import hashlib

import pytest

from agentgov.errors import AgentgovError, BrokenRecordError
from agentgov.ledger.checkpoint import Checkpoint, sign_checkpoint
from agentgov.ledger.cosignature import (
    MAX_SECONDS,
    cosign,
    cosigned_message,
    verify_cosignature,
    verify_cosignatures,
    witness_key,
)
from agentgov.ledger.note import (
    COSIGNATURE_ED25519,
    COSIGNATURE_ML_DSA_44,
    Note,
    NoteKey,
    NoteSignature,
    parse_any_key,
    parse_note,
)
from agentgov.ledger.signing import PrivateKey

LOG, WITNESS, OTHER = (PrivateKey(bytes([number]) * 32) for number in (1, 2, 3))
HEAD = Checkpoint("example.com/log", 123, hashlib.sha256(b"root").digest(), ("an extension",))
NOTE = sign_checkpoint(HEAD, LOG.public_key, LOG.sign)
KEY = witness_key("witness.example/wörld", WITNESS.public_key)

# The example of c2sp.org/tlog-cosignature; its keys are not published, its framing is.
C2SP_EXAMPLE = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku\
9nTo+zyWE+xeMcTOAYQ8=
\u2014 witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1n\
PZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
"""
# Verifier keys of transparency-dev/formats.
REMORA = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"


def cosigned(seconds: int = 1_700_000_000) -> Note:
    return NOTE.with_signature(cosign(NOTE, KEY, WITNESS.sign, seconds=seconds))


def test_the_example_of_the_specification_prints_back_and_has_its_time() -> None:
    note = parse_note(C2SP_EXAMPLE.encode())
    assert note.to_bytes() == C2SP_EXAMPLE.encode()
    assert int.from_bytes(note.signatures[1].signature[:8], "big") == 1679315147
    assert len(note.signatures[1].signature) == 72
    assert cosigned_message(note.text, 1679315147) == (
        b"cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n"
        b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    )


def test_a_witness_key_made_elsewhere_is_read_and_prints_back() -> None:
    key = parse_any_key(REMORA)
    assert (key.algorithm, key.name, key.key_id.hex()) == (COSIGNATURE_ED25519, "remora.n621.de", "da77ade7")
    assert key.text() == REMORA


def test_a_cosignature_verifies_after_printing_and_covers_the_extension_lines() -> None:
    note = parse_note(cosigned().to_bytes())
    assert note.to_bytes() == cosigned().to_bytes()
    (found,) = verify_cosignatures(note, [KEY])
    assert (found.key, found.seconds, found.checkpoint) == (KEY, 1_700_000_000, HEAD)
    changed = Note(note.text.replace("extension", "extensioN"), note.signatures)
    with pytest.raises(BrokenRecordError) as error:
        verify_cosignatures(changed, [KEY])
    assert error.value.id == "AG0401"


def test_each_changed_byte_of_time_or_signature_is_refused() -> None:
    line = cosigned().signatures[1]
    for place in range(len(line.signature)):
        blob = bytearray(line.signature)
        blob[place] ^= 0x80 if place == 0 else 1
        with pytest.raises(BrokenRecordError) as error:
            verify_cosignature(NOTE, NoteSignature(line.name, line.key_id, bytes(blob)), KEY)
        assert error.value.id == "AG0401"


@pytest.mark.parametrize(("seconds", "holds"), [(0, True), (MAX_SECONDS, True), (MAX_SECONDS + 1, False)])
def test_a_time_of_2_to_63_or_later_is_refused_though_it_was_signed(seconds: int, holds: bool) -> None:
    blob = seconds.to_bytes(8, "big") + WITNESS.sign(cosigned_message(NOTE.text, seconds))
    line = NoteSignature(KEY.name, KEY.key_id, blob)
    if holds:
        assert verify_cosignature(NOTE, line, KEY).seconds == seconds
        return
    with pytest.raises(BrokenRecordError):
        verify_cosignature(NOTE, line, KEY)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 63, 64, 71, 73, 2428])
def test_a_cosignature_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(BrokenRecordError) as error:
        verify_cosignature(NOTE, NoteSignature(KEY.name, KEY.key_id, bytes(length)), KEY)
    assert error.value.id == "AG0401"


def test_a_plain_note_signature_of_the_same_key_is_no_cosignature() -> None:
    plain = NoteSignature(KEY.name, KEY.key_id, bytes(8) + WITNESS.sign(NOTE.text.encode()))
    with pytest.raises(BrokenRecordError):
        verify_cosignature(NOTE, plain, KEY)


def test_unknown_witnesses_and_algorithms_are_passed_over_and_kept() -> None:
    post_quantum = NoteKey("pq.example", bytes(1312), COSIGNATURE_ML_DSA_44)
    stranger = NoteSignature("pq.example", post_quantum.key_id, bytes(2428))
    note = parse_note(cosigned().with_signature(stranger).to_bytes())
    assert stranger in note.signatures
    assert [c.key for c in verify_cosignatures(note, [KEY, post_quantum])] == [KEY]
    assert verify_cosignatures(note, [witness_key("other", OTHER.public_key), post_quantum]) == []


def test_a_mldsa_verifier_key_is_read_and_prints_back() -> None:
    key = NoteKey("pq.example", bytes(range(256)) * 5 + bytes(32), COSIGNATURE_ML_DSA_44)
    assert parse_any_key(key.text()) == key
    short = base64.b64encode(bytes([6]) + bytes(1311)).decode()
    with pytest.raises(BrokenRecordError):
        parse_any_key(f"pq.example+00000000+{short}")


def test_two_cosignatures_of_one_witness_count_once_but_both_must_hold() -> None:
    later = cosign(NOTE, KEY, WITNESS.sign, seconds=1_700_000_001)
    assert len(verify_cosignatures(cosigned().with_signature(later), [KEY])) == 1
    wrong = NoteSignature(later.name, later.key_id, later.signature[:-1] + b"\0")
    with pytest.raises(BrokenRecordError):
        verify_cosignatures(cosigned().with_signature(wrong), [KEY])


def test_only_a_checkpoint_is_cosigned_and_only_with_a_key_and_time_for_it() -> None:
    with pytest.raises(BrokenRecordError):
        cosign(Note("some text\n", ()), KEY, WITNESS.sign, seconds=1)
    for key, seconds in ((NoteKey("w", WITNESS.public_key), 1), (KEY, -1), (KEY, MAX_SECONDS + 1)):
        with pytest.raises(AgentgovError) as error:
            cosign(NOTE, key, WITNESS.sign, seconds=seconds)
        assert error.value.id == "AG0400"


def test_the_cosignature_of_another_record_does_not_count_here() -> None:
    other = sign_checkpoint(Checkpoint("other", 123, HEAD.root), LOG.public_key, LOG.sign)
    moved = other.with_signature(cosigned().signatures[1])
    with pytest.raises(BrokenRecordError):
        verify_cosignatures(moved, [KEY])
