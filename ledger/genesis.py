"""Which stream a clone writes to, and the beginning of a new one.

Rules: the order is log key, first segment with the genesis entry, the file that names the stream, the binding
outside the repository; each step is durable before the next, and a crash between two is finished or undone by
the next opening. A binding without its record means that the record was removed or replaced: that is refused,
never begun anew. A record without a binding was moved or copied: a new stream begins, which names the old
head in `continues`; what was not sealed in the old one is kept beside it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from agentgov.clock import Clock, Random
from agentgov.errors import AgentgovError, BrokenRecordError
from agentgov.files import fsync_dir, open_private_dir, read_own_file, write_atomic
from agentgov.git import Git, ObjectFormat, Repository
from agentgov.layout import Layout
from agentgov.ledger.chain import NO_LEAF
from agentgov.ledger.entry import PAYLOAD_TYPE, Entry
from agentgov.ledger.keys import KeyFolder, read_stream_id
from agentgov.ledger.recovery import claimed_end, read_unsealed
from agentgov.ledger.seal import SealStore
from agentgov.ledger.signing import PrivateKey, pae, verify_ed25519
from agentgov.ledger.wal import (
    Segment,
    create_segment,
    encode_record,
    list_segments,
    parse_record,
    split_torn,
)

ORIGIN_PREFIX = "agentgov/"


def find_stream(layout: Layout, keys: KeyFolder) -> str | None:
    """Return the stream that this clone writes to; None when it has to be begun or moved first.

    Raises:
        BrokenRecordError: AG0222, when this clone's record was removed; AG0223, when another lies there.
        AgentgovError: AG0225, when a file that names the stream is damaged.
    """
    bound, present = keys.stream(), read_stream_id(layout.stream_file)
    if bound is not None and present is None:
        raise BrokenRecordError(
            "this clone's record was removed",
            id="AG0222",
            where=str(layout.root),
            hint=(f"restore {layout.root} from a backup", "or begin a new record: agentgov ledger restart"),
        )
    if bound is not None and bound != present:
        raise BrokenRecordError(
            "the record in this clone is another one than the one begun here",
            id="AG0223",
            where=str(layout.stream_file),
            hint=(f"restore {layout.root} from a backup", "or begin a new record: agentgov ledger restart"),
        )
    return bound


def begin_stream(repository: Repository, keys: KeyFolder, *, clock: Clock, random: Random) -> str:
    """Begin a stream, or finish beginning one; only under the append lock, after `find_stream` found none.

    Returns:
        The stream's id.

    Raises:
        BrokenRecordError: AG0222, when there are entries that no file names; and whatever is wrong with the
            record that a moved clone brought along.
    """
    layout = repository.layout
    private = keys.load_key() if keys.has_key() else keys.create_key(random)
    previous = read_stream_id(layout.stream_file)
    continues = None
    if previous is not None:
        if _is_own(layout, previous, private):
            keys.bind(previous)
            return previous
        continues = _set_aside(repository, previous)
    _clear_unfinished(layout)
    stream_id = random(16).hex()
    write_first_entry(
        layout.wal,
        private,
        origin=ORIGIN_PREFIX + stream_id,
        object_format=repository.object_format,
        continues=continues,
        ts=clock.now_us(),
    )
    write_atomic(layout.stream_file, f"{stream_id}\n".encode())
    keys.bind(stream_id)
    return stream_id


def write_first_entry(
    folder: Path,
    private: PrivateKey,
    *,
    origin: str,
    object_format: ObjectFormat,
    continues: Mapping[str, object] | None,
    ts: int,
) -> None:
    """Write the first segment of a record, with its first entry, durably.

    Args:
        folder: The folder of segments; it holds none.
        private: The log key.
        origin: The record's name.
        object_format: How the repository names objects.
        continues: The head of the record before; None when there is none.
        ts: The time now, microseconds since 1970 UTC.
    """
    body = {
        "continues": None if continues is None else dict(continues),
        "object_format": object_format,
        "public_key": private.public_key.hex(),
    }
    line = Entry(0, NO_LEAF.hex(), origin, "log.genesis", ts, None, 0, body).line()
    segment = create_segment(folder, 0)
    fd = os.open(segment.path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        record = memoryview(encode_record(line, private.sign(pae(PAYLOAD_TYPE, line))))
        while record:
            record = record[os.write(fd, record) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _is_own(layout: Layout, stream_id: str, private: PrivateKey) -> bool:
    """Whether the unfinished binding is this stream's: then its genesis is signed by the key at hand."""
    segments = list_segments(layout.wal)
    if not segments or segments[0].first != 0:
        return False
    raw_first = read_own_file(segments[0].path).partition(b"\n")[0]
    try:
        signed = parse_record(raw_first, seq=0)
    except BrokenRecordError:
        return False
    right = signed.entry.log == ORIGIN_PREFIX + stream_id
    return right and verify_ed25519(private.public_key, signed.signature, pae(PAYLOAD_TYPE, signed.line))


def _set_aside(repository: Repository, stream_id: str) -> dict[str, object] | None:
    """Move the unsealed part of a stream that cannot be continued, and return the head it had."""
    layout = repository.layout
    aside = layout.root / "earlier" / stream_id
    if not aside.exists():
        open_private_dir(aside.parent)
        # Read before it is moved: a record that does not hold is not continued.
        head = _head_of(repository, stream_id, layout.wal)
        layout.wal.rename(aside)
        fsync_dir(aside.parent)
        open_private_dir(layout.wal)
        fsync_dir(layout.root)
        return head
    return _head_of(repository, stream_id, aside)


def _head_of(repository: Repository, stream_id: str, wal: Path) -> dict[str, object] | None:
    store = SealStore(Git(repository.common_dir), stream_id, repository.object_format)
    try:
        sealed = claimed_end(store)
    finally:
        store.close()
    try:
        unsealed = read_unsealed(wal, sealed, ORIGIN_PREFIX + stream_id).records
    except BrokenRecordError as error:
        # A clone made by copying `.git` may lack what was not sealed; what was sealed is enough to go on
        # from.
        if error.id != "AG0222" or sealed.commit is None:
            raise
        unsealed = ()
    size = sealed.size + len(unsealed)
    leaf = unsealed[-1].leaf() if unsealed else sealed.leaf
    return {"log": ORIGIN_PREFIX + stream_id, "size": size, "leaf": leaf.hex()} if size else None


def _clear_unfinished(layout: Layout) -> None:
    """Remove a first segment that a crash left before anything could be acknowledged."""
    segments: list[Segment] = list_segments(layout.wal)
    if not segments:
        return
    complete, _ = split_torn(read_own_file(segments[0].path))
    if len(segments) > 1 or segments[0].first != 0 or complete.count(b"\n") > 1:
        raise BrokenRecordError(
            "there are entries, but the file that names their record is gone",
            id="AG0222",
            where=str(layout.stream_file),
            hint=f"restore {layout.root} from a backup",
        )
    segments[0].path.unlink()
    fsync_dir(layout.wal)


def no_record(layout: Layout) -> AgentgovError:
    """Return the error for a command that reads a record where there is none."""
    if read_stream_id(layout.stream_file) is None:
        said = "nothing was recorded in this clone yet"
        hint: Sequence[str] = ("agentgov run -- COMMAND",)
    else:
        said = "the record here cannot go on: the clone was moved or copied, or it is another account's"
        hint = (
            "agentgov run -- COMMAND        begins a new one, which continues it",
            "to sign off a run of another account's: that account, with agentgov approve RUN --key YOURS",
        )
    return AgentgovError(said, id="AG0224", where=str(layout.root), hint=hint)
