"""Who the trust file names, and what a revocation leaves of what they signed."""

from __future__ import annotations

import pytest

from agentgov.errors import ConfigError
from agentgov.ledger.people import People, matches_list
from agentgov.ledger.revocation import (
    HEADER,
    Revocation,
    append_revocation,
    parse_revoked,
    revoked_text,
)
from tests.support.persons import LOG, OTHER_LOG, frozen, public_line, ssh_key, trust

ALICE, BOB, STRANGER = ssh_key(1), ssh_key(2), ssh_key(9)


def revoked(*revocations: Revocation) -> str:
    return revoked_text(revocations)


def block(name: str, *seeds: int, scope: str = "person", **sizes: int) -> Revocation:
    logs = {"log": LOG, "other": OTHER_LOG}
    heads = {logs[name]: frozen(size, logs[name]) for name, size in sizes.items()}
    prints = tuple(ssh_key(seed).fingerprint for seed in seeds)
    return Revocation(name, "keys" if scope == "keys" else "person", prints, heads)


def test_a_key_belongs_to_the_first_name_of_its_line() -> None:
    people = People.parse(
        f"# who we are\n\n  alice@example.org,al {ALICE.line} a comment\n" + trust(("bob", 2)) + "\r\n"
    )
    assert people.principal(ALICE) == "alice@example.org"
    assert people.principal(BOB) == "bob"
    assert people.principal(STRANGER) is None
    assert people.persons() == ["alice@example.org", "bob"]
    assert people.problems == ()


def test_lines_that_share_a_name_or_a_key_are_one_person() -> None:
    people = People.parse(trust(("alice,a2", 1), ("ALICE", 2), ("carol", 3), ("dave", 3), ("dave", 4)))
    assert people.principal(ssh_key(1)) == people.principal(ssh_key(2)) == "alice"
    assert people.principal(ssh_key(3)) == people.principal(ssh_key(4)) == "carol"
    assert people.names_of("dave") == ["carol", "dave"]
    assert [line.number for line in people.lines_of("a2")] == [1, 2]


@pytest.mark.parametrize(
    "options",
    ["cert-authority", 'namespaces="git"', 'namespaces="*,!agentgov-*"', 'cert-authority,namespaces="*"'],
)
def test_a_line_for_something_else_trusts_nobody(options: str) -> None:
    people = People.parse(trust(("alice", 1), options=options))
    assert people.principal(ALICE) is None
    assert people.problems == ()


@pytest.mark.parametrize(
    "options",
    [
        'namespaces="agentgov-approval-v1"',
        'namespaces="git,agentgov-*"',
        'NAMESPACES="*",valid-before="2030"',
    ],
)
def test_a_line_with_fitting_options_is_believed(options: str) -> None:
    assert People.parse(trust(("alice", 1), options=options)).principal(ALICE) == "alice"


@pytest.mark.parametrize("name", ["*", "*@example.org", "!alice,b?b"])
def test_a_pattern_names_nobody(name: str) -> None:
    assert People.parse(trust((name, 1))).principal(ALICE) is None


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        "alice ssh-ed25519",
        "alice ssh-ed25519 !!!!",
        "alice ssh-rsa " + ALICE.line.split()[1],
        f'alice unknown-option="x" {ALICE.line}',
        f"alice namespaces {ALICE.line}",
        f'alice cert-authority="x" {ALICE.line}',
        f'alice namespaces="a",namespaces="agentgov-approval-v1" {ALICE.line}',
        f'"alice {ALICE.line}',
        "alice " + "x" * 9000,
        "alice " + public_line(b"ssh-ed25519", b"\x00" * 32),
    ],
)
def test_a_line_that_is_not_understood_is_told_and_trusts_nobody(line: str) -> None:
    people = People.parse(f"{line}\n{trust(('bob', 2))}")
    assert people.principal(ALICE) is None
    assert people.principal(BOB) == "bob"
    assert len(people.problems) == 1
    assert people.problems[0].startswith("line 1: ")


def test_a_name_in_quotes_may_hold_a_space() -> None:
    assert People.parse(f'"alice liddell,al" {ALICE.line}\n').principal(ALICE) == "alice liddell"


def test_whoever_nobody_revoked_is_a_member_everywhere() -> None:
    people = People.parse(trust(("alice", 1)), None)
    assert people.standing(ALICE, LOG, 10**9) == people.standing("alice", LOG, 0) == "member"


def test_what_was_signed_below_the_frozen_head_stays_good_and_nothing_else_does() -> None:
    people = People.parse(trust(("alice", 1), ("bob", 2)), revoked(block("alice", 1, log=40)))
    for signer in (ALICE, "alice", "ALICE"):
        assert people.standing(signer, LOG, 39) == "since left"
        assert people.standing(signer, LOG, 40) == "revoked"
        assert people.standing(signer, OTHER_LOG, 0) == "revoked"
    assert people.standing(BOB, LOG, 40) == "member"
    assert people.principal(ALICE) == "alice"


def test_a_person_who_left_does_not_come_back_by_another_key_or_name() -> None:
    people = People.parse(
        trust(("alice", 1), ("alice", 3), ("al", 1), ("AL", 4)), revoked(block("alice", 1, log=40))
    )
    for seed in (1, 3, 4):
        assert people.standing(ssh_key(seed), LOG, 40) == "revoked"


def test_a_lost_key_does_not_take_its_owner_along() -> None:
    people = People.parse(trust(("alice", 1), ("alice", 3)), revoked(block("alice", 1, scope="keys", log=40)))
    assert people.standing(ssh_key(1), LOG, 40) == "revoked"
    assert people.standing(ssh_key(1), LOG, 39) == "since left"
    assert people.standing(ssh_key(3), LOG, 40) == "member"
    # Who asks by name gets the strictest answer.
    assert people.standing("alice", LOG, 40) == "revoked"


def test_a_revoked_key_whose_line_is_gone_is_still_known() -> None:
    people = People.parse("", revoked(block("alice", 1, log=40)))
    assert people.principal(ALICE) == "alice"
    assert people.standing(ALICE, LOG, 39) == "since left"
    assert people.standing(ALICE, LOG, 40) == "revoked"


def test_of_two_revocations_the_stricter_holds_and_a_record_must_go_through_both_heads() -> None:
    people = People.parse(trust(("alice", 1)), revoked(block("alice", 1, log=40), block("alice", 1, log=20)))
    assert people.standing(ALICE, LOG, 19) == "since left"
    assert people.standing(ALICE, LOG, 20) == "revoked"
    assert [head.size for head in people.frozen_heads(LOG)] == [20, 40]
    assert people.frozen_heads(OTHER_LOG) == ()


def test_the_file_of_revoked_keys_prints_back_and_grows() -> None:
    first = Revocation("alice", "person", (ALICE.fingerprint,), {LOG: frozen(40)}, "left the company")
    second = Revocation(
        "bob b.", "keys", (BOB.fingerprint,), {LOG: frozen(1), OTHER_LOG: frozen(2, OTHER_LOG)}
    )
    text = append_revocation(None, first)
    grown = append_revocation(text.replace("\n\n", "\n# a note\n\n") + "\n\n", second)
    assert parse_revoked(text) == (first,)
    assert parse_revoked(grown) == (first, second)
    assert "# a note" in grown
    assert parse_revoked(grown.replace("\n", "\r\n")) == (first, second)


HEAD = frozen(40).text()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "agentgov-revoked v2\nperson alice\n",
        "person alice\n",
        f"{HEADER}\nkey {ALICE.fingerprint}\n",
        f"{HEADER}\nperson\n",
        f"{HEADER}\nperson  alice\n",
        f"{HEADER}\nperson al\x1b[2Jice\n",
        f"{HEADER}\nkeys alice\n",
        f"{HEADER}\nperson alice\nkey SHA256:short\n",
        f"{HEADER}\nperson alice\nkey {ALICE.fingerprint}\nkey {ALICE.fingerprint}\n",
        f"{HEADER}\nperson alice\nhead {HEAD}\nhead {HEAD}\n",
        f"{HEADER}\nperson alice\nhead {HEAD.replace(' 40 ', ' 040 ')}\n",
        f"{HEADER}\nperson alice\nhead {HEAD.replace(' 40 ', ' 0 ')}\n",
        f"{HEADER}\nperson alice\nhead {HEAD.replace(' 40 ', ' 9999999999999999 ')}\n",
        f"{HEADER}\nperson alice\nhead {HEAD[:-2]}B=\n",
        f"{HEADER}\nperson alice\nhead {HEAD} \n",
        f"{HEADER}\nperson alice\nReason x\n",
        f"{HEADER}\nperson alice\nreason x\nreason y\n",
    ],
)
def test_a_file_of_revoked_keys_that_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        People.parse(trust(("alice", 1)), text)
    assert caught.value.id == "AG0421"


def test_a_giant_file_is_refused_before_it_is_read() -> None:
    for signers, gone in (("x" * (4 * 1024 * 1024 + 1), None), ("", "x" * (4 * 1024 * 1024 + 1))):
        with pytest.raises(ConfigError):
            People.parse(signers, gone)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("git", False),
        ("a", False),
        ("agentgov-approval-v1", True),
        ("*", True),
        ("agentgov-*-v?", True),
        ("agentgov-*-v??", False),
        ("git,agentgov*", True),
        ("*,!agentgov-approval-v1", False),
        ("", False),
        ("*" * 5000 + "x", False),
        ("*a" * 2000, False),
    ],
)
def test_patterns_match_as_in_ssh_config(patterns: str, expected: bool) -> None:
    assert matches_list("agentgov-approval-v1", patterns) is expected
