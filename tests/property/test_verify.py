"""Whatever bytes stand where a record should be, the verifier answers, and never with "ok"."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentgov.errors import BrokenRecordError, ExitCode
from agentgov.ledger.payload_records import record_places
from agentgov.ledger.seal import Seal
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_evidence import count_lines
from agentgov.ledger.verify_source import RawTail, Trust, read_tail

_PIECES = st.sampled_from(
    [
        b"\n",
        b"\t",
        b"{",
        b"}",
        b'"v":1',
        b'{"body":{},"key":0,"kind":"log.genesis","log":"agentgov/',
        b"[",
        b"0",
        b"AA==",
    ]
)
_BYTES = st.one_of(st.binary(max_size=200), st.lists(_PIECES, max_size=20).map(b"".join))


@dataclass
class _Source:
    parts: list[Seal]
    rest: RawTail

    def stream_id(self) -> str | None:
        return "0" * 32

    def tail(self) -> RawTail:
        return self.rest

    def seals(self) -> Iterator[Seal]:
        yield from self.parts


@given(_BYTES, _BYTES, _BYTES, _BYTES)
def test_any_bytes_as_a_seal_are_refused(
    entries: bytes, signatures: bytes, checkpoint: bytes, proof: bytes
) -> None:
    source = _Source([Seal("c", None, entries, signatures, checkpoint, proof)], RawTail([]))
    report = verify_ledger(source, trust=Trust())
    assert report.exit_code is ExitCode.BROKEN
    assert report.level is None


@given(data=_BYTES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_as_an_unsealed_file_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / f"{0:016d}").write_bytes(data)
    report = verify_ledger(_Source([], read_tail(tmp_path)), trust=Trust())
    assert report.exit_code in (ExitCode.BROKEN, ExitCode.INCOMPLETE)
    assert report.level is None


@given(_BYTES)
def test_any_bytes_as_a_list_of_changes_are_counted_or_refused(raw: bytes) -> None:
    try:
        lines, named = count_lines(raw)
    except BrokenRecordError:
        return
    assert 0 <= named <= lines


@given(_BYTES)
def test_any_bytes_as_a_file_of_payloads_are_indexed(data: bytes) -> None:
    for _, at, length in record_places(data):
        assert data[at + length : at + length + 1] == b"\n"
