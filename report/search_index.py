"""The search index: what `log` looks runs and calls up in, so that it need not read the whole record.

Rules kept here:

- It is a cache in SQLite (`.git/agentgov/search.db`): made from the record, thrown away and made again
  whenever it does not fit the record, is damaged, or something it holds was erased. Nothing that is verified,
  judged or landed is ever read from it.
- It grows with the record: only entries it has not seen are read, after the last one it knows was found in
  its place.
- Only a file that defines exactly our tables is read: one with anything else in it is thrown away.
- It holds redacted text only: what it keeps comes from payloads.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from agentgov.errors import AgentgovError
from agentgov.git import Repository
from agentgov.layout import Layout
from agentgov.ledger.entry import Entry
from agentgov.ledger.keys import read_stream_id
from agentgov.ledger.reader import Reader
from agentgov.report.facts import PayloadReader
from agentgov.report.search_tables import FORM, Tables, create_tables

_BUSY_SECONDS: Final = 10.0
_ERASES: Final = frozenset({"payload.erased", "payload.pruned"})
Progress = Callable[[int], None]
"""Called now and then with the number of entries taken in so far."""


def index_path(layout: Layout) -> Path:
    """Return the file of a clone's index; whoever erases a payload removes it."""
    return layout.root / "search.db"


def remove_index(layout: Layout) -> None:
    """Remove the index with all that SQLite keeps beside it; nothing happens when there is none."""
    path = index_path(layout)
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm", f"{path.name}-journal"):
        path.with_name(name).unlink(missing_ok=True)


@contextlib.contextmanager
def open_index(
    repository: Repository, payloads: PayloadReader, progress: Progress | None = None
) -> Iterator[sqlite3.Connection]:
    """Open the index, brought up to date with the record.

    Args:
        repository: The clone.
        payloads: Where texts and lists of changes are looked up.
        progress: Told of long work.

    Raises:
        BrokenRecordError, IncompleteError: The record cannot be read.
        AgentgovError: AG0345, when the index cannot be used and not be made again.
    """
    connection = _open_file(repository, payloads, progress)
    if connection is None:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        _Indexer(connection, repository, payloads, progress).update()
    try:
        yield connection
    except sqlite3.DatabaseError as error:
        path = index_path(repository.layout)
        raise AgentgovError(
            f"the search index cannot be read: {error}",
            id="AG0345",
            where=str(path),
            hint=f"rm {path}    it is made again from the record",
        ) from error
    finally:
        connection.close()


def _open_file(
    repository: Repository, payloads: PayloadReader, progress: Progress | None
) -> sqlite3.Connection | None:
    """Return the index on disk, up to date; None where the disk does not bear one."""
    for _ in (1, 2):
        try:
            connection = _connect(repository.layout)
        except (OSError, sqlite3.Error):
            return None
        try:
            _Indexer(connection, repository, payloads, progress).update()
        except sqlite3.OperationalError:
            # Locked for long, or on a full or read-only disk.
            connection.close()
            return None
        except sqlite3.DatabaseError:
            connection.close()
            remove_index(repository.layout)
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    return None


def _connect(layout: Layout) -> sqlite3.Connection:
    """Open the file, readable by this user only, with the tables of this form in it.

    Raises:
        OSError, sqlite3.Error: It cannot be used.
    """
    path = index_path(layout)
    with contextlib.suppress(FileNotFoundError):
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
            path.unlink()
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    defined: frozenset[tuple[str, ...]]
    forms: list[tuple[int]]
    for _ in (1, 2):
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            # Before anything else: a trigger or a view that somebody planted would answer in our place.
            connection.execute("PRAGMA trusted_schema = OFF")
            defined = _schema(connection)
            forms = connection.execute("SELECT form FROM form").fetchall() if defined == _own_schema() else []
        except sqlite3.OperationalError:
            connection.close()
            raise
        except sqlite3.DatabaseError:
            defined, forms = frozenset({("damaged",)}), []
        if not defined or forms == [(FORM,)]:
            return connection
        connection.close()
        remove_index(layout)
    raise OSError("another program keeps writing an index of another form")


def _schema(connection: sqlite3.Connection) -> frozenset[tuple[str, ...]]:
    """Everything that is defined in a file: tables, indexes, triggers, views."""
    return frozenset(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))


@functools.cache
def _own_schema() -> frozenset[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        create_tables(connection)
        return _schema(connection)


def _has_tables(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'form'").fetchall())


class _StaleError(Exception):
    """What the index holds is not what the record says, or no longer."""


class _Indexer:
    """Brings an index up to date; one object for one update."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        repository: Repository,
        payloads: PayloadReader,
        progress: Progress | None,
    ) -> None:
        self._db = connection
        self._repository = repository
        self._payloads = payloads
        self._progress = progress
        self._taken = 0
        self._tables = Tables(connection, payloads)

    def update(self) -> None:
        """Take in what is new; all that is in the index if it does not fit the record any more."""
        self._db.execute("PRAGMA synchronous = OFF")
        # What is dropped is overwritten: an erased text must not stay in a free page.
        self._db.execute("PRAGMA secure_delete = ON")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if not _has_tables(self._db):
                self._begin()
            try:
                self._read()
            except _StaleError:
                self._begin()
                self._read()
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _begin(self) -> None:
        self._tables = Tables(self._db, self._payloads)
        self._taken = 0
        names = [name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in ("words", *(name for name in names if not name.startswith(("words", "sqlite_")))):
            self._db.execute(f"DROP TABLE IF EXISTS {name}")
        create_tables(self._db)
        self._db.execute("INSERT INTO form VALUES (?)", (FORM,))

    def _read(self) -> None:
        own = read_stream_id(self._repository.layout.stream_file)
        if own is None:
            if self._db.execute("SELECT count(*) FROM stream").fetchone()[0]:
                raise _StaleError
            return
        known = self._db.execute("SELECT id FROM stream ORDER BY rank").fetchall()
        if not known or known[-1][0] != own:
            if known:
                raise _StaleError
            for stream_id in _chain(self._repository, own):
                self._db.execute("INSERT INTO stream(id, size) VALUES (?, 0)", (stream_id,))
                self._read_stream(stream_id, sealed_only=stream_id != own)
            return
        self._read_stream(own, sealed_only=False)

    def _read_stream(self, stream_id: str, *, sealed_only: bool) -> None:
        size, leaf = self._db.execute("SELECT size, leaf FROM stream WHERE id = ?", (stream_id,)).fetchone()
        if type(size) is not int:
            raise _StaleError
        with Reader(self._repository, stream_id, sealed_only=sealed_only) as reader:
            last = None
            # The last entry known is read again: it says whether this is still the same record.
            for signed in reader.entries(max(0, size - 1)):
                last = signed
                if signed.entry.seq == size - 1:
                    if signed.leaf() != leaf:
                        raise _StaleError
                    continue
                if signed.entry.run is not None:
                    if self._erased(signed.entry):
                        raise _StaleError
                    self._tables.take(signed.entry.run, signed.entry)
                self._taken += 1
                if self._progress is not None and self._taken % 1000 == 0:
                    self._progress(self._taken)
        if last is None:
            if size:
                raise _StaleError
            return
        self._db.execute(
            "UPDATE stream SET size = ?, leaf = ? WHERE id = ?", (last.entry.seq + 1, last.leaf(), stream_id)
        )

    def _erased(self, entry: Entry) -> bool:
        """Whether what was erased may be in the index; while all is read anew, it is gone already."""
        what = entry.body.get("field") or entry.body.get("class")
        kept = entry.kind in _ERASES and what not in (
            "output",
            "patch",
            "message",
            "target",
            "text",
            "reason",
        )
        if not kept:
            return False
        (size,) = self._db.execute("SELECT size FROM stream ORDER BY rank DESC LIMIT 1").fetchone()
        return int(size) > 0


def _chain(repository: Repository, own: str) -> list[str]:
    """Return the records that this clone's own continues, and it, the oldest first."""
    found = [own]
    while True:
        with Reader(repository, found[0], sealed_only=found[0] != own) as reader:
            first = next(reader.entries(), None)
        earlier = None if first is None else first.entry.body.get("continues")
        if earlier is None:
            return found
        stream_id = str(earlier["log"]).rpartition("/")[2]
        # What a record says it continues is its writer's word: it must not lead in a circle.
        if stream_id in found:
            return found
        found.insert(0, stream_id)
