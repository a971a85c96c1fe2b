"""Another copy of a record, read without believing it, and where the two part.

Rules this module keeps:
    * A copy counts when its newest head is signed by the record's own key, and its entries make up that head.
      Anything else under the record's name is broken in itself.
    * Both are read line by line in step, a sealed part at a time; the first line that differs is where they
      part. What is longer or shorter is told by the heads.
    * A file is a signed head, a proof, or a git bundle; a bundle is unpacked in a folder of its own, and
      nothing of it gets into the repository.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agentgov.errors import AgentgovError, BrokenRecordError, IncompleteError, UsageError
from agentgov.git import Git, ObjectFormat, Repository, is_oid
from agentgov.ledger.anchors import Anchor
from agentgov.ledger.chain import leaf_hash
from agentgov.ledger.checkpoint import Checkpoint, verify_checkpoint
from agentgov.ledger.merkle import Frontier
from agentgov.ledger.seal import SealStore, ledger_ref
from agentgov.ledger.tlog_proof import HEADER, parse_proof
from agentgov.ledger.tlog_proof import MAX_BYTES as MAX_FILE_BYTES
from agentgov.ledger.verify_source import ORIGIN_PREFIX, RecordSource

BUNDLE_MARKS: Final = (b"# v2 git bundle\n", b"# v3 git bundle\n")
MAX_BUNDLE_BYTES: Final = 2**31


def compare_copy(
    own: RecordSource, store: SealStore, tip: str, *, stream_id: str, public_key: bytes, who: str
) -> list[Anchor]:
    """Return what another copy of a record has seen, as anchors; the first place that differs among them.

    Args:
        own: The record.
        store: Where the copy's seals lie.
        tip: Its newest one.
        stream_id: Which record.
        public_key: The record's log key.
        who: Where the copy lies, in words.

    Raises:
        BrokenRecordError: AG0462, when the copy is not this record's.
        IncompleteError: AG0017, when a part of the copy is missing.
    """
    try:
        head = store.read(tip).verify_checkpoint(ORIGIN_PREFIX + stream_id, public_key)
        anchors, root, size = _walk(_lines(own), store, tip, who)
    except BrokenRecordError as error:
        raise _not_a_copy(who, error.message) from error
    if (size, root) != (head.size, head.root):
        raise _not_a_copy(who, "its entries are not those of its signed head")
    return anchors or [Anchor("copy", size, root, who)]


def _walk(own: Iterator[bytes], store: SealStore, tip: str, who: str) -> tuple[list[Anchor], bytes, int]:
    frontier, parted = Frontier(), list[Anchor]()
    for seal in store.oldest_first(tip):
        for line in seal.lines():
            mine = None if parted else next(own, None)
            before = None
            if mine is not None and mine != line:
                before = Anchor("copy", frontier.size, frontier.root(), who) if frontier.size else None
            frontier.append(leaf_hash(line))
            if mine is not None and mine != line:
                parted += [] if before is None else [before]
                parted.append(Anchor("copy", frontier.size, frontier.root(), who))
    return parted, frontier.root(), frontier.size


def _lines(source: RecordSource) -> Iterator[bytes]:
    """The record's lines, as far as they can be read: what is wrong with them is `verify`'s to say."""
    tail = source.tail()
    size = 0
    try:
        for seal in source.seals():
            lines = seal.lines()
            size += len(lines)
            yield from lines
    except (BrokenRecordError, IncompleteError):
        return
    for record in tail.records:
        if record.seq == size:
            size += 1
            yield record.line


def read_file(
    own: RecordSource, repository: Repository, path: Path, *, stream_id: str, public_key: bytes
) -> list[Anchor]:
    """Return what a file says of a record: a signed head, a proof or a git bundle.

    Raises:
        UsageError: AG0479, when it cannot be read.
        BrokenRecordError: AG0462, when it is none of these, or not about this record.
    """
    who = path.name
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"this file cannot be read: {error.strerror}", id="AG0479", where=str(path)
        ) from None
    if raw.startswith(BUNDLE_MARKS):
        if path.stat().st_size > MAX_BUNDLE_BYTES:
            raise _not_a_copy(who, f"it is longer than {MAX_BUNDLE_BYTES} bytes")
        with _unbundled(repository, path, stream_id, who) as (store, tip):
            return compare_copy(own, store, tip, stream_id=stream_id, public_key=public_key, who=who)
    head = _read_head(raw, stream_id, public_key, who)
    return [Anchor("copy", head.size, head.root, who)]


def _read_head(raw: bytes, stream_id: str, public_key: bytes, who: str) -> Checkpoint:
    try:
        raw_note = parse_proof(raw).note.to_bytes() if raw.startswith(HEADER.encode()) else raw
        return verify_checkpoint(raw_note, ORIGIN_PREFIX + stream_id, public_key)
    except BrokenRecordError as error:
        raise _not_a_copy(who, error.message) from error


@contextmanager
def _unbundled(
    repository: Repository, path: Path, stream_id: str, who: str
) -> Iterator[tuple[SealStore, str]]:
    with tempfile.TemporaryDirectory(prefix="agentgov-bundle-") as folder:
        git = _scratch(Path(folder), repository.object_format, repository.objects_dir)
        config = {"transfer.fsckObjects": "true", "fetch.fsckObjects": "true"}
        try:
            listed = git.text("bundle", "unbundle", os.fspath(path.absolute()), config=config)
        except AgentgovError as error:
            raise _not_a_copy(who, error.message) from error
        ref = ledger_ref(stream_id)
        tips = [oid for oid, _, name in (line.partition(" ") for line in listed.splitlines()) if name == ref]
        if len(tips) != 1 or not is_oid(tips[0]):
            raise _not_a_copy(who, "this record is not in it")
        store = SealStore(git, stream_id, repository.object_format)
        try:
            yield store, tips[0]
        finally:
            store.close()


def _scratch(folder: Path, object_format: ObjectFormat, objects: Path) -> Git:
    """An empty repository that reads another one's objects too, for a bundle that builds on them."""
    place = folder / "repo.git"
    Git(None).run("init", "-q", "--bare", "--template=", f"--object-format={object_format}", str(place))
    (place / "objects" / "info").mkdir(exist_ok=True)
    (place / "objects" / "info" / "alternates").write_bytes(os.fsencode(objects.absolute()) + b"\n")
    return Git(place)


def _not_a_copy(who: str, what: str) -> BrokenRecordError:
    return BrokenRecordError(
        f"this is no copy of the record: {what}",
        id="AG0462",
        where=who,
        hint="agentgov verify   checks the record itself",
    )
