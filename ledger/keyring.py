"""Which key may sign the next entry: the life of keys, entry by entry.

Rules: the genesis entry introduces the log key (0), `key.delegate` a run's session key, `key.rotate` its
successor; a key is gone once it has rotated, ended or been declared lost. The log key never signs `call.*`; a
session key signs only for its own run, and only the kinds that `bodies.py` gives it. After a seal, a session
key introduced before it may only sign its `key.rotate` or `key.end`. `log.end` closes the record: nothing
follows it, whoever signed. Validity is a range of places, never of time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from agentgov.errors import BrokenRecordError
from agentgov.ids import RunId
from agentgov.ledger.bodies import KINDS
from agentgov.ledger.entry import PAYLOAD_TYPE, Entry, SignedEntry
from agentgov.ledger.signing import check_public_key, verify_signature

LOG_KEY = 0


@dataclass(frozen=True, slots=True)
class LiveKey:
    """A key that may sign.

    Attributes:
        seq: The place of the entry that introduced it.
        public_key: Its 32 bytes.
        run: The run it signs for; None for the log key.
    """

    seq: int
    public_key: bytes
    run: RunId | None


class Keyring:
    """The live keys at one place of the record, and where the last seal before it ended.

    Args:
        resolve: Finds a key that was introduced before the place where this keyring began to read; None
            when it reads from the first entry on, as a full verification does.

    Attributes:
        boundary: The size at which the last seal before this place ended.
        ended: The place of the entry that closed the record; None while it goes on.
    """

    def __init__(self, resolve: Callable[[int], LiveKey | None] | None = None) -> None:
        self._live: dict[int, LiveKey] = {}
        self._gone: set[int] = set()
        self._resolve = resolve
        self.boundary = 0
        self.ended: int | None = None

    def live(self, run: RunId | None = None) -> list[LiveKey]:
        """Return the session keys that have not ended, in order, of one run or of all."""
        keys = [key for seq, key in self._live.items() if seq != LOG_KEY and run in (None, key.run)]
        return sorted(keys, key=lambda key: key.seq)

    def seal(self, size: int) -> None:
        """Note that a seal ended before entry `size`."""
        self.boundary = size

    def add(self, key: LiveKey) -> None:
        """Add a key known from elsewhere, such as the log key of a record that is read from its middle."""
        self._live[key.seq] = key

    def signer(self, entry: Entry) -> LiveKey:
        """Return the key that must have signed `entry`, after checking that it might.

        Raises:
            BrokenRecordError: AG0420, when the record has ended; AG0227, when the key is unknown, gone,
                stale, or signs what it may not; AG0210, when the key itself is refused.
        """
        where = f"entry {entry.seq}"
        if self.ended is not None:
            raise BrokenRecordError(
                f"the record ended with entry {self.ended}, and nothing may follow", id="AG0420", where=where
            )
        if entry.seq == 0:
            return LiveKey(LOG_KEY, bytes.fromhex(entry.body["public_key"]), None)
        key = self._find(entry.key)
        if key is None:
            raise BrokenRecordError("signed by a key that is not in use here", id="AG0227", where=where)
        rules = KINDS.get(entry.kind)
        # Who may sign a kind that only a later version knows is for that version to say.
        allowed = "any" if rules is None else rules.signer
        if allowed not in ("any", "log" if key.seq == LOG_KEY else "session"):
            raise BrokenRecordError(f"this key may not sign {entry.kind}", id="AG0227", where=where)
        if key.seq != LOG_KEY:
            if entry.run not in (None, key.run):
                raise BrokenRecordError("signed by another run's key", id="AG0227", where=where)
            if key.seq < self.boundary and entry.kind not in ("key.rotate", "key.end"):
                raise BrokenRecordError(
                    "signed by a key from before the last seal, which had to be replaced first",
                    id="AG0227",
                    where=where,
                )
        return key

    def advance(self, entry: Entry) -> None:
        """Take over what an entry that holds says about keys.

        Raises:
            BrokenRecordError: AG0210, when it introduces a key that is refused; AG0227, when it buries a key
                that does not live.
        """
        where = f"entry {entry.seq}"
        if entry.kind in ("log.genesis", "key.delegate", "key.rotate"):
            public_key = bytes.fromhex(entry.body["public_key"])
            check_public_key(public_key)
            self._live[entry.seq] = LiveKey(entry.seq, public_key, entry.run)
        if entry.kind in ("key.rotate", "key.end"):
            self._bury(entry.key)
        elif entry.kind == "key.lost":
            lost = self._find(entry.body["lost"])
            if lost is None or lost.seq == LOG_KEY or lost.run != entry.run:
                raise BrokenRecordError("a key is declared lost that does not live", id="AG0227", where=where)
            self._bury(lost.seq)
        elif entry.kind == "log.end":
            self.ended = entry.seq

    def admit(self, signed: SignedEntry) -> LiveKey:
        """Check an entry's key and signature, then take over what it says; return the key.

        Raises:
            BrokenRecordError: AG0210, AG0211, AG0227 or AG0420, as above.
        """
        key = self.signer(signed.entry)
        verify_signature(
            key.public_key, PAYLOAD_TYPE, signed.line, signed.signature, where=f"entry {signed.entry.seq}"
        )
        self.advance(signed.entry)
        return key

    def copy(self) -> Keyring:
        """Return a keyring that goes on alone."""
        other = Keyring(self._resolve)
        other._live = {seq: replace(key) for seq, key in self._live.items()}
        other._gone = set(self._gone)
        other.boundary, other.ended = self.boundary, self.ended
        return other

    def _find(self, seq: int) -> LiveKey | None:
        key = self._live.get(seq)
        if key is None and seq not in self._gone and self._resolve is not None:
            key = self._resolve(seq)
            if key is not None:
                self._live[seq] = key
        return key

    def _bury(self, seq: int) -> None:
        self._live.pop(seq, None)
        self._gone.add(seq)
