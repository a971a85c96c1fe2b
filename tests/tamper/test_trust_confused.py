"""Trust files that two readers could understand differently, and programs that a repository brings itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentgov.errors import AgentgovError, ConflictError, UsageError
from agentgov.gates.review import Principal
from agentgov.gates.trust import TrustedPersons
from agentgov.git import Git
from agentgov.ledger import sshsig
from agentgov.ledger.people import People
from agentgov.ledger.revocation import Revocation, append_revocation, revoked_text
from agentgov.ledger.trust_text import NewKey, add_keys, check_principal, date_keys
from tests.support import sshsigs
from tests.support.persons import LOG, ssh_key

MESSAGE = b"message"
KEY = ssh_key(3).line


def identify(trust: str, *, revoked: People | None = None) -> Principal | None:
    signature = sshsigs.sshsig(3, MESSAGE)
    return TrustedPersons(trust, revoked=revoked).identify(MESSAGE, signature, (LOG, 1))


def test_a_line_of_the_plain_kind_names_its_person() -> None:
    for line in (f"alice {KEY}", f'"alice" {KEY}', f"alice\t{KEY} comment", f"x,alice {KEY}\r\n"):
        assert identify(line.replace("\r", "")) == Principal("x" if "," in line else "alice")
    assert identify(f'"alice smith" {KEY}') == Principal("alice smith")


@pytest.mark.parametrize(
    "line",
    [
        "* {}",
        "*@example.org {}",
        "alic? {}",
        "!alice {}",
        "alice,!alice {}",
        "alice cert-authority {}",
        'alice namespaces="git" {}',
        'alice namespaces="!agentgov-approval-v1,*" {}',
        'alice namespaces="*",valid-before="20200101" {}',
        'alice valid-after="29990101" {}',
        "alice verify-required {}",
        'alice namespaces="\\"git\\",agentgov-approval-v1" {}',
        "alice {} " + "c" * 9000,
        "al\u200bice {}",
        "\u202ealice {}",
        "alice\x07 {}",
        "a" * 300 + " {}",
        "# alice {}",
        "alice\x00bob {}",
    ],
)
def test_a_line_that_names_nobody_who_can_be_counted_and_revoked_gives_no_trust(line: str) -> None:
    assert identify(line.format(KEY) + "\n") is None


def test_a_line_that_only_ssh_keygen_understands_does_not_bring_back_whoever_was_revoked() -> None:
    # Too long for this program, and fine for ssh-keygen: a key of alice's that her revocation would not hit.
    line = f"alice {KEY} {'c' * 9000}"
    trust = f"alice {ssh_key(4).line}\n{line}\n"
    signed = sshsig.parse_sshsig(sshsigs.sshsig(3, MESSAGE))
    assert sshsig.verify_ssh(signed, MESSAGE, trust) == "alice"
    known = People.parse(trust, revoked_text([Revocation("alice", "person", (ssh_key(4).fingerprint,))]))
    assert identify(trust, revoked=known) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [("alice", "ALICE"), ("ren\u00e9", "rene\u0301"), ("alice", "\uff41lice"), ("stra\u00dfe", "STRASSE")],
)
def test_spellings_of_one_name_are_one_person(one: str, other: str) -> None:
    people = People.parse(f"{one} {ssh_key(3).line}\n{other} {ssh_key(4).line}\n")
    assert people.persons() == [one]
    assert people.principal(ssh_key(4)) == one
    gone = People.parse(f"{other} {ssh_key(4).line}\n", revoked_text([Revocation(one, "person", ())]))
    assert gone.standing(ssh_key(4), LOG, 0) == "revoked"


def test_everybody_who_is_trusted_can_be_revoked() -> None:
    for name in (
        "alice",
        "a\u00a0b",
        "\u00a0alice",
        "alice\u2003",
        "al\u00adice",
        "--force",
        "key",
        "person",
    ):
        people = People.parse(f"{name} {KEY}\n")
        for person in people.persons():
            text = append_revocation(None, Revocation(person, "person", (ssh_key(3).fingerprint,)))
            assert People.parse(f"{name} {KEY}\n", text).standing(ssh_key(3), LOG, 0) == "revoked"


def test_a_repository_does_not_bring_its_own_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (tmp_path, tmp_path / "bin"):
        folder.mkdir(exist_ok=True)
        for name in ("ssh-keygen", "git"):
            program = folder / name
            program.write_text("#!/bin/sh\necho 'git version 2.99.0'\nexit 0\n")
            program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    forged = sshsig.parse_sshsig(sshsigs.sshsig(3, b"other"))
    genuine = sshsig.parse_sshsig(sshsigs.sshsig(3, MESSAGE))
    for path in (f".:{os.environ['PATH']}", f":{os.environ['PATH']}", f"bin:{os.environ['PATH']}"):
        monkeypatch.setenv("PATH", path)
        with pytest.raises(AgentgovError) as error:
            sshsig.verify_ssh(forged, MESSAGE, f"alice {KEY}\n")
        assert error.value.id == "AG0217"
        with pytest.raises(AgentgovError) as error:
            sshsig.verify_ssh(genuine, MESSAGE, f"alice {ssh_key(4).line}\n", principal="alice")
        assert error.value.id == "AG0216"
        assert b"2.99.0" not in Git(tmp_path).plain("version").stdout
    monkeypatch.setenv("PATH", ".")
    assert b"2.99.0" not in Git(tmp_path).plain("version").stdout


def test_a_name_that_could_be_taken_for_another_is_not_added() -> None:
    for name in ("\u0430lice@example.org", "alice@ex\u0430mple.org", "bo\u03bfb"):
        with pytest.raises(UsageError) as error:
            check_principal(name)
        assert error.value.id == "AG0424"
    for name in (
        "alice@example.org",
        "\u0438\u0432\u0430\u043d@example.org",
        "\u5c71\u7530taro",
        "ren\u00e9",
    ):
        assert check_principal(name) == name


def test_a_key_that_somebody_has_for_another_use_is_still_theirs() -> None:
    with pytest.raises(ConflictError) as error:
        add_keys(f'alice namespaces="git" {KEY}\n', None, [NewKey("mallory", ssh_key(3))])
    assert error.value.id == "AG0425"
    assert add_keys(f'alice namespaces="git" {KEY}\n', None, [NewKey("alice", ssh_key(3))])[1]


@pytest.mark.parametrize(
    "options",
    [
        'valid-before="29990101" ',
        'valid-before="20261120235959Z",namespaces="*" ',
        'namespaces="*",VALID-BEFORE="29990101" ',
        'namespaces="*" ',
        "",
    ],
)
def test_ssh_keygen_refuses_a_revoked_key_whatever_its_line_said(options: str) -> None:
    trust = date_keys(f'bob {options}{KEY} valid-before="29990101"\n', [ssh_key(3).fingerprint], "20200101")
    assert identify(trust) is None
    signed = sshsig.parse_sshsig(sshsigs.sshsig(3, MESSAGE))
    with pytest.raises(AgentgovError) as error:
        sshsig.verify_ssh(signed, MESSAGE, trust)
    assert error.value.id == "AG0216"
    # A key that ended earlier does not come to life again.
    past = f'bob valid-before="20190101" {KEY}\n'
    assert date_keys(past, [ssh_key(3).fingerprint], "20200101") == past
