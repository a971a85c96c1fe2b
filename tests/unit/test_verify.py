"""What the verifier says about a record that nobody has touched, and about evidence that is not there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agentgov.clock import Clock, Random
from agentgov.errors import ExitCode, UsageError
from agentgov.git import discover
from agentgov.layout import StateHome
from agentgov.ledger.entry import Draft
from agentgov.ledger.stream import Stream
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_report import Level, Report, explain, parse_level
from agentgov.ledger.verify_source import RepositorySource, Trust, local_trust
from tests.conftest import MakeRepo
from tests.support.ledgers import (
    MACHINE,
    OTHER,
    RUN,
    MemorySource,
    Prepared,
    Writer,
    payload_store,
    prepare,
    tree,
)


@pytest.fixture
def prepared(make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random) -> Prepared:
    return prepare(make_repo(), state, clock, rng)


def _verify(prepared: Prepared, **options: object) -> Report:
    return verify_ledger(
        RepositorySource(discover(prepared.repo)),
        trust=prepared.trust,
        **options,  # type: ignore[arg-type]
    )


def _codes(report: Report) -> list[str]:
    return [found.code for found in report.findings]


def test_an_untouched_record_holds_at_the_pinned_level(prepared: Prepared) -> None:
    report = _verify(prepared, payloads=payload_store(prepared.repo, os.urandom), objects=lambda oids: set())
    assert report.findings == []
    assert report.exit_code is ExitCode.OK
    assert report.level is Level.PINNED
    assert (report.entries, report.sealed) == (24, 19)
    assert {check.name: check.status for check in report.checks} == {
        "chain": "ok", "signatures": "ok", "signer": "--", "saved": "ok", "calls": "ok", "not older": "ok",
        "files": "ok", "objects": "ok", "payloads": "ok", "witness": "--", "time": "--",
    }  # fmt: skip
    assert report.headline().startswith("Unchanged, signed and complete")
    assert (report.coverage.lines, report.coverage.with_call, report.coverage.unknown) == (7, 6, 0)


def test_the_report_is_versioned_json_and_has_an_explanation(prepared: Prepared) -> None:
    report = _verify(prepared)
    value = json.loads(json.dumps(report.to_json()))
    assert value["v"] == 1
    assert value["level"] == {"n": 3, "name": "pinned"}
    assert value["tail"] == {"unsealed": 5, "unwitnessed": 24, "untimestamped": 24}
    assert value["broken_at"] is None
    text = explain(report)
    assert "Entries that none has seen could be replaced" in text
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "level 3 (pinned)" in text


def test_verifying_changes_nothing_and_can_follow_progress(prepared: Prepared) -> None:
    def listing() -> dict[str, bytes]:
        return {
            str(path): path.read_bytes()
            for path in sorted((prepared.repo / ".git").rglob("*"))
            if path.is_file()
        }

    before = listing()
    _verify(prepared, progress=lambda done: None)
    assert listing() == before


def test_a_required_level_that_is_not_reached_is_incomplete(prepared: Prepared) -> None:
    report = _verify(prepared, require=Level.WITNESSED)
    assert _codes(report) == ["level"]
    assert report.exit_code is ExitCode.INCOMPLETE
    assert _verify(prepared, require=Level.PINNED).exit_code is ExitCode.OK


def test_levels_are_parsed_by_name_and_number() -> None:
    assert parse_level("witnessed") is parse_level("L4") is parse_level("4") is Level.WITNESSED
    with pytest.raises(UsageError):
        parse_level("best")


def test_an_unknown_signer_is_not_trusted_and_stays_below_the_saved_level(prepared: Prepared) -> None:
    report = verify_ledger(RepositorySource(discover(prepared.repo)), trust=Trust())
    assert _codes(report) == ["unknown-key"]
    assert report.exit_code is ExitCode.UNTRUSTED
    assert report.level is Level.SIGNED


def test_another_key_than_the_known_one_is_not_trusted(prepared: Prepared) -> None:
    report = verify_ledger(RepositorySource(discover(prepared.repo)), trust=Trust(public_key="ab" * 32))
    assert _codes(report) == ["other-key"]
    assert report.exit_code is ExitCode.UNTRUSTED


def test_no_record_is_never_ok(make_repo: MakeRepo) -> None:
    report = verify_ledger(RepositorySource(discover(make_repo())), trust=Trust())
    assert report.exit_code is ExitCode.INCOMPLETE
    assert report.level is None
    assert report.checks[0].status == "incomplete"


def test_missing_objects_make_the_evidence_incomplete_and_are_named_by_their_first_entry(
    prepared: Prepared,
) -> None:
    report = _verify(prepared, objects=lambda oids: {oid for oid in oids if oid == tree(3)})
    assert report.exit_code is ExitCode.INCOMPLETE
    assert report.missing == {"objects": 1}
    assert report.findings[0].run == RUN


def test_missing_payloads_are_incomplete_where_they_are_expected_and_said_where_not(
    prepared: Prepared,
) -> None:
    class Nothing:
        def get(self, run: object, digest: str) -> None:
            return None

    report = _verify(prepared, payloads=Nothing())
    assert report.exit_code is ExitCode.INCOMPLETE
    assert report.missing["changes"] == 7
    assert report.coverage.unknown == 5
    assert "unknown" in report.coverage.text()
    fetched = _verify(prepared, payloads=Nothing(), expected_payloads=frozenset())
    assert fetched.exit_code is ExitCode.OK
    assert next(check for check in fetched.checks if check.name == "payloads").status == "--"


def test_an_altered_payload_is_broken_evidence(prepared: Prepared) -> None:
    for path in (prepared.repo / ".git/agentgov/payloads" / RUN).glob("*.payloads"):
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(
            b"".join(line[:-5] + b"AAA=\n" if line.startswith(b"output") else line for line in lines)
        )
    report = _verify(prepared, payloads=payload_store(prepared.repo, os.urandom))
    assert report.exit_code is ExitCode.BROKEN
    assert set(_codes(report)) == {"payload", "missing"}
    assert report.broken_at is not None
    assert report.broken_at.run == RUN


def _open_run(prepared: Prepared, clock: Clock, rng: Random) -> None:
    with Stream.open(
        discover(prepared.repo), prepared.state, clock=clock, random=rng, machine=MACHINE
    ) as stream:
        writer = Writer(stream, payload_store(prepared.repo, rng), type(RUN)("9zzzz"), prepared.base)
        writer.start()
        writer.request()


def test_an_open_run_is_open_while_somebody_records_it_and_incomplete_when_nobody_does(
    prepared: Prepared, clock: Clock, rng: Random
) -> None:
    _open_run(prepared, clock, rng)
    live = _verify(prepared, is_live=lambda run: True)
    assert live.exit_code is ExitCode.OK
    assert live.open_runs == ["9zzzz"]
    assert live.checks[-3].status == "open"
    dead = _verify(prepared)
    assert _codes(dead) == ["unfinished"]
    assert dead.exit_code is ExitCode.INCOMPLETE
    assert dead.headline().startswith("OPEN: run 9zzzz: ")
    assert _verify(prepared, is_live=lambda run: True, require=Level.PINNED).exit_code is ExitCode.INCOMPLETE
    assert _verify(prepared, run=OTHER).exit_code is ExitCode.OK


def test_a_seal_made_between_the_two_readings_loses_no_entry(
    prepared: Prepared, clock: Clock, rng: Random
) -> None:
    class Racing(RepositorySource):
        def tail(self):  # type: ignore[no-untyped-def]
            found = super().tail()
            repository = discover(prepared.repo)
            with Stream.open(repository, prepared.state, clock=clock, random=rng, machine=MACHINE) as stream:
                stream.append([Draft("log.heartbeat", None, {})], stream.log_signer())
                stream.seal()
            return found

    report = verify_ledger(Racing(discover(prepared.repo)), trust=prepared.trust)
    assert report.findings == []
    assert (report.entries, report.sealed) == (25, 25)


def test_the_pin_of_the_machine_is_what_was_sealed(prepared: Prepared) -> None:
    trust = local_trust(discover(prepared.repo), prepared.state, machine=MACHINE)
    assert trust.pin is not None
    assert trust.pin.size == 19
    assert trust.stream_id == prepared.stream_id
    assert trust.public_key == trust.pin.public_key


def test_a_copied_clone_knows_neither_key_nor_stream_but_the_pin(prepared: Prepared, tmp_path: Path) -> None:
    trust = local_trust(discover(prepared.repo), prepared.state, machine="another")
    assert (trust.public_key, trust.stream_id) == (None, None)
    assert trust.pin is not None


def test_memory_and_repository_sources_agree(prepared: Prepared) -> None:
    source: MemorySource = prepared.memory()
    assert verify_ledger(source, trust=prepared.trust).to_json() == _verify(prepared).to_json()
