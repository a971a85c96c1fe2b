"""Making a seal from closed segments: every line is verified before the log key signs a head over it.

Rules: the closed segments begin where the last seal ended, follow each other, and end at the head that the
sealer knows; form, chain, key and signature of each entry hold, or nothing is sealed. Order: objects, ref,
pin; the caller removes the segments afterwards, under the append lock. A crash between two steps leaves a
state that the next opening understands.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agentgov.errors import BrokenRecordError
from agentgov.files import read_own_file
from agentgov.ledger.chain import LeafHash
from agentgov.ledger.checkpoint import Checkpoint, sign_checkpoint
from agentgov.ledger.entry import SignedEntry, parse_entry
from agentgov.ledger.keyring import LOG_KEY, Keyring, LiveKey
from agentgov.ledger.keys import Signer
from agentgov.ledger.pins import Pin, advance_pin, read_pin, verify_pin
from agentgov.ledger.recovery import Sealed, encode_signatures, verify_place
from agentgov.ledger.seal import SealStore, encode_proof, seal_broken
from agentgov.ledger.wal import Segment, parse_record, split_torn


class Sealing:
    """Seals one stream; the caller holds the seal lock.

    Args:
        store: Where seals lie.
        origin: The stream's origin.
        public_key: The log key.
        pin: The file of the stream's pin.
    """

    def __init__(
        self,
        store: SealStore,
        origin: str,
        public_key: bytes,
        pin: Path,
    ) -> None:
        self._store = store
        self._origin = origin
        self._public_key = public_key
        self._pin = pin

    def run(
        self, sealed: Sealed, closed: Sequence[Segment], size: int, leaf: LeafHash, signer: Signer
    ) -> tuple[Checkpoint, Sealed]:
        """Seal the entries from `sealed.size` up to `size`.

        Args:
            sealed: The end of the sealed part.
            closed: The segments that hold these entries.
            size: How many entries there are.
            leaf: The leaf of the last of them, as the sealer knows it.
            signer: The log key.

        Returns:
            The checkpoint, and the new end of the sealed part.

        Raises:
            BrokenRecordError: When an entry does not hold.
        """
        records = self._read(sealed, closed)
        if sealed.size + len(records) != size or not records or records[-1].leaf() != leaf:
            raise BrokenRecordError(
                "the record was changed under its writer: closed entries are other ones",
                id="AG0221",
                where=str(closed[0].path.parent) if closed else self._store.ref,
                hint="agentgov verify",
            )
        self._verify_keys(sealed, records)
        self._verify_pin(sealed, records, size)
        frontier = sealed.frontier.copy()
        for record in records[:-1]:
            frontier.append(record.leaf())
        proof = frontier.last_proof()
        frontier.append(leaf)
        checkpoint = Checkpoint(self._origin, size, frontier.root())
        last = records[-1].entry
        commit = self._store.write(
            entries=b"".join(record.line + b"\n" for record in records),
            signatures=encode_signatures(records),
            checkpoint=sign_checkpoint(checkpoint, self._public_key, signer.sign).to_bytes(),
            proof=encode_proof(proof),
            parent=sealed.commit,
            ts=last.ts,
        )
        self._store.advance(commit, sealed.commit)
        pin = Pin(
            log=self._origin,
            public_key=self._public_key.hex(),
            size=size,
            root=checkpoint.root.hex(),
            leaf=leaf.hex(),
            ts=last.ts,
        )
        advance_pin(self._pin, pin)
        return checkpoint, Sealed(size, leaf, commit, frontier, last.kind == "log.end")

    def _read(self, sealed: Sealed, closed: Sequence[Segment]) -> list[SignedEntry]:
        records: list[SignedEntry] = []
        size, leaf = sealed.size, sealed.leaf
        for segment in closed:
            if segment.first < sealed.size:
                continue
            complete, torn = split_torn(read_own_file(segment.path))
            if segment.first != size or torn:
                raise BrokenRecordError(
                    "a closed part of the record is not whole", id="AG0220", where=str(segment.path)
                )
            for raw_record in complete.split(b"\n")[:-1]:
                signed = parse_record(raw_record, seq=size)
                verify_place(signed, size, leaf, self._origin)
                size, leaf = size + 1, signed.leaf()
                records.append(signed)
        return records

    def _verify_keys(self, sealed: Sealed, records: Sequence[SignedEntry]) -> None:
        keyring = Keyring(lambda seq: self._sealed_key(sealed.commit, seq))
        keyring.add(LiveKey(LOG_KEY, self._public_key, None))
        keyring.seal(sealed.size)
        for record in records:
            if record.entry.seq == 0 and record.entry.body["public_key"] != self._public_key.hex():
                raise seal_broken("its first entry names another log key", self._store.ref)
            keyring.admit(record)

    def _sealed_key(self, commit: str | None, seq: int) -> LiveKey | None:
        """Find a key in the sealed part, unless it has rotated, ended or been declared lost there."""
        # Lines are canonical, so their bytes can be searched: one that matches is one that says it.
        ends = (
            b'"key":%d,"kind":"key.rotate"' % seq,
            b'"key":%d,"kind":"key.end"' % seq,
            b'{"body":{"lost":%d},"key":0,"kind":"key.lost"' % seq,
        )
        for seal in self._store.newest_first(commit):
            if any(end in seal.entries for end in ends):
                return None
            first = seal.first()
            if first <= seq < first + seal.count():
                entry = parse_entry(seal.lines()[seq - first])
                if entry.kind not in ("key.delegate", "key.rotate"):
                    return None
                return LiveKey(seq, bytes.fromhex(entry.body["public_key"]), entry.run)
        return None

    def _verify_pin(self, sealed: Sealed, records: Sequence[SignedEntry], size: int) -> None:
        pin = read_pin(self._pin)
        if pin is None:
            return
        place = pin.size - sealed.size
        leaf = None
        if place == 0:
            leaf = sealed.leaf.hex()
        elif 0 < place <= len(records):
            leaf = records[place - 1].leaf().hex()
        verify_pin(pin, self._pin, log=self._origin, public_key=self._public_key.hex(), size=size, leaf=leaf)
