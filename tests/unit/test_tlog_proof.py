"""The file form of proofs, against the cases of transparency-dev/formats and torchwood."""

from __future__ import annotations

import base64
import hashlib

import pytest

from agentgov.errors import BrokenRecordError
from agentgov.ledger.chain import leaf_hash
from agentgov.ledger.checkpoint import Checkpoint, sign_checkpoint
from agentgov.ledger.signing import PrivateKey
from agentgov.ledger.tlog_proof import TlogProof, parse_proof

HEADER = "c2sp.org/tlog-proof@v1"
HASHES = tuple(hashlib.sha256(name).digest() for name in (b"hash1", b"hash2"))
LINES = [base64.b64encode(item).decode() for item in HASHES]
KEY = PrivateKey(b"\5" * 32)


@pytest.mark.parametrize(
    ("proof", "printed"),
    [
        (
            TlogProof(5, HASHES, b"test checkpoint\n"),
            f"{HEADER}\nindex 5\n{LINES[0]}\n{LINES[1]}\n\ntest checkpoint\n",
        ),
        (
            TlogProof(10, HASHES[:1], b"checkpoint data\n", b"extra information"),
            f"{HEADER}\nextra ZXh0cmEgaW5mb3JtYXRpb24=\nindex 10\n{LINES[0]}\n\ncheckpoint data\n",
        ),
        (TlogProof(0, (), b"checkpoint\n"), f"{HEADER}\nindex 0\n\ncheckpoint\n"),
        (TlogProof(0, (), b"cp\n", b""), f"{HEADER}\nextra \nindex 0\n\ncp\n"),
        (TlogProof(1, (), b"a\n\nb\n"), f"{HEADER}\nindex 1\n\na\n\nb\n"),
        (TlogProof(2**64 - 1, (), b"cp\n"), f"{HEADER}\nindex 18446744073709551615\n\ncp\n"),
    ],
)
def test_proofs_are_printed_as_others_print_them_and_read_back(proof: TlogProof, printed: str) -> None:
    assert proof.to_bytes() == printed.encode()
    assert parse_proof(printed.encode()) == proof


@pytest.mark.parametrize(
    "raw",
    [
        "",
        f"{HEADER}\n",
        f"{HEADER}\nindex 1\n",
        f"{HEADER}\nindex 1\n\n",
        f"{HEADER}\nindex 1\n\ncp a\ncp b",
        "wrong-header\nindex 0\n\ncheckpoint\n",
        "index 0\n\ncheckpoint\n",
        f"{HEADER}\r\nindex 5\r\n\r\ncp line\r\n",
        f"{HEADER}\nextra !!notbase64!!\nindex 0\n\ncheckpoint\n",
        f"{HEADER}\nextra YR==\nindex 0\n\ncp\n",
        f"{HEADER}\nextra\nindex 0\n\ncp\n",
        f"{HEADER}\nextra YQ==\nextra YQ==\nindex 0\n\ncp\n",
        f"{HEADER}\nindex 0\nextra YQ==\n\ncp\n",
        f"{HEADER}\n\n\ncheckpoint\n",
        *(
            f"{HEADER}\nindex {number}\n\ncp\n"
            for number in (
                "notanumber",
                "-5",
                "-0",
                "+1",
                "007",
                " 1",
                "1 ",
                "1_0",
                "",
                "18446744073709551616",
            )
        ),
        f"{HEADER}\nindex 0\n!!notbase64!!\n\ncheckpoint\n",
        f"{HEADER}\nindex 0\n{base64.b64encode(bytes(64)).decode()}\n\ncheckpoint\n",
        f"{HEADER}\nindex 0\n{base64.b64encode(bytes(16)).decode()}\n\ncheckpoint\n",
        f"{HEADER}\nindex 0\nypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLt=\n\ncp\n",
        f"{HEADER}\nindex 0\nypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/u\rSLs=\n\ncp\n",
        f"{HEADER}\nindex 0\n" + f"{LINES[0]}\n" * 65 + "\ncp\n",
        f"{HEADER}\nindex 0\n{'a' * 65 * 1024}\n",
        f"{HEADER}\nindex \u0661\n\ncp\n",
    ],
)
def test_what_is_no_proof_is_refused(raw: str) -> None:
    with pytest.raises(BrokenRecordError) as error:
        parse_proof(raw.encode())
    assert error.value.id in ("AG0403", "AG0207")


def test_a_leaf_is_checked_against_the_checkpoint_in_the_file() -> None:
    leaf = leaf_hash(b"test data")
    note = sign_checkpoint(Checkpoint("example.com/test", 1, leaf), KEY.public_key, KEY.sign)
    proof = parse_proof(TlogProof(0, (), note.to_bytes(), b"mine").to_bytes())
    assert proof.verify_leaf(leaf).origin == "example.com/test"
    for wrong, other in ((leaf_hash(b"wrong data"), proof), (leaf, TlogProof(1, (), note.to_bytes()))):
        with pytest.raises(BrokenRecordError) as error:
            other.verify_leaf(wrong)
        assert error.value.id == "AG0206"


def test_a_checkpoint_that_is_none_is_refused_when_it_is_asked_for() -> None:
    proof = parse_proof(f"{HEADER}\nindex 0\n\nexample.com/test\n1\nAAAA\n".encode())
    with pytest.raises(BrokenRecordError):
        _ = proof.note
    with pytest.raises(BrokenRecordError):
        proof.verify_leaf(bytes(32))
