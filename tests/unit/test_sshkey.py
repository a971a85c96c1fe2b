"""SSH public keys: one key has one encoding, and keys under which anybody can sign are refused."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgov.errors import BrokenRecordError
from agentgov.ledger.signing import PrivateKey
from agentgov.ledger.sshkey import SshPublicKey, check_ssh_key, parse_public_key
from tests.support.persons import public_line, ssh_key, ssh_string

P = 2**255 - 19
GOOD = PrivateKey(bytes([1]) * 32).public_key
SK = b"sk-ssh-ed25519@openssh.com"
# The eight points of small order, and every other spelling of them and of points above the prime that fits in
# 32 bytes (Chalkias, Garillot, Nikolaenko: "Taming the many EdDSAs", 2020, table 2).
Y8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
SMALL = [y | sign << 255 for y in (0, 1, P - 1, P, P + 1, Y8, P - Y8) for sign in (0, 1)]
TWICE_SPELLED = [y | sign << 255 for y in range(P + 2, 2**255) for sign in (0, 1)]


def refused(line: str) -> str:
    with pytest.raises(BrokenRecordError) as caught:
        parse_public_key(line)
    return caught.value.id


@pytest.mark.parametrize("algorithm", [b"ssh-ed25519", SK])
@pytest.mark.parametrize("value", SMALL + TWICE_SPELLED)
def test_an_ed25519_key_of_small_order_or_with_two_spellings_is_refused(algorithm: bytes, value: int) -> None:
    fields = [value.to_bytes(32, "little"), *([b"ssh:"] if algorithm == SK else [])]
    assert refused(public_line(algorithm, *fields)) == "AG0210"


def test_a_point_off_the_curve_is_refused() -> None:
    assert refused(public_line(b"ssh-ed25519", (2).to_bytes(32, "little"))) == "AG0210"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "ecdsa-384", "ecdsa-521", "rsa"])
def test_what_ssh_keygen_makes_is_read_and_printed_back(kind: str, tmp_path: Path) -> None:
    name, _, bits = kind.partition("-")
    command = ["ssh-keygen", "-q", "-t", name, "-N", "", "-C", "a comment", "-f", str(tmp_path / "key")]
    subprocess.run(command + (["-b", bits] if bits else []), check=True)
    line = (tmp_path / "key.pub").read_text()
    key = parse_public_key(line)
    assert line.startswith(key.line + " a comment")
    said = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(tmp_path / "key.pub")], capture_output=True, text=True, check=True
    )
    assert said.stdout.split()[1] == key.fingerprint
    assert key.is_addable


RSA_E = b"\x01\x00\x01"
RSA_N = b"\x00" + b"\xc5" * 256
POINT = b"\x04" + b"\x01" * 64


@pytest.mark.parametrize(
    "line",
    [
        public_line(b"ssh-ed25519", GOOD, tail=b"x"),
        public_line(b"ssh-ed25519", GOOD, b""),
        public_line(b"ssh-ed25519"),
        public_line(SK, GOOD),
        public_line(SK, GOOD, b"ssh:", b""),
        public_line(b"ssh-rsa", RSA_E, b"\x00" + RSA_N),
        public_line(b"ssh-rsa", b"\x00" + RSA_E, RSA_N),
        public_line(b"ssh-rsa", RSA_E, b"\xc5" * 256),
        public_line(b"ssh-rsa", RSA_E, b""),
        public_line(b"ssh-rsa", RSA_E, RSA_N, b"more"),
        public_line(b"ecdsa-sha2-nistp256", b"nistp384", POINT),
        public_line(b"ecdsa-sha2-nistp256", b"nistp256", b"\x02" + b"\x01" * 32),
        public_line(b"ecdsa-sha2-nistp256", b"nistp256", POINT, b"more"),
        "ssh-ed25519 " + base64.b64encode(ssh_string(b"ssh-rsa") + ssh_string(GOOD)).decode(),
        public_line(b"ssh-ed25519", GOOD).replace(" ", "\u00a0"),
        "ssh-ed25519 " + "A" * 20_000,
    ],
)
def test_another_spelling_of_a_key_is_no_key(line: str) -> None:
    assert refused(line) in ("AG0218", "AG0210")


def test_only_keys_that_are_known_and_long_enough_are_added() -> None:
    assert ssh_key().is_addable
    for line in (
        public_line(b"ssh-dss", b"x"),
        public_line(b"ssh-rsa", RSA_E, b"\x00" + b"\xc5" * 128),
        public_line(b"ssh-ed25519-cert-v01@openssh.com", b"x", GOOD),
    ):
        assert not parse_public_key(line).is_addable


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_the_one_error(raw: bytes) -> None:
    for blob in (raw, ssh_string(b"ssh-ed25519") + raw, ssh_string(b"ssh-rsa") + raw):
        try:
            check_ssh_key(SshPublicKey(blob))
            assert isinstance(SshPublicKey(blob).is_addable, bool)
        except BrokenRecordError:
            pass
