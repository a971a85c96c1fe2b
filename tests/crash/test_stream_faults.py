"""A crash, a failing disk or a power cut at every step of append and seal: nothing acknowledged is lost."""

from __future__ import annotations

import errno
import os
import random
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import pytest

from agentgov.errors import AgentgovError
from agentgov.layout import StateHome
from agentgov.ledger.entry import SignedEntry
from agentgov.ledger.keys import Signer
from agentgov.ledger.stream import Stream
from tests.support.faults import Crash, Disk, faults, in_child, short_writes
from tests.support.ledger import RUN, heartbeat, init, numbers, open_stream, request, verify_all


def script(stream: Stream, signer: Signer, acknowledged: list[SignedEntry]) -> None:
    """Two batches with a seal in between, and one behind it, where the key has to rotate."""
    acknowledged += stream.append([request(1)], signer)
    acknowledged += stream.append([request(2), request(3)], signer)
    stream.seal()
    acknowledged += stream.append([request(4), request(5)], signer)
    stream.seal()


def steps_of_the_script(tmp_path: Path, state: StateHome, *, reads: bool = False) -> int:
    with open_stream(init(tmp_path / "count"), state) as stream:
        signer = stream.delegate(RUN)
        with faults(10**9, crash=True, reads=reads) as made:
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


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
def test_a_disk_that_fails_once_at_any_step_is_survived_by_the_same_process(
    tmp_path: Path, state: StateHome, code: int
) -> None:
    count = steps_of_the_script(tmp_path, state, reads=True)
    assert count > 80
    for at in range(1, count + 1):
        repository = init(tmp_path / f"r{at}")
        acknowledged: list[SignedEntry] = []
        with open_stream(repository, state) as stream:
            signer = stream.delegate(RUN)
            with faults(at, crash=False, code=code, reads=True):
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


@pytest.mark.parametrize("most_bytes", [1, 700])
def test_a_disk_that_takes_little_at_once_takes_all(
    tmp_path: Path, state: StateHome, most_bytes: int
) -> None:
    repository = init(tmp_path / "r")
    acknowledged: list[SignedEntry] = []
    with short_writes(most_bytes), open_stream(repository, state) as stream:
        script(stream, stream.delegate(RUN), acknowledged)
    check(repository, state, acknowledged)


def test_a_process_killed_at_any_step_loses_nothing_acknowledged(tmp_path: Path, state: StateHome) -> None:
    """As above, with a real death: nothing is cleaned up, and the kernel alone frees the locks."""
    count = steps_of_the_script(tmp_path, state)
    for at in range(1, count + 1, 3):
        repository = init(tmp_path / f"r{at}")
        told = tmp_path / f"told{at}"

        def work(at: int = at, repository: Any = repository, told: Path = told) -> None:
            acknowledged = _Told(told)
            stream = open_stream(repository, state)
            signer = stream.delegate(RUN)
            with faults(at, crash=True, after=bool(at % 2)), pytest.MonkeyPatch.context() as patch:
                patch.setattr(Crash, "__new__", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
                script(stream, signer, acknowledged)

        assert in_child(work) == -signal.SIGKILL
        with open_stream(repository, state) as stream:
            lines = {s.line for s in stream.entries()}
        promised = told.read_bytes().splitlines() if told.exists() else []
        assert set(promised) <= lines
        check(repository, state, [])


class _Told(list[SignedEntry]):
    """Acknowledged entries, told to somebody outside at once."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("wb", buffering=0)

    def __iadd__(self, more: Iterable[SignedEntry], /) -> Self:  # type: ignore[misc, override]
        # Not through `os`: its steps are counted.
        self._file.write(b"".join(item.line + b"\n" for item in more))
        return self


@pytest.mark.parametrize("seed", range(4))
def test_a_power_cut_at_any_step_loses_nothing_acknowledged(
    tmp_path: Path, state: StateHome, seed: int
) -> None:
    count = steps_of_the_script(tmp_path, state)
    for at in range(1 + seed, count + 1, 4):
        repository = init(tmp_path / f"r{at}")
        stream = open_stream(repository, state)
        signer = stream.delegate(RUN)
        acknowledged: list[SignedEntry] = []
        disk = Disk(repository.layout.root, state.root)
        with disk.watched(), faults(at, crash=True, after=bool(at // 4 % 2)), pytest.raises(Crash):
            script(stream, signer, acknowledged)
        stream.close()
        disk.cut(random.Random(at))
        check(repository, state, acknowledged)


def test_pages_of_a_batch_that_arrived_without_those_before_them_are_torn(
    tmp_path: Path, state: StateHome
) -> None:
    holes = 0
    for seed in range(24):
        repository = init(tmp_path / f"r{seed}")
        disk = Disk(repository.layout.root, state.root)
        with open_stream(repository, state) as stream:
            signer = stream.delegate(RUN)
            with disk.watched():
                acknowledged = stream.append([request(1)], signer)
                # The lock, its file, the batch; then, instead of the sync, the power goes.
                with faults(4, crash=True), pytest.raises(Crash):
                    stream.append([request(n) for n in range(2, 20)], signer)
        disk.cut(random.Random(seed))
        raw = next(repository.layout.wal.iterdir()).read_bytes()
        holes += b"\n" in raw[raw.index(b"\x00") :]
        entries = check(repository, state, acknowledged)
        assert [s.entry.kind for s in entries].count("log.recovered") <= 1
    assert holes > 3


def test_what_a_killed_writer_did_not_sync_is_safe_before_anything_follows_it(
    tmp_path: Path, state: StateHome
) -> None:
    """It was read and counted by others; then the record went on in a new segment, and the power was cut."""
    for at in range(1, 99):
        repository = init(tmp_path / f"r{at}")
        disk = Disk(repository.layout.root, state.root)
        with open_stream(repository, state) as stream, open_stream(repository, state) as killed:
            acknowledged = stream.append([heartbeat()], stream.log_signer())
            with disk.watched():
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(os, "fdatasync", lambda _: None)
                    killed.append([heartbeat()], killed.log_signer())
                done = True
                try:
                    with faults(at, crash=True, after=True):
                        stream.seal()
                        acknowledged += stream.append([heartbeat()], stream.log_signer())
                except Crash:
                    done = False
        disk.cut(random.Random(at))
        check(repository, state, acknowledged)
        if done:
            break
    assert done


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
