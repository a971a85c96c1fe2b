"""What a verification remembers, so that a later one can go on where it ended: `verify --incremental`.

Rules this module keeps:
    * It is written only after everything up to a seal was verified, and lies outside the repository, beside
      the pin. Like the pin it is not signed: who can write there can lie to this machine, and to no other.
    * It is believed only if it fits: the seal it names is in the record's past, the signed head in that seal
      is the one it remembers, and no earlier root is asked for that it does not know. Whatever does not fit,
      or cannot be read, means that the record is read from its beginning.
    * Objects and payloads of entries that are not read again are not looked at again either.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from agentgov.errors import AgentgovError, BrokenRecordError
from agentgov.files import read_own_file, write_atomic
from agentgov.ids import RunId
from agentgov.ledger.chain import LeafHash, leaf_hash
from agentgov.ledger.keyring import LOG_KEY, LiveKey
from agentgov.ledger.merkle import Frontier
from agentgov.ledger.seal import Seal
from agentgov.ledger.sshkey import parse_public_key
from agentgov.ledger.verify_people import Signed
from agentgov.ledger.verify_reading import Reading
from agentgov.ledger.verify_rules import RunProgress

VERSION: Final = 1
MAX_BYTES: Final = 256 * 1024 * 1024
_SETS: Final = ("open", "waiting", "actors", "approvals", "denied")


@dataclass(frozen=True, slots=True)
class Resume:
    """A place to go on from.

    Attributes:
        seal: The commit of the seal that ends there.
        size: How many entries were verified.
        log: The record's origin.
        public_key: Its log key, hex.
        ts: When it was verified, microseconds since 1970 UTC; 0 until it is written down.
        heads: Roots and leaves, hex, known by size.
        state: What was known there.
    """

    seal: str
    size: int
    log: str
    public_key: str
    ts: int
    heads: dict[int, tuple[str, str]]
    state: dict[str, Any]

    def to_bytes(self, ts: int) -> bytes:
        """Return the file's content, with the time of the verification."""
        value = {name.name: getattr(self, name.name) for name in fields(self)}
        value |= {"v": VERSION, "ts": ts, "heads": {str(size): head for size, head in self.heads.items()}}
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n"


def resume_path(pins: Path, stream_id: str) -> Path:
    """Return the file beside a record's pin."""
    return pins / f"{stream_id}.verified"


def read_resume(path: Path) -> Resume | None:
    """Return what an earlier verification remembered; None when there is nothing that can be used."""
    try:
        value: Any = json.loads(read_own_file(path, max_bytes=MAX_BYTES))
        if value["v"] != VERSION:
            return None
        heads = {int(size): (str(root), str(leaf)) for size, (root, leaf) in value["heads"].items()}
        texts = [str(value[name]) for name in ("seal", "log", "public_key")]
        numbers = [int(value["size"]), int(value["ts"])]
        return Resume(texts[0], numbers[0], texts[1], texts[2], numbers[1], heads, dict(value["state"]))
    except (OSError, AgentgovError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def write_resume(path: Path, resume: Resume, ts: int) -> None:
    """Remember a place; raises OSError."""
    write_atomic(path, resume.to_bytes(ts))


def capture(reading: Reading, seal: str) -> Resume:
    """Return what a reading knows right after a seal."""
    keys = [[key.seq, key.public_key.hex(), key.run] for key in reading.keyring.live()]
    runs = {
        run: {
            f.name: sorted(value) if isinstance(value := getattr(progress, f.name), set) else value
            for f in fields(progress)
        }
        for run, progress in reading.rules.runs.items()
    }
    statements = reading.statements
    state = {
        "peaks": [peak.hex() for peak in reversed(reading.frontier.last_proof())],
        "leaf": reading.leaf.hex(),
        "keys": keys,
        "ended": reading.keyring.ended,
        "runs": runs,
        "follows": reading.rules.follows,
        "continues": reading.continues,
        "notes": reading.notes,
        "endorsements": [[s.seq, s.run, [key.line for key in s.keys]] for s in statements.endorsements],
        "approvals": [[s.seq, s.run, [key.line for key in s.keys]] for s in statements.approvals],
        "unchecked": statements.unchecked,
        "counted": sorted(statements.counted.items()),
    }
    heads = {**reading.heads, reading.frontier.size: (reading.frontier.root().hex(), reading.leaf.hex())}
    return Resume(seal, reading.frontier.size, reading.log, reading.key, 0, heads, state)


def restore(reading: Reading, resume: Resume, seal: Seal) -> None:
    """Put a reading that has read nothing to the place that is remembered.

    Raises:
        BrokenRecordError: AG0450, when it does not fit the record or itself; the reading is then of no use.
    """
    try:
        _restore(reading, resume)
        checkpoint = seal.verify_checkpoint(reading.log, bytes.fromhex(resume.public_key))
    except (ValueError, TypeError, KeyError, AttributeError, AgentgovError) as error:
        raise _unfit(str(error)) from error
    fits = (checkpoint.size, checkpoint.root) == (reading.frontier.size, reading.frontier.root())
    if not fits or resume.log != reading.log or reading.leaf != _last_leaf(seal):
        raise _unfit("it is not about this record")


def _restore(reading: Reading, resume: Resume) -> None:
    state = resume.state
    reading.frontier = Frontier(resume.size, (bytes.fromhex(peak) for peak in state["peaks"]))
    reading.leaf = LeafHash(bytes.fromhex(state["leaf"]))
    reading.key = resume.public_key
    reading.sealed = resume.size
    reading.heads = dict(resume.heads)
    reading.keyring.add(LiveKey(LOG_KEY, bytes.fromhex(resume.public_key), None))
    for seq, public_key, run in state["keys"]:
        reading.keyring.add(LiveKey(int(seq), bytes.fromhex(public_key), RunId(run)))
    reading.keyring.seal(resume.size)
    reading.keyring.ended = state["ended"]
    for run, raw in state["runs"].items():
        values: dict[str, Any] = {n: set(v) if n in _SETS else v for n, v in raw.items()}
        reading.rules.runs[RunId(run)] = RunProgress(**values)
    reading.rules.follows = bool(state["follows"])
    if state["continues"] is not None:
        log, size, leaf = state["continues"]
        reading.continues = (str(log), int(size), str(leaf))
    reading.notes += map(str, state["notes"])
    for name in ("endorsements", "approvals"):
        for seq, run, lines in state[name]:
            signed = Signed(int(seq), run, tuple(map(parse_public_key, lines)))
            getattr(reading.statements, name).append(signed)
    reading.statements.counted = {int(place): int(seq) for place, seq in state["counted"]}
    reading.statements.unchecked += [(int(seq), str(why)) for seq, why in state["unchecked"]]


def _last_leaf(seal: Seal) -> bytes:
    return leaf_hash(seal.lines()[-1])


def _unfit(why: str) -> BrokenRecordError:
    return BrokenRecordError(f"what was remembered of this record cannot be used: {why}", id="AG0450")
