"""How long it takes to verify a record, beside what no verifier of it could leave out.

The record is real: calls of one run in lines of 2 KB on average, sealed every 256 entries, in one pack. Each
call's request names the rules that judged it, which makes it long. Measured in turns, in the same run:

    read and hash       every object through git, and SHA-256 of every line: the floor of structure
    check signatures    Ed25519 over a sample of the lines, on one core: the floor of checking them all
    structure           ``verify --structure --jobs 1``, pinned to one core, git with it
    every signature     ``verify --jobs 2``, as the command runs it, without looking for objects and payloads
    incremental         the same, going on from a verification of all but the last seal

Seconds are wall time; on a busy machine CPU time, which stands beside it, says more. Memory is the largest of
this process and of each of its children.

    python -m bench.verify [--entries 1000000] [--line-bytes 2000] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agentgov.git import discover
from agentgov.ledger.entry import PAYLOAD_TYPE
from agentgov.ledger.signing import PrivateKey, pae, verify_ed25519
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_report import Report
from agentgov.ledger.verify_resume import Resume
from agentgov.ledger.verify_source import RepositorySource, Trust
from bench._common import git, is_quick, print_budget, print_machine
from bench._ledger import LongRecord, make_long_record

STRUCTURE_SECONDS, WHOLE_SECONDS, MEMORY_MB = 12.0, 45.0, 300.0
MILLION = 1_000_000
SAMPLE = 4000


@dataclass(frozen=True)
class Took:
    """What one measurement took, in seconds."""

    wall: float
    cpu: float


def timed(action: Callable[[], object]) -> Took:
    """Measure wall and CPU time, children that ended included."""
    before, began = os.times(), time.perf_counter()
    action()
    after, ended = os.times(), time.perf_counter()
    return Took(ended - began, sum(after[:4]) - sum(before[:4]))


@contextmanager
def one_core() -> Iterator[None]:
    """Let this process and its children run on one core only."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


class Bench:
    """One record and what is measured on it."""

    def __init__(self, root: Path, record: LongRecord) -> None:
        self._repo = discover(root, bare_ok=True)
        self._record = record

    def verify(self, *, structure: bool = False, jobs: int = 1, since: Resume | None = None) -> Report:
        """Verify; stop when the bench itself made something that does not hold."""
        report = verify_ledger(
            self._source(),
            trust=Trust(public_key=self._record.public_key),
            structure=structure,
            jobs=jobs,
            since=since,
            # The bench's run has no end: somebody records it.
            is_live=lambda run: True,
        )
        if report.findings or report.entries != self._record.entries:
            raise SystemExit(f"the record does not hold: {report.findings[:1]}")
        return report

    def read_and_hash(self) -> None:
        """Read every object and hash every line: what cannot be left out."""
        for seal in self._source().seals(hashed=False):
            for line in seal.lines():
                hashlib.sha256(b"\0" + line).digest()

    def check_signatures(self) -> Took:
        """Check a sample on one core, and scale it to all entries."""
        private = PrivateKey(bytes(range(32)))
        messages = [pae(PAYLOAD_TYPE, line) for line in next(iter(self._source().seals())).lines()]
        pairs = [(message, private.sign(message)) for message in messages]
        times = max(1, SAMPLE // len(pairs))

        def check() -> None:
            for _ in range(times):
                for message, signature in pairs:
                    verify_ed25519(private.public_key, signature, message)

        took, share = timed(check), self._record.entries / (times * len(pairs))
        return Took(took.wall * share, took.cpu * share)

    def all_but_the_last_seal(self) -> Resume:
        """Return where a verification ended before the newest seal was made."""
        newest = self._repo.ref(f"refs/agentgov/ledger/{self._record.stream_id}")
        parent = self._repo.resolve(f"{newest}^")
        source = RepositorySource(self._repo, stream_id=self._record.stream_id, tip=parent)
        report = verify_ledger(
            source, trust=Trust(public_key=self._record.public_key), jobs=2, is_live=lambda run: True
        )
        if report.reached is None:
            raise SystemExit("a verification that held is not remembered")
        return report.reached

    def _source(self) -> RepositorySource:
        return RepositorySource(self._repo, stream_id=self._record.stream_id)


def show(what: str, took: Took, floor: Took | None) -> None:
    """Print one line."""
    ratio = "" if floor is None else f"{took.cpu / floor.cpu:>8.2f}"
    print(f"  {what:34}{took.wall:>10.2f}{took.cpu:>10.2f}{ratio}", flush=True)


def peak_mb() -> float:
    """Return the most memory that this process or one of its children has had."""
    # Not ru_maxrss for ourselves: it keeps what the process that started us had.
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    own = int(fields["VmHWM"].split()[0])
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def make(root: Path, entries: int, line_bytes: int) -> None:
    """Make a record, and measure it in a process of its own: what making takes is not to be counted."""
    git(root, "init", "-q", "--bare")
    record = make_long_record(root, entries, line_bytes=line_bytes)
    facts = (record.stream_id, record.public_key, str(record.entries), str(record.size_bytes))
    words = [sys.executable, "-m", "bench.verify", "--measure", str(root), *facts]
    subprocess.run(words, check=True)


def measure(root: Path, record: LongRecord) -> None:
    """Print what checking a record takes."""
    entries = record.entries
    bench = Bench(root, record)
    packed = sum(path.stat().st_size for path in root.rglob("*.pack"))
    print(
        f"\n{entries:,} entries, {record.size_bytes / entries:,.0f} bytes each, "
        f"{packed / 2**20:,.0f} MiB packed\n  {'':34}{'wall s':>10}{'CPU s':>10}{'ratio':>8}"
    )
    with one_core():
        floor = timed(bench.read_and_hash)
        show("read and hash", floor, None)
        structure = timed(lambda: bench.verify(structure=True))
        show("structure, one core", structure, floor)
    signatures = bench.check_signatures()
    show("check signatures, one core", signatures, None)
    whole = timed(lambda: bench.verify(jobs=2))
    show("every signature, two cores", whole, signatures)
    since = bench.all_but_the_last_seal()
    again = timed(lambda: bench.verify(jobs=2, since=since))
    show("incremental, one seal", again, None)
    scale = MILLION / entries
    said = "" if entries == MILLION else ", extrapolated"
    print_budget(f"structure, 1,000,000 entries{said}:", structure.wall * scale, STRUCTURE_SECONDS, "s")
    print_budget(f"every signature, 1,000,000 entries{said}:", whole.wall * scale, WHOLE_SECONDS, "s")
    print_budget("memory:", peak_mb(), MEMORY_MB, "MB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=5_000 if is_quick() else 100_000)
    parser.add_argument("--line-bytes", type=int, default=2_000)
    parser.add_argument("--keep", type=Path, help="make the record here, and leave it")
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure is not None:
        root, stream_id, public_key, count, size = args.measure
        measure(Path(root), LongRecord(stream_id, public_key, int(count), int(size)))
        return
    print_machine()
    if args.keep is not None:
        args.keep.mkdir(parents=True)
        make(args.keep, args.entries, args.line_bytes)
        return
    with tempfile.TemporaryDirectory(prefix="agv-") as name:
        make(Path(name), args.entries, args.line_bytes)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
