"""Both implementations say the same of the same record, good or tampered with: the words and the entry."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from agentgov.clock import Clock, Random
from agentgov.git import discover
from agentgov.layout import StateHome
from agentgov.ledger.anchors import Anchor
from agentgov.ledger.seal import Seal
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_source import RawTail, RepositorySource
from tests.conftest import MakeRepo
from tests.reference import merkle_slow, record, repository
from tests.reference.refused import Refused
from tests.support.forger import entries_of, rewrite
from tests.support.ledgers import MemorySource, Prepared, prepare
from tests.tamper.test_attacks import STORIES

IGNORED = {"missing", "level", "payload"}


@pytest.fixture
def prepared(make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random) -> Prepared:
    return prepare(make_repo(), state, clock, rng)


def _of_reference(source: MemorySource, prepared: Prepared) -> tuple[set[str], int | None]:
    seals = [record.RawSeal(s.entries, s.signatures, s.checkpoint, s.proof) for s in source.seals_]
    sealed = sum(seal.entries.count(b"\n") for seal in seals)
    tail = [(r.line, r.raw_signature) for r in source.tail_.records if r.seq >= sealed]
    try:
        read = record.read(f"agentgov/{source.stream}", seals, tail)
    except Refused as error:
        return {error.code}, error.seq
    pin, key = prepared.trust.pin, prepared.trust.public_key
    heads = [] if pin is None else [(pin.size, bytes.fromhex(pin.root), "pin")]
    return read.compare(record.Known(None if key is None else bytes.fromhex(key), heads)), None


def _of_product(source: MemorySource, prepared: Prepared) -> tuple[set[str], int | None]:
    report = verify_ledger(source, trust=prepared.trust)
    stops = report.checks[0].status in ("broken", "incomplete")
    codes: set[str] = {found.code for found in report.findings if found.code not in IGNORED}
    return codes, report.findings[0].seq if stops else None


def _agree(source: MemorySource, prepared: Prepared) -> set[str]:
    product = _of_product(source, prepared)
    assert _of_reference(source, prepared) == product
    return set(product[0])


def test_a_real_record_holds_for_both(prepared: Prepared) -> None:
    assert _agree(prepared.memory(), prepared) == set()


def test_the_reference_reads_a_repository_by_plain_git(prepared: Prepared) -> None:
    seals = repository.read_seals(prepared.repo, prepared.stream_id)
    sealed = sum(seal.entries.count(b"\n") for seal in seals)
    tail = repository.read_tail(discover(prepared.repo).common_dir, sealed)
    read = record.read(f"agentgov/{prepared.stream_id}", seals, tail)
    report = verify_ledger(RepositorySource(discover(prepared.repo)), trust=prepared.trust)
    assert report.head is not None
    assert (len(read.leaves), read.sealed) == (report.entries, report.sealed)
    assert (read.leaves[-1].hex(), read.log) == (report.head.leaf, report.head.log)


@pytest.mark.parametrize("part", ["entries", "signatures", "checkpoint", "proof"])
def test_both_name_the_same_entry_for_any_byte_that_is_changed(prepared: Prepared, part: str) -> None:
    source, draw = prepared.memory(), random.Random(part)
    for _ in range(60):
        at = draw.randrange(len(source.seals_))
        data = bytearray(getattr(source.seals_[at], part))
        place = draw.randrange(len(data))
        change = draw.choice(["flip", "cut", "put"])
        if change == "flip":
            data[place] ^= 1 << draw.randrange(8)
        elif change == "cut":
            del data[place : place + draw.randrange(1, 40)]
        else:
            data[place:place] = draw.choice([b"\n", b" ", b"0", b"\x00", bytes(data[place : place + 20])])
        changed: dict[str, Any] = {part: bytes(data)}
        seals = list(source.seals_)
        seals[at] = replace(seals[at], **changed)
        assert _agree(replace(source, seals_=seals), prepared)


def _lines(seal: Seal) -> list[tuple[bytes, bytes]]:
    return list(zip(seal.lines(), seal.signatures.split(b"\n"), strict=False))


def test_both_name_the_same_entry_for_lines_moved_dropped_or_doubled(prepared: Prepared) -> None:
    source, draw = prepared.memory(), random.Random(3)
    for _ in range(40):
        pairs = _lines(source.seals_[0])
        one, other = draw.randrange(len(pairs)), draw.randrange(len(pairs))
        match draw.choice(["swap", "drop", "double"]):
            case "swap":
                if one == other:
                    continue
                pairs[one], pairs[other] = pairs[other], pairs[one]
            case "drop":
                del pairs[one]
            case "double":
                pairs.insert(one, pairs[other])
        seal = replace(
            source.seals_[0],
            entries=b"".join(line + b"\n" for line, _ in pairs),
            signatures=b"".join(raw + b"\n" for _, raw in pairs),
        )
        assert _agree(replace(source, seals_=[seal, *source.seals_[1:]]), prepared)


@pytest.mark.parametrize("story", STORIES)
def test_both_refuse_the_same_impossible_stories(prepared: Prepared, story: str) -> None:
    edit, code = STORIES[story]
    assert _agree(rewrite(prepared, edit), prepared) == {code}


def test_both_refuse_any_one_entry_that_is_replaced_by_another_of_the_record(prepared: Prepared) -> None:
    """With the log key and keys of one's own, so that form, links and signatures hold."""
    draw = random.Random(5)
    count = len(entries_of(prepared.memory()))
    for _ in range(60):
        one, other = draw.randrange(1, count), draw.randrange(1, count)
        forged = rewrite(
            prepared,
            lambda entries, one=one, other=other: [  # type: ignore[misc]
                replace(entries[other], key=min(entries[other].key, e.seq - 1)) if e.seq == one else e
                for e in entries
            ],
        )
        assert one == other or _agree(forged, prepared)


@pytest.mark.parametrize("kind", ["actor.later", "later", "actor.Later"])
def test_both_stop_at_a_kind_that_they_do_not_know(prepared: Prepared, kind: str) -> None:
    forged = rewrite(
        prepared,
        lambda entries: [replace(e, kind=kind) if e.kind == "actor.seen" else e for e in entries],
    )
    assert _agree(forged, prepared) == {"newer" if kind == "actor.later" else "line"}


def test_both_compare_heads_alike(prepared: Prepared) -> None:
    source = prepared.memory()
    read = record.read(
        f"agentgov/{source.stream}",
        [record.RawSeal(s.entries, s.signatures, s.checkpoint, s.proof) for s in source.seals_],
    )
    cut = replace(source, seals_=source.seals_[:1], tail_=RawTail([]))
    assert _agree(cut, prepared) == {"shorter"}
    for size, root, who in (
        (3, bytes(32), "witness"),
        (3, bytes(32), "copy"),
        (99, bytes(32), "timestamp"),
        (read.sealed, merkle_slow.root(read.leaves), "witness"),
    ):
        anchor = Anchor(who, size, root, "someone", 0)  # type: ignore[arg-type]
        report = verify_ledger(source, trust=prepared.trust, anchors=[anchor])
        found = {finding.code for finding in report.findings} - IGNORED
        known = record.Known(read.keys[0][0], [(size, root, who)])
        assert read.compare(known) - {"unfinished"} == found
