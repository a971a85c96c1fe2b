"""A time stamp authority on this machine: certificates with any validity, answers by `openssl ts`."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.now(UTC)
CONFIG = """\
[tsa]
serial = {folder}/serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
accuracy = secs:1
ordering = no
tsa_name = no
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


@dataclass(frozen=True)
class Authority:
    """An authority with its own root certificate."""

    folder: Path

    @property
    def root_pem(self) -> bytes:
        return (self.folder / "root.pem").read_bytes()

    def answer(self, query: bytes) -> bytes:
        """What it answers to a query."""
        request = self.folder / "query.tsq"
        request.write_bytes(query)
        reply = self.folder / "reply.tsr"
        command = ["openssl", "ts", "-reply", "-config", self.folder / "tsa.cnf", "-section", "tsa"]
        command += ["-queryfile", request, "-out", reply, "-signer", self.folder / "tsa.pem"]
        command += ["-inkey", self.folder / "tsa.key"]
        done = subprocess.run(list(map(str, command)), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return reply.read_bytes()

    def check(self, response: bytes, message: bytes) -> bool:
        """Whether openssl itself takes a response for one over the message."""
        (self.folder / "r.tsr").write_bytes(response)
        (self.folder / "m").write_bytes(message)
        command = ["openssl", "ts", "-verify", "-in", self.folder / "r.tsr", "-data", self.folder / "m"]
        command += ["-CAfile", self.folder / "root.pem", "-untrusted", self.folder / "tsa.pem"]
        return subprocess.run(list(map(str, command)), capture_output=True, check=False).returncode == 0


def make_authority(
    folder: Path,
    name: str = "Test Authority",
    *,
    begins: timedelta = timedelta(days=-10),
    ends: timedelta = timedelta(days=10),
) -> Authority:
    """Make an authority; its own certificate is valid from `begins` to `ends`, counted from now."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder.mkdir()
    root_key, key = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    root = _certificate(f"{name} Root", root_key, None, root_key, timedelta(days=-999), timedelta(days=999))
    leaf = _certificate(name, key, root, root_key, begins, ends)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "root.pem").write_bytes(root.public_bytes(pem))
    (folder / "tsa.pem").write_bytes(leaf.public_bytes(pem))
    form = serialization.PrivateFormat.PKCS8
    (folder / "tsa.key").write_bytes(key.private_bytes(pem, form, plain))
    (folder / "serial").write_text("01\n")
    (folder / "tsa.cnf").write_text(CONFIG.format(folder=folder))
    return Authority(folder)


def _certificate(
    name: str,
    key: rsa.RSAPrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: rsa.RSAPrivateKey,
    begins: timedelta,
    ends: timedelta,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + begins)
        .not_valid_after(NOW + ends)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer is not None:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        builder = builder.add_extension(usage, critical=True)
    return builder.sign(issuer_key, hashes.SHA256())
