"""Attacks on whole entries and on the record as a whole: each is found, and called by its name."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agentgov.clock import Clock, Random
from agentgov.errors import ExitCode
from agentgov.git import discover
from agentgov.ids import RunId
from agentgov.layout import StateHome
from agentgov.ledger.chain import NO_LEAF, leaf_hash
from agentgov.ledger.entry import PAYLOAD_TYPE, Entry
from agentgov.ledger.seal import Seal, ledger_ref
from agentgov.ledger.signing import PrivateKey, pae
from agentgov.ledger.stream import Stream
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_report import Finding, Level, Report
from agentgov.ledger.verify_source import RawRecord, RawTail, RepositorySource, Trust
from agentgov.ledger.wal import encode_record
from tests.conftest import GitRunner, MakeRepo
from tests.support.forger import Edit, entries_of, log_key, rewrite
from tests.support.ledgers import MACHINE, OTHER, RUN, MemorySource, Prepared, prepare, tree


@pytest.fixture
def prepared(make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random) -> Prepared:
    return prepare(make_repo(), state, clock, rng)


def _verify(prepared: Prepared) -> Report:
    source = RepositorySource(discover(prepared.repo), known_stream_id=prepared.trust.stream_id)
    return verify_ledger(source, trust=prepared.trust)


def _check(source: MemorySource, trust: Trust) -> tuple[Finding, Report]:
    report = verify_ledger(source, trust=trust)
    assert report.findings, "nothing was found"
    return report.findings[0], report


def _edit_seal(
    source: MemorySource, edit: Callable[[list[tuple[bytes, bytes]]], None], index: int = 0
) -> MemorySource:
    """Change the list of (line, signature) of one seal."""
    seal: Seal = source.seals_[index]
    pairs = list(zip(seal.lines(), seal.signatures.split(b"\n"), strict=False))
    edit(pairs)
    changed = replace(
        seal,
        entries=b"".join(line + b"\n" for line, _ in pairs),
        signatures=b"".join(raw + b"\n" for _, raw in pairs),
    )
    return replace(source, seals_=[*source.seals_[:index], changed, *source.seals_[index + 1 :]])


# Without any key.


def test_a_dropped_entry_is_found_wherever_it_stood(prepared: Prepared) -> None:
    source = prepared.memory()
    count = source.seals_[0].count()
    for at in range(count):
        found, report = _check(_edit_seal(source, lambda pairs: pairs.pop(at) and None), prepared.trust)  # noqa: B023
        expected = ("seal", count - 1) if at == count - 1 else ("line" if at == 0 else "order", at)
        if at == 0:
            assert found.code in ("line", "order")
            assert found.seq == 0
        else:
            assert (found.code, found.seq) == expected
        assert report.exit_code is ExitCode.BROKEN


def test_swapped_entries_are_found(prepared: Prepared) -> None:
    for at in range(1, 11):

        def swap(pairs: list[tuple[bytes, bytes]], at: int = at) -> None:
            pairs[at], pairs[at + 1] = pairs[at + 1], pairs[at]

        found, _ = _check(_edit_seal(prepared.memory(), swap), prepared.trust)
        assert (found.code, found.seq) == ("order", at)


def test_a_duplicated_entry_is_found(prepared: Prepared) -> None:
    found, _ = _check(_edit_seal(prepared.memory(), lambda pairs: pairs.insert(5, pairs[4])), prepared.trust)
    assert (found.code, found.seq) == ("order", 5)


def test_swapped_signatures_are_found(prepared: Prepared) -> None:
    def swap(pairs: list[tuple[bytes, bytes]]) -> None:
        pairs[4], pairs[5] = (pairs[4][0], pairs[5][1]), (pairs[5][0], pairs[4][1])

    found, _ = _check(_edit_seal(prepared.memory(), swap), prepared.trust)
    assert (found.code, found.seq) == ("signature", 4)


@pytest.fixture
def foreign(make_repo: MakeRepo, state: StateHome, clock: Clock, prepared: Prepared) -> Prepared:
    return prepare(make_repo(), state, clock, random.Random(7).randbytes)


def test_an_entry_spliced_in_from_another_record_is_found(prepared: Prepared, foreign: Prepared) -> None:
    other = foreign.memory().seals_[0]
    donor = list(zip(other.lines(), other.signatures.split(b"\n"), strict=False))
    for at in range(len(donor)):

        def splice(pairs: list[tuple[bytes, bytes]], at: int = at) -> None:
            pairs[at] = donor[at]

        found, _ = _check(_edit_seal(prepared.memory(), splice), prepared.trust)
        assert (found.code, found.seq) == ("other-log", at)


def test_a_whole_seal_of_another_record_is_found(prepared: Prepared, foreign: Prepared) -> None:
    source = prepared.memory()
    found, _ = _check(replace(source, seals_=[source.seals_[0], foreign.memory().seals_[1]]), prepared.trust)
    assert found.code == "other-log"
    found, _ = _check(replace(source, seals_=foreign.memory().seals_), prepared.trust)
    assert (found.code, found.seq) == ("other-log", 0)


def test_another_whole_record_in_its_place_is_found(prepared: Prepared, foreign: Prepared) -> None:
    found, report = _check(foreign.memory(), prepared.trust)
    assert found.code == "other-record"
    assert report.exit_code is ExitCode.BROKEN


def test_seals_in_another_order_are_found(prepared: Prepared) -> None:
    source = prepared.memory()
    found, _ = _check(replace(source, seals_=source.seals_[::-1]), prepared.trust)
    assert (found.code, found.seq) == ("line", 0) or found.code == "order"


def test_an_entry_chained_again_without_its_key_is_found(prepared: Prepared) -> None:
    source = prepared.memory()
    entries = entries_of(source)
    at = next(entry.seq for entry in entries if entry.kind == "call.request")

    def chain_again(pairs: list[tuple[bytes, bytes]]) -> None:
        leaf = leaf_hash(pairs[at - 1][0]) if at else NO_LEAF
        for seq in range(at, len(pairs)):
            changed = replace(entries[seq], prev=leaf.hex())
            if seq == at:
                changed = replace(changed, body={**changed.body, "tool": "Read"})
            pairs[seq] = (changed.line(), pairs[seq][1])
            leaf = leaf_hash(pairs[seq][0])

    found, report = _check(_edit_seal(source, chain_again), prepared.trust)
    assert (found.code, found.seq, found.run, found.call) == ("signature", at, RUN, 1)
    assert report.headline().startswith(f"BROKEN at entry {at} (run {RUN}, call 1): ")


def test_a_cut_unsealed_tail_is_open_and_incomplete(prepared: Prepared) -> None:
    segment = next(iter((prepared.repo / ".git/agentgov/wal").glob("0*19")))
    lines = segment.read_bytes().rstrip(b"\x00").splitlines(keepends=True)
    for kept in range(len(lines) - 1):
        segment.write_bytes(b"".join(lines[:kept]))
        report = _verify(prepared)
        if kept <= 2:
            assert [found.code for found in report.findings] == ["unfinished"], kept
            assert report.exit_code is ExitCode.INCOMPLETE
            assert report.headline().startswith("OPEN")
    segment.write_bytes(b"".join(lines)[:-10])
    report = _verify(prepared)
    assert [found.code for found in report.findings] == ["torn"]
    assert report.exit_code is ExitCode.INCOMPLETE


def test_a_cut_sealed_part_is_found_with_and_without_the_tail(prepared: Prepared, git: GitRunner) -> None:
    ref = ledger_ref(prepared.stream_id)
    git(prepared.repo, "update-ref", ref, f"{ref}^")
    found = _verify(prepared).findings[0]
    assert found.code == "order"
    assert "missing" in found.why
    for segment in (prepared.repo / ".git/agentgov/wal").glob("0*"):
        segment.unlink()
    report = _verify(prepared)
    assert report.findings[0].code == "shorter"
    assert report.exit_code is ExitCode.BROKEN
    assert report.level is None


def test_a_genuine_old_state_put_back_is_found(
    make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random, prepared: Prepared
) -> None:
    backup = prepared.repo.parent / "backup"
    shutil.copytree(prepared.repo / ".git", backup)
    repository = discover(prepared.repo)
    with Stream.open(repository, prepared.state, clock=clock, random=rng, machine=MACHINE) as stream:
        stream.seal()
    newer = verify_ledger(RepositorySource(repository), trust=prepared.trust)
    assert newer.head is not None
    assert prepared.trust.pin is not None
    pin = replace(prepared.trust.pin, size=newer.head.size, root=newer.head.root, leaf=newer.head.leaf)
    trust = replace(prepared.trust, pin=pin)
    assert verify_ledger(RepositorySource(repository), trust=trust).exit_code is ExitCode.OK
    shutil.rmtree(prepared.repo / ".git/agentgov")
    shutil.copytree(backup / "agentgov", prepared.repo / ".git/agentgov")
    for segment in (prepared.repo / ".git/agentgov/wal").glob("0*"):
        segment.write_bytes(b"")
    shutil.copytree(backup / "refs", prepared.repo / ".git/refs", dirs_exist_ok=True)
    report = verify_ledger(RepositorySource(repository), trust=trust)
    assert report.findings[0].code == "shorter"
    assert report.exit_code is ExitCode.BROKEN


def test_a_deleted_ref_is_found(prepared: Prepared, git: GitRunner) -> None:
    git(prepared.repo, "update-ref", "-d", ledger_ref(prepared.stream_id))
    report = _verify(prepared)
    assert (report.findings[0].code, report.findings[0].seq) == ("order", 0)
    assert report.exit_code is ExitCode.BROKEN


def test_a_deleted_folder_leaves_the_sealed_part_and_an_open_run(prepared: Prepared) -> None:
    shutil.rmtree(prepared.repo / ".git/agentgov")
    report = _verify(prepared)
    assert (report.findings[0].code, report.findings[0].run) == ("unfinished", OTHER)
    assert report.exit_code is ExitCode.INCOMPLETE


def test_a_record_deleted_whole_is_found(prepared: Prepared, git: GitRunner) -> None:
    shutil.rmtree(prepared.repo / ".git/agentgov")
    git(prepared.repo, "update-ref", "-d", ledger_ref(prepared.stream_id))
    report = _verify(prepared)
    assert "record-gone" in [found.code for found in report.findings]
    assert report.exit_code is ExitCode.BROKEN


def test_sealed_lines_that_lie_unsealed_in_another_form_are_found(prepared: Prepared) -> None:
    source = prepared.memory()
    line, raw = source.seals_[1].lines()[0], source.seals_[1].signatures.split(b"\n")[0]
    at = source.seals_[0].count()
    same = replace(source, tail_=RawTail([RawRecord(at, line, raw), *source.tail_.records]))
    assert verify_ledger(same, trust=prepared.trust).exit_code is ExitCode.OK
    other = replace(source, tail_=RawTail([RawRecord(at, line[:-1] + b" ", raw), *source.tail_.records]))
    found, _ = _check(other, prepared.trust)
    assert (found.code, found.seq) == ("sealed-differs", at)


def test_a_removed_head_is_found(prepared: Prepared) -> None:
    source = prepared.memory()
    joined = replace(
        source.seals_[1],
        parent=None,
        entries=source.seals_[0].entries + source.seals_[1].entries,
        signatures=source.seals_[0].signatures + source.seals_[1].signatures,
    )
    report = verify_ledger(replace(source, seals_=[joined]), trust=prepared.trust)
    # Fewer heads over the same entries take away no evidence about them.
    assert report.exit_code is ExitCode.OK
    found, _ = _check(
        replace(source, seals_=[replace(joined, checkpoint=source.seals_[0].checkpoint)]), prepared.trust
    )
    assert found.code == "seal"


# With keys.


def _no_edit(entries: list[Entry]) -> list[Entry]:
    return entries


def _body(at: Callable[[Entry], bool], **changes: Any) -> Edit:
    def edit(entries: list[Entry]) -> list[Entry]:
        assert any(map(at, entries))
        return [replace(e, body={**e.body, **changes}) if at(e) else e for e in entries]

    return edit


def _is(kind: str, n: int | None = None, run: RunId = RUN) -> Callable[[Entry], bool]:
    return lambda entry: entry.kind == kind and entry.run == run and n in (None, entry.body.get("n"))


def test_a_whole_rewrite_with_the_log_key_passes_all_but_the_pin(prepared: Prepared) -> None:
    forged = rewrite(prepared, _body(_is("call.request", 1), tool="Read"))
    found, report = _check(forged, prepared.trust)
    assert found.code == "rewritten"
    assert report.exit_code is ExitCode.BROKEN
    held = report.holds()
    assert held is not None
    assert "fit together, and are not" in held
    assert "can be relied on" not in held
    # What a key thief can do, said plainly: without a pin nothing shows.
    blind = verify_ledger(forged, trust=replace(prepared.trust, pin=None))
    assert blind.exit_code is ExitCode.OK
    assert blind.level is Level.CHECKPOINT


def test_a_record_cut_and_grown_again_with_the_log_key_is_found(prepared: Prepared) -> None:
    assert prepared.trust.pin is not None
    forged = rewrite(prepared, lambda entries: entries[:12] + entries[12:19], sealed=1)
    assert _check(forged, prepared.trust)[0].code == "rewritten"


def test_a_rewrite_with_another_log_key_is_an_unknown_signer(prepared: Prepared) -> None:
    found, report = _check(rewrite(prepared, _no_edit, key=PrivateKey(b"t" * 32)), prepared.trust)
    assert found.code == "other-key"
    assert report.exit_code is ExitCode.UNTRUSTED


def _signed_with_log_key(kind: str) -> Edit:
    return lambda entries: [replace(e, key=0) if e.kind == kind else e for e in entries]


@pytest.mark.parametrize(
    "kind", ["call.request", "call.answer", "call.result", "actor.seen", "key.rotate", "key.end"]
)
def test_what_only_a_session_key_may_say_is_refused_from_the_log_key(prepared: Prepared, kind: str) -> None:
    found, report = _check(rewrite(prepared, _signed_with_log_key(kind)), prepared.trust)
    assert found.code == "key"
    assert report.exit_code is ExitCode.BROKEN
    assert found.seq == next(e.seq for e in entries_of(prepared.memory()) if e.kind == kind)


def test_a_call_appended_with_the_log_key_is_refused(prepared: Prepared) -> None:
    source = prepared.memory()
    last = source.tail_.records[-1]
    request = next(e for e in entries_of(source) if e.kind == "call.request")
    entry = replace(request, seq=last.seq + 1, prev=leaf_hash(last.line).hex(), key=0)
    record = encode_record(entry.line(), log_key(prepared).sign(pae(PAYLOAD_TYPE, entry.line())))
    segment = next(iter((prepared.repo / ".git/agentgov/wal").glob("0*19")))
    segment.write_bytes(segment.read_bytes().rstrip(b"\x00") + record)
    report = _verify(prepared)
    assert (report.findings[0].code, report.findings[0].seq) == ("key", last.seq + 1)


def test_a_session_key_from_before_a_seal_says_nothing_after_it(prepared: Prepared) -> None:
    source = prepared.memory()
    first = source.tail_.records[0]
    delegated = next(e.seq for e in entries_of(source) if e.kind == "key.delegate" and e.run == OTHER)
    result = next(e for e in entries_of(source) if e.kind == "call.result" and e.run == OTHER)
    prev = leaf_hash(source.seals_[1].lines()[-1]).hex()
    entry = replace(result, seq=first.seq, prev=prev, key=delegated)
    record = encode_record(entry.line(), prepared.old_key.sign(pae(PAYLOAD_TYPE, entry.line())))
    segment = next(iter((prepared.repo / ".git/agentgov/wal").glob("0*19")))
    segment.write_bytes(record)
    report = _verify(prepared)
    assert (report.findings[0].code, report.findings[0].seq) == ("key", first.seq)
    assert "before the last seal" in report.findings[0].why


def _insert(after: Callable[[Entry], bool], make: Callable[[Entry], Entry]) -> Edit:
    """Insert an entry; those after it are renumbered, and so are the keys they name."""

    def edit(entries: list[Entry]) -> list[Entry]:
        at = next(e.seq for e in entries if after(e)) + 1
        later = [replace(e, key=e.key + 1 if e.key >= at else e.key) for e in entries[at:]]
        return [*entries[:at], make(entries[at - 1]), *later]

    return edit


def test_a_key_that_ended_or_is_lost_signs_nothing_more(prepared: Prepared) -> None:
    again = _insert(_is("key.end"), lambda e: replace(e, kind="log.heartbeat"))
    assert _check(rewrite(prepared, again), prepared.trust)[0].code == "key"
    lost = _insert(_is("call.request", 1), lambda e: replace(e, kind="key.lost", key=0, body={"lost": e.key}))
    found, _ = _check(rewrite(prepared, lost), prepared.trust)
    assert found.code == "key"


def test_a_key_of_another_run_is_refused(prepared: Prepared) -> None:
    edit = _insert(_is("run.start", run=OTHER), lambda e: replace(e, run=RUN, kind="log.heartbeat", body={}))
    assert _check(rewrite(prepared, edit), prepared.trust)[0].code == "key"


@pytest.mark.parametrize("key", ["00" * 32, "01" + "00" * 31, "ff" * 31 + "7f"])
def test_a_key_under_which_signatures_can_be_forged_is_refused(prepared: Prepared, key: str) -> None:
    found, _ = _check(rewrite(prepared, _body(_is("key.delegate"), public_key=key)), prepared.trust)
    assert (found.code, found.seq) == ("key", 1)


# A recorder, or a thief of its keys, that tells an impossible story.

STORIES: dict[str, tuple[Edit, str]] = {
    "a denied call has a result": (
        _insert(
            _is("call.result", 1),
            lambda e: replace(
                e, body={**e.body, "n": 2, "from": e.body["tree"], "changes": None, "open": [2, 3]}
            ),
        ),
        "calls",
    ),
    "a call that was asked about and not answered has a result": (
        lambda entries: [
            replace(e, kind="log.heartbeat", body={}) if e.kind == "call.answer" else e for e in entries
        ],
        "calls",
    ),
    "an answer denies and the call has a result": (_body(_is("call.answer", 3), answer="deny"), "calls"),
    "calls are not numbered one after the other": (_body(_is("call.request", 4), n=5), "calls"),
    "a step begins with other files": (_body(_is("call.result", 4), **{"from": tree(77)}), "snapshots"),
    "a run starts twice": (
        _insert(_is("run.start"), lambda e: e),
        "calls",
    ),
    "an agent that nobody introduced makes a call": (_body(_is("call.request", 4), actor=2), "calls"),
    "a result is bound to other files": (_body(_is("result.bind"), tree=tree(78)), "snapshots"),
    "a run ends twice": (
        _insert(
            _is("run.end"), lambda e: replace(e, body={**e.body, "from": e.body["tree"], "changes": None})
        ),
        "calls",
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_an_impossible_story_is_refused_although_all_signatures_hold(prepared: Prepared, story: str) -> None:
    edit, code = STORIES[story]
    found, report = _check(rewrite(prepared, edit), replace(prepared.trust, pin=None))
    assert found.code == code
    assert report.exit_code is ExitCode.BROKEN
    if story.startswith("a denied"):
        assert found.why == "denied call has a result"
