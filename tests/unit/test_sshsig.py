"""What people sign: real ssh-keygen, real keys in a sealed home."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agentgov.errors import AgentgovError, BrokenRecordError, UntrustedSignerError
from agentgov.git import Repository, discover
from agentgov.ledger import sshsig
from agentgov.ledger.signing import Envelope, EnvelopeSignature
from agentgov.ledger.sshkey import parse_public_key
from tests.support.ledger import GitRunner, MakeRepo


def make_key(path: Path, kind: str = "ed25519") -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "c", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text().strip()


@pytest.fixture
def repository(make_repo: MakeRepo, home: Path) -> Repository:
    (home / ".ssh").mkdir(mode=0o700)
    return discover(make_repo())


def configure(git: GitRunner, repository: Repository, **settings: str) -> None:
    for name, value in settings.items():
        git(repository.work_tree, "config", name.replace("_", "."), value)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_statement_is_signed_with_gits_ssh_key_and_checked_against_the_trust_file(
    repository: Repository, home: Path, git: GitRunner, kind: str
) -> None:
    public = make_key(home / ".ssh" / "key", kind)
    configure(git, repository, gpg_format="ssh", user_signingKey="~/.ssh/key.pub")
    key = sshsig.find_person_key(repository)
    envelope = sshsig.sign_statement(key, "application/x", b"{}")
    trust = f"alice@example.org,al {public}\n"
    ((name, signer),) = sshsig.verify_statement(envelope, trust)
    assert (name, signer.line) == ("alice@example.org", " ".join(public.split()[:2]))
    assert signer.fingerprint == envelope.signatures[0].key_id
    assert sshsig.verify_statement(envelope, trust, principal="al")[0][0] == "al"
    assert sshsig.verify_statement_alone(envelope) == [signer]


def test_wrong_and_unknown_are_different_errors(repository: Repository, home: Path) -> None:
    public = make_key(home / ".ssh" / "key")
    other = make_key(home / ".ssh" / "other")
    envelope = sshsig.sign_statement(
        sshsig.PersonKey(home / ".ssh" / "key", None, "x"), "application/x", b"{}"
    )
    for trust, principal in (
        (f"alice {other}\n", None),
        (f"alice {public}\n", "bob"),
        ("", None),
        (f"*@example.org {public}\n", None),
        (f'alice namespaces="git" {public}\n', None),
    ):
        with pytest.raises(UntrustedSignerError) as untrusted:
            sshsig.verify_statement(envelope, trust, principal=principal)
        assert untrusted.value.id == "AG0216"
    changed = Envelope("application/x", b"[]", envelope.signatures)
    with pytest.raises(BrokenRecordError) as broken:
        sshsig.verify_statement(changed, f"alice {public}\n")
    assert broken.value.id == "AG0217"


def test_a_signature_for_another_purpose_is_refused(home: Path, repository: Repository) -> None:
    public = make_key(home / ".ssh" / "key")
    key = sshsig.PersonKey(home / ".ssh" / "key", None, "x")
    signature = sshsig.sign_ssh(key, b"message", namespace="git")
    assert sshsig.verify_ssh(signature, b"message", f"a {public}\n", namespace="git") == "a"
    with pytest.raises(BrokenRecordError):
        sshsig.verify_ssh_alone(signature, b"message")


def test_without_a_key_the_error_names_the_command_that_makes_one(repository: Repository) -> None:
    with pytest.raises(AgentgovError) as error:
        sshsig.find_person_key(repository)
    assert error.value.id == "AG0213"
    assert error.value.hint[0] == "agentgov keys new"
    assert error.value.hint[1].startswith("git config")


def test_a_default_key_is_used_when_nothing_is_configured(repository: Repository, home: Path) -> None:
    make_key(home / ".ssh" / "id_ed25519")
    missing, present = home / ".ssh" / "id_rsa.pub", home / ".ssh" / "id_ed25519.pub"
    assert sshsig.find_person_key(repository, defaults=[missing, present]).file == present


def test_a_gpg_key_is_an_error_that_names_the_way_out(
    repository: Repository, home: Path, git: GitRunner
) -> None:
    configure(git, repository, user_signingKey="3AA5C34371567BD2")
    with pytest.raises(AgentgovError) as error:
        sshsig.find_person_key(repository)
    assert (error.value.id, error.value.hint[0]) == ("AG0214", "agentgov keys new")
    make_key(home / ".ssh" / "id_ed25519")
    present = home / ".ssh" / "id_ed25519.pub"
    with pytest.raises(AgentgovError) as error:
        sshsig.find_person_key(repository, defaults=[present])
    subprocess.run(error.value.hint[0].split(), check=True)
    assert sshsig.find_person_key(repository).file == present


def test_a_named_key_that_is_not_there_is_an_error(repository: Repository, git: GitRunner) -> None:
    configure(git, repository, gpg_format="ssh", user_signingKey="~/.ssh/none.pub")
    with pytest.raises(AgentgovError) as error:
        sshsig.find_person_key(repository)
    assert error.value.id == "AG0213"


def test_a_literal_key_is_signed_with_by_the_agent(
    repository: Repository, home: Path, git: GitRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = make_key(home / ".ssh" / "key")
    configure(git, repository, gpg_format="ssh", user_signingKey=f"key::{public}")
    key = sshsig.find_person_key(repository)
    assert key.literal == " ".join(public.split()[:2])
    with pytest.raises(AgentgovError) as error:
        sshsig.sign_ssh(key, b"x")
    assert error.value.id == "AG0215"
    agent = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    values = dict(part.split(";")[0].split("=") for part in agent.splitlines() if "=" in part)
    try:
        for name in ("SSH_AUTH_SOCK", "SSH_AGENT_PID"):
            monkeypatch.setenv(name, values[name])
        subprocess.run(["ssh-add", "-q", str(home / ".ssh" / "key")], check=True)
        (home / ".ssh" / "key").unlink()
        assert sshsig.verify_ssh(sshsig.sign_ssh(key, b"x"), b"x", f"a {public}\n") == "a"
    finally:
        subprocess.run(["ssh-agent", "-k"], capture_output=True, check=True)


@pytest.mark.parametrize(
    "raw", [b"", b"SSHSIG", b"SSHSIG\0\0\0\2", b"SSHSIG\0\0\0\1\xff\xff\xff\xff", b"x" * 20_000]
)
def test_what_is_no_signature_is_refused(raw: bytes) -> None:
    with pytest.raises(BrokenRecordError) as error:
        sshsig.parse_sshsig(raw)
    assert error.value.id == "AG0218"
    envelope = Envelope("x", b"", (EnvelopeSignature("", raw),))
    with pytest.raises(BrokenRecordError):
        sshsig.verify_statement(envelope, "")


def test_an_ssh_key_of_low_order_is_refused() -> None:
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    with pytest.raises(BrokenRecordError) as error:
        parse_public_key(line)
    assert error.value.id == "AG0210"
    for raw in ("", "ssh-ed25519", "ssh-ed25519 é", "ssh-rsa " + line.split()[1]):
        with pytest.raises(BrokenRecordError):
            parse_public_key(raw)
