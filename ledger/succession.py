"""The end of this clone's record and the beginning of its successor: a new log key, or a way out.

Rules this module keeps:
    * Nothing of the old record is removed: its seals and its pin stay, what was not sealed moves to
      `earlier/<id>`. The private key of a record that ended properly has nothing left to sign and is removed;
      that of one which could not be ended is kept aside.
    * The order is: the new key, the plan, `log.end` in the old record, its seal, the plan's second half, the
      switch. Each step is durable before the next. Until the second half is written the old record counts,
      from then on the new one: every opening goes on from there.
    * The new record `continues` the last head of the old one that can be read here, or none.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agentgov.clock import Clock, Random
from agentgov.errors import AgentgovError, BrokenRecordError, IncompleteError
from agentgov.files import FileLock, fsync_dir, machine_id, open_private_dir, read_own_file, write_atomic
from agentgov.git import Git, Repository
from agentgov.layout import Layout, StateHome
from agentgov.ledger import genesis
from agentgov.ledger.disk import DiskErrors
from agentgov.ledger.entry import Draft
from agentgov.ledger.keys import SEED_BYTES, KeyFolder, read_stream_id
from agentgov.ledger.recovery import claimed_end, verify_place
from agentgov.ledger.seal import SealStore
from agentgov.ledger.signing import PrivateKey
from agentgov.ledger.stream import SEAL_WAIT_SECONDS, Stream
from agentgov.ledger.succession_plan import (
    Plan,
    Reason,
    next_key_file,
    plan_file,
    read_plan,
    read_seed,
    write_plan,
)
from agentgov.ledger.wal import list_segments, parse_record, split_torn
from agentgov.memory import guard_memory


@dataclass(frozen=True, slots=True)
class Succession:
    """What became of a record and its successor.

    Attributes:
        old: The id of the record before; None when nothing names one.
        new: The id of the record that begins.
        public_key: The new log key, 32 bytes.
        size: How many entries of the old record the new one says it continues; 0 when none can be read.
        ended: Whether the old record was ended and sealed, naming the new one.
        hindrance: Why it was not; None for a record that was begun in another clone.
    """

    old: str | None
    new: str
    public_key: bytes
    size: int
    ended: bool
    hindrance: AgentgovError | None = None


def begin_successor(
    repository: Repository,
    state: StateHome,
    *,
    reason: Reason,
    clock: Clock,
    random: Random,
    machine: str | None = None,
) -> Succession:
    """End this clone's record and begin another one with a new log key, which continues it.

    The caller has made sure that no run is going on here: its recorder could enter nothing more.

    Args:
        repository: The repository.
        state: The user's state folder.
        reason: `rotated` demands that the old record can be ended; `restarted` does not.
        clock: For the times of entries.
        random: For the key and the id.
        machine: What tells this machine from others; found out when None.

    Raises:
        AgentgovError: AG0226, when the disk refuses; AG0460, when there is no record; AG0461, when a plan
            that was begun cannot be read.
        BrokenRecordError: With `rotated`, whatever is wrong with the old record.
    """
    layout = repository.layout
    with DiskErrors(layout.root):
        keys = _key_folder(repository, state, machine)
        layout.create()
        state.create()
        open_private_dir(keys.path)
        with FileLock(keys.path / "successor.lock"):
            return _succeed(repository, state, keys, reason, clock, random)


def resume(repository: Repository, state: StateHome, *, clock: Clock, machine: str | None = None) -> bool:
    """Finish a succession that a crash cut short after the old record had stopped to count.

    Returns:
        Whether there was one.

    Raises:
        AgentgovError: AG0226, when the disk refuses; AG0461, when its plan cannot be read.
    """
    with DiskErrors(repository.layout.root):
        keys = _key_folder(repository, state, machine)
        if not plan_file(keys).exists():
            return False
        with FileLock(keys.path / "successor.lock"):
            plan = read_plan(keys)
            if plan is None or not plan.switching:
                return False
            _switch(repository, keys, plan, clock)
            return True


def is_pending(repository: Repository, state: StateHome, *, machine: str | None = None) -> bool:
    """Whether a succession was begun here and is not finished."""
    return plan_file(_key_folder(repository, state, machine)).exists()


def _key_folder(repository: Repository, state: StateHome, machine: str | None) -> KeyFolder:
    return KeyFolder.of(state.keys, repository.common_dir, machine or machine_id())


def _succeed(
    repository: Repository, state: StateHome, keys: KeyFolder, reason: Reason, clock: Clock, random: Random
) -> Succession:
    plan = read_plan(keys)
    if plan is not None and plan.switching:
        # Cut short by a crash: this is what was asked for, and it is finished rather than done twice.
        _switch(repository, keys, plan, clock)
        return _outcome(plan, None)
    bound, present = keys.stream(), _present(repository.layout)
    if bound is None and present is None:
        raise AgentgovError(
            "nothing was recorded in this clone yet: there is nothing to begin anew",
            id="AG0460",
            where=str(repository.layout.root),
            hint="agentgov run -- COMMAND",
        )
    if plan is None or not next_key_file(keys).exists():
        guard_memory()
        seed = random(SEED_BYTES)
        write_atomic(next_key_file(keys), seed)
        plan = Plan(random(16).hex(), PrivateKey(seed).public_key.hex(), reason)
    plan = replace(plan, reason=reason, old=bound or present)
    write_plan(keys, plan)
    hindrance = _end(repository, state, keys, plan, clock, random)
    if hindrance is not None and reason == "rotated":
        # The plan stays: the end may have been written already, and then it names this very key.
        raise hindrance
    ended = hindrance is None and bound is not None
    plan = replace(plan, switching=True, ended=ended, continues=_last_head(repository, bound, present))
    write_plan(keys, plan)
    _switch(repository, keys, plan, clock)
    return _outcome(plan, hindrance)


def _outcome(plan: Plan, hindrance: AgentgovError | None) -> Succession:
    size = 0 if plan.continues is None else int(plan.continues["size"])
    return Succession(plan.old, plan.new, bytes.fromhex(plan.public_key), size, plan.ended, hindrance)


def _present(layout: Layout) -> str | None:
    try:
        return read_stream_id(layout.stream_file)
    except (AgentgovError, OSError):
        # Damaged: the binding outside the repository still names the record.
        return None


def _end(
    repository: Repository, state: StateHome, keys: KeyFolder, plan: Plan, clock: Clock, random: Random
) -> AgentgovError | None:
    """Close the old record and seal it, naming the new one; return why that cannot be done."""
    try:
        stream_id = genesis.find_stream(repository.layout, keys)
        if stream_id is None:
            # Begun in another clone, which has its key and may well go on.
            return None
        following = {"log": genesis.ORIGIN_PREFIX + plan.new, "public_key": plan.public_key}
        with Stream(repository, state, keys, stream_id, clock=clock, random=random) as stream:
            stream.head()
            if not stream.has_ended:
                body = {"next": following, "reason": plan.reason}
                stream.append([Draft("log.end", None, body)], stream.log_signer())
            stream.seal()
    except (BrokenRecordError, IncompleteError) as error:
        return error
    except AgentgovError as error:
        # AG0225: its key is gone or damaged. Anything else, as a full disk, may be better the next time.
        if error.id != "AG0225":
            raise
        return error
    return None


def _last_head(repository: Repository, bound: str | None, present: str | None) -> dict[str, Any] | None:
    """Return the last head that can be read here, of the record begun here, else of the one lying here."""
    for stream_id in dict.fromkeys(name for name in (bound, present) if name is not None):
        head = _read_head(repository, stream_id)
        if head is not None:
            return head
    return None


def _read_head(repository: Repository, stream_id: str) -> dict[str, Any] | None:
    store = SealStore(Git(repository.common_dir), stream_id, repository.object_format)
    try:
        sealed = claimed_end(store)
    except (BrokenRecordError, IncompleteError):
        return None
    finally:
        store.close()
    origin = genesis.ORIGIN_PREFIX + stream_id
    size, leaf = sealed.size, sealed.leaf
    wal = repository.layout.wal
    with contextlib.suppress(BrokenRecordError):
        # Up to the first line that does not hold: what follows it cannot be relied on.
        for segment in list_segments(wal) if wal.is_dir() else ():
            if segment.first < sealed.size:
                continue
            if segment.first != size:
                break
            for raw_record in split_torn(read_own_file(segment.path))[0].split(b"\n")[:-1]:
                signed = parse_record(raw_record, seq=size)
                verify_place(signed, size, leaf, origin)
                size, leaf = size + 1, signed.leaf()
    return {"leaf": leaf.hex(), "log": origin, "size": size} if size else None


def _switch(repository: Repository, keys: KeyFolder, plan: Plan, clock: Clock) -> None:
    """Put the new record in place of the old one; may be cut short and done again."""
    layout = repository.layout
    seal_lock = FileLock(layout.seal_lock)
    seal_lock.acquire(timeout_seconds=SEAL_WAIT_SECONDS)
    try:
        with FileLock(layout.lock):
            origin = genesis.ORIGIN_PREFIX + plan.new
            if not _begins(layout.wal, origin):
                private = PrivateKey(read_seed(keys, plan))
                fresh = layout.root / "wal.next"
                _empty(fresh)
                genesis.write_first_entry(
                    open_private_dir(fresh),
                    private,
                    origin=origin,
                    object_format=repository.object_format,
                    continues=plan.continues,
                    ts=clock.now_us(),
                )
                _set_aside(layout, plan.old)
                fresh.rename(layout.wal)
                fsync_dir(layout.root)
            write_atomic(layout.stream_file, f"{plan.new}\n".encode())
            _take_key(keys, plan)
            keys.bind(plan.new)
            plan_file(keys).unlink()
            fsync_dir(keys.path)
    finally:
        seal_lock.release()


def _begins(wal: Path, origin: str) -> bool:
    """Whether the new record's first entry lies in its place."""
    segments = list_segments(wal) if wal.is_dir() else []
    if not segments or segments[0].first != 0:
        return False
    complete, _ = split_torn(read_own_file(segments[0].path))
    try:
        return parse_record(complete.partition(b"\n")[0], seq=0).entry.log == origin
    except BrokenRecordError:
        return False


def _set_aside(layout: Layout, old: str | None) -> None:
    """Move the part of the old record that is not sealed, whatever it holds."""
    if not os.path.lexists(layout.wal):
        return
    folder = open_private_dir(layout.root / "earlier")
    name, number = old or "unknown", 1
    while os.path.lexists(folder / name):
        # A record that was set aside before, and was put back by hand.
        number += 1
        name = f"{old or 'unknown'}.{number}"
    layout.wal.rename(folder / name)
    fsync_dir(folder)
    fsync_dir(layout.root)


def _take_key(keys: KeyFolder, plan: Plan) -> None:
    following = next_key_file(keys)
    if not following.exists():
        return
    if keys.has_key() and not plan.ended:
        folder = open_private_dir(keys.path / "earlier")
        keys.key_file.rename(folder / f"{plan.old}.key")
        fsync_dir(folder)
    following.rename(keys.key_file)
    fsync_dir(keys.path)


def _empty(folder: Path) -> None:
    """Remove what an earlier attempt prepared; nothing in it was ever acknowledged."""
    if folder.is_dir() and not folder.is_symlink():
        for path in folder.iterdir():
            path.unlink()
