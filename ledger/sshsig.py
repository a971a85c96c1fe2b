"""What a person signs: SSH signatures by `ssh-keygen`, so that agents and hardware keys work.

Rules: the signed bytes are the DSSE encoding of a statement, in the namespace `agentgov-approval-v1`, which
no other program uses; a signature is checked on its own first, then against the trust file, so that a wrong
one and an unknown signer are different errors; an Ed25519 key of low order is refused whoever vouches for it,
and a hardware key's signature without a touch.
Where there is no key to sign with, the error names the command that makes one. No private key is read here.
"""

from __future__ import annotations

import base64
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentgov.errors import AgentgovError, BrokenRecordError, UntrustedSignerError
from agentgov.git import Git, Repository, clean_environment
from agentgov.ledger.signing import Envelope, EnvelopeSignature, pae
from agentgov.ledger.sshkey import Fields, SshPublicKey, check_ssh_key, malformed, parse_public_key
from agentgov.ledger.sshsig_check import is_right, is_touched, needs_program
from agentgov.text import printable

NAMESPACE: Final = "agentgov-approval-v1"
SETTING: Final = "agentgov.signingKey"
# Time for a passphrase, or for somebody to find and touch a hardware key.
SIGN_TIMEOUT_SECONDS: Final = 300.0
_VERIFY_TIMEOUT_SECONDS: Final = 30.0
_BEGIN: Final = "-----BEGIN SSH SIGNATURE-----\n"
_END: Final = "\n-----END SSH SIGNATURE-----\n"
_LITERALS: Final = ("ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-")
_MAX_SIGNATURE_BYTES: Final = 16_384
_MAKE_KEY: Final = (
    "agentgov keys new",
    f"git config --global {SETTING} ~/.ssh/id_ed25519.pub",
)


@dataclass(frozen=True, slots=True)
class PersonKey:
    """Where a person's key is to be found: a file, or the text of a public key that an agent holds.

    Attributes:
        file: The private or public key's file.
        literal: The public key, such as `ssh-ed25519 AAAA...`.
        source: Which setting or place named it, for messages.
    """

    file: Path | None
    literal: str | None
    source: str


@dataclass(frozen=True, slots=True)
class SshSignature:
    """The fields of an SSHSIG (OpenSSH, PROTOCOL.sshsig); parsing verifies nothing."""

    public_key: SshPublicKey
    namespace: str
    hash_name: str
    signature: bytes
    blob: bytes

    def armored(self) -> str:
        """Return the form that ssh-keygen reads."""
        encoded = base64.b64encode(self.blob).decode()
        return _BEGIN + "\n".join(encoded[i : i + 70] for i in range(0, len(encoded), 70)) + _END


def find_person_key(repository: Repository, *, defaults: Sequence[Path] = ()) -> PersonKey:
    """Find the key that a person signs with: our own setting, git's SSH signing key, or a default file.

    Args:
        repository: Whose settings count.
        defaults: Key files to try when no setting names one, such as those in `~/.ssh`.

    Raises:
        AgentgovError: AG0213, when there is none; AG0214, when git signs with GPG or X.509.
    """
    own = _setting(repository, SETTING)
    if own is not None:
        return _person_key(own, f"git config {SETTING}")
    key, kind = _setting(repository, "user.signingKey"), _setting(repository, "gpg.format") or "openpgp"
    if key is not None and kind == "ssh":
        return _person_key(key, "git config user.signingKey")
    if key is not None:
        present = next((path for path in defaults if path.is_file()), None)
        name = "GPG" if kind == "openpgp" else printable(kind, limit=20)
        raise AgentgovError(
            f"git signs with {name} here, and an approval needs an SSH key",
            id="AG0214",
            where="git config user.signingKey",
            hint=_MAKE_KEY if present is None else f"git config --global {SETTING} {present}",
        )
    for path in defaults:
        if path.is_file():
            return PersonKey(path, None, str(path))
    raise AgentgovError("there is no SSH key to sign with", id="AG0213", hint=_MAKE_KEY)


def sign_ssh(key: PersonKey, message: bytes, *, namespace: str = NAMESPACE) -> SshSignature:
    """Sign bytes; ssh-keygen may ask for a passphrase or a touch on the terminal.

    Raises:
        AgentgovError: AG0215, when ssh-keygen is missing or cannot sign, or the signature does not hold.
        BrokenRecordError: AG0218, when what it printed is no signature; AG0210, when the key is refused.
        UntrustedSignerError: AG0430, when the key is in hardware and did not ask for a touch.
    """
    with tempfile.TemporaryDirectory(prefix="agentgov-") as folder:
        path = key.file
        if path is None:
            path = Path(folder) / "key.pub"
            path.write_text(f"{key.literal}\n")
        command = ["-Y", "sign", "-q", "-n", namespace, "-f", str(path)]
        done = _ssh_keygen(command, message, SIGN_TIMEOUT_SECONDS)
    if done.returncode != 0:
        raise AgentgovError(
            f"ssh-keygen could not sign: {_said(done)}",
            id="AG0215",
            where=key.source,
            hint=f"ssh-keygen -Y sign -n {namespace} -f {path if key.file else 'KEY'} FILE",
        )
    signature = parse_armored(done.stdout.decode("ascii", "replace"))
    try:
        verify_ssh_alone(signature, message, namespace=namespace)
    except BrokenRecordError as error:
        if error.id != "AG0217":
            raise
        # ssh-keygen does not look at what an agent gave it, and a wrong signature would break the record.
        raise AgentgovError(
            "what this key signed does not hold", id="AG0215", where=key.source, hint="ssh-add -l"
        ) from None
    return signature


def verify_ssh(
    signature: SshSignature,
    message: bytes,
    allowed_signers: str,
    *,
    principal: str | None = None,
    namespace: str = NAMESPACE,
) -> str:
    """Check a signature, and that the trust file lets its key speak for a principal.

    Args:
        signature: What was signed.
        message: The bytes it must be over.
        allowed_signers: The trust file's text (ssh-keygen(1), ALLOWED SIGNERS).
        principal: Who must have signed; anybody in the file when None.
        namespace: What it must have been signed for.

    Returns:
        The principal.

    Raises:
        BrokenRecordError: AG0217, when the signature is wrong; AG0210, when its key is refused.
        UntrustedSignerError: AG0216, when the trust file does not name the key for the principal; AG0430,
            when nobody touched the hardware key.
        AgentgovError: AG0215, when ssh-keygen is missing.
    """
    key = verify_ssh_alone(signature, message, namespace=namespace)
    with tempfile.TemporaryDirectory(prefix="agentgov-") as folder:
        trust, signed = Path(folder) / "trust", Path(folder) / "signature"
        trust.write_text(allowed_signers)
        signed.write_text(signature.armored())
        candidates = [principal] if principal is not None else _principals(trust, signed)
        for name in candidates:
            command = ["-Y", "verify", "-q", "-n", namespace, "-f", str(trust), "-I", name, "-s", str(signed)]
            if _ssh_keygen(command, message, _VERIFY_TIMEOUT_SECONDS).returncode == 0:
                return name
    whom = f" for {printable(principal, limit=80)}" if principal is not None else ""
    raise UntrustedSignerError(
        f"the signature is right, but the trust file does not name its key{whom}",
        id="AG0216",
        where=key.fingerprint,
    )


def verify_ssh_alone(signature: SshSignature, message: bytes, *, namespace: str = NAMESPACE) -> SshPublicKey:
    """Check that a signature is right, whoever made it, and return the key that did.

    Raises:
        BrokenRecordError: AG0217, when it is wrong or for something else; AG0210, when its key is refused.
        UntrustedSignerError: AG0430, when it is a hardware key's, and nobody touched it.
        AgentgovError: AG0215, when ssh-keygen is needed and missing.
    """
    key = signature.public_key
    check_ssh_key(key)
    if signature.namespace != namespace or not _is_right(signature, message):
        raise BrokenRecordError("a person's signature is wrong", id="AG0217", where=key.fingerprint)
    _check_touch(signature)
    return key


def _is_right(signature: SshSignature, message: bytes) -> bool:
    namespace = signature.namespace
    if not needs_program(signature.public_key):
        return is_right(signature.public_key, namespace, signature.hash_name, signature.signature, message)
    with tempfile.TemporaryDirectory(prefix="agentgov-") as folder:
        signed = Path(folder) / "signature"
        signed.write_text(signature.armored())
        command = ["-Y", "check-novalidate", "-q", "-n", namespace, "-s", str(signed)]
        return _ssh_keygen(command, message, _VERIFY_TIMEOUT_SECONDS).returncode == 0


def _check_touch(signature: SshSignature) -> None:
    if not is_touched(signature.public_key, signature.signature):
        raise UntrustedSignerError(
            "a hardware key signed this without a touch, so no person did",
            id="AG0430",
            where=signature.public_key.fingerprint,
            hint="a key that asks for a touch: agentgov keys new --hardware",
        )


def sign_statement(key: PersonKey, payload_type: str, payload: bytes) -> Envelope:
    """Return a DSSE envelope whose signature is an SSHSIG over the encoding; raises as `sign_ssh`."""
    signature = sign_ssh(key, pae(payload_type, payload))
    item = EnvelopeSignature(signature.public_key.fingerprint, signature.blob)
    return Envelope(payload_type, payload, (item,))


def verify_statement(
    envelope: Envelope, allowed_signers: str, *, principal: str | None = None
) -> list[tuple[str, SshPublicKey]]:
    """Check every signature of an envelope, and return who signed, with which key.

    Raises:
        BrokenRecordError: AG0217 or AG0218, when one is wrong or no SSH signature.
        UntrustedSignerError: AG0216, when the trust file does not name one of the keys.
    """
    signers = []
    for item in envelope.signatures:
        signature = parse_sshsig(item.signature)
        name = verify_ssh(signature, envelope.pae(), allowed_signers, principal=principal)
        signers.append((name, signature.public_key))
    return signers


def verify_statement_alone(envelope: Envelope) -> list[SshPublicKey]:
    """Check every signature of an envelope, whoever made them, and return the keys.

    Raises:
        BrokenRecordError: AG0217 or AG0218, when one is wrong or no SSH signature.
    """
    return [verify_ssh_alone(parse_sshsig(item.signature), envelope.pae()) for item in envelope.signatures]


def parse_armored(raw_text: str) -> SshSignature:
    """Parse the armored form.

    Raises:
        BrokenRecordError: AG0218, when it is not one.
    """
    body = raw_text.strip() + "\n"
    if not body.startswith(_BEGIN) or not body.endswith(_END):
        raise malformed()
    try:
        blob = base64.b64decode(body[len(_BEGIN) : -len(_END)].replace("\n", ""), validate=True)
    except ValueError:
        raise malformed() from None
    return parse_sshsig(blob)


def parse_sshsig(raw: bytes) -> SshSignature:
    """Parse the binary form (OpenSSH, PROTOCOL.sshsig).

    Raises:
        BrokenRecordError: AG0218, when it is not one.
    """
    if len(raw) > _MAX_SIGNATURE_BYTES or raw[:6] != b"SSHSIG" or raw[6:10] != b"\x00\x00\x00\x01":
        raise malformed()
    fields = Fields(raw[10:])
    key, namespace = fields.string(), fields.text()
    fields.string()
    hash_name = fields.text()
    signature = fields.string()
    if fields.rest() or hash_name not in ("sha256", "sha512"):
        raise malformed()
    return SshSignature(SshPublicKey(key), namespace, hash_name, signature, raw)


def _setting(repository: Repository, name: str) -> str | None:
    # --type=path expands "~" as git does for this setting; a literal key is left as it is.
    done = Git(repository.git_dir).plain("config", "--type=path", "--get", name, cwd=repository.work_tree)
    value = done.stdout.decode("utf-8", "replace").strip()
    return value if done.ok and value else None


def _person_key(value: str, source: str) -> PersonKey:
    literal = value.removeprefix("key::")
    if literal.startswith(_LITERALS):
        return PersonKey(None, parse_public_key(literal).line, source)
    path = Path(value)
    if not path.is_file():
        raise AgentgovError(
            f"the SSH key that {source} names is not there",
            id="AG0213",
            where=printable(value),
            hint=_MAKE_KEY,
        )
    return PersonKey(path, None, source)


def _principals(trust: Path, signed: Path) -> list[str]:
    command = ["-Y", "find-principals", "-q", "-f", str(trust), "-s", str(signed)]
    done = _ssh_keygen(command, b"", _VERIFY_TIMEOUT_SECONDS)
    if done.returncode != 0:
        return []
    names = [name for line in done.stdout.decode("utf-8", "replace").splitlines() for name in line.split(",")]
    # A pattern names nobody: a person has to be counted, so a person has to be named.
    return [name for name in names if name and not set(name) & set("*?!")]


def _ssh_keygen(
    arguments: Sequence[str], message: bytes, timeout_seconds: float
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["ssh-keygen", *arguments],
            input=message,
            capture_output=True,
            env=clean_environment(),
            timeout=timeout_seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise AgentgovError(
            "ssh-keygen was not found", id="AG0215", hint="install OpenSSH 8.2 or later"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise AgentgovError(f"ssh-keygen did not end within {timeout_seconds:g} s", id="AG0215") from error


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return printable(lines[-1], limit=300) if lines else f"exit code {done.returncode}"
