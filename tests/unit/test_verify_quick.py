"""The quick pass, helpers, and going on from an earlier time: the same answers as reading one by one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentgov.clock import Clock, Random
from agentgov.errors import AgentgovError, ExitCode
from agentgov.git import discover
from agentgov.layout import StateHome
from agentgov.ledger.entry import Draft, Entry, parse_entry
from agentgov.ledger.stream import Stream
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_evidence import Evidence
from agentgov.ledger.verify_quick import QuickReading
from agentgov.ledger.verify_reading import Reading
from agentgov.ledger.verify_report import Level, Report
from agentgov.ledger.verify_resume import Resume, capture, read_resume, resume_path, write_resume
from agentgov.ledger.verify_signatures import Batch, Helpers, Nothing, first_wrong
from agentgov.ledger.verify_source import RepositorySource, Trust
from tests.conftest import MakeRepo
from tests.support.forger import lines_of, rewrite
from tests.support.ledgers import MACHINE, OTHER, MemorySource, Prepared, Writer, payload_store, prepare, tree


@pytest.fixture
def prepared(make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random) -> Prepared:
    return prepare(make_repo(), state, clock, rng)


def _evidence() -> Evidence:
    return Evidence(None, None)


def _state(reading: Reading) -> dict[str, Any]:
    known = capture(reading, "").state
    return {**known, "size": reading.frontier.size, "heads": reading.heads, "sealed": reading.sealed}


@pytest.mark.parametrize("marks", [frozenset[int](), frozenset({1, 3, 7, 12, 19, 24})])
def test_the_quick_pass_ends_with_what_the_exact_one_knows(prepared: Prepared, marks: frozenset[int]) -> None:
    source = prepared.memory()
    exact = Reading(source, _evidence(), marks)
    assert exact.read(source.tail()) is None
    quick = QuickReading(source, _evidence(), Helpers(1), marks)
    assert quick.holds(source.tail())
    assert _state(quick) == _state(exact)
    assert set(quick.heads) == set(marks)


def _tampered(source: MemorySource) -> Iterator[MemorySource]:
    """Each entry's signature swapped, each line changed in one place, and each seal left out."""
    for index, seal in enumerate(source.seals_):
        signatures, lines = seal.signatures.split(b"\n"), seal.entries.split(b"\n")
        for place in range(len(signatures) - 1):
            changed = list(signatures)
            changed[place] = changed[place - 1] if place else changed[place + 1]
            swapped = replace(seal, signatures=b"\n".join(changed))
            yield replace(source, seals_=[*source.seals_[:index], swapped, *source.seals_[index + 1 :]])
            other = list(lines)
            other[place] = other[place].replace(b'"ts":1', b'"ts":2', 1)
            edited = replace(seal, entries=b"\n".join(other))
            yield replace(source, seals_=[*source.seals_[:index], edited, *source.seals_[index + 1 :]])
        yield replace(source, seals_=[*source.seals_[:index], *source.seals_[index + 1 :]])


def test_every_fault_is_named_as_one_by_one_however_many_processes_check(prepared: Prepared) -> None:
    for number, source in enumerate(_tampered(prepared.memory())):
        exact = Reading(source, _evidence()).read(source.tail())
        assert exact is not None
        for jobs in (1, 2) if number % 9 == 0 else (1,):
            report = verify_ledger(source, trust=prepared.trust, jobs=jobs)
            assert report.findings[0] == exact
            assert report.exit_code is ExitCode.BROKEN
            assert report.entries == exact.seq


_OTHER_VALUES: dict[str, list[Any]] = {
    "actor": [1, 7],
    "changes": [None, "c" * 64],
    "from": [tree(1), tree(3), tree(77)],
    "n": [1, 2, 3, 9],
    "open": [[], [1], [1, 3], [2], [9]],
    "tree": [tree(1), tree(3), tree(77)],
    "decision": ["allow", "ask", "deny"],
}


def _changed(entry: Entry, name: str, value: Any) -> Entry:
    if name == "decision":
        return replace(entry, body={**entry.body, "verdict": {**entry.body["verdict"], "decision": value}})
    return replace(entry, body={**entry.body, name: value})


def test_a_thief_with_the_keys_fools_neither_pass(prepared: Prepared) -> None:
    entries = [parse_entry(line) for line in lines_of(prepared.memory())]
    differing = 0
    for entry in entries:
        if entry.kind not in ("call.request", "call.result"):
            continue
        fields = [*entry.body, *(["decision"] if "verdict" in entry.body else [])]
        for name, value in [(n, v) for n in fields for v in _OTHER_VALUES.get(n, [])]:
            made = _changed(entry, name, value)
            edit = lambda all_, made=made: [made if e.seq == made.seq else e for e in all_]  # noqa: E731
            source = rewrite(prepared, edit)
            exact = Reading(source, _evidence())
            stopped = exact.read(source.tail())
            quick = QuickReading(source, _evidence(), Helpers(1))
            assert quick.holds(source.tail()) == (stopped is None), (entry.kind, name, value)
            if stopped is None:
                assert _state(quick) == _state(exact)
            else:
                differing += 1
                assert verify_ledger(source, trust=Trust()).findings[0] == stopped
    assert differing > 50


def test_a_key_that_was_not_replaced_after_a_seal_signs_no_call_in_either_pass(prepared: Prepared) -> None:
    def keep_the_old_key(entries: list[Entry]) -> list[Entry]:
        rotated = next(e for e in entries if e.kind == "key.rotate" and e.run == OTHER)
        quiet = replace(rotated, kind="log.heartbeat", run=None, key=0, body={})
        old = [replace(e, key=rotated.key) if e.key == rotated.seq else e for e in entries]
        return [quiet if e.seq == rotated.seq else e for e in old]

    source = rewrite(prepared, keep_the_old_key)
    stopped = Reading(source, _evidence()).read(source.tail())
    assert stopped is not None
    assert stopped.code == "key"
    # Nothing may follow that would be refused for a reason of its own.
    last = [record for record in source.tail_.records if record.seq <= (stopped.seq or 0)]
    source = replace(source, tail_=replace(source.tail_, records=last))
    assert not QuickReading(source, _evidence(), Helpers(1)).holds(source.tail())
    assert verify_ledger(source, trust=Trust()).findings[0] == stopped


def _batch(prepared: Prepared) -> Batch:
    taken: list[Batch] = []

    class Taking(Nothing):
        def add(self, batch: Batch) -> None:
            taken.append(batch)

    quick = QuickReading(prepared.memory(), _evidence(), Taking())
    assert quick.holds(prepared.memory().tail())
    return taken[0]


def test_helpers_find_the_first_wrong_signature_as_this_process_does(prepared: Prepared) -> None:
    good = _batch(prepared)
    lines = good.raw_signatures.split(b"\n")
    bad = replace(good, first=100, raw_signatures=b"\n".join([*lines[:3], b"AAAA", b"?", *lines[5:]]))
    worse = replace(bad, first=50)
    assert first_wrong(good) is None
    assert first_wrong(bad) == 103
    helpers = Helpers(2, alone=0)
    try:
        for batch in (good, bad, good, worse, good):
            helpers.add(batch)
        assert helpers.finish() == 53
    finally:
        helpers.close()


def _check(helpers: Helpers, batches: list[Batch]) -> int | None:
    for batch in batches:
        helpers.add(batch)
    return helpers.finish()


def test_a_helper_that_was_killed_is_an_error_and_never_ok(prepared: Prepared) -> None:
    good = _batch(prepared)
    helpers = Helpers(2, alone=0)
    try:
        helpers.add(good)
        helpers.add(good)
        for pid in helpers.pids:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(AgentgovError) as caught:
            _check(helpers, [good] * 8)
        assert caught.value.id == "AG0447"
        assert caught.value.exit_code is ExitCode.ERROR
    finally:
        helpers.close()


def test_helpers_do_not_load_modules_from_the_folder_we_stand_in(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = tmp_path / "agentgov"
    hostile.mkdir()
    (hostile / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    helpers = Helpers(2, alone=0)
    try:
        helpers.add(_batch(prepared))
        assert helpers.finish() is None
    finally:
        helpers.close()
    assert not (tmp_path / "ran").exists()


def test_structure_alone_is_level_zero_and_says_so(prepared: Prepared) -> None:
    source = prepared.memory()
    seal = source.seals_[0]
    blank = b"".join(b"\n" for _ in seal.signatures.split(b"\n")[:-1])
    source.seals_[0] = replace(seal, signatures=blank)
    report = verify_ledger(source, trust=prepared.trust, structure=True)
    assert (report.level, report.exit_code) == (Level.CHAIN, ExitCode.OK)
    assert "signatures" in report.to_json()["not_checked"]
    assert "Signatures were not checked" in report.headline()
    required = verify_ledger(source, trust=prepared.trust, structure=True, require=Level.SIGNED)
    assert required.exit_code is ExitCode.INCOMPLETE


# Going on from an earlier verification.


def _verify(prepared: Prepared, since: Resume | None = None, **options: Any) -> Report:
    source = RepositorySource(discover(prepared.repo))
    return verify_ledger(source, trust=prepared.trust, since=since, **options)


def _go_on(prepared: Prepared, clock: Clock, rng: Random, calls: int = 2) -> None:
    repository = discover(prepared.repo)
    payloads = payload_store(prepared.repo, rng)
    with Stream.open(repository, prepared.state, clock=clock, random=rng, machine=MACHINE) as stream:
        writer = Writer(stream, payloads, type(OTHER)("3xw8e"), prepared.base)
        writer.start()
        for _ in range(calls):
            writer.request()
            writer.result(writer.n)
        writer.end()
        stream.end_key(writer.signer)
        stream.append([Draft("log.heartbeat", None, {})], stream.log_signer())
        stream.seal()
    payloads.close()


def test_going_on_reads_only_what_is_new_and_knows_the_same(
    prepared: Prepared, clock: Clock, rng: Random, tmp_path: Path
) -> None:
    first = _verify(prepared)
    assert first.reached is not None
    path = resume_path(tmp_path, prepared.stream_id)
    write_resume(path, first.reached, 1_767_323_045_000_000)
    _go_on(prepared, clock, rng)
    since = read_resume(path)
    # The unsealed entries of before are sealed now; the pin lies at a place that was not verified yet.
    went_on, whole = _verify(prepared, since), _verify(prepared)
    assert went_on.read_from == 19
    assert (went_on.head, went_on.entries, went_on.sealed) == (whole.head, whole.entries, whole.sealed)
    assert went_on.exit_code is ExitCode.OK
    assert went_on.reached == whole.reached or went_on.reached is not None
    assert "verified here on 2026-01-02" in next(c.text for c in went_on.checks if c.name == "before")
    assert went_on.reached is not None
    assert whole.reached is not None
    assert went_on.reached.state == whole.reached.state


def test_what_is_new_and_wrong_is_found_and_named_the_same(
    prepared: Prepared, clock: Clock, rng: Random
) -> None:
    since = _verify(prepared).reached
    segment = max((prepared.repo / ".git/agentgov/wal").iterdir())
    segment.write_bytes(segment.read_bytes().replace(b'"ts":1', b'"ts":2', 1))
    assert _verify(prepared, since).to_json() == _verify(prepared).to_json()
    assert _verify(prepared, since).exit_code is ExitCode.BROKEN


@pytest.mark.parametrize("spoil", ["seal", "leaf", "peaks", "keys", "log", "size", "runs"])
def test_with_any_doubt_all_is_read(prepared: Prepared, spoil: str) -> None:
    since = _verify(prepared).reached
    assert since is not None
    state: dict[str, Any] = dict(since.state)
    if spoil == "seal":
        since = replace(since, seal="1" * 40)
    elif spoil == "log":
        since = replace(since, log="agentgov/" + "0" * 32)
    elif spoil == "size":
        since = replace(since, size=since.size - 1)
    elif spoil == "leaf":
        since = replace(since, state={**state, "leaf": "0" * 64})
    elif spoil == "peaks":
        since = replace(since, state={**state, "peaks": state["peaks"][1:]})
    else:
        since = replace(since, state={**state, spoil: 5})
    report = _verify(prepared, since)
    assert (report.read_from, report.exit_code) == (0, ExitCode.OK)


def test_a_root_asked_for_below_the_place_means_that_all_is_read(prepared: Prepared) -> None:
    since = _verify(prepared).reached
    assert since is not None
    assert prepared.trust.pin is not None
    pin = replace(prepared.trust.pin, size=5)
    source = RepositorySource(discover(prepared.repo))
    report = verify_ledger(source, trust=Trust(pin, prepared.trust.public_key), since=since)
    assert report.read_from == 0
    assert report.exit_code is ExitCode.BROKEN


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"v":1}', b'{"v":2}', b"\xff", b"[" * 100_000])
def test_a_file_that_cannot_be_used_is_no_memory(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "x.verified"
    path.write_bytes(raw)
    assert read_resume(path) is None
    assert read_resume(tmp_path / "none") is None
