"""Makes the vectors of docs/format.md ("Vectors"), from fixed seeds.

`python -m tests.reference.vectors` prints the section; a test compares it with the page.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from tests.reference import canonical_slow, merkle_slow, notes, signatures

LOG_SEED, SESSION_SEED, WITNESS_SEED = bytes(range(32)), b"\x01" * 32, b"\x02" * 32
ORIGIN = "agentgov/" + "0" * 32
RUN = "7kq2f"
TS = 1767323045000000
WITNESS = "witness.example.org/1"
SALT = bytes(range(32, 64))


def commitment(salt: bytes, name: str, value: bytes) -> bytes:
    """What an entry holds in a payload's place."""
    encoded = name.encode()
    sizes = (len(encoded).to_bytes(2, "big"), len(value).to_bytes(8, "big"))
    return hashlib.sha256(b"agentgov/commit/v1\x00" + salt + sizes[0] + encoded + sizes[1] + value).digest()


def entries() -> list[tuple[bytes, bytes]]:
    """Lines and signatures of a short record: its beginning, a session key, what that key says, its end."""
    session = signatures.public_key(SESSION_SEED).hex()
    genesis = {
        "continues": None,
        "object_format": "sha1",
        "public_key": signatures.public_key(LOG_SEED).hex(),
    }
    said: list[tuple[str, str | None, int, dict[str, Any]]] = [
        ("log.genesis", None, 0, genesis),
        ("log.heartbeat", None, 0, {}),
        ("key.delegate", RUN, 0, {"public_key": session, "purpose": "run"}),
        ("log.heartbeat", RUN, 2, {}),
        ("key.end", RUN, 2, {}),
        ("log.end", None, 0, {"next": None, "reason": "retired"}),
    ]
    found: list[tuple[bytes, bytes]] = []
    prev = "0" * 64
    for seq, (kind, run, key, body) in enumerate(said):
        entry = {"body": body, "key": key, "kind": kind, "log": ORIGIN, "prev": prev, "run": run, "seq": seq}
        line = canonical_slow.write({**entry, "ts": TS + seq, "v": 1})
        seed = LOG_SEED if key == 0 else SESSION_SEED
        found.append((line, signatures.sign(seed, signatures.pae(signatures.ENTRY_TYPE, line))))
        prev = merkle_slow.leaf(line).hex()
    return found


def checkpoint(size: int, *, witnessed: bool = False) -> bytes:
    """The signed head over the first entries, with a witness's cosignature if asked for."""
    leaves = [merkle_slow.leaf(line) for line, _ in entries()][:size]
    text = notes.write_checkpoint(ORIGIN, size, merkle_slow.root(leaves))
    note = notes.sign_checkpoint(text, ORIGIN, LOG_SEED)
    if not witnessed:
        return note
    seconds = TS // 1_000_000
    key = signatures.public_key(WITNESS_SEED)
    signature = signatures.sign(WITNESS_SEED, notes.cosigned_message(text, seconds))
    value = notes.key_id(WITNESS, 4, key) + seconds.to_bytes(8, "big") + signature
    return note + f"— {WITNESS} {base64.b64encode(value).decode()}\n".encode()


def section() -> str:
    """The text of the page's section, without its heading."""
    lines = [line for line, _ in entries()]
    leaves = [merkle_slow.leaf(line) for line in lines]
    value = b'{"command":"ls"}'
    rows = [
        ("seed of the log key", LOG_SEED.hex()),
        ("log key", signatures.public_key(LOG_SEED).hex()),
        ("seed of the session key", SESSION_SEED.hex()),
        ("session key", signatures.public_key(SESSION_SEED).hex()),
    ]
    for seq, (line, signature) in enumerate(entries()):
        rows += [
            (f"line {seq}", line.decode()),
            (f"signature {seq}", signature.hex()),
            (f"leaf {seq}", leaves[seq].hex()),
        ]
    rows += [(f"root of {size}", merkle_slow.root(leaves[:size]).hex()) for size in range(len(leaves) + 1)]
    rows += [
        (f"inclusion of {m} in {n}", _joined(merkle_slow.path(m, leaves[:n])))
        for m, n in ((0, 1), (1, 2), (2, 3), (2, 6), (5, 6))
    ]
    rows += [
        (f"consistency of {m} and {n}", _joined(merkle_slow.consistency(m, leaves[:n])))
        for m, n in ((1, 2), (3, 6), (4, 6), (6, 6))
    ]
    rows += [
        ("salt of a payload", SALT.hex()),
        ("its field and value", f"args {value.decode()}"),
        ("its commitment", commitment(SALT, "args", value).hex()),
        ("seed of a witness's key", WITNESS_SEED.hex()),
        ("the witness", f"{WITNESS}+{_vkey(WITNESS, 4, signatures.public_key(WITNESS_SEED))}"),
    ]
    table = "\n".join(["| what | value |", "|---|---|", *(f"| {what} | `{text}` |" for what, text in rows)])
    return (
        "Made by `python -m tests.reference.vectors`, an implementation that was written from this page;"
        " tests\nread them from here. Hashes of a proof are joined by spaces, in the order of the proof.\n\n"
        f"{table}\n\n"
        f"The checkpoint of the first two entries:\n\n{_indented(checkpoint(2))}\n"
        f"The checkpoint of all six, with the cosignature of the witness:\n\n"
        f"{_indented(checkpoint(6, witnessed=True))}"
    )


def _vkey(name: str, algorithm: int, key: bytes) -> str:
    encoded = base64.b64encode(bytes([algorithm]) + key).decode()
    return f"{notes.key_id(name, algorithm, key).hex()}+{encoded}"


def _joined(hashes: list[bytes]) -> str:
    return " ".join(item.hex() for item in hashes) or "none"


def _indented(note: bytes) -> str:
    return "".join(f"    {line}\n" if line else "\n" for line in note.decode().split("\n")[:-1])


if __name__ == "__main__":
    print(section(), end="")  # noqa: T201 - the page's author reads it
