"""What an append costs beside what it cannot do without, what a seal costs, whether a crowd loses anything.

    bare write        the same bytes appended to a file and synced: the least that any durable record costs
    sign and write    the same, with the line hashed and signed: the floor of a signed record
    append            the product: lock, head compared with memory, checked, encoded, signed, written, synced

The three take turns, in short blocks; the ratio is the median of the ratios of neighbouring blocks. The bare
file grows with each write, as a plain log does. CPU is that of this process, kernel included; wall time is
mostly the disk's. The same again without the sync shows what is agentgov's own.

Then a record is sealed many times, and a thread appends meanwhile: does a seal cost more as the record grows,
and does an append wait for it? At last 1, 8, 32 and 300 writers append at once, each with a key of its own;
from two on, half of them are processes and half are threads, four to a process, and some seal: every entry
that was acknowledged must be in the record, in one unbroken chain.

    python -m bench.append [--blocks 150] [--block 10] [--seals 60] [--writers 1,8,32,300]
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from agentgov.clock import SystemClock
from agentgov.git import Git, Repository, discover
from agentgov.ids import RunId, new_run_id
from agentgov.layout import StateHome
from agentgov.ledger.chain import NO_LEAF, leaf_hash
from agentgov.ledger.entry import PAYLOAD_TYPE, Draft
from agentgov.ledger.signing import PrivateKey, pae
from agentgov.ledger.stream import Stream
from agentgov.ledger.wal import encode_record
from bench._common import (
    alternate,
    git,
    is_quick,
    median,
    percentile,
    print_budget,
    print_machine,
    timed,
)

BUDGET_US = 100.0
BUDGET_RATIO = 1.3
THREADS = 4
SEAL_EACH = 50
BARE, FLOOR, APPEND = "bare write", "sign and write", "append"


@dataclass
class Cost:
    """Microseconds per entry, one figure per block."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def request(n: int, run: RunId) -> Draft:
    """Return a call's request as the recorder writes it."""
    tree = "1" * 40
    body: dict[str, Any] = {
        "actor": 0,
        "args": "c" * 64,
        "changes": None,
        "from": tree,
        "how": "incremental",
        "n": n,
        "open": [],
        "tool": "Bash",
        "tree": tree,
        "verdict": {"decision": "allow", "policy": "a" * 64, "rules": []},
    }
    return Draft("call.request", run, body)


def open_stream(repo: Repository, state: StateHome) -> Stream:
    """Open the record as a command does."""
    return Stream.open(repo, state, clock=SystemClock(), random=os.urandom)


def costs(
    folder: Path, repo: Repository, state: StateHome, blocks: int, block: int, *, sync: bool
) -> dict[str, Cost]:
    """Measure the three ways in turns."""
    run = new_run_id(os.urandom)
    stream = open_stream(repo, state)
    signer = stream.delegate(run)
    private = PrivateKey(os.urandom(32))
    (sample,) = stream.append([request(1, run)], signer)
    record = encode_record(sample.line, sample.signature)
    fd = os.open(folder / f"bare-{sync}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    real_sync = os.fdatasync

    def bare() -> None:
        os.write(fd, record)
        if sync:
            real_sync(fd)

    def floor() -> None:
        leaf_hash(sample.line)
        os.write(fd, encode_record(sample.line, private.sign(pae(PAYLOAD_TYPE, sample.line))))
        if sync:
            real_sync(fd)

    count = [1]

    def append() -> None:
        count[0] += 1
        stream.append([request(count[0], run)], signer)

    found = {name: Cost() for name in (BARE, FLOOR, APPEND)}

    def measured(name: str, action: Callable[[], None]) -> Callable[[], float]:
        def measure() -> float:
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in range(block):
                action()
            found[name].wall.append((time.perf_counter() - wall) / block * 1e6)
            found[name].cpu.append((time.process_time() - cpu) / block * 1e6)
            return 0.0

        return measure

    sides = {BARE: measured(BARE, bare), FLOOR: measured(FLOOR, floor), APPEND: measured(APPEND, append)}
    with nullcontext() if sync else mock.patch("os.fdatasync"):
        alternate(blocks, sides)
    os.close(fd)
    stream.end_key(signer)
    stream.seal()
    stream.close()
    return found


def ratio(cost: Sequence[float], base: Sequence[float]) -> float:
    """Return the median of the ratios of blocks that were measured in the same round."""
    return median([mine / floor for mine, floor in zip(cost, base, strict=True)])


def print_costs(title: str, found: dict[str, Cost]) -> None:
    """Print medians beside the floors'."""
    print(f"\n{title}")
    print(f"  {'':18}{'wall p50 us':>13}{'a second':>11}{'ratio':>8}{'CPU p50 us':>13}{'ratio':>8}")
    base = found[BARE]
    for name, cost in found.items():
        wall, cpu = median(cost.wall), median(cost.cpu)
        print(
            f"  {name:18}{wall:>13.0f}{1e6 / wall:>11,.0f}{ratio(cost.wall, base.wall):>8.2f}"
            f"{cpu:>13.0f}{ratio(cost.cpu, base.cpu):>8.2f}"
        )
    sys.stdout.flush()


def children_seconds() -> float:
    """Return the CPU time of all the git processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seals(folder: Path, repo: Repository, state: StateHome, count: int) -> None:
    """Seal many times, 256 entries each, while a thread appends; print early ones beside late ones."""
    run = new_run_id(os.urandom)
    found: list[tuple[float, float, float, int]] = []
    quiet: list[float] = []
    during: list[float] = []
    with open_stream(repo, state) as stream:
        signer = stream.delegate(run)
        n = 0

        def append(times: list[float], entries: int) -> None:
            nonlocal n
            n += 1
            drafts = [request(n, run) for _ in range(entries)]
            began = time.perf_counter()
            stream.append(drafts, signer)
            times.append((time.perf_counter() - began) * 1e3)

        for _ in range(count):
            append([], 256)
            for _ in range(5):
                append(quiet, 1)
            took: list[float] = []

            def seal(took: list[float] = took) -> None:
                began, cpu, git_cpu = time.perf_counter(), time.thread_time(), children_seconds()
                with mock.patch.object(Git, "run", autospec=True, side_effect=Git.run) as runs:
                    stream.seal()
                took += [(time.perf_counter() - began) * 1e3, (time.thread_time() - cpu) * 1e3]
                took += [(children_seconds() - git_cpu) * 1e3, runs.call_count]

            thread = threading.Thread(target=seal)
            thread.start()
            while thread.is_alive():
                append(during, 1)
                time.sleep(0.002)
            thread.join()
            found.append((took[0], took[1], took[2], int(took[3])))
        stream.end_key(signer)
    part = max(1, count // 5)
    process = median([timed(lambda: git(folder, "version")) for _ in range(20)])
    early, late = found[:part], found[-part:]
    print(
        f"\nseals of 256 entries and more, {count} one after the other; a git process that does nothing: "
        f"{process:.1f} ms"
    )
    for name, some in (("the first", early), ("the last", late)):
        wall, own, of_git, runs = ([seal[i] for seal in some] for i in range(4))
        print(
            f"  {name} {part}: wall {median(wall):.0f} ms, CPU of our own {median(own):.0f} ms, of git "
            f"{median(of_git):.0f} ms in {median(runs):.0f} processes, {sum(runs) / part:.1f} on average"
        )
    print(
        f"  one append: p50 {median(quiet):.2f} ms, p95 {percentile(quiet, 0.95):.2f}; while a seal is made: "
        f"p50 {median(during):.2f}, p95 {percentile(during, 0.95):.2f}, longest {max(during):.1f}",
        flush=True,
    )


def write(repo: Repository, state: StateHome, count: int, outs: Sequence[Path], go: int) -> None:
    """Be some writers of a crowd, threads that share a record; write down what is acknowledged."""

    def work(out: Path) -> None:
        run = new_run_id(os.urandom)
        with out.open("wb") as file:
            signer = stream.delegate(run)
            os.read(go, 1)
            for n in range(1, count + 1):
                (signed,) = stream.append([request(n, run)], signer)
                file.write(signed.leaf().hex().encode() + b"\n")
                if n % SEAL_EACH == 0:
                    stream.seal()
            stream.end_key(signer)
            file.write(b"done\n")

    with open_stream(repo, state) as stream:
        threads = [threading.Thread(target=work, args=(out,)) for out in outs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def crowd(folder: Path, writers: int, count: int) -> None:
    """Let some writers append at once; print the rate, and fail if anything acknowledged is missing."""
    home = folder / f"crowd{writers}"
    repo = home / "repo"
    repo.mkdir(parents=True)
    git(repo, "init", "-q", "-b", "main")
    repository, state = discover(repo), StateHome(home / "state")
    open_stream(repository, state).close()
    go, start = os.pipe()
    outs = [home / f"out{number}" for number in range(writers)]
    half = writers - writers // 2
    groups = [outs[i : i + 1] for i in range(half)]
    groups += [outs[i : i + THREADS] for i in range(half, writers, THREADS)]
    pids = []
    for group in groups:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(start)
                write(repository, state, count, group, go)
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    # Each writer opens the record and introduces its key first: only the appends are timed.
    while sum(out.exists() for out in outs) < writers:
        time.sleep(0.05)
    time.sleep(1.0 + writers / 100)
    os.close(go)
    began = time.perf_counter()
    os.close(start)
    failed = sum(os.waitpid(pid, 0)[1] != 0 for pid in pids)
    seconds = time.perf_counter() - began
    told = [line for out in outs for line in out.read_text().split()]
    failed += writers - told.count("done")
    promised = [bytes.fromhex(line) for line in told if line != "done"]
    with open_stream(repository, state) as stream:
        leaf, found = NO_LEAF, set()
        for signed in stream.entries():
            if signed.entry.prev != leaf.hex():
                raise SystemExit(f"the chain is broken at entry {signed.entry.seq}")
            leaf = signed.leaf()
            found.add(leaf)
        stream.seal()
    lost = len(set(promised) - found) + writers * count - len(promised)
    print(
        f"  {writers:>4} writers in {len(groups):>3} processes x {count:<4} "
        f"{writers * count / seconds:>8,.0f} appends/s   {failed} failed   {lost} lost",
        flush=True,
    )
    if lost or failed:
        raise SystemExit("an acknowledged entry is missing")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=20 if is_quick() else 150)
    parser.add_argument("--block", type=int, default=10)
    parser.add_argument("--seals", type=int, default=5 if is_quick() else 60)
    parser.add_argument("--writers", default="1,8" if is_quick() else "1,8,32,300")
    args = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory(prefix="aga-") as name:
        folder = Path(name)
        repo = folder / "repo"
        repo.mkdir()
        git(repo, "init", "-q", "-b", "main")
        repository, state = discover(repo), StateHome(folder / "state")
        synced = costs(folder, repository, state, args.blocks, args.block, sync=True)
        print_costs("one entry at a time, fdatasync each", synced)
        bare = costs(folder, repository, state, args.blocks, args.block, sync=False)
        print_costs("the same without fdatasync", bare)
        print_budget("CPU of one append, without the sync", median(bare[APPEND].cpu), BUDGET_US, "us")
        times = ratio(synced[APPEND].wall, synced[BARE].wall)
        print_budget("one append over a bare write, fdatasync each", times, BUDGET_RATIO, "times")
        if args.seals:
            seals(repo, repository, state, args.seals)
        print("\nwriters appending at once, half of them processes, half threads")
        for writers in (int(number) for number in args.writers.split(",") if number):
            crowd(folder, writers, max(5, 600 // writers))


if __name__ == "__main__":
    main()
