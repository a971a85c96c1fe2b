"""Objects read through one long-lived `git cat-file`, each checked against its own name.

Rule: what is returned has been hashed here, but for what a caller asks for unhashed because it holds another
hash of it. Git trusts the index of a pack: with a swapped `.idx` it prints other content under a name, and
says nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import threading
import weakref
from collections import deque
from collections.abc import Container, Generator, Iterable
from types import TracebackType
from typing import IO, Final

from agentgov.errors import AgentgovError, BrokenRecordError, IncompleteError
from agentgov.gitcall import Git
from agentgov.gitnames import check_oid, hash_object

# Requests are short: so many fit into the pipe while git waits for its answers to be taken.
_AHEAD: Final = 32
_PIPE_BYTES: Final = 2**20
# Git would map every pack whole, and hold a blob of any size while it prints it.
_MEMORY: Final = {
    "core.packedGitWindowSize": "16m",
    "core.packedGitLimit": "64m",
    "core.bigFileThreshold": "32m",
}
_running_pids: set[int] = set()


def running_pids() -> frozenset[int]:
    """Return the readers of this process: children that nobody else may take for something left over."""
    return frozenset(_running_pids)


def is_partial(git: Git) -> bool:
    """Whether a repository's settings say that a remote keeps objects which are not here."""
    return git.plain("config", "--get-regexp", r"^remote\..*\.promisor$").ok


class CatFile:
    """A reader of objects. Use it as a context manager, or close it; threads may share one.

    One that nobody holds any more ends its process too.

    Args:
        git: The repository to read from.
        max_bytes: The largest object to read, where others choose what lies there; None for any.
    """

    def __init__(self, git: Git, *, max_bytes: int | None = None) -> None:
        self._git = git
        self._max_bytes = max_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[[subprocess.Popen[bytes]], CatFile] | None = None
        self._lock = threading.Lock()

    def read(self, oid: str) -> tuple[str, bytes]:
        """Return an object's kind and content.

        Raises:
            UsageError: AG0015, when `oid` is not a full object name.
            IncompleteError: AG0017, when the object is not there.
            BrokenRecordError: AG0018, when what is there is not what the name says, or cannot be read.
        """
        check_oid(oid)
        with self._lock:
            self._ask(b"contents", oid)
            kind, data = self._take(oid)
        _check_name(oid, kind, data)
        return kind, data

    def read_all(
        self, oids: Iterable[str], *, unhashed: Container[str] = ()
    ) -> Generator[tuple[str, bytes], None, None]:
        """Yield the kind and content of many objects in order, asking for some ahead of what is taken.

        It needs the reader for itself until it ends: read nothing else meanwhile, and from no other thread.

        Args:
            oids: Their names.
            unhashed: Those whose content is not compared with the name; the caller has something better.

        Raises:
            UsageError, IncompleteError, BrokenRecordError: As `read`, when that object's turn comes.
        """
        waiting: deque[str] = deque()
        try:
            for oid in oids:
                with self._lock:
                    self._ask(b"contents", check_oid(oid))
                waiting.append(oid)
                if len(waiting) > _AHEAD:
                    yield self._take_next(waiting, unhashed)
            while waiting:
                yield self._take_next(waiting, unhashed)
        finally:
            if waiting:
                # What was asked for and not taken would be read as the answer to the next question.
                self.close()

    def _take_next(self, waiting: deque[str], unhashed: Container[str]) -> tuple[str, bytes]:
        oid = waiting[0]
        with self._lock:
            kind, data = self._take(oid)
        waiting.popleft()
        if oid not in unhashed:
            _check_name(oid, kind, data)
        return kind, data

    def info(self, oid: str) -> tuple[str, int] | None:
        """Return an object's kind and size in bytes as git says them, unchecked; None when it is not there.

        Raises:
            UsageError: AG0015, when `oid` is not a full object name.
            BrokenRecordError: AG0018, when git cannot read it.
        """
        check_oid(oid)
        with self._lock:
            self._ask(b"info", oid)
            try:
                return self._header(oid)[:2]
            except IncompleteError:
                return None

    def close(self) -> None:
        """End the git process; a later read starts another one."""
        with self._lock:
            self._stop()

    def __enter__(self) -> CatFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, verb: bytes, oid: str) -> None:
        process = self._running()
        assert process.stdin is not None  # noqa: S101 - a pipe, for the type checker
        # A process that has ended is seen when its answer is missing.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(b"%s %s\n" % (verb, oid.encode()))
            process.stdin.flush()

    def _header(self, oid: str) -> tuple[str, int, IO[bytes]]:
        process = self._process
        if process is None or process.stdout is None:
            raise _unreadable(oid)
        fields = process.stdout.readline().split()
        if len(fields) == 2 and fields[1] == b"missing":
            raise IncompleteError(f"object {oid} is not in this repository", id="AG0017")
        if len(fields) != 3 or fields[0] != oid.encode() or not fields[2].isdigit():
            self._stop()
            if not fields and is_partial(self._git):
                # Before git 2.45 a reader that may not fetch what a remote promised ends without a word.
                raise IncompleteError(f"object {oid} is not in this partial clone", id="AG0017")
            raise _unreadable(oid)
        return fields[1].decode("ascii", "replace"), int(fields[2]), process.stdout

    def _take(self, oid: str) -> tuple[str, bytes]:
        kind, size_bytes, stdout = self._header(oid)
        if self._max_bytes is not None and size_bytes > self._max_bytes:
            self._stop()
            raise BrokenRecordError(
                f"object {oid} has {size_bytes} bytes, and none here may have more than {self._max_bytes}",
                id="AG0018",
            )
        data = stdout.read(size_bytes)
        if len(data) != size_bytes or stdout.read(1) != b"\n":
            self._stop()
            raise _unreadable(oid)
        return kind, data

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            try:
                self._process = subprocess.Popen(
                    self._git.command("cat-file", "--batch-command", config=_MEMORY),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=self._git.environment(),
                    cwd=self._git.git_dir,
                    # A Ctrl-C meant for the agent must not take the reader away in the middle of an answer.
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise AgentgovError(
                    "git or the repository was not found", id="AG0007", where=str(self._git.git_dir)
                ) from error
            _running_pids.add(self._process.pid)
            if self._process.stdout is not None:
                # One switch between the two of us for a seal, instead of one for each 64 KiB.
                with contextlib.suppress(OSError, AttributeError):
                    fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            # Popen keeps a child that nobody waited for, with its pipes, for as long as this process lives.
            self._end = weakref.finalize(self, _end, self._process)
        return self._process

    def _stop(self) -> None:
        if self._end is not None:
            self._end()
        self._process = self._end = None


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    process.wait()
    _running_pids.discard(process.pid)


def _check_name(oid: str, kind: str, data: bytes) -> None:
    if hash_object(kind.encode(), data, "sha1" if len(oid) == 40 else "sha256") != oid:
        raise BrokenRecordError(f"object {oid} holds something else than its name says", id="AG0018")


def _unreadable(oid: str) -> BrokenRecordError:
    return BrokenRecordError(f"git cannot read object {oid}", id="AG0018", hint="git fsck --full")
