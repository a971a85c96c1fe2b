"""Trust files and files of revoked keys: any text is read or refused, and ssh-keygen believes no less."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentgov.errors import AgentgovError, ConfigError, UntrustedSignerError
from agentgov.ledger import sshsig
from agentgov.ledger.people import People
from agentgov.ledger.revocation import (
    HEADER,
    FrozenHead,
    Revocation,
    append_revocation,
    one_line,
    parse_revoked,
    revoked_text,
)
from agentgov.ledger.trust_text import NewKey, add_keys, check_principal, date_keys, parse_keys
from tests.support.persons import LOG, ssh_key

KEY = ssh_key(1)
PIECES = st.sampled_from(
    [
        *("alice", "bob@example.org", '"a b"', "*", "!x", ",", " ", "\t", "\r", "\n", "\u00a0", "#", '"'),
        *("cert-authority", "namespaces=", '"agentgov-approval-v1"', '"git"', "valid-before=", '"20200101"'),
        *(KEY.line, "ssh-ed25519", KEY.line.split()[1], "ssh-rsa", "sk-ssh-ed25519@openssh.com"),
        *(HEADER, "person", "keys", "key", "head", "reason", KEY.fingerprint, LOG, "1", "A" * 43 + "="),
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=8), max_size=40).map("".join)


@given(TEXTS, TEXTS)
@example("alice " + KEY.line, f"{HEADER}\nperson alice\n")
def test_any_text_is_read_or_is_an_error_of_the_configuration(signers: str, revoked: str) -> None:
    people = People.parse(signers)
    people.principal(KEY)
    people.persons()
    try:
        people = People.parse(signers, revoked)
    except ConfigError:
        return
    assert people.standing(KEY, LOG, 1) in ("member", "since left", "revoked")


@given(TEXTS)
def test_any_text_is_imported_or_refused(text: str) -> None:
    for principal in (None, "alice"):
        try:
            found = parse_keys(text, principal)
            assert found
            add_keys("", None, found)
        except AgentgovError:
            pass


@given(TEXTS, st.sampled_from(["alice", "bob@example.org"]))
def test_a_key_that_was_added_is_believed_and_nothing_else_changes(text: str, name: str) -> None:
    try:
        after_text, added = add_keys(text, None, [NewKey(name, KEY)])
    except AgentgovError:
        return
    assert after_text.startswith(text)
    after = People.parse(after_text)
    assert after.principal(KEY) == after.person_of(name)
    assert add_keys(after_text, None, [NewKey(name, KEY)]) == (after_text, [])
    assert bool(added) == (after_text != text)
    dated = date_keys(after_text, [KEY.fingerprint], "20260101")
    assert date_keys(dated, [KEY.fingerprint], "20270101") == dated
    assert People.parse(dated).principal(KEY) == after.principal(KEY)


names = st.text(min_size=1, max_size=20).map(one_line).filter(bool)
heads = st.integers(1, 2**53 - 1).flatmap(
    lambda size: st.binary(min_size=32, max_size=32).map(lambda root: FrozenHead(LOG, size, root))
)
blocks = st.builds(
    lambda name, keys, head, reason: Revocation(
        name,
        "person",
        tuple(ssh_key(n).fingerprint for n in keys),
        {} if head is None else {LOG: head},
        reason,
    ),
    names,
    st.lists(st.integers(1, 5), unique=True, max_size=3),
    st.none() | heads,
    st.just("") | names,
)


@given(st.lists(blocks, min_size=1, max_size=4))
def test_what_is_printed_is_read_back(revocations: list[Revocation]) -> None:
    assert parse_revoked(revoked_text(revocations)) == tuple(revocations)
    text: str | None = None
    for revocation in revocations:
        text = append_revocation(text, revocation)
    assert text is not None
    assert parse_revoked(text) == tuple(revocations)


@given(st.text(max_size=30))
def test_a_name_that_is_let_in_names_one_person_in_a_line(raw: str) -> None:
    try:
        name = check_principal(raw)
    except AgentgovError:
        return
    people = People.parse(f"{name} {KEY.line}\n")
    assert people.principal(KEY) == name


@pytest.fixture(scope="module")
def pen(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, sshsig.SshSignature]:
    """A real key's line, and a signature by it."""
    path = tmp_path_factory.mktemp("pen") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text().strip(), sign(path)


def sign(path: Path) -> sshsig.SshSignature:
    return sshsig.sign_ssh(sshsig.PersonKey(path, None, "test"), b"message")


@pytest.mark.parametrize(
    "line",
    [
        "alice {}",
        "  alice,al {} comment",
        '"alice b" {}',
        "\talice\t{}",
        'alice namespaces="agentgov-approval-v1" {}',
        'alice namespaces="git" {}',
        'alice namespaces="*" {}',
        'alice namespaces="agentgov-*,!agentgov-approval-v1" {}',
        'alice namespaces="!agentgov-approval-v1,*" {}',
        'alice namespaces="a?entgov-approval-v1,git" {}',
        'alice NAMESPACES="git" {}',
        "alice cert-authority {}",
        'alice cert-authority,namespaces="*" {}',
        'alice valid-after="20200101" {}',
        'alice valid-after="20200101",valid-before="20990101" {}',
        "alice no-such-option {}",
        'alice namespaces="git',
        "alice",
        "# alice {}",
        "alice\u00a0{}",
        "alice,bob{}",
        'alice namespaces="git" namespaces="*" {}',
        'alice namespaces="git",namespaces="*" {}',
        '"" {}',
        ", {}",
        "* {}",
    ],
)
def test_nobody_is_believed_whom_ssh_keygen_does_not_believe(
    line: str, pen: tuple[str, sshsig.SshSignature]
) -> None:
    public, signature = pen
    text = line.format(public) + "\n"
    name = People.parse(text).principal(signature.public_key)
    try:
        stock: str | None = sshsig.verify_ssh(signature, b"message", text)
    except UntrustedSignerError:
        stock = None
    # Without dates, the two agree; a name with a space is the one that ssh-keygen prints in two words.
    assert name == stock or (stock is None and name == "alice b")
