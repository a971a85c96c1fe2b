"""Ed25519 and DSSE: which keys and signatures are believed."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from agentgov.errors import BrokenRecordError
from agentgov.ledger.signing import (
    PrivateKey,
    check_public_key,
    pae,
    parse_envelope,
    sign_envelope,
    verify_ed25519,
    verify_signature,
)

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
KEY = PrivateKey(bytes(range(32)))
Point = tuple[int, int]


def add(a: Point, b: Point) -> Point:
    """RFC 8032, section 5.1.4, in affine coordinates."""
    (x1, y1), (x2, y2) = a, b
    k = D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P


def root(value: int) -> int | None:
    x = pow(value, (P + 3) // 8, P)
    if x * x % P != value % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    return x if x * x % P == value % P else None


def low_order_points() -> set[Point]:
    """The eight points P with 8P = 0, found from their definition: halves of (0, 1), three times over."""
    z = [(-1 + sign * (root(1 + D) or 0)) * pow(D, -1, P) % P for sign in (1, -1)]
    ys = [y for y in map(root, z) if y is not None]
    points: set[Point] = {(0, 1), (0, P - 1)}
    for y in (0, *ys, *(P - y for y in ys)):
        x = root((y * y - 1) * pow(D * y * y + 1, -1, P))
        assert x is not None
        points |= {(x, y), (P - x, y)}
    return points


def test_every_point_of_low_order_is_refused_in_every_spelling() -> None:
    points = low_order_points()
    assert len(points) == 8
    for point in points:
        eightfold = point
        for _ in range(3):
            eightfold = add(eightfold, eightfold)
        assert eightfold == (0, 1)
        for y in (point[1], point[1] + P):
            for sign in (0, 1):
                if y < 2**255:
                    with pytest.raises(BrokenRecordError) as error:
                        check_public_key((y | sign << 255).to_bytes(32, "little"))
                    assert error.value.id == "AG0210"


@pytest.mark.parametrize(
    "key",
    [b"", b"x" * 31, b"x" * 33, (2).to_bytes(32, "little"), (P + 3).to_bytes(32, "little"), b"\xff" * 32],
)
def test_a_key_that_is_no_point_or_has_a_second_spelling_is_refused(key: bytes) -> None:
    with pytest.raises(BrokenRecordError) as error:
        check_public_key(key)
    assert error.value.id == "AG0210"


def test_a_vector_of_rfc_8032_verifies() -> None:
    key = PrivateKey(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.public_key.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    assert verify_ed25519(key.public_key, key.sign(b""), b"")


def test_a_signature_with_another_s_another_length_or_another_message_is_wrong() -> None:
    signature = KEY.sign(b"message")
    s = int.from_bytes(signature[32:], "little")
    other = signature[:32] + (s + ORDER).to_bytes(32, "little")
    assert verify_ed25519(KEY.public_key, signature, b"message")
    for wrong in (other, signature[:-1], signature + b"\0", b"", bytes(64)):
        assert not verify_ed25519(KEY.public_key, wrong, b"message")
    assert not verify_ed25519(KEY.public_key, signature, b"massage")


def test_the_payload_type_is_signed_with_the_payload() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    signature = KEY.sign(pae("a", b"b"))
    verify_signature(KEY.public_key, "a", b"b", signature)
    with pytest.raises(BrokenRecordError) as error:
        verify_signature(KEY.public_key, "b", b"b", signature, where="entry 3")
    assert (error.value.id, error.value.where) == ("AG0211", "entry 3")


def test_a_private_key_does_not_print_itself() -> None:
    assert bytes(range(32)).hex() not in repr(KEY)
    with pytest.raises(BrokenRecordError):
        PrivateKey(b"short")


def test_an_envelope_is_read_back_in_both_spellings() -> None:
    made = sign_envelope("application/x", b"\x00payload", "key", KEY.sign)
    assert parse_envelope(made.to_body()) == parse_envelope(made.to_json()) == made
    assert verify_ed25519(KEY.public_key, made.signatures[0].signature, made.pae())


@pytest.mark.parametrize(
    "changes",
    [
        {"payload": "e3="},
        {"payload": "e30"},
        {"payload": 1},
        {"payload_type": 1},
        {"payload_type": "é"},
        {"signatures": []},
        {"signatures": "x"},
        {"signatures": [1]},
        {"signatures": [{"sig": "é"}]},
        {"signatures": [{"sig": "AAAA", "more": 1}]},
        {"signatures": [{"sig": "AAAA", "keyid": 1}]},
        {"signatures": [{"keyid": "a"}]},
        {"signatures": [{"sig": "AAAA"}] * 65},
        {"more": 1},
    ],
)
def test_what_is_not_an_envelope_is_refused(changes: dict[str, Any]) -> None:
    good = {"payload": base64.b64encode(b"{}").decode(), "payload_type": "x", "signatures": [{"sig": "AAAA"}]}
    parse_envelope(good)
    bad: list[object] = [{**good, **changes}, None, [], "x"]
    for raw in bad:
        with pytest.raises(BrokenRecordError) as error:
            parse_envelope(raw)
        assert error.value.id == "AG0212"
