"""Signed notes and checkpoints, byte for byte."""

from __future__ import annotations

import base64

import pytest

from agentgov.errors import BrokenRecordError
from agentgov.ledger import note
from agentgov.ledger.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint, verify_checkpoint
from agentgov.ledger.signing import PrivateKey

# The example of golang.org/x/mod/sumdb/note, whose format C2SP signed-note describes.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNED = (
    TEXT + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfq"
    "dngotpRZb6KE6RyyBwJnAM=\n"
)
KEY = PrivateKey(bytes(range(32)))
ORIGIN = "agentgov/" + "3" * 32


def test_a_note_made_elsewhere_verifies_and_prints_back() -> None:
    key = note.parse_key(PETER)
    assert key.text() == PETER
    text, keys = note.verify_note(SIGNED.encode(), [key])
    assert (text, keys) == (TEXT, (key,))
    assert note.parse_note(SIGNED.encode()).to_bytes() == SIGNED.encode()


def test_a_changed_text_or_signature_is_refused() -> None:
    key = note.parse_key(PETER)
    for raw in (SIGNED.replace("answer", "Answer"), SIGNED.replace("ZJkuBS", "ZJkuBT")):
        with pytest.raises(BrokenRecordError) as error:
            note.verify_note(raw.encode(), [key])
        assert error.value.id == "AG0208"


def test_unknown_signatures_are_passed_over_but_one_known_is_needed() -> None:
    mine = note.NoteKey("me", KEY.public_key)
    signed = note.sign_note(TEXT, mine, KEY.sign)
    both = note.Note(TEXT, signed.signatures + note.parse_note(SIGNED.encode()).signatures).to_bytes()
    assert note.verify_note(both, [mine])[1] == (mine,)
    assert len(note.verify_note(both, [mine, note.parse_key(PETER)])[1]) == 2
    for keys in ([], [note.NoteKey("other", KEY.public_key)]):
        with pytest.raises(BrokenRecordError) as error:
            note.verify_note(both, keys)
        assert error.value.id == "AG0208"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        b"text\n",
        b"text\n\n",
        TEXT.encode(),
        SIGNED.encode()[:-1],
        SIGNED.encode() + b"\n",
        SIGNED.encode().replace(b"\n\n", b"\n"),
        SIGNED.replace("—", "-").encode(),
        SIGNED.replace("— PeterNeumann ", "— PeterNeumann").encode(),
        SIGNED.replace("— PeterNeumann ", "—  ").encode(),
        SIGNED.replace("PeterNeumann", "Peter+Neumann").encode(),
        SIGNED.replace("PeterNeumann", "Peter\u00a0Neumann").encode(),
        SIGNED.replace("AM=", "AN=").encode(),
        SIGNED.replace("AM=", "AM").encode(),
        SIGNED.replace("If", "\tIf").encode(),
        SIGNED.encode().replace(b"If", b"\xff"),
        (TEXT + "\n— a AAAA\n").encode(),
        (TEXT + "\n" + "— a AAAAAAAA\n" * 101).encode(),
        b"x" * 1_000_001,
    ],
)
def test_what_is_not_a_note_is_refused(raw: bytes) -> None:
    with pytest.raises(BrokenRecordError) as error:
        note.parse_note(raw)
    assert error.value.id == "AG0207"


@pytest.mark.parametrize(
    "raw",
    ["", "a", "a+b", PETER[:-4], PETER.replace("c74f20a3", "c74f20a4"), PETER.replace("+ARp", "+AhP")],
)
def test_what_is_not_a_verifier_key_is_refused(raw: str) -> None:
    with pytest.raises(BrokenRecordError):
        note.parse_key(raw)


def test_a_checkpoint_is_read_back_byte_for_byte() -> None:
    for extensions in ((), ("one", "two words")):
        made = Checkpoint(ORIGIN, 20852163, bytes(32), extensions)
        assert parse_checkpoint(made.text()) == made
        raw = sign_checkpoint(made, KEY.public_key, KEY.sign).to_bytes()
        assert verify_checkpoint(raw, ORIGIN, KEY.public_key) == made


def test_a_checkpoint_of_another_key_or_record_is_refused() -> None:
    made = Checkpoint(ORIGIN, 5, bytes(32))
    raw = sign_checkpoint(made, KEY.public_key, KEY.sign).to_bytes()
    other = PrivateKey(bytes(32))
    with pytest.raises(BrokenRecordError):
        verify_checkpoint(raw, ORIGIN, other.public_key)
    with pytest.raises(BrokenRecordError):
        verify_checkpoint(raw, ORIGIN.replace("3", "4"), KEY.public_key)
    mine = note.NoteKey(ORIGIN, KEY.public_key)
    foreign = note.sign_note(Checkpoint("else", 5, bytes(32)).text(), mine, KEY.sign).to_bytes()
    with pytest.raises(BrokenRecordError) as error:
        verify_checkpoint(foreign, ORIGIN, KEY.public_key)
    assert error.value.id == "AG0209"


@pytest.mark.parametrize("size", ["", "+5", "05", "5 ", "1_0", "-1", "٣", "5" * 20])
def test_a_size_with_another_spelling_is_refused(size: str) -> None:
    root = base64.b64encode(bytes(32)).decode()
    with pytest.raises(BrokenRecordError):
        parse_checkpoint(f"{ORIGIN}\n{size}\n{root}\n")


@pytest.mark.parametrize(
    "text", ["", "a\n5\n", "a\n5\nAAAA\n", "a\n5\n{root}", "\n5\n{root}\n", "a\n5\n{root}\n\n"]
)
def test_what_is_not_a_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(BrokenRecordError):
        parse_checkpoint(text.format(root=base64.b64encode(bytes(32)).decode()))
