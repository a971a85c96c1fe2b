"""Ed25519 signatures of persons, plain and by hardware keys, are checked here as ssh-keygen checks them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agentgov.errors import AgentgovError, BrokenRecordError, UntrustedSignerError
from agentgov.ledger import sshsig, verify_people
from agentgov.ledger.entry import Entry
from agentgov.ledger.signing import Envelope, EnvelopeSignature, pae
from agentgov.ledger.sshsig_check import needs_program
from agentgov.ledger.verify_people import Statements
from tests.support import sshsigs
from tests.support.persons import LOG, ssh_key, ssh_string

MESSAGE = b"message"


def check(raw: bytes, message: bytes = MESSAGE) -> str:
    return sshsig.verify_ssh_alone(sshsig.parse_sshsig(raw), message).fingerprint


def keygen_agrees(raw: bytes, folder: Path, message: bytes = MESSAGE) -> bool:
    file = folder / "signature"
    file.write_text(sshsig.parse_sshsig(raw).armored())
    command = ["ssh-keygen", "-Y", "check-novalidate", "-q", "-n", sshsig.NAMESPACE, "-s", str(file)]
    return subprocess.run(command, input=message, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("hash_name", [b"sha256", b"sha512"])
@pytest.mark.parametrize("flags", [None, 0x01, 0x05])
def test_what_a_person_signed_holds_and_ssh_keygen_agrees(
    tmp_path: Path, hash_name: bytes, flags: int | None
) -> None:
    raw = sshsigs.sshsig(3, MESSAGE, hash_name=hash_name, flags=flags)
    assert check(raw) == (ssh_key(3) if flags is None else sshsigs.sk_key(3)).fingerprint
    assert keygen_agrees(raw, tmp_path)


@pytest.mark.parametrize(
    "raw",
    [
        sshsigs.sshsig(3, b"other"),
        sshsigs.sshsig(3, b"other", flags=1),
        sshsigs.sshsig(3, MESSAGE, namespace=b"git"),
        sshsigs.sshsig(3, MESSAGE, namespace=b"agentgov-approval-v1\n"),
        sshsigs.sshsig(3, MESSAGE, namespace=b""),
        sshsigs.sshsig(3, MESSAGE, named=sshsigs.SK),
        sshsigs.sshsig(3, MESSAGE, flags=1, named=b"ssh-ed25519"),
        sshsigs.sshsig(3, MESSAGE, tail=b"\0"),
        sshsigs.sshsig(3, MESSAGE, flags=1, tail=b"\0"),
    ],
)
def test_what_they_did_not_sign_is_broken_and_ssh_keygen_agrees(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(BrokenRecordError) as error:
        check(raw)
    assert error.value.id == "AG0217"
    assert not keygen_agrees(raw, tmp_path)


@pytest.mark.parametrize("flags", [0x00, 0x04, 0x80])
def test_a_hardware_key_that_nobody_touched_is_no_person(tmp_path: Path, flags: int) -> None:
    raw = sshsigs.sshsig(3, MESSAGE, flags=flags)
    # Stock tools let it pass: only sshd looks at the flag.
    assert keygen_agrees(raw, tmp_path)
    with pytest.raises(UntrustedSignerError) as error:
        check(raw)
    assert error.value.id == "AG0430"


@pytest.mark.parametrize("hash_name", [b"sha1", b"md5", b"", b"SHA512"])
def test_other_hashes_are_refused(hash_name: bytes) -> None:
    raw = sshsigs.sshsig(3, MESSAGE).replace(b"\0\0\0\6sha512", ssh_string(hash_name))
    with pytest.raises(AgentgovError) as error:
        check(raw)
    assert error.value.id == "AG0218"


@pytest.mark.parametrize("cut", range(0, 170, 7))
def test_a_signature_cut_anywhere_is_none(cut: int) -> None:
    raw = sshsigs.sshsig(3, MESSAGE, flags=1)
    with pytest.raises(AgentgovError) as error:
        check(raw[:cut])
    assert error.value.id == "AG0218"


def approval(seq: int, *signatures: bytes) -> Entry:
    envelope = Envelope("x", b"", tuple(EnvelopeSignature("", item) for item in signatures))
    return Entry(seq, "0" * 64, LOG, "approval.given", 1, None, 0, {"envelope": envelope.to_body()})


def test_a_record_cannot_make_its_reader_start_more_programs_than_a_bound(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(verify_people, "MAX_ASKED", 3)
    file = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(file)], check=True)
    message = pae("x", b"")
    costly = sshsig.sign_ssh(sshsig.PersonKey(file, None, "test"), message)
    assert needs_program(costly.public_key)
    cheap = sshsigs.sshsig(3, message)
    met = Statements()
    met.take_approval(approval(1, *[cheap] * 60))
    met.take_approval(approval(2, cheap, costly.blob))
    monkeypatch.setenv("PATH", str(tmp_path))
    met.take_approval(approval(3, *[costly.blob] * 64))
    met.take_approval(approval(4, cheap))
    assert [signed.seq for signed in met.approvals] == [1, 2, 4]
    assert [(seq, "more than 3" in why) for seq, why in met.unchecked] == [(3, True)]
