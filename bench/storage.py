"""What a long record takes in a repository, and whether appending and sealing cost more as it grows.

    entries           calls' requests and results as a recorder writes them, sealed every 256 entries
    floor             what cannot be compressed in them, as bytes: hashes, commitments, tree ids, signatures

The record is written through the product into one repository; the disk's syncs are left out, because they
cost the same at any size. Objects, packs and loose objects are counted as it grows, never after a clean-up
of git's; what `git gc` then makes of it stands beside it. The cost of the last tenth of the appends, and of
the last tenth of the seals, stands beside that of the first.

    python -m bench.storage [--entries 100000]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from agentgov.clock import SystemClock
from agentgov.git import discover
from agentgov.ids import new_run_id
from agentgov.layout import StateHome
from agentgov.ledger.entry import Draft
from agentgov.ledger.stream import Stream
from bench._common import git, is_quick, median, print_budget, print_machine, timed

SEAL_EVERY = 256
BUDGET_MB, BUDGET_OBJECTS = 60.0, 2500.0
# prev, from, tree, two commitments a pair of entries, and the signature.
FLOOR_BYTES = 32 + 20 + 20 + 32 + 64


@dataclass
class Growth:
    """What was measured while the record grew."""

    append_us: list[float] = field(default_factory=list)
    seal_ms: list[float] = field(default_factory=list)
    most_loose: int = 0
    most_packs: int = 0


def call(n: int, tree: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the bodies of a call's request and result, which changed something."""
    after = os.urandom(20).hex()
    request = {
        "actor": 0,
        "args": os.urandom(32).hex(),
        "changes": None,
        "from": tree,
        "how": "incremental",
        "n": n,
        "open": [],
        "tool": "Bash",
        "tree": tree,
        "verdict": {"decision": "allow", "policy": "a" * 64, "rules": []},
    }
    result = {
        "changes": os.urandom(32).hex(),
        "from": tree,
        "how": "incremental",
        "n": n,
        "open": [n],
        "output": os.urandom(32).hex(),
        "status": "ok",
        "took_us": 12_345,
        "tree": after,
    }
    return request, result


def grow(repo: Path, state: StateHome, entries: int) -> Growth:
    """Write a record of this many entries."""
    found = Growth()
    repository = discover(repo)
    run = new_run_id(os.urandom)
    objects = repository.objects_dir
    with ExitStack() as stack:
        stack.enter_context(mock.patch("os.fdatasync"))
        stack.enter_context(mock.patch("os.fsync"))
        stream = stack.enter_context(Stream.open(repository, state, clock=SystemClock(), random=os.urandom))
        signer = stream.delegate(run)
        tree, n, written = "1" * 40, 0, 0
        while written < entries:
            n += 1
            request, result = call(n, tree)
            tree = result["tree"]
            for draft in (Draft("call.request", run, request), Draft("call.result", run, result)):
                found.append_us.append(timed(partial(stream.append, [draft], signer)) * 1000)
                written += 1
            if written % SEAL_EVERY == 0:
                found.seal_ms.append(timed(stream.seal))
                found.most_packs = max(found.most_packs, sum(1 for _ in (objects / "pack").glob("*.pack")))
                if len(found.seal_ms) % 20 == 0:
                    found.most_loose = max(found.most_loose, loose(objects))
        stream.end_key(signer)
        stream.seal()
        if stream.unmerged is not None:
            raise SystemExit(f"packs could not be merged: {stream.unmerged}")
    return found


def loose(objects: Path) -> int:
    """Count loose objects."""
    return sum(1 for folder in objects.iterdir() if len(folder.name) == 2 for _ in folder.iterdir())


def counted(repo: Path) -> dict[str, int]:
    """Return what `git count-objects -v` says."""
    lines = git(repo, "count-objects", "-v").splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines) if value.isdigit()}


def bytes_below(folder: Path) -> int:
    """Return the size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def print_growth(what: str, values: list[float], unit: str) -> None:
    """Print the cost at the beginning and at the end, with their ratio."""
    tenth = max(1, len(values) // 10)
    # The first ones pay for imports and first processes.
    first, last = median(values[tenth // 2 : tenth + tenth // 2]), median(values[-tenth:])
    print(f"  {what:34}{first:>10.1f}{last:>10.1f} {unit}   ratio {last / first:.2f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=10_000 if is_quick() else 100_000)
    args = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory(prefix="ags-") as name:
        folder = Path(name)
        repo = folder / "repo"
        repo.mkdir()
        git(repo, "init", "-q", "-b", "main")
        began = time.perf_counter()
        growth = grow(repo, StateHome(folder / "state"), args.entries)
        took = time.perf_counter() - began
        objects = repo / ".git" / "objects"
        count, size = counted(repo), bytes_below(objects)
        floor = args.entries * FLOOR_BYTES
        print(f"\n{args.entries:,} entries in {len(growth.seal_ms)} seals, written in {took:.0f} s")
        print(f"  {'':34}{'first':>10}{'last':>10}")
        print_growth("one append, without its sync", growth.append_us, "us")
        print_growth("one seal, without its syncs", growth.seal_ms, "ms")
        print(
            f"\n  {'as it lies there':34}{'':>6}{'MB':>8}{'ratio':>8}{'objects':>10}{'packs':>7}{'loose':>7}"
        )
        print(f"  {'floor: what no compression helps':34}{'':>6}{floor / 1e6:>8.1f}{1.0:>8.2f}")
        show("by the product alone", count, size, floor)
        print(f"  most at any time: {growth.most_packs} packs, {growth.most_loose} loose objects")
        gc_ms = timed(lambda: git(repo, "gc", "-q", "--prune=now"))
        after = bytes_below(objects)
        show("after git gc --prune=now", counted(repo), after, floor)
        mirror_ms = timed(lambda: git(folder, "clone", "-q", "--mirror", "--no-local", "repo", "mirror.git"))
        fsck_ms = timed(
            lambda: subprocess.run(
                ["git", "fsck", "--full", "--strict"],
                cwd=folder / "mirror.git",
                check=True,
                capture_output=True,
            )
        )
        show("in a mirror that was cloned", counted(folder / "mirror.git"), 0, floor)
        print(
            f"  gc {gc_ms / 1000:.1f} s, clone --mirror {mirror_ms / 1000:.1f} s, fsck {fsck_ms / 1000:.1f} s"
        )
        if args.entries == 100_000:
            print_budget("as it lies there", size / 1e6, BUDGET_MB, "MB")
            print_budget("objects", count["in-pack"] + count["count"], BUDGET_OBJECTS, "")


def show(what: str, count: dict[str, int], size: int, floor: int) -> None:
    """Print one line of sizes."""
    megabytes = f"{size / 1e6:>8.1f}{size / floor:>8.2f}" if size else f"{'':16}"
    objects = count["in-pack"] + count["count"]
    print(f"  {what:34}{'':>6}{megabytes}{objects:>10,}{count['packs']:>7}{count['count']:>7}", flush=True)


if __name__ == "__main__":
    main()
