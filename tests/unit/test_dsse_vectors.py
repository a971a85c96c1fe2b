"""DSSE: the published encoding, and envelopes checked against keys."""

from __future__ import annotations

import base64

import pytest

from agentgov.errors import BrokenRecordError
from agentgov.ledger import canonical
from agentgov.ledger.signing import (
    Envelope,
    EnvelopeSignature,
    PrivateKey,
    pae,
    parse_envelope,
    sign_envelope,
    verify_ed25519,
    verify_envelope,
)

ALICE, BOB = PrivateKey(b"\1" * 32), PrivateKey(b"\2" * 32)


@pytest.mark.parametrize(
    ("payload_type", "payload", "encoded"),
    [
        # secure-systems-lab/dsse, protocol.md.
        (
            "http://example.com/HelloWorld",
            b"hello world",
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world",
        ),
        ("", b"", b"DSSEv1 0  0 "),
        ("t", b" ", b"DSSEv1 1 t 1  "),
        ("é", b"\xff", b"DSSEv1 2 \xc3\xa9 1 \xff"),
    ],
)
def test_the_encoding_is_the_published_one(payload_type: str, payload: bytes, encoded: bytes) -> None:
    assert pae(payload_type, payload) == encoded


@pytest.mark.parametrize(
    ("seed", "public", "message", "signature"),
    [
        # RFC 8032, section 7.1, tests 1 to 3.
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
            "d25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
            "387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
            "4a7c15e9716ed28dc027beceea1ec40a",
        ),
    ],
)
def test_the_vectors_of_rfc_8032_are_made_and_verified(
    seed: str, public: str, message: str, signature: str
) -> None:
    key = PrivateKey(bytes.fromhex(seed))
    assert key.public_key.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    assert verify_ed25519(key.public_key, bytes.fromhex(signature), bytes.fromhex(message))


def test_an_envelope_of_another_tool_is_checked_against_the_known_keys() -> None:
    envelope = sign_envelope("http://example.com/HelloWorld", b"hello world", "", ALICE.sign)
    both = Envelope(
        envelope.payload_type,
        envelope.payload,
        (*envelope.signatures, EnvelopeSignature("a wrong hint", BOB.sign(envelope.pae()))),
    )
    read = parse_envelope(both.to_json())
    assert verify_envelope(read, [BOB.public_key]) == [BOB.public_key]
    keys = [ALICE.public_key, BOB.public_key, ALICE.public_key]
    assert verify_envelope(read, keys) == [ALICE.public_key, BOB.public_key]
    assert verify_envelope(envelope, keys) == [ALICE.public_key]
    for wrong in (
        Envelope("http://example.com/Hell", envelope.payload, both.signatures),
        Envelope(envelope.payload_type, b"hello worlD", both.signatures),
    ):
        with pytest.raises(BrokenRecordError) as error:
            verify_envelope(wrong, keys)
        assert error.value.id == "AG0211"
    with pytest.raises(BrokenRecordError):
        verify_envelope(both, [])


def test_a_raw_signature_of_the_payload_is_none_of_the_envelope() -> None:
    signature = base64.b64encode(ALICE.sign(b"hello world")).decode()
    raw = {"payload": "aGVsbG8gd29ybGQ=", "payloadType": "t", "signatures": [{"sig": signature}]}
    with pytest.raises(BrokenRecordError):
        verify_envelope(parse_envelope(raw), [ALICE.public_key])


def test_the_strings_of_rfc_8785_print_as_published() -> None:
    # RFC 8785, section 3.2.2.2, without the one character that is not ASCII.
    value = {"string": "$\u000f\nA'\u0042\u0022\u005c\\\"/", "literals": [None, True, False]}
    printed = rb"""{"literals":[null,true,false],"string":"$\u000f\nA'B\"\\\\\"/"}"""
    assert canonical.encode(value) == printed
    assert canonical.decode(printed) == value
