"""Many processes and threads at once, and some of them killed: what was acknowledged is there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from agentgov.git import Repository, discover
from agentgov.ids import RunId
from agentgov.layout import StateHome
from agentgov.ledger.entry import SignedEntry
from tests.support.ledger import heartbeat, init, numbers, open_stream, request, verify_all

ROOT = Path(__file__).resolve().parents[2]
WRITER = """
import os, sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from agentgov.git import discover
from agentgov.layout import StateHome
from tests.support.ledger import open_stream, request
from agentgov.ids import RunId

repo, state = Path(sys.argv[2]), StateHome(Path(sys.argv[3]))
runs, count = sys.argv[4].split(","), int(sys.argv[5])
stream = open_stream(discover(repo), state)

def work(run):
    signer = stream.delegate(RunId(run))
    for n in range(1, count + 1):
        (signed,) = stream.append([request(n, RunId(run))], signer)
        os.write(1, b"%s %d %s\\n" % (run.encode(), n, signed.leaf().hex().encode()))
        if n % 7 == 0:
            stream.seal()
    stream.end_key(signer)

threads = [threading.Thread(target=work, args=(run,)) for run in runs]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def writer(repo: Path, state: StateHome, runs: list[str], count: int, out: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-c",
        WRITER,
        str(ROOT),
        str(repo),
        str(state.root),
        ",".join(runs),
        str(count),
    ]
    with out.open("wb") as file:
        return subprocess.Popen(command, stdout=file, start_new_session=True)


def acknowledged(out: Path) -> list[tuple[str, int, str]]:
    """Whole lines only: a line is written after the append has returned."""
    lines = out.read_text().rpartition("\n")[0].split("\n")
    return [(run, int(n), leaf) for run, n, leaf in (line.split() for line in lines if line)]


def check(entries: list[SignedEntry], promised: list[tuple[str, int, str]]) -> None:
    verify_all(entries)
    leaves = {s.leaf().hex() for s in entries}
    missing = [item for item in promised if item[2] not in leaves]
    assert missing == [], json.dumps(missing[:5])


def test_processes_and_threads_append_and_seal_at_once_and_lose_nothing(
    tmp_path: Path, state: StateHome
) -> None:
    repo = tmp_path / "r"
    init(repo)
    outs = [tmp_path / f"out{number}" for number in range(4)]
    # The first opening is part of the race.
    writers = [writer(repo, state, [f"{i}aaaa", f"{i}bbbb"], 15, out) for i, out in enumerate(outs)]
    assert [w.wait(timeout=100) for w in writers] == [0, 0, 0, 0]
    promised = [item for out in outs for item in acknowledged(out)]
    assert len(promised) == 4 * 2 * 15
    with open_stream(discover(repo), state) as stream:
        entries = list(stream.entries())
        check(entries, promised)
        for run in {item[0] for item in promised}:
            mine = [
                s.entry.body["n"] for s in entries if s.entry.run == run and s.entry.kind == "call.request"
            ]
            assert mine == list(range(1, 16))
        assert stream.live_keys() == []
        assert stream.seal() is None or stream.sealed_size == len(entries)


def test_writers_killed_at_any_moment_lose_nothing_acknowledged(tmp_path: Path, state: StateHome) -> None:
    repo = tmp_path / "r"
    init(repo)
    outs: list[Path] = []
    for attempt in range(4):
        batch = [tmp_path / f"out{attempt}-{number}" for number in range(3)]
        writers = [
            writer(repo, state, [f"{attempt}{number}xxx", f"{attempt}{number}yyy"], 100_000, out)
            for number, out in enumerate(batch)
        ]
        outs += batch
        deadline = time.monotonic() + 60
        while any(out.stat().st_size < 600 * (attempt + 1) for out in batch) and time.monotonic() < deadline:
            time.sleep(0.01)
        for process in writers:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        with open_stream(discover(repo), state) as stream:
            stream.append([heartbeat()], stream.log_signer())
            check(list(stream.entries()), [item for out in outs for item in acknowledged(out)])
            stream.seal()
            assert stream.sealed_size == stream.head().size
    assert sum(len(acknowledged(out)) for out in outs) > 50


def crowd_member(
    repository: Repository, state: StateHome, runs: Sequence[str], count: int, folder: Path
) -> None:
    """Some writers in one process, threads that share a stream; each acknowledged entry is written down."""

    def work(run: RunId) -> None:
        with (folder / run).open("wb", buffering=0) as told:
            signer = stream.delegate(run)
            for n in range(1, count + 1):
                (signed,) = stream.append([request(n, run)], signer)
                told.write(b"%s\n" % signed.leaf().hex().encode())
            if int(run[:3]) % 16 == 0:
                stream.seal()
            stream.end_key(signer)
            told.write(b"done\n")

    with open_stream(repository, state) as stream:
        threads = [threading.Thread(target=work, args=(RunId(run),)) for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(("writers", "count"), [(1, 40), (8, 20), (32, 8), (300, 2)])
def test_a_crowd_of_processes_and_threads_loses_nothing(
    tmp_path: Path, state: StateHome, writers: int, count: int
) -> None:
    repository = init(tmp_path / "r")
    told = tmp_path / "told"
    told.mkdir()
    open_stream(repository, state).close()
    runs = [f"{number:03d}aa" for number in range(writers)]
    half = writers - writers // 2
    groups = [runs[i : i + 1] for i in range(half)] + [runs[i : i + 4] for i in range(half, writers, 4)]
    members = []
    for group in groups:
        pid = os.fork()
        if pid == 0:
            try:
                crowd_member(repository, state, group, count, told)
            finally:
                os._exit(0)
        members.append(pid)
    for pid in members:
        os.waitpid(pid, 0)
    lines = [path.read_text().split() for path in told.iterdir()]
    assert [(len(line), line[-1]) for line in lines] == [(count + 1, "done")] * writers
    with open_stream(repository, state) as stream:
        entries = list(stream.entries())
        verify_all(entries)
        assert {leaf for line in lines for leaf in line[:-1]} <= {s.leaf().hex() for s in entries}
        for run in runs:
            assert numbers(entries, RunId(run)) == list(range(1, count + 1))
        assert stream.live_keys() == []


def test_threads_sharing_one_stream_do_not_disturb_each_other(tmp_path: Path, state: StateHome) -> None:
    with open_stream(init(tmp_path / "r"), state) as stream:

        def work() -> None:
            for n in range(20):
                stream.append([heartbeat()], stream.log_signer())
                if n % 9 == 0:
                    stream.seal()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        entries = list(stream.entries())
        assert len(entries) == 1 + 8 * 20
        verify_all(entries)
