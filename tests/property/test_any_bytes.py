"""Any bytes, wherever bytes come from outside: a clear error of the right class, soon and in little memory.

What must not happen is anything else: another exception, a crash, an answer that is not the bytes' own. What
is taken must print back to the very bytes it was read from.
"""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgov.ledger.proof_verify import verify_proof
from tests.support.untrusted import READERS, TRUST, Reader, expect, whole_proof

MAX_PEAK_BYTES = 64 * 1024 * 1024
NAMES = [reader.name for reader in READERS]


@st.composite
def changed(draw: st.DrawFn, seed: bytes) -> bytes:
    """Bytes near what is right: cut, doubled, with other bytes in it."""
    raw = bytearray(seed)
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(raw)))
        end = min(len(raw), place + draw(st.integers(0, 12)))
        raw[place:end] = draw(st.binary(max_size=8)) or raw[place:end] * 2
    return bytes(raw)


def test_the_whole_proof_that_is_changed_here_holds() -> None:
    assert verify_proof(whole_proof(), TRUST).by_log


@pytest.mark.parametrize("reader", READERS, ids=NAMES)
@given(data=st.data())
def test_any_bytes_lead_to_their_value_or_to_a_clear_error(reader: Reader, data: st.DataObject) -> None:
    expect(reader, data.draw(st.one_of(st.binary(max_size=400), changed(reader.seed), st.just(reader.seed))))


@pytest.mark.parametrize("reader", READERS, ids=NAMES)
@pytest.mark.parametrize(
    "unit", [b"[", b'{"a":', b"\n", b"A", b"\xff", b"\x00", b"a,", b"1", b"- ", b'"\\u0000', b"a+b+"]
)
def test_megabytes_of_one_thing_are_refused_within_bounded_memory(reader: Reader, unit: bytes) -> None:
    raw = reader.seed[: len(reader.seed) // 2] + unit * (2_000_000 // len(unit))
    tracemalloc.start()
    try:
        expect(reader, raw)
        assert tracemalloc.get_traced_memory()[1] < MAX_PEAK_BYTES
    finally:
        tracemalloc.stop()
