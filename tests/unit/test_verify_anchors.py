"""What others have seen of a record: agreed with, cut, rewritten, forked; quorums, stamps, levels, tails."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import pytest

from agentgov.clock import Clock, Random
from agentgov.errors import ExitCode
from agentgov.layout import StateHome
from agentgov.ledger.anchors import Anchor
from agentgov.ledger.chain import leaf_hash
from agentgov.ledger.entry import PAYLOAD_TYPE, parse_entry
from agentgov.ledger.merkle import EMPTY_ROOT, root
from agentgov.ledger.revocation import FrozenHead
from agentgov.ledger.signing import pae
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_anchors import utc, witnessed_size
from agentgov.ledger.verify_report import Level, Report, explain
from agentgov.ledger.verify_source import RawRecord, Trust
from agentgov.ledger.wal import encode_record
from tests.conftest import MakeRepo
from tests.support.forger import log_key
from tests.support.ledgers import MemorySource, Prepared, prepare

OTHER_ROOT = bytes(range(32))


@pytest.fixture
def prepared(make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random) -> Prepared:
    return prepare(make_repo(), state, clock, rng)


def _leaves(source: MemorySource) -> list[bytes]:
    lines = [line for seal in source.seals_ for line in seal.lines()]
    lines += [record.line for record in source.tail_.records if record.seq >= len(lines)]
    return [leaf_hash(line) for line in lines]


def _anchor(prepared: Prepared, kind: Any, size: int, who: str = "ci", ts: int | None = None) -> Anchor:
    return Anchor(kind, size, root(_leaves(prepared.memory())[:size]), who, ts)


def _verify(prepared: Prepared, *anchors: Anchor, **options: Any) -> Report:
    return verify_ledger(prepared.memory(), trust=prepared.trust, anchors=anchors, **options)


def _check(report: Report, name: str) -> tuple[str, str]:
    return next((check.status, check.text) for check in report.checks if check.name == name)


@pytest.mark.parametrize("size", [0, 1, 3, 12, 19, 24])
def test_a_head_that_a_witness_saw_agrees_at_every_size(prepared: Prepared, size: int) -> None:
    report = _verify(prepared, _anchor(prepared, "witness", size))
    assert report.exit_code is ExitCode.OK
    assert report.witnessed == size
    assert report.level is (Level.WITNESSED if size else Level.PINNED)
    assert report.to_json()["tail"]["unwitnessed"] == 24 - size


@pytest.mark.parametrize(
    ("kind", "code"), [("witness", "rewritten"), ("timestamp", "rewritten"), ("copy", "fork")]
)
def test_another_root_is_rewritten_or_a_fork_and_says_where(prepared: Prepared, kind: Any, code: str) -> None:
    agreed = _anchor(prepared, kind, 5)
    report = _verify(prepared, agreed, Anchor(kind, 6, OTHER_ROOT, "ci"), Anchor(kind, 9, OTHER_ROOT, "ci"))
    assert (report.findings[0].code, report.findings[0].seq) == (code, 5)
    assert "entry 5" in report.findings[0].why
    assert report.exit_code is ExitCode.BROKEN
    assert report.level is None
    unclear = _verify(prepared, agreed, Anchor(kind, 9, OTHER_ROOT, "ci"))
    assert unclear.findings[0].seq is None
    assert "entries 5-8" in unclear.findings[0].why


def test_a_head_beyond_the_record_means_that_it_was_cut(prepared: Prepared) -> None:
    report = _verify(prepared, Anchor("witness", 30, OTHER_ROOT, "ci"))
    assert (report.findings[0].code, report.findings[0].seq) == ("shorter", 24)
    assert report.exit_code is ExitCode.BROKEN
    assert _verify(prepared, Anchor("witness", 0, OTHER_ROOT, "ci")).exit_code is ExitCode.BROKEN
    assert _verify(prepared, Anchor("witness", 0, EMPTY_ROOT, "ci")).exit_code is ExitCode.OK


def test_the_witnessed_size_is_the_largest_that_a_quorum_has_seen() -> None:
    seen = [
        Anchor("witness", size, OTHER_ROOT, who) for size, who in ((9, "a"), (5, "b"), (3, "c"), (7, "c"))
    ]
    assert witnessed_size(seen, None) == 9
    assert witnessed_size(seen, lambda names: len(names) >= 2) == 7
    assert witnessed_size(seen, lambda names: len(names) >= 3) == 5
    assert witnessed_size(seen, lambda names: {"b"} <= names) == 5
    assert witnessed_size(seen, lambda names: len(names) >= 4) == 0
    assert witnessed_size([], lambda names: True) == 0


def test_too_few_witnesses_are_said_and_raise_no_level(prepared: Prepared) -> None:
    report = _verify(prepared, _anchor(prepared, "witness", 24), quorum=lambda names: len(names) >= 2)
    assert report.level is Level.PINNED
    assert _check(report, "witness")[0] == "--"
    assert "fewer than are required (ci)" in _check(report, "witness")[1]


def test_a_stamp_alone_is_shown_and_raises_no_level_and_with_a_witness_it_is_the_highest(
    prepared: Prepared,
) -> None:
    stamp = _anchor(prepared, "timestamp", 19, "tsa", 1_767_323_045_000_000)
    alone = _verify(prepared, stamp)
    assert (alone.level, alone.timestamped) == (Level.PINNED, 19)
    assert "existed before 2026-01-02 03:04 UTC, says tsa; entries 19-23 by this" in _check(alone, "time")[1]
    both = _verify(prepared, stamp, _anchor(prepared, "witness", 19))
    assert both.level is Level.TIMESTAMPED


def test_a_required_level_demands_that_nothing_is_left_over(prepared: Prepared) -> None:
    part, whole = _anchor(prepared, "witness", 19), _anchor(prepared, "witness", 24)
    report = _verify(prepared, part, require=Level.WITNESSED)
    assert [(found.code, found.seq) for found in report.findings] == [("level", 19)]
    assert report.exit_code is ExitCode.INCOMPLETE
    assert _verify(prepared, whole, require=Level.WITNESSED).exit_code is ExitCode.OK
    stamp = _anchor(prepared, "timestamp", 19, "tsa", 0)
    assert _verify(prepared, whole, stamp, require=Level.TIMESTAMPED).exit_code is ExitCode.INCOMPLETE


def test_a_copy_that_agrees_is_said_and_is_no_witness(prepared: Prepared) -> None:
    report = _verify(prepared, _anchor(prepared, "copy", 19, "origin"))
    assert _check(report, "copies") == ("ok", "entries 0-18 as origin: the same")
    assert report.level is Level.PINNED
    assert "Another copy" in explain(report)


def test_a_time_nobody_can_mean_is_no_error() -> None:
    assert utc(2**62) == "an impossible time"


@dataclasses.dataclass
class _Frozen:
    heads: tuple[FrozenHead, ...]

    def principal(self, key: object, /) -> str | None:
        return None

    def standing(self, signer: object, log: str, seq: int, /) -> str:
        return "member"

    def frozen_heads(self, log: str, /) -> tuple[FrozenHead, ...]:
        return self.heads


def test_a_record_must_go_through_the_head_at_which_a_key_was_revoked(prepared: Prepared) -> None:
    log = f"agentgov/{prepared.stream_id}"
    good = FrozenHead(log, 7, root(_leaves(prepared.memory())[:7]))
    assert _verify(prepared, people=_Frozen((good,))).exit_code is ExitCode.OK
    report = _verify(prepared, people=_Frozen((replace(good, root=OTHER_ROOT),)))
    assert report.findings[0].code == "rewritten"
    assert report.exit_code is ExitCode.BROKEN


# What this record says it continues, and entries of a later version.


def _forged(prepared: Prepared, old: bytes, new: bytes, *, signed: bool = True) -> Report:
    """The record with one more unsealed entry of the log key, its line changed before it is signed."""
    source = prepared.memory()
    private = log_key(prepared)
    last = source.tail_.records[-1]
    entry = parse_entry(last.line)
    made = replace(
        entry,
        seq=last.seq + 1,
        prev=leaf_hash(last.line).hex(),
        kind="log.heartbeat",
        run=None,
        key=0,
        body={},
    )
    line = made.line().replace(old, new)
    signature = private.sign(pae(PAYLOAD_TYPE, line) if signed else b"something else")
    raw = encode_record(line, signature)[:-1].rpartition(b"\t")[2]
    tail = replace(source.tail_, records=[*source.tail_.records, RawRecord(last.seq + 1, line, raw)])
    return verify_ledger(replace(source, tail_=tail), trust=prepared.trust)


def test_an_entry_of_a_newer_version_stops_the_reading_and_is_incomplete(prepared: Prepared) -> None:
    assert _forged(prepared, b"", b"").exit_code is ExitCode.OK
    report = _forged(prepared, b"log.heartbeat", b"log.pulse")
    assert [found.code for found in report.findings] == ["newer"]
    assert (report.exit_code, report.level, report.entries) == (ExitCode.INCOMPLETE, None, 24)
    assert "newer version" in report.headline()


@pytest.mark.parametrize(
    ("old", "new", "signed", "code"),
    [
        (b"log.heartbeat", b"log.pulse", False, "signature"),
        (b'log.heartbeat","log":"agentgov/', b'log.pulse","log":"agentgov/0', True, "line"),
        (b'"key":0,"kind":"log.heartbeat"', b'"key":9,"kind":"log.pulse"', True, "key"),
        (b'"prev":"', b'"prev":"0', True, "line"),
        (b"log.heartbeat", b"LOG", True, "line"),
        (b'"v":1', b'"v":2', True, "line"),
    ],
)
def test_what_only_looks_newer_is_broken(
    prepared: Prepared, old: bytes, new: bytes, signed: bool, code: str
) -> None:
    report = _forged(prepared, old, new, signed=signed)
    assert [found.code for found in report.findings] == [code]
    assert report.exit_code is ExitCode.BROKEN


def test_a_foreign_record_without_trust_is_unknown_however_many_have_seen_it(prepared: Prepared) -> None:
    report = verify_ledger(
        prepared.memory(), trust=Trust(), anchors=[_anchor(prepared, "witness", 24)], people=_Frozen(())
    )
    assert report.exit_code is ExitCode.UNTRUSTED
    assert report.level is Level.SIGNED
