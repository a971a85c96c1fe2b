"""A crash or a failing disk at every single step of append and seal: nothing acknowledged is lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentgov.errors import AgentgovError
from agentgov.gitcall import Git
from agentgov.layout import StateHome
from agentgov.ledger.entry import SignedEntry
from agentgov.ledger.keys import Signer
from agentgov.ledger.stream import Stream
from tests.support.ledger import RUN, heartbeat, init, numbers, open_stream, request, verify_all

STEPS = ("write", "fdatasync", "fsync", "ftruncate", "open", "replace", "rename", "unlink", "mkdir")


class Crash(BaseException):
    """The process is gone: from here on none of its steps happens."""


class Faults:
    """Counts steps; from the chosen one on every step crashes, or that one alone fails."""

    def __init__(self, at: int, *, crash: bool, after: bool) -> None:
        self.at = at
        self.crash = crash
        self.after = after
        self.count = 0

    def wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            self.count += 1
            if self.count < self.at or (self.count > self.at and not self.crash):
                return real(*args, **options)
            if self.count == self.at and self.after:
                # The step happens, by half where it can, and then the lights go out.
                if name == "write":
                    args = (args[0], bytes(args[1])[: (len(args[1]) + 1) // 2])
                real(*args, **options)
            if self.crash:
                raise Crash
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return step


@contextmanager
def faults(at: int, *, crash: bool, after: bool = False) -> Iterator[Faults]:
    made = Faults(at, crash=crash, after=after)
    with pytest.MonkeyPatch.context() as patch:
        for name in STEPS:
            patch.setattr(os, name, made.wrap(name, getattr(os, name)))
        patch.setattr(Git, "run", made.wrap("git", Git.run))
        yield made


def script(stream: Stream, signer: Signer, acknowledged: list[SignedEntry]) -> None:
    """Two batches with a seal in between, and one behind it, where the key has to rotate."""
    acknowledged += stream.append([request(1)], signer)
    acknowledged += stream.append([request(2), request(3)], signer)
    stream.seal()
    acknowledged += stream.append([request(4), request(5)], signer)
    stream.seal()


def steps_of_the_script(tmp_path: Path, state: StateHome) -> int:
    with open_stream(init(tmp_path / "count"), state) as stream:
        signer = stream.delegate(RUN)
        with faults(10**9, crash=True) as made:
            script(stream, signer, [])
    return made.count


def check(
    repository: Any, state: StateHome, acknowledged: list[SignedEntry], *, others: tuple[int, ...] = ()
) -> list[SignedEntry]:
    """Open as the next command would, and hold the record against what was promised."""
    with open_stream(repository, state) as stream:
        stream.append([heartbeat()], stream.log_signer())
        entries = list(stream.entries())
        verify_all(entries)
        stream.seal()
        assert list(stream.entries()) == entries
        assert stream.sealed_size == len(entries)
    lines = {s.line for s in entries}
    assert all(s.line in lines for s in acknowledged)
    assert numbers(entries) == sorted(set(numbers(entries)))
    return entries


@pytest.mark.parametrize("after", [False, True], ids=["before", "within"])
def test_a_crash_at_any_step_of_append_and_seal_loses_nothing_acknowledged(
    tmp_path: Path, state: StateHome, after: bool
) -> None:
    count = steps_of_the_script(tmp_path, state)
    assert count > 30
    for at in range(1, count + 1):
        repository = init(tmp_path / f"r{at}")
        stream = open_stream(repository, state)
        signer = stream.delegate(RUN)
        acknowledged: list[SignedEntry] = []
        with faults(at, crash=True, after=after), pytest.raises(Crash):
            script(stream, signer, acknowledged)
        stream.close()
        entries = check(repository, state, acknowledged)
        assert len(numbers(entries)) >= len(acknowledged)


def test_a_disk_that_fails_once_at_any_step_is_survived_by_the_same_process(
    tmp_path: Path, state: StateHome
) -> None:
    count = steps_of_the_script(tmp_path, state)
    for at in range(1, count + 1):
        repository = init(tmp_path / f"r{at}")
        acknowledged: list[SignedEntry] = []
        with open_stream(repository, state) as stream:
            signer = stream.delegate(RUN)
            with faults(at, crash=False):
                try:
                    script(stream, signer, acknowledged)
                except AgentgovError as error:
                    assert error.id in ("AG0225", "AG0226")  # noqa: PT017 - some steps only clean up
            known = {s.entry.body["n"] for s in acknowledged}
            for n in range(1, 7):
                if n not in known:
                    acknowledged += stream.append([request(n)], signer)
            stream.seal()
            entries = list(stream.entries())
            verify_all(entries)
            assert sorted(numbers(entries)) == [1, 2, 3, 4, 5, 6]
        assert {s.line for s in acknowledged} <= {s.line for s in entries}


@pytest.mark.parametrize("after", [False, True], ids=["before", "within"])
def test_a_crash_at_any_step_of_the_first_opening_can_be_opened_again(
    tmp_path: Path, state: StateHome, after: bool
) -> None:
    at = 0
    while True:
        at += 1
        repository = init(tmp_path / f"r{at}")
        try:
            with faults(at, crash=True, after=after):
                open_stream(repository, state).close()
        except Crash:
            entries = check(repository, state, [])
            assert entries[0].entry.kind == "log.genesis"
        else:
            break
    assert at > 15


def test_a_crash_at_any_step_of_moving_to_a_new_stream_keeps_the_old_head(
    tmp_path: Path, state: StateHome
) -> None:
    at = 0
    while True:
        at += 1
        repository = init(tmp_path / f"r{at}")
        with open_stream(repository, state, machine="old") as stream:
            stream.append([heartbeat()], stream.log_signer())
            stream.seal()
            stream.append([heartbeat()], stream.log_signer())
            head = stream.head()
        done = True
        try:
            with faults(at, crash=True, after=True):
                open_stream(repository, state, machine="new").close()
        except Crash:
            done = False
        with open_stream(repository, state, machine="new") as stream:
            first = next(stream.entries()).entry
            assert stream.origin != f"agentgov/{head}"
            assert first.body["continues"]["size"] == head.size
            assert first.body["continues"]["leaf"] == head.leaf.hex()
        if done:
            break
    assert at > 15


def test_a_crash_during_recovery_is_recovered_from(tmp_path: Path, state: StateHome) -> None:
    at = 0
    while True:
        at += 1
        repository = init(tmp_path / f"r{at}")
        with open_stream(repository, state) as stream:
            stream.append([heartbeat()], stream.log_signer())
            acknowledged = list(stream.entries())
        with next(repository.layout.wal.iterdir()).open("ab") as file:
            file.write(b'{"torn')
        done = True
        try:
            with faults(at, crash=True, after=True):
                open_stream(repository, state).close()
        except Crash:
            done = False
        entries = check(repository, state, acknowledged)
        recovered = [s.entry.body for s in entries if s.entry.kind == "log.recovered"]
        assert 6 in [body["torn_bytes"] for body in recovered]
        if done:
            break
    assert at > 8
