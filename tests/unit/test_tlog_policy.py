"""Policies of witnesses: the rules of c2sp.org/tlog-policy, and the cases of sigsum and torchwood."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agentgov.errors import ConfigError
from agentgov.ledger.cosignature import witness_key
from agentgov.ledger.note import COSIGNATURE_ML_DSA_44, ECDSA, NoteKey
from agentgov.ledger.signing import PrivateKey
from agentgov.ledger.tlog_policy import Policy


def public(number: int) -> bytes:
    return PrivateKey(bytes([number]) * 32).public_key


def log(number: int, name: str = "example.com/log") -> str:
    return NoteKey(name, public(number)).text()


def witness(number: int) -> str:
    return witness_key(f"witness.example/{number}", public(number)).text()


SIGSUM = f"""
# example config
log {log(1)} http://sigsum.example.org
  # comment
\tlog {log(2)}

witness W1 {witness(3)} http://w1
# same key for log and key is undesirable, but not an error
witness W2 {witness(1)}
witness W3 {witness(4)} http://w3
witness W4 {witness(5)} https://w4/
witness W5   \t{witness(6)} https://w5\x20
group G1 any W1 W2
group G2 2 W3 W4 W5
group G3 all G1 G2

quorum G3

  log {log(3)}
witness W6 {witness(2)}
"""


@pytest.mark.parametrize(
    ("witnesses", "met"),
    [
        ([], False),
        ([1], False),
        ([3], False),
        ([3, 4, 5], False),
        ([1, 2], False),
        ([1, 3], False),
        ([1, 3, 4], True),
        ([2, 3, 5], True),
        ([1, 2, 3, 4, 5, 6], True),
    ],
)
def test_groups_of_groups_count_as_they_are_defined(witnesses: Sequence[int], met: bool) -> None:
    policy = Policy.parse(SIGSUM.encode())
    assert (len(policy.logs), len(policy.witnesses)) == (3, 6)
    assert policy.is_met([f"W{number}" for number in witnesses]) is met


def test_a_group_is_not_met_by_somebody_who_only_has_its_name() -> None:
    policy = Policy.parse(SIGSUM.encode())
    assert not policy.is_met(["G1", "G2", "G3", "none", "nobody"])


def test_a_policy_prints_back_byte_for_byte() -> None:
    policy = Policy.parse(SIGSUM.encode())
    assert policy.to_bytes() == policy.text().encode("utf-8", "surrogateescape") == SIGSUM.encode()


def test_a_quorum_of_none_is_always_met_and_says_that_it_demands_nobody() -> None:
    policy = Policy.parse(b"quorum none\n")
    assert policy.is_met([])
    assert not policy.demands_witnesses
    assert Policy.parse(SIGSUM.encode()).demands_witnesses


def test_names_are_bytes_that_nothing_folds_together() -> None:
    raw = b"witness K %b\nwitness \xe2\x84\xaa %b\nwitness \xff %b\nquorum \xff\n" % tuple(
        witness(number).encode() for number in (1, 2, 3)
    )
    policy = Policy.parse(raw)
    assert len(policy.witnesses) == 3
    assert policy.is_met(["\udcff"])
    assert not policy.is_met(["K", "\u212a"])
    assert policy.to_bytes() == raw


def test_keys_of_algorithms_unknown_here_are_kept_and_never_refused() -> None:
    post_quantum = NoteKey("w.example", bytes(1312), COSIGNATURE_ML_DSA_44)
    raw = f"log {NoteKey('l.example', bytes(1312), 6).text()}\nwitness W {post_quantum.text()}\nquorum W\n"
    policy = Policy.parse(raw.encode())
    assert policy.witnesses["W"] == post_quantum


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "# \f\nquorum none\n",
        "# \x7f\nquorum none\n",
        "# \r\nquorum none\n",
        "quorum none",
        "quorum none\nquorum none\n",
        "quorum\n",
        "quorum none none\n",
        "quorum W\n",
        "Quorum none\n",
        "quorum none\nlog\n",
        "quorum none\nlog nothing\n",
        f"quorum none\nlog {log(1)}\n  log {log(1, 'another.name')}\n",
        f"quorum none\nlog {log(1)} http://example.org #comment\n",
        f"quorum none\nlog {witness(1)}\n",
        f"quorum none\nwitness W {log(1)}\n",
        f"quorum none\nwitness W {NoteKey('w', b'12', ECDSA, b'1234').text()}\n",
        f"quorum none\nwitness {witness(1)}\n",
        f"quorum none\nwitness W1 {witness(1)}\nwitness W2 {witness(1)}\n",
        f"quorum none\nwitness W1 {witness(1)}\nwitness W1 {witness(2)}\n",
        f"quorum none\nwitness none {witness(1)}\n",
        f"witness W {witness(1)}\ngroup none all W\nquorum W\n",
        f"witness W {witness(1)}\ngroup W all W\nquorum W\n",
        f"witness W {witness(1)}\n",
        f"witness W {witness(1)}\ngroup G all W W\nquorum G\n",
        f"witness W {witness(1)}\ngroup G all W\ngroup H all W\nquorum G\n",
        f"witness W {witness(1)}\ngroup G all W X\nquorum G\n",
        f"witness W {witness(1)}\ngroup G all G W\nquorum G\n",
        f"witness W {witness(1)}\ngroup G all none\nquorum G\n",
        f"witness W {witness(1)}\ngroup G all\nquorum G\n",
        *(
            f"witness W {witness(1)}\ngroup G {k} W\nquorum G\n"
            for k in ("0", "2", "01", "+1", "-1", "1_0", "½")
        ),
        f"quorum W\nwitness W {witness(1)}\n",
        f"quorum none\nwitness\u00a0W {witness(1)}\n",
        "quorum none\n" + "#\n" * 10_000,
        "#" * 1_000_001 + "\nquorum none\n",
    ],
)
def test_what_is_not_a_policy_is_refused_with_its_line(raw: str) -> None:
    with pytest.raises(ConfigError) as error:
        Policy.parse(raw.encode(), where=".agentgov/witnesses")
    assert error.value.id == "AG0402"
    assert (error.value.where or "").startswith(".agentgov/witnesses")
