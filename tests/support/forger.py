"""A thief with some of the keys, who writes the record anew as well as these keys allow."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace

from agentgov.git import discover
from agentgov.ledger.chain import NO_LEAF, leaf_hash
from agentgov.ledger.checkpoint import Checkpoint, sign_checkpoint
from agentgov.ledger.entry import PAYLOAD_TYPE, Entry, parse_entry
from agentgov.ledger.keys import KeyFolder
from agentgov.ledger.merkle import Frontier
from agentgov.ledger.seal import Seal, encode_proof
from agentgov.ledger.signing import PrivateKey, pae
from agentgov.ledger.verify_source import RawRecord, RawTail
from tests.support.ledgers import MACHINE, MemorySource, Prepared

Edit = Callable[[list[Entry]], list[Entry]]


def log_key(prepared: Prepared) -> PrivateKey:
    """The clone's log key, as a thief finds it on the disk."""
    common_dir = discover(prepared.repo).common_dir
    return KeyFolder.of(prepared.state.keys, common_dir, MACHINE).load_key()


def lines_of(source: MemorySource) -> list[bytes]:
    """All lines, sealed or not."""
    sealed = [line for seal in source.seals_ for line in seal.lines()]
    return sealed + [record.line for record in source.tail_.records if record.seq >= len(sealed)]


def entries_of(source: MemorySource) -> list[Entry]:
    """All entries, sealed or not."""
    return [parse_entry(line) for line in lines_of(source)]


def new_key(seq: int) -> PrivateKey:
    """The thief's own session key for the entry at `seq`."""
    return PrivateKey(seq.to_bytes(32, "big"))


def rewrite(
    prepared: Prepared, edit: Edit, *, key: PrivateKey | None = None, sealed: int = 2
) -> MemorySource:
    """Write the whole record anew after `edit`, with the log key (or `key`) and session keys of one's own.

    The edited entries are renumbered, linked, signed and sealed in `sealed` parts of the old sizes; entries
    keep naming the key of the entry that stood at that place.
    """
    private = log_key(prepared) if key is None else key
    source = prepared.memory()
    sizes = [seal.count() for seal in source.seals_][:sealed]
    lines: list[bytes] = []
    signatures: list[bytes] = []
    leaf = NO_LEAF
    for seq, entry in enumerate(edit(entries_of(source))):
        body = dict(entry.body)
        if entry.kind == "log.genesis":
            body["public_key"] = private.public_key.hex()
        elif entry.kind in ("key.delegate", "key.rotate") and len(set(body["public_key"])) > 2:
            body["public_key"] = new_key(seq).public_key.hex()
        line = replace(entry, seq=seq, prev=leaf.hex(), body=body).line()
        signer = private if entry.key == 0 else new_key(entry.key)
        lines.append(line)
        signatures.append(base64.b64encode(signer.sign(pae(PAYLOAD_TYPE, line))))
        leaf = leaf_hash(line)
    seals: list[Seal] = []
    frontier, first = Frontier(), 0
    for size in sizes:
        part = slice(first, first + size)
        for line in lines[part]:
            proof = frontier.last_proof()
            frontier.append(leaf_hash(line))
        first += size
        checkpoint = Checkpoint(f"agentgov/{prepared.stream_id}", first, frontier.root())
        seals.append(
            Seal(
                commit=f"{first:040x}",
                parent=seals[-1].commit if seals else None,
                entries=b"".join(line + b"\n" for line in lines[part]),
                signatures=b"".join(raw + b"\n" for raw in signatures[part]),
                checkpoint=sign_checkpoint(checkpoint, private.public_key, private.sign).to_bytes(),
                proof=encode_proof(proof),
            )
        )
    rest = [RawRecord(seq, lines[seq], signatures[seq]) for seq in range(first, len(lines))]
    return MemorySource(prepared.stream_id, seals, RawTail(rest))
