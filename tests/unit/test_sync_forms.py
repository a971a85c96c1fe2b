"""What a remote says, what a list of records holds, and addresses: any bytes, read in bounds or refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgov.errors import AgentgovError, BrokenRecordError, UsageError
from agentgov.ledger.archive import ListedHead, encode_heads, newer_heads, parse_heads
from agentgov.ledger.remote import parse_offer
from agentgov.ledger.remote_address import protocol_of, redacted

OID = "1" * 40
heads = st.builds(
    ListedHead,
    st.text("0123456789abcdef", min_size=32, max_size=32),
    st.integers(1, 2**53),
    st.binary(min_size=32, max_size=32),
    st.text("0123456789abcdef", min_size=40, max_size=40),
)


@given(st.lists(heads, unique_by=lambda head: head.stream_id, max_size=5))
def test_a_list_reads_back_as_it_was_written(listed: list[ListedHead]) -> None:
    raw = encode_heads(listed)
    assert parse_heads(raw, where="x") == {head.stream_id: head for head in listed}


@given(st.binary(max_size=400))
def test_any_bytes_are_a_list_that_prints_back_or_are_refused(raw: bytes) -> None:
    try:
        listed = parse_heads(raw, where="x")
    except BrokenRecordError:
        return
    assert encode_heads(listed.values()) == raw


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw[:-1],
        lambda raw: raw + raw,
        lambda raw: raw + b"\n",
        lambda raw: b"".join(reversed(raw.splitlines(keepends=True))),
        lambda raw: raw.replace(b" 7 ", b" 07 "),
        lambda raw: raw.replace(b" 7 ", b"  7 "),
        lambda raw: raw.replace(b" 7 ", b" +7 "),
        lambda raw: raw.upper(),
        lambda raw: raw.replace(b"\n", b"\r\n"),
        # Another spelling of the same bytes in base64.
        lambda raw: raw.replace(b"A= ", b"B= "),
    ],
)
def test_a_list_in_another_form_is_refused(change: object) -> None:
    listed = [ListedHead("a" * 32, 7, b"\x00" * 32, OID), ListedHead("b" * 32, 7, b"\x00" * 32, OID)]
    raw = encode_heads(listed)
    with pytest.raises(BrokenRecordError) as caught:
        parse_heads(change(raw), where="x")  # type: ignore[operator]
    assert caught.value.id == "AG0488"


def head(size: int, seal: str) -> ListedHead:
    return ListedHead("a" * 32, size, b"\x00" * 32, seal)


def test_a_list_takes_successors_only() -> None:
    chain = ["1", "2", "3"]

    def is_ancestor(old: str, new: str) -> bool:
        return old in chain and new in chain and chain.index(old) <= chain.index(new)

    old = {"a" * 32: head(2, "2")}
    assert newer_heads({}, [head(2, "2")], is_ancestor) == [head(2, "2")]
    assert newer_heads(old, [head(2, "2")], is_ancestor) == []
    assert newer_heads(old, [head(1, "1")], is_ancestor) == []
    assert newer_heads(old, [head(3, "3")], is_ancestor) == [head(3, "3")]
    for other in (head(3, "x"), head(1, "x"), head(2, "3"), head(1, "3"), head(3, "1")):
        with pytest.raises(BrokenRecordError) as caught:
            newer_heads(old, [other], is_ancestor)
        assert caught.value.id == "AG0486"


@given(st.binary(max_size=300))
def test_any_offer_is_read_or_refused(raw: bytes) -> None:
    try:
        offer = parse_offer(raw)
    except AgentgovError:
        return
    assert all(name.startswith("refs/heads/") for name in offer.heads)


def test_only_names_in_our_forms_are_taken_from_an_offer() -> None:
    ours = [f"refs/agentgov/ledger/{'a' * 32}", f"refs/agentgov/witness/{'a' * 32}/0123abcd"]
    ours += [f"refs/agentgov/timestamp/{'a' * 32}", "refs/agentgov/archive"]
    ours += [f"refs/agentgov/payloads/{'a' * 32}/7kq2f/changes"]
    odd = [
        "refs/agentgov/ledger/..",
        f"refs/agentgov/ledger/{'a' * 31}",
        f"refs/agentgov/ledger/{'a' * 32}/x",
        f"refs/agentgov/payloads/{'a' * 32}/7kq2f/secrets",
        f"refs/agentgov/payloads/{'a' * 32}/illuo/changes",
        "refs/agentgov/archive\x1b[31m",
    ]
    lines = [f"{OID}\t{name}\n" for name in [*ours, *odd, "refs/heads/main", "refs/tags/v1"]]
    raw = "".join(["ref: refs/heads/main\tHEAD\n", f"{OID}\tHEAD\n", *lines]).encode()
    offer = parse_offer(raw)
    assert sorted(offer.refs) == sorted(ours)
    assert offer.odd == len(odd)
    assert offer.heads == {"refs/heads/main": OID}
    assert offer.default == "refs/heads/main"


@pytest.mark.parametrize(
    ("url", "protocol"),
    [
        ("https://example.org/x.git", "https"),
        ("HTTPS://example.org/x.git", "https"),
        ("http://example.org/x", "http"),
        ("git://example.org/x", "git"),
        ("ssh://git@example.org:22/x", "ssh"),
        ("git+ssh://example.org/x", "ssh"),
        ("git@example.org:x/y.git", "ssh"),
        ("example.org:x", "ssh"),
        ("file:///srv/x.git", "file"),
        ("/srv/x.git", "file"),
        ("../x.git", "file"),
        ("./a:b", "file"),
        ("/srv/a:b.git", "file"),
    ],
)
def test_the_transport_of_an_address_is_what_git_uses(url: str, protocol: str) -> None:
    assert protocol_of(url) == protocol


@pytest.mark.parametrize(
    "url", ["", "-x", "ext::sh -c x", "foo::bar", "rsync://x/y", "javascript://x", "persistent-https://x/y"]
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        protocol_of(url)
    assert caught.value.id == "AG0481"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:secret@example.org/x.git", "https://example.org/x.git"),
        ("https://ghp_token@example.org/x.git", "https://example.org/x.git"),
        ("https://a@b:c@example.org/x", "https://example.org/x"),
        ("https://example.org/x?private_token=abc#y", "https://example.org/x"),
        ("ssh://git:secret@example.org/x", "ssh://git@example.org/x"),
        ("git@example.org:x/y.git", "git@example.org:x/y.git"),
        ("/srv/x.git", "/srv/x.git"),
        ("https://example.org/\x1b[31m", "https://example.org/\\x1b[31m"),
    ],
)
def test_an_address_is_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert redacted(url) == shown


@given(st.text(max_size=60), st.text("abcXYZ012", min_size=4, max_size=12))
def test_no_user_part_of_a_web_address_is_ever_shown(path: str, secret: str) -> None:
    shown = redacted(f"https://u:{secret}@host.example/{path.replace(secret, '')}")
    assert secret not in shown or secret in "https://host.example/" + path
    assert base64.b64encode(secret.encode()).decode() not in shown or secret in path
