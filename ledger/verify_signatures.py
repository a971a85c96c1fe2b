"""Checks the signatures of many entries, in this process or in several others.

Rules this module keeps:
    * A batch is good only when its checker said so; one that went away without an answer is an error, never
      a good batch.
    * What is signed is handed over as the exact bytes that were read, with the key that must have signed it.
    * Which signature is the first wrong one does not depend on how many processes there are.
    * Helpers are programs of their own, not forks: they inherit no lock and no descriptor, read no folder for
      modules but those this program was loaded from, and end when their input ends.
"""

from __future__ import annotations

import binascii
import contextlib
import fcntl
import os
import selectors
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Final, Protocol

from agentgov.errors import AgentgovError
from agentgov.git import clean_environment
from agentgov.ledger.entry import PAYLOAD_TYPE
from agentgov.ledger.signing import pae, verifier

MAX_JOBS: Final = 64
_HEAD: Final = struct.Struct(">IQQ")
_SPAN: Final = struct.Struct(">I32s")
_ANSWER: Final = struct.Struct(">q")
_GOOD: Final = -1
# Two batches wait in the pipe while one is checked: a helper is never idle, and memory stays bounded.
_QUEUED: Final = 3
_PIPE_BYTES: Final = 2**20
# A helper reads one batch after the other into the same memory, instead of giving it back each time.
_MEMORY: Final = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "67108864"}
# Starting helpers takes as long as checking about so many signatures.
_ALONE: Final = 2048


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries that follow each other, and who must have signed them.

    Attributes:
        first: The number of the first entry.
        lines: Their lines, each with its LF.
        raw_signatures: A line of base64 for each.
        spans: How many in turn are signed by which public key.
    """

    first: int
    lines: bytes
    raw_signatures: bytes
    spans: tuple[tuple[int, bytes], ...]

    def parts(self) -> tuple[bytes, ...]:
        """Return what a helper reads, without `first`, in parts that follow each other."""
        head = _HEAD.pack(len(self.spans), len(self.lines), len(self.raw_signatures))
        spans = b"".join(_SPAN.pack(count, key) for count, key in self.spans)
        return head + spans, self.lines, self.raw_signatures


def first_wrong(batch: Batch) -> int | None:
    """Return the number of the first entry in a batch whose signature is not right; None when all are."""
    lines = batch.lines.split(b"\n")
    raw_signatures = batch.raw_signatures.split(b"\n")
    place = 0
    for count, public_key in batch.spans:
        is_right = verifier(public_key)
        for _ in range(count):
            line, raw = lines[place], raw_signatures[place]
            try:
                signature = binascii.a2b_base64(raw)
            except binascii.Error:
                return batch.first + place
            # What decodes is right only in its one spelling.
            if binascii.b2a_base64(signature, newline=False) != raw or not is_right(
                signature, pae(PAYLOAD_TYPE, line)
            ):
                return batch.first + place
            place += 1
    return None


class Checker(Protocol):
    """Takes batches in order, and tells at the end which entry is the first with a wrong signature."""

    def add(self, batch: Batch) -> None:
        """Take a batch; it may be checked now or later."""
        ...

    def wrong(self) -> int | None:
        """Return the first wrong entry of the batches checked so far."""
        ...

    def finish(self) -> int | None:
        """Wait until all batches are checked; return the first wrong entry, None when all are right."""
        ...


class Nothing:
    """Checks no signature: a record's structure only is looked at."""

    def add(self, batch: Batch) -> None:
        """Pass it over."""

    def wrong(self) -> int | None:
        """Nothing was found."""
        return None

    def finish(self) -> int | None:
        """Nothing was found."""
        return None

    def close(self) -> None:
        """There is nothing to end."""


class Helpers:
    """Checks signatures in this process, and in others once there are many; close it in the end.

    Args:
        jobs: How many processes check; with 1 it is this one.
        alone: How many entries are checked here before others are started.
    """

    def __init__(self, jobs: int, *, alone: int = _ALONE) -> None:
        self._jobs = max(1, min(jobs, MAX_JOBS))
        self._alone = alone
        self._helpers: list[_Helper] = []
        self._answers = selectors.DefaultSelector()
        self._seen = 0
        self._wrong: int | None = None

    def add(self, batch: Batch) -> None:
        """Take a batch.

        Raises:
            AgentgovError: AG0447, when a helper is gone.
        """
        self._seen += sum(count for count, _ in batch.spans)
        if self._jobs == 1 or self._seen <= self._alone:
            self._note(first_wrong(batch))
            return
        if not self._helpers:
            self._start()
        # Not in turns: one that shares its core with us would keep the others waiting.
        self._take_answers(timeout_seconds=0)
        while (helper := min(self._helpers, key=_Helper.load)).load() >= _QUEUED:
            self._take_answers(timeout_seconds=None)
        helper.send(batch)

    def wrong(self) -> int | None:
        """Return the first wrong entry of the batches that were answered so far."""
        return self._wrong

    def finish(self) -> int | None:
        """Wait for every answer.

        Raises:
            AgentgovError: AG0447, when a helper is gone.
        """
        while any(helper.load() for helper in self._helpers):
            self._take_answers(timeout_seconds=None)
        return self._wrong

    def close(self) -> None:
        """End the helpers."""
        helpers, self._helpers = self._helpers, []
        self._answers.close()
        for helper in helpers:
            helper.close()

    @property
    def pids(self) -> Sequence[int]:
        """The helpers' process ids."""
        return [helper.process.pid for helper in self._helpers]

    def _start(self) -> None:
        self._answers.close()
        self._answers = selectors.DefaultSelector()
        for _ in range(self._jobs):
            helper = _Helper()
            self._helpers.append(helper)
            self._answers.register(helper.answers_fd, selectors.EVENT_READ, helper)

    def _take_answers(self, *, timeout_seconds: float | None) -> None:
        for key, _ in self._answers.select(timeout_seconds):
            self._note(key.data.answer())

    def _note(self, wrong: int | None) -> None:
        if wrong is not None and (self._wrong is None or wrong < self._wrong):
            self._wrong = wrong


class _Helper:
    """One process that checks."""

    def __init__(self) -> None:
        # -P: the folder we stand in is the user's, and may hold modules of anybody.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "agentgov.ledger.verify_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # No answer may wait in a buffer of ours, where no selector sees it.
            bufsize=0,
            cwd="/",
            env={**clean_environment(), **_MEMORY},
            # A Ctrl-C is for us; we end the helpers.
            start_new_session=True,
        )
        self.waiting: deque[int] = deque()
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(self._stdin, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    @property
    def answers_fd(self) -> int:
        """The descriptor that answers come on."""
        assert self.process.stdout is not None  # noqa: S101 - a pipe, for the type checker
        return self.process.stdout.fileno()

    def load(self) -> int:
        """How many batches it has not answered yet."""
        return len(self.waiting)

    @property
    def _stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None  # noqa: S101 - a pipe, for the type checker
        return self.process.stdin

    def send(self, batch: Batch) -> None:
        try:
            for part in batch.parts():
                view = memoryview(part)
                while view:
                    view = view[self._stdin.write(view) :]
        except OSError:
            raise self._gone() from None
        self.waiting.append(batch.first)

    def answer(self) -> int | None:
        # Eight bytes are written at once, so they are read at once.
        raw = os.read(self.answers_fd, _ANSWER.size)
        if len(raw) != _ANSWER.size or not self.waiting:
            raise self._gone()
        first, place = self.waiting.popleft(), _ANSWER.unpack(raw)[0]
        return None if place == _GOOD else first + int(place)

    def close(self) -> None:
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self.process.wait()

    def _gone(self) -> AgentgovError:
        return AgentgovError(
            "a process that checked signatures ended without an answer, so nothing is known",
            id="AG0447",
            where=f"process {self.process.pid}",
            hint="agentgov verify --jobs 1",
        )


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Answer batches until the input ends: the work of one helper."""
    while True:
        head = source.read(_HEAD.size)
        if len(head) != _HEAD.size:
            return
        spans, lines, signatures = _HEAD.unpack(head)
        raw_spans = source.read(spans * _SPAN.size)
        batch = Batch(0, source.read(lines), source.read(signatures), tuple(_SPAN.iter_unpack(raw_spans)))
        if len(batch.lines) != lines or len(batch.raw_signatures) != signatures:
            return
        place = first_wrong(batch)
        sink.write(_ANSWER.pack(_GOOD if place is None else place))
        sink.flush()
