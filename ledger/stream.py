"""This clone's stream: appending to it, sealing it, reading it.

Rules: an append happens under the append lock, at a head that was compared with memory, with one write and
one `fdatasync` for all its drafts; what could not be written whole is taken back, and nothing of it counts. A
writer whose key was introduced before the newest segment signs its next key first, in the same batch.
Recovery happens in `open` and `append`, under the lock. The cost of an append does not depend on the size of
the record. Several processes and threads may use the record, and threads may share one `Stream`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence

from agentgov.clock import Clock, Random
from agentgov.errors import AgentgovError, BrokenRecordError
from agentgov.files import FileLock, machine_id
from agentgov.git import Git, Repository
from agentgov.ids import RunId
from agentgov.layout import StateHome
from agentgov.ledger import genesis, recovery
from agentgov.ledger.bodies import KINDS, check_body
from agentgov.ledger.checkpoint import Checkpoint
from agentgov.ledger.disk import DiskErrors
from agentgov.ledger.entry import Draft, SignedEntry
from agentgov.ledger.keyring import Keyring, LiveKey
from agentgov.ledger.keys import SEED_BYTES, KeyFolder, Signer
from agentgov.ledger.packing import PackMerger
from agentgov.ledger.pins import pin_path
from agentgov.ledger.reader import Reader
from agentgov.ledger.seal import SealStore
from agentgov.ledger.sealing import Sealing
from agentgov.ledger.signing import PrivateKey
from agentgov.ledger.wal import Segment
from agentgov.ledger.writer import Head, Writer

SEAL_WAIT_SECONDS = 60.0


class Stream:
    """The record of one clone, open for appending. Made by `Stream.open`; close it, or use it in a `with`.

    Attributes:
        stream_id: 32 hex characters.
        origin: The name that stands in every entry.
        unmerged: Why the packs of seals could not be merged; None when nothing is wrong. The seal itself
            holds, and the next one tries again.
    """

    unmerged: AgentgovError | OSError | None = None

    def __init__(
        self,
        repository: Repository,
        state: StateHome,
        keys: KeyFolder,
        stream_id: str,
        *,
        clock: Clock,
        random: Random,
    ) -> None:
        self.stream_id = stream_id
        self.origin = genesis.ORIGIN_PREFIX + stream_id
        self._repository = repository
        self._layout = repository.layout
        self._root, self._lock_file = self._layout.root, self._layout.lock
        self._disk = DiskErrors(self._root)
        self._keys = keys
        self._random = random
        self._pin = pin_path(state.pins, stream_id)
        self._store = SealStore(Git(repository.common_dir), stream_id, repository.object_format)
        self._packs = PackMerger(Git(repository.common_dir), self._root, repository.object_format)
        self._mutex = threading.Lock()
        self._writer = Writer(
            self._layout, keys, self._store, self._pin, origin=self.origin, clock=clock, random=random
        )

    @classmethod
    def open(
        cls,
        repository: Repository,
        state: StateHome,
        *,
        clock: Clock,
        random: Random,
        create: bool = True,
        machine: str | None = None,
    ) -> Stream:
        """Open this clone's stream, recovering what a crash left.

        Args:
            repository: The repository.
            state: The user's state folder.
            clock: For the times of entries.
            random: For keys and ids.
            create: Begin a stream when there is none, or when the clone was moved or copied.
            machine: What tells this machine from others; found out when None.

        Raises:
            AgentgovError: AG0224, when there is none and none is to be begun; AG0225, when the log key cannot
                be used; AG0226, when the disk refuses.
            BrokenRecordError: When what is there is not what was written.
        """
        # Imported here: it works on streams itself.
        from agentgov.ledger.succession import resume

        layout = repository.layout
        with DiskErrors(layout.root):
            resume(repository, state, clock=clock, machine=machine)
            keys = KeyFolder.of(state.keys, repository.common_dir, machine or machine_id())
            if not create and not cls.exists(repository):
                # Raises when one was begun here: then it was removed.
                genesis.find_stream(layout, keys)
                raise genesis.no_record(layout)
            layout.create()
            state.create()
            with FileLock(layout.lock):
                stream_id = genesis.find_stream(layout, keys)
                if stream_id is None:
                    if not create:
                        raise genesis.no_record(layout)
                    stream_id = genesis.begin_stream(repository, keys, clock=clock, random=random)
        stream = cls(repository, state, keys, stream_id, clock=clock, random=random)
        try:
            stream.head()
        except BaseException:
            stream.close()
            raise
        return stream

    @staticmethod
    def exists(repository: Repository) -> bool:
        """Whether this clone names a stream."""
        return repository.layout.stream_file.exists()

    @property
    def public_key(self) -> bytes:
        """The log key's public part, 32 bytes."""
        return self._writer.public_key

    @property
    def sealed_size(self) -> int:
        """How many entries were sealed when this object last looked."""
        return self._writer.sealed.size

    @property
    def has_ended(self) -> bool:
        """Whether the record was closed, when this object last looked."""
        return self._writer.ended

    def head(self) -> Head:
        """Return the head as it is now, with what others have appended."""
        with self._locked():
            self._writer.sync()
            return self._writer.head

    def log_signer(self) -> Signer:
        """Return the log key as a signer, for short commands; it is read from disk each time."""
        return Signer(self._keys.load_key())

    def delegate(self, run: RunId) -> Signer:
        """Introduce a session key for a run; its private part never leaves this process."""
        private = PrivateKey(self._random(SEED_BYTES))
        body = {"public_key": private.public_key.hex(), "purpose": "run"}
        (signed,) = self.append([Draft("key.delegate", run, body)], self.log_signer())
        return Signer(private, signed.entry.seq, run)

    def end_key(self, signer: Signer) -> None:
        """End a session key's life; it signs nothing afterwards."""
        self.append([Draft("key.end", signer.run, {})], signer)

    def append(self, drafts: Sequence[Draft], signer: Signer) -> list[SignedEntry]:
        """Append entries together: when this returns all of them are on disk, when it raises none counts.

        Args:
            drafts: What to say, in order.
            signer: The log key, or the session key of the drafts' run.

        Returns:
            The entries of the drafts, in order; a `key.rotate` that had to precede them is not among them.

        Raises:
            AgentgovError: AG0204, when a draft does not fit its kind or signer; AG0201, when it is too large;
                AG0226, when the disk refuses.
            BrokenRecordError: AG0221, when the record was changed under its writer, and whatever is wrong
                with
                what others have appended.
        """
        for place, draft in enumerate(drafts):
            _check_draft(draft, signer, last=place == len(drafts) - 1)
        if not drafts:
            return []
        # As in `_locked`, without its price.
        with self._mutex, self._disk, FileLock(self._lock_file):
            self._writer.sync()
            return self._writer.write(drafts, signer)

    def seal(self) -> Checkpoint | None:
        """Seal what is not sealed yet; None when there is nothing.

        Raises:
            BrokenRecordError: When an entry that is not sealed yet does not hold; nothing is sealed then.
            ConflictError: AG0005, when another process has been sealing for a minute.
            AgentgovError: AG0226, when the disk refuses; AG0008, when git does.
        """
        lock = FileLock(self._layout.seal_lock)
        with self._disk:
            lock.acquire(timeout_seconds=SEAL_WAIT_SECONDS)
            try:
                checkpoint = self._seal()
                if checkpoint is not None:
                    self._merge_packs()
                return checkpoint
            finally:
                lock.release()

    def checkpoint(self) -> Checkpoint | None:
        """Return the newest signed head; None when nothing was sealed yet.

        Raises:
            BrokenRecordError: AG0207, AG0208 or AG0209, when it does not hold.
        """
        commit = self._store.newest()
        if commit is None:
            return None
        return self._store.read(commit).verify_checkpoint(self.origin, self.public_key)

    def entries(self, start: int = 0) -> Iterator[SignedEntry]:
        """Return the entries from number `start` on, as `Reader.entries`."""
        with Reader(self._repository, self.stream_id) as reader:
            yield from reader.entries(start)

    def live_keys(self, run: RunId | None = None) -> list[LiveKey]:
        """Return the session keys whose life has not ended, of one run or all; reads the whole record."""
        keyring = Keyring()
        for signed in self.entries():
            keyring.advance(signed.entry)
        return keyring.live(run)

    def lose_keys(self, run: RunId) -> list[SignedEntry]:
        """Close the session keys of a run, whose writer is taken for dead; reads the whole record once.

        If the writer lives after all, it writes nothing any more: `key.lost` is entered only where nothing
        has been entered since the keys were read, and a writer whose key is lost is refused.
        """
        keyring, size = Keyring(), 0
        while True:
            head = self.head()
            for signed in self.entries(size):
                if signed.entry.seq < head.size:
                    keyring.advance(signed.entry)
            size = head.size
            drafts = [Draft("key.lost", run, {"lost": key.seq}) for key in keyring.live(run)]
            if not drafts:
                return []
            with self._locked():
                self._writer.sync()
                if self._writer.head == head:
                    return self._writer.write(drafts, self.log_signer())

    def close(self) -> None:
        """Give files and processes back."""
        self._writer.close()
        self._store.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._mutex, self._disk, FileLock(self._lock_file):
            yield

    def _merge_packs(self) -> None:
        try:
            self._packs.add(self._store.new_packs)
            self._store.new_packs.clear()
            self.unmerged = None
        except (AgentgovError, OSError) as error:
            self.unmerged = error

    def _seal(self) -> Checkpoint | None:
        writer = self._writer
        with self._locked():
            writer.sync()
            closed = self._close_segments()
            sealed, head = writer.sealed, writer.head
        if not closed:
            return None
        sealing = Sealing(self._store, self.origin, self.public_key, self._pin)
        try:
            checkpoint, newer = sealing.run(sealed, closed, head.size, head.leaf, self.log_signer())
        except AgentgovError:
            # Nobody else moves the ref while the seal lock is held, but one that held it before and was
            # killed may have moved it, and left the segments for the next to remove.
            if self._store.newest() == sealed.commit:
                raise
            with self._locked():
                writer.load()
            return self._seal()
        with self._locked():
            writer.sealed = newer
            recovery.remove_segments(self._layout.wal, closed)
        return checkpoint

    def _close_segments(self) -> list[Segment]:
        """Close what is to be sealed; under the append lock, after `sync`."""
        writer = self._writer
        closed = writer.close_segment()
        if (closed[0].first if closed else writer.head.size) != writer.sealed.size:
            # Another process has sealed since; memory of the segments is right, that of the seal is old.
            writer.load()
            closed = writer.close_segment()
        return closed


def _check_draft(draft: Draft, signer: Signer, *, last: bool) -> None:
    if draft.kind in ("log.genesis", "key.rotate"):
        raise _refused(f"{draft.kind} is written by the record itself")
    try:
        check_body(draft.kind, draft.run, draft.body)
    except BrokenRecordError as error:
        raise _refused(error.message) from None
    if KINDS[draft.kind].signer not in ("any", "log" if signer.is_log else "session"):
        raise _refused(f"this key may not sign {draft.kind}")
    if not signer.is_log and draft.run not in (None, signer.run):
        raise _refused("a session key signs for its own run only")
    if draft.kind in ("key.end", "log.end") and not last:
        raise _refused(f"{draft.kind} must be the last")


def _refused(what: str) -> AgentgovError:
    return AgentgovError(f"this cannot be recorded: {what}", id="AG0204")
