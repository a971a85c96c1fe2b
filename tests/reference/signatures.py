"""Ed25519 and the DSSE encoding (docs/format.md, "Entry"; RFC 8032).

Keys are judged by computing with points of the curve: eight times a point of small order is the neutral one.
"""

from __future__ import annotations

from functools import cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ENTRY_TYPE = "application/vnd.agentgov.entry.v1+json"
Point = tuple[int, int]


def pae(payload_type: str, payload: bytes) -> bytes:
    """What a DSSE signature is over (DSSE protocol v1.0.0)."""
    kind = payload_type.encode()
    return b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])


@cache
def is_acceptable_key(key: bytes) -> bool:
    """Whether a public key is the only encoding of a point of the curve whose order does not divide 8."""
    if len(key) != 32:
        return False
    number = int.from_bytes(key, "little")
    sign, y = number >> 255, number % 2**255
    if y >= P:
        return False
    x = _x_of(y, sign)
    if x is None:
        return False
    point = (x, y)
    for _ in range(3):
        point = _add(point, point)
    return point != (0, 1)


def verify(key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether this is the signature of an acceptable key over exactly these bytes."""
    if not is_acceptable_key(key) or len(signature) != 64:
        return False
    if int.from_bytes(signature[32:], "little") >= ORDER:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def sign(seed: bytes, message: bytes) -> bytes:
    """The signature of the key made from a seed."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def public_key(seed: bytes) -> bytes:
    """The public key made from a seed."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def _x_of(y: int, sign: int) -> int | None:
    """RFC 8032, section 5.1.3."""
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square or (x == 0 and sign == 1):
        return None
    return P - x if x % 2 != sign else x


def _add(one: Point, other: Point) -> Point:
    """The addition law of the curve -x^2 + y^2 = 1 + d x^2 y^2."""
    (x1, y1), (x2, y2) = one, other
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, P - 2, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - product, P - 2, P) % P
    return x, y
