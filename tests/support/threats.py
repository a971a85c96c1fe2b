"""The attacks of the threat table on one record: three sealed parts, and a tail that is not sealed yet."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agentgov.clock import Clock, Random
from agentgov.git import discover
from agentgov.ids import RunId
from agentgov.layout import StateHome
from agentgov.ledger.chain import NO_LEAF, leaf_hash
from agentgov.ledger.checkpoint import Checkpoint, sign_checkpoint
from agentgov.ledger.entry import PAYLOAD_TYPE, Entry, parse_entry
from agentgov.ledger.merkle import Frontier
from agentgov.ledger.seal import encode_proof
from agentgov.ledger.signing import PrivateKey, pae
from agentgov.ledger.stream import Stream
from agentgov.ledger.verify_source import RawRecord, RawTail, local_trust
from tests.support.forger import log_key, rewrite
from tests.support.ledger import heartbeat
from tests.support.ledgers import MACHINE, OTHER, RUN, MemorySource, Prepared, Writer, payload_store

LIVE = RunId("9zzzz")
Pair = tuple[bytes, bytes]


@dataclass
class Scene:
    """The record, and what thieves could steal.

    Attributes:
        prepared: The record as it lies in a repository.
        foreign: Another record of the same shape.
        old_key: The key of the second run, from before the first seal; it was replaced since.
        stale_key: The key of the live run, from before the last seal; it was replaced since.
        live_key: The key that replaced it, not sealed over yet.
    """

    prepared: Prepared
    foreign: Prepared
    old_key: PrivateKey
    stale_key: PrivateKey
    live_key: PrivateKey

    def source(self) -> MemorySource:
        """The record in memory."""
        return self.prepared.memory()


def set_scene(
    repos: tuple[Path, Path], states: tuple[StateHome, StateHome], clock: Clock, random: Random
) -> Scene:
    """Make the record and its twin."""
    prepared, keys = _record(repos[0], states[0], clock, random)
    foreign, _ = _record(repos[1], states[1], clock, random)
    return Scene(prepared, foreign, *keys)


def _record(
    repo: Path, state: StateHome, clock: Clock, random: Random
) -> tuple[Prepared, tuple[PrivateKey, PrivateKey, PrivateKey]]:
    repository = discover(repo)
    base = repository.require_head_commit()
    payloads = payload_store(repo, random)
    with Stream.open(repository, state, clock=clock, random=random, machine=MACHINE) as stream:
        first = Writer(stream, payloads, RUN, base)
        first.start()
        first.request()
        first.result(1, 2)
        first.end()
        stream.end_key(first.signer)
        second = Writer(stream, payloads, OTHER, base)
        second.start()
        second.request()
        old_key = second.signer.memento()[0]
        stream.seal()
        second.result(1, 6)
        second.end()
        stream.end_key(second.signer)
        stream.seal()
        stream.append([heartbeat()] * 3, stream.log_signer())
        live = Writer(stream, payloads, LIVE, base)
        live.start()
        stale_key = live.signer.memento()[0]
        stream.seal()
        live.request()
        live_key = live.signer.memento()[0]
        live.result(1, 7)
        live.end()
        stream.end_key(live.signer)
        payloads.close()
        stream_id = stream.stream_id
    trust = local_trust(repository, state, machine=MACHINE)
    return Prepared(repo, state, trust, stream_id, base, old_key), (old_key, stale_key, live_key)


def pairs_of(source: MemorySource) -> list[list[Pair]]:
    """Line and signature of each entry, part by part; the last part is the tail."""
    parts = [list(zip(seal.lines(), seal.signatures.split(b"\n"), strict=False)) for seal in source.seals_]
    return [*parts, [(record.line, record.raw_signature) for record in source.tail_.records]]


def with_pairs(source: MemorySource, parts: list[list[Pair]]) -> MemorySource:
    """The same record with other entries; heads and proofs stay as they were."""
    seals = [
        replace(
            seal,
            entries=b"".join(line + b"\n" for line, _ in part),
            signatures=b"".join(raw + b"\n" for _, raw in part),
        )
        for seal, part in zip(source.seals_, parts, strict=False)
    ]
    first = sum(map(len, parts[: len(seals)]))
    tail = [RawRecord(seq, *pair) for seq, pair in enumerate(parts[-1], first)]
    return MemorySource(source.stream, seals, RawTail(tail))


def alone(source: MemorySource) -> MemorySource:
    """The entries without any signed head."""
    pairs = [pair for part in pairs_of(source) for pair in part]
    return MemorySource(source.stream, [], RawTail([RawRecord(seq, *pair) for seq, pair in enumerate(pairs)]))


def _change(scene: Scene, part: int, edit: Callable[[list[Pair]], None]) -> MemorySource:
    source = scene.source()
    parts = pairs_of(source)
    edit(parts[part])
    return with_pairs(source, parts)


def _signed(entry: Entry, key: PrivateKey) -> Pair:
    line = entry.line()
    return line, base64.b64encode(key.sign(pae(PAYLOAD_TYPE, line)))


def _other_tool(line: bytes) -> bytes:
    return line.replace(b'"tool":"Bash"', b'"tool":"Read"')


def _edit(scene: Scene) -> MemorySource:
    return _change(scene, 0, lambda pairs: pairs.__setitem__(3, (_other_tool(pairs[3][0]), pairs[3][1])))


def _delete(scene: Scene) -> MemorySource:
    return _change(scene, 0, lambda pairs: pairs.__delitem__(3))


def _reorder(scene: Scene) -> MemorySource:
    return _change(scene, 0, lambda pairs: pairs.__setitem__(slice(2, 4), [pairs[3], pairs[2]]))


def _replay(scene: Scene) -> MemorySource:
    source = scene.source()
    parts = pairs_of(source)
    parts[-1].append(parts[0][3])
    return with_pairs(source, parts)


def _splice(scene: Scene) -> MemorySource:
    donor = pairs_of(scene.foreign.memory())[0][3]
    return _change(scene, 0, lambda pairs: pairs.__setitem__(3, donor))


def _spell(scene: Scene) -> MemorySource:
    return _change(
        scene,
        0,
        lambda pairs: pairs.__setitem__(3, (pairs[3][0].replace(b'"Bash"', b'"\\u0042ash"'), pairs[3][1])),
    )


def _chain_again(source: MemorySource, edit: Callable[[int, Entry], Pair | Entry]) -> MemorySource:
    """Edit entries and link the whole record anew; what is not signed anew keeps its old signature."""
    parts, leaf, seq = pairs_of(source), NO_LEAF, 0
    for part in parts:
        for place, (line, raw) in enumerate(part):
            made = edit(seq, replace(parse_entry(line), prev=leaf.hex()))
            part[place] = made if isinstance(made, tuple) else (made.line(), raw)
            leaf = leaf_hash(part[place][0])
            seq += 1
    return with_pairs(source, parts)


def _renamed(entry: Entry) -> Entry:
    return replace(entry, body={**entry.body, "tool": "Read"}) if entry.kind == "call.request" else entry


def _rechain(scene: Scene) -> MemorySource:
    return _chain_again(scene.source(), lambda seq, entry: _renamed(entry) if entry.run == RUN else entry)


def _cut_under_the_newest_head(scene: Scene) -> MemorySource:
    source = scene.source()
    parts = pairs_of(source)
    return with_pairs(source, [parts[0], parts[1], parts[2][:2], []])


def _restore(scene: Scene) -> MemorySource:
    source = scene.source()
    return replace(source, seals_=source.seals_[:2], tail_=RawTail([]))


def _without_heads(scene: Scene) -> MemorySource:
    return alone(scene.source())


def _cut_the_tail(scene: Scene) -> MemorySource:
    """Only what leaves no run open: the last entry ends the key of a run that has ended."""
    return _change(scene, -1, lambda pairs: pairs.__delitem__(-1))


def _inside_an_epoch(scene: Scene) -> MemorySource:
    key, boundary = scene.live_key, sum(seal.count() for seal in scene.source().seals_)
    return _chain_again(
        scene.source(),
        lambda seq, entry: _signed(_renamed(entry), key) if seq > boundary else _signed_as_it_was(scene, seq),
    )


def _past_an_epoch(scene: Scene) -> MemorySource:
    def edit(seq: int, entry: Entry) -> Pair | Entry:
        if entry.run != OTHER or entry.kind == "key.delegate":
            return entry
        return _signed(_renamed(entry), scene.old_key)

    return _chain_again(scene.source(), edit)


def _signed_as_it_was(scene: Scene, seq: int) -> Pair:
    return [pair for part in pairs_of(scene.source()) for pair in part][seq]


def _rewrite(scene: Scene) -> MemorySource:
    return rewrite(scene.prepared, lambda entries: [_renamed(e) for e in entries], sealed=3)


def _regrow(scene: Scene) -> MemorySource:
    """Keep two parts, and write heartbeats in the place of all that came after them."""
    source, key = scene.source(), log_key(scene.prepared)
    origin, parts = f"agentgov/{source.stream}", pairs_of(source)
    pairs, frontier = [*parts[0], *parts[1]], Frontier()
    for line, _ in pairs:
        frontier.append(leaf_hash(line))
    end, count = frontier.size + len(parts[2]), sum(map(len, parts))
    seal = source.seals_[2]
    for seq in range(len(pairs), count):
        prev = leaf_hash(pairs[-1][0]).hex()
        pairs.append(_signed(Entry(seq, prev, origin, "log.heartbeat", 1, None, 0, {}), key))
        proof = frontier.last_proof()
        frontier.append(leaf_hash(pairs[-1][0]))
        if frontier.size == end:
            head = Checkpoint(origin, end, frontier.root())
            note = sign_checkpoint(head, key.public_key, key.sign)
            seal = replace(seal, checkpoint=note.to_bytes(), proof=encode_proof(proof))
    regrown = replace(source, seals_=[*source.seals_[:2], seal])
    first = len(parts[0]) + len(parts[1])
    return with_pairs(regrown, [*parts[:2], pairs[first:end], pairs[end:]])


def _append(scene: Scene, **changes: Any) -> MemorySource:
    """One more entry, signed with the log key."""
    source = scene.source()
    parts = pairs_of(source)
    last = parse_entry(parts[-1][-1][0])
    entry = replace(last, seq=last.seq + 1, prev=leaf_hash(parts[-1][-1][0]).hex(), key=0, **changes)
    parts[-1].append(_signed(entry, log_key(scene.prepared)))
    return with_pairs(source, parts)


def _backdate(scene: Scene) -> MemorySource:
    return _append(scene, kind="log.heartbeat", run=None, body={}, ts=1)


def _call_with_the_log_key(scene: Scene) -> MemorySource:
    entries = [parse_entry(line) for part in pairs_of(scene.source()) for line, _ in part]
    request = next(entry for entry in entries if entry.kind == "call.request")
    return _append(scene, kind="call.request", run=LIVE, body=request.body)


def _stale(scene: Scene) -> MemorySource:
    source = scene.source()
    parts = pairs_of(source)
    entries = [parse_entry(line) for part in parts for line, _ in part]
    own = next(e.seq for e in entries if e.kind == "key.delegate" and e.run == LIVE)
    seq = sum(map(len, parts[:3]))
    leaf = leaf_hash(parts[2][-1][0])
    tail = list[Pair]()
    for entry in entries[seq + 1 :]:
        tail.append(_signed(replace(entry, seq=seq, prev=leaf.hex(), key=own), scene.stale_key))
        seq, leaf = seq + 1, leaf_hash(tail[-1][0])
    return with_pairs(source, [*parts[:3], tail])


ATTACKS: dict[str, Callable[[Scene], MemorySource]] = {
    "nothing at all": Scene.source,
    "edit": _edit,
    "delete": _delete,
    "reorder": _reorder,
    "replay": _replay,
    "splice from another record": _splice,
    "re-encode": _spell,
    "re-chain without a key": _rechain,
    "truncate, keep the newest checkpoint": _cut_under_the_newest_head,
    "truncate, restore a genuine old checkpoint": _restore,
    "cut the unsealed tail": _cut_the_tail,
    "remove the checkpoints, keep the entries": _without_heads,
    "rewrite inside a session key's epoch": _inside_an_epoch,
    "rewrite past a session key's epoch": _past_an_epoch,
    "full rewrite with the log key": _rewrite,
    "truncate and regrow with the log key": _regrow,
    "backdate new entries": _backdate,
    "append `call.*` with the log key": _call_with_the_log_key,
    "use a key after its seal without rotating": _stale,
}
"""Every attack of the table in docs/threat-model.md, by the name that it has there."""
