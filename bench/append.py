"""What one append costs beside what it cannot do without, and whether a crowd of writers loses anything.

    bare write        the same bytes appended to a file and synced: the least that any durable record costs
    sign and write    the same, with the line hashed and signed: the floor of a signed record
    append            the product: lock, head compared with memory, checked, encoded, signed, written, synced

The three take turns, in blocks. CPU is that of this process, kernel included; wall time is mostly the disk's.
The same again without the sync shows what is agentgov's own. Then 1, 8, 32 and 300 processes append at once,
each with a key of its own: every entry that was acknowledged must be in the record, in one unbroken chain.

    python -m bench.append [--blocks 40] [--block 50] [--writers 1,8,32,300]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from agentgov.clock import SystemClock
from agentgov.git import Repository, discover
from agentgov.ids import RunId, new_run_id
from agentgov.layout import StateHome
from agentgov.ledger.chain import NO_LEAF, leaf_hash
from agentgov.ledger.entry import PAYLOAD_TYPE, Draft
from agentgov.ledger.signing import PrivateKey, pae
from agentgov.ledger.stream import Stream
from agentgov.ledger.wal import encode_record
from bench._common import alternate, git, is_quick, median, print_budget, print_machine

BUDGET_US = 100.0
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


def print_costs(title: str, found: dict[str, Cost]) -> None:
    """Print medians beside the floors'."""
    print(f"\n{title}")
    print(f"  {'':18}{'wall p50 us':>13}{'a second':>11}{'ratio':>8}{'CPU p50 us':>13}{'ratio':>8}")
    base = found[BARE]
    for name, cost in found.items():
        wall, cpu = median(cost.wall), median(cost.cpu)
        print(
            f"  {name:18}{wall:>13.0f}{1e6 / wall:>11,.0f}{wall / median(base.wall):>8.2f}"
            f"{cpu:>13.0f}{cpu / median(base.cpu):>8.2f}"
        )
    sys.stdout.flush()


def write(repo: Repository, state: StateHome, count: int, out: Path, go: int) -> None:
    """Be one writer of a crowd: append `count` requests, and write each leaf down once acknowledged."""
    run = new_run_id(os.urandom)
    with open_stream(repo, state) as stream, out.open("wb") as file:
        signer = stream.delegate(run)
        os.read(go, 1)
        for n in range(1, count + 1):
            (signed,) = stream.append([request(n, run)], signer)
            file.write(signed.leaf().hex().encode() + b"\n")
        stream.end_key(signer)


def crowd(folder: Path, writers: int, count: int) -> None:
    """Let some processes append at once; print the rate, and fail if anything acknowledged is missing."""
    home = folder / f"crowd{writers}"
    repo = home / "repo"
    repo.mkdir(parents=True)
    git(repo, "init", "-q", "-b", "main")
    repository, state = discover(repo), StateHome(home / "state")
    open_stream(repository, state).close()
    go, start = os.pipe()
    outs = [home / f"out{number}" for number in range(writers)]
    pids = []
    for out in outs:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(start)
                write(repository, state, count, out, go)
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
    promised = [bytes.fromhex(line) for out in outs for line in out.read_text().split()]
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
        f"  {writers:>4} writers x {count:<4} {writers * count / seconds:>8,.0f} appends/s   "
        f"{failed} failed   {lost} lost",
        flush=True,
    )
    if lost or failed:
        raise SystemExit("an acknowledged entry is missing")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=6 if is_quick() else 40)
    parser.add_argument("--block", type=int, default=50)
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
        print_budget("CPU of one append, with it", median(synced[APPEND].cpu), BUDGET_US, "us")
        print("\nprocesses appending at once")
        for writers in map(int, args.writers.split(",")):
            crowd(folder, writers, max(5, 600 // writers))


if __name__ == "__main__":
    main()
