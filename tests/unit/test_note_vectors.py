"""Signed notes and checkpoints against the vectors of golang.org/x/mod/sumdb/note, C2SP and torchwood."""

from __future__ import annotations

import pytest

from agentgov.errors import BrokenRecordError
from agentgov.ledger.checkpoint import parse_checkpoint
from agentgov.ledger.note import Note, NoteKey, key_id, parse_any_key, parse_key, parse_note, verify_note

PETER_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH_KEY = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER = (
    "— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH = (
    "— EnochRoot "
    "rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)
# The example of c2sp.org/signed-note: an empty line in the text, and letters outside ASCII.
QUASIMODO = """Ognuno sta solo sul cuor della terra
trafitto da un raggio di sole:

ed è subito sera.

— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=
"""  # noqa: E501 - a signature line is one line
KEYS = [parse_key(PETER_KEY), parse_key(ENOCH_KEY)]


def opened(raw: str, keys: list[NoteKey]) -> list[str]:
    return [key.name for key in verify_note(raw.encode(), keys)[1]]


def test_the_example_of_the_specification_prints_back() -> None:
    note = parse_note(QUASIMODO.encode())
    assert note.text.endswith("\n\ned è subito sera.\n")
    assert note.to_bytes() == QUASIMODO.encode()


def test_one_signature_known_or_both() -> None:
    raw = f"{TEXT}\n{PETER}{ENOCH}"
    assert opened(raw, KEYS[:1]) == ["PeterNeumann"]
    assert opened(raw, KEYS) == ["PeterNeumann", "EnochRoot"]
    assert opened(raw, [KEYS[1], KEYS[0], KEYS[1]]) == ["PeterNeumann", "EnochRoot"]
    with pytest.raises(BrokenRecordError):
        opened(raw, [])


def test_no_part_of_a_verifier_key_is_one() -> None:
    for first in range(len(PETER_KEY) + 1):
        for last in range(first, len(PETER_KEY) + 1):
            if (first, last) != (0, len(PETER_KEY)):
                with pytest.raises(BrokenRecordError):
                    parse_any_key(PETER_KEY[first:last])


def test_no_changed_verifier_key_is_one() -> None:
    for place, char in enumerate(PETER_KEY):
        with pytest.raises(BrokenRecordError):
            parse_key(PETER_KEY[:place] + chr(ord(char) + 1) + PETER_KEY[place + 1 :])


@pytest.mark.parametrize(
    "raw",
    [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "bananas.sigstore.dev+12344556",
        "rekor.sigstore.dev+12345678+THIS_IS_NOT_BASE64!",
        "rekor.sigstore.dev+12345678+AwEB",
        PETER_KEY.replace("c74f20a3", "C74F20A3"),
        PETER_KEY.replace("c74f20a3", "c74f20a"),
        PETER_KEY.replace("PeterNeumann", "Peter Neumann"),
        PETER_KEY.replace("PeterNeumann", ""),
        "x+" * 20_000,
    ],
)
def test_what_is_no_verifier_key_of_a_note_is_refused(raw: str) -> None:
    with pytest.raises(BrokenRecordError) as error:
        parse_key(raw)
    assert error.value.id in ("AG0207", "AG0210")


@pytest.mark.parametrize(
    "raw",
    [
        TEXT,
        f"{TEXT}\n",
        f"{TEXT}\n{PETER[:-1]}",
        f"\x01{TEXT}\n{PETER}",
        f"{TEXT}\n{PETER.replace('PeterNeumann', 'Bad Name')}",
        f"{TEXT}\n{PETER}Unexpected line.\n",
        f"{TEXT}\n{PETER * 101}",
        f"{TEXT}\n{PETER}\n",
        f"{TEXT}\n— PeterNeumann AAAA\n",
        f"{TEXT}\n— PeterNeumann  {PETER.split()[2]}\n",
        f"{TEXT}\n—\u00a0PeterNeumann {PETER.split()[2]}\n",
    ],
)
def test_what_go_calls_malformed_is_refused(raw: str) -> None:
    with pytest.raises(BrokenRecordError) as error:
        parse_note(raw.encode())
    assert error.value.id == "AG0207"


def test_a_wrong_signature_of_a_known_key_refuses_the_note_and_of_an_unknown_one_does_not() -> None:
    wrong = f"{PETER[:60]}ABCD{PETER[60:]}"
    with pytest.raises(BrokenRecordError) as error:
        opened(f"{TEXT}\n{ENOCH}{wrong}", KEYS)
    assert error.value.id == "AG0208"
    assert opened(f"{TEXT}\n{ENOCH}{wrong}", KEYS[1:]) == ["EnochRoot"]


def test_a_known_name_with_another_id_is_unknown_and_so_is_a_known_id_with_another_name() -> None:
    for line in (PETER.replace("x08g", "xxxx"), PETER.replace("PeterNeumann", "CarmenSandiego")):
        assert opened(f"{TEXT}\n{line}{ENOCH}", KEYS) == ["EnochRoot"]


def test_a_hundred_signatures_are_taken_and_long_ones_too() -> None:
    names = "".join(f"— witness{number}.example {'A' * 6400}\n" for number in range(98))
    raw = f"{TEXT}\n{PETER}{names}{ENOCH}".encode()
    assert len(parse_note(raw).signatures) == 100
    assert parse_note(raw).to_bytes() == raw


@pytest.mark.parametrize(
    "name", ["wörld.example", "例え/テスト", "a\x7fb", "a\u0080b", "a\u200bb", "😀", "-", "—"]
)
def test_key_names_may_be_any_text_without_spaces_and_plus(name: str) -> None:
    line = PETER.replace("PeterNeumann", name)
    note = parse_note(f"{TEXT}\n{line}".encode())
    assert note.signatures[0].name == name
    assert note.to_bytes() == f"{TEXT}\n{line}".encode()
    key = NoteKey(name, KEYS[0].public_key)
    assert parse_key(key.text()) == key


@pytest.mark.parametrize(
    "space", "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2008\u200a\u2028\u2029\u202f\u205f\u3000"
)
def test_no_unicode_space_is_part_of_a_key_name(space: str) -> None:
    with pytest.raises(BrokenRecordError):
        parse_key(NoteKey(f"a{space}b", KEYS[0].public_key).text())
    with pytest.raises(BrokenRecordError):
        parse_note(f"{TEXT}\n— a{space}b {PETER.split()[2]}\n".encode())


def test_keys_of_types_with_ids_of_their_own_are_kept_as_they_are() -> None:
    # signed-note: an ECDSA key's id is the hash of its DER form, type 0xff leaves it to its owner.
    for algorithm in (0x02, 0xFF):
        key = NoteKey("log.example", b"some key", algorithm, b"\x01\x02\x03\x04")
        assert parse_any_key(key.text()) == key
        assert parse_any_key(key.text()).text() == key.text()
    assert key_id("PeterNeumann", 1, KEYS[0].public_key).hex() == "c74f20a3"


@pytest.mark.parametrize(
    "origin", ["a", "a" * 255, "é" * 127 + "a", "example log+origin", "go.sum database tree", "—"]
)
def test_a_checkpoint_takes_any_origin_and_extension_lines(origin: str) -> None:
    text = f"{origin}\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\nextension\n— another\n"
    checkpoint = parse_checkpoint(text)
    assert (checkpoint.origin, checkpoint.extensions) == (origin, ("extension", "— another"))
    assert checkpoint.text() == text


@pytest.mark.parametrize(
    "size", ["", "-1", "+1", "01", "00", "1_0", " 1", "1 ", "0x1", "1e3", "١", str(2**64)]
)
def test_a_size_has_one_spelling(size: str) -> None:
    with pytest.raises(BrokenRecordError) as error:
        parse_checkpoint(f"o\n{size}\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n")
    assert error.value.id == "AG0209"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "o\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "o\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n",
        "o\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\nextension\n",
        "o\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=\n",
        "o\n1\nYmFuYW5hcw==\n",
        "o\n1\n",
        "o\t\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(BrokenRecordError) as error:
        parse_checkpoint(text)
    assert error.value.id in ("AG0207", "AG0209")


def test_a_note_with_no_line_added_is_the_same_note() -> None:
    note = parse_note(f"{TEXT}\n{PETER}".encode())
    assert note.with_signature(note.signatures[0]) is note
    assert isinstance(note, Note)
