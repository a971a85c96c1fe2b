"""How long it takes to verify a record, beside what no verifier of it could leave out.

The record is real: calls of one run, appended in batches, with a seal every 256 entries. In turns:

    hash every line     SHA-256 of what is there: the floor of checking the chain
    check signatures    Ed25519 over every line: the floor of checking the signatures
    structure           the verifier with signatures taken as good: forms, links, key rules, seals, sequence
    whole               what ``agentgov verify`` runs, without looking for objects and payloads

The budgets are for 1,000,000 entries. What is printed for them is this record's time per entry times a
million, on one core: measured over two sizes, so that growth that is not linear shows.

    python -m bench.verify [--entries 20000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from agentgov.clock import SystemClock
from agentgov.git import Repository, discover
from agentgov.ids import RunId
from agentgov.layout import StateHome
from agentgov.ledger.entry import PAYLOAD_TYPE, Draft, SignedEntry
from agentgov.ledger.signing import PrivateKey, pae, verify_ed25519
from agentgov.ledger.stream import Stream
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_report import Report
from agentgov.ledger.verify_source import RepositorySource, local_trust
from bench._common import alternate, git, is_quick, median, print_budget, print_machine, print_times, timed

RUN = RunId("7kq2f")
HASH = "a" * 64
SEAL_ENTRIES = 256
STRUCTURE_SECONDS, WHOLE_SECONDS = 12.0, 45.0
LINES, SIGNATURES, STRUCTURE, WHOLE = "hash every line", "check signatures", "structure", "whole"


def tree(number: int) -> str:
    """Return a made-up tree id."""
    return f"{number:040x}"


def call(n: int) -> list[Draft]:
    """Return a call that changes something: its request and its result."""
    common: dict[str, Any] = {"n": n, "from": tree(n), "how": "incremental"}
    verdict = {"decision": "allow", "policy": HASH, "rules": []}
    request = {"actor": 0, "args": HASH, "changes": None, "open": [], "tool": "Bash", "tree": tree(n)}
    result = {"changes": HASH, "open": [n], "output": HASH, "status": "ok", "took_us": 5, "tree": tree(n + 1)}
    return [
        Draft("call.request", RUN, {**common, **request, "verdict": verdict}),
        Draft("call.result", RUN, {**common, **result}),
    ]


def start(base: str) -> Draft:
    """Return a run's first entry."""
    capture = {"hooks": True, "gateway": "off", "files": "watch", "ledger": "open", "keys": "open"}
    body = {
        "agent": "bench",
        "agent_version": "1",
        "base": base,
        "capture": {**capture, "sandbox": "none"},
        "how": "full",
        "intent": None,
        "policy": HASH,
        "start": HASH,
        "tree": tree(1),
        "workspace": "in-place",
    }
    return Draft("run.start", RUN, body)


def make_record(repo: Repository, state: StateHome, entries: int) -> None:
    """Append a run of about `entries` entries, sealed as it goes and at its end."""
    with Stream.open(repo, state, clock=SystemClock(), random=os.urandom) as stream:
        signer = stream.delegate(RUN)
        stream.append([start(repo.require_head_commit())], signer)
        last = max(1, entries // 2)
        for first in range(1, last + 1, SEAL_ENTRIES // 2):
            numbers = range(first, min(first + SEAL_ENTRIES // 2, last + 1))
            stream.append([draft for n in numbers for draft in call(n)], signer)
            stream.seal()
        end = {"state": "finished", "exit": 0, "ended": 0, "from": tree(last + 1), "tree": tree(last + 1)}
        stream.append([Draft("run.end", RUN, {**end, "how": "full", "open": [], "changes": None})], signer)
        stream.end_key(signer)
        stream.seal()


def verified(repo: Repository, state: StateHome) -> Report:
    """Verify the record; stop when the bench itself made something that does not hold."""
    trust = local_trust(repo, state)
    report = verify_ledger(RepositorySource(repo, known_stream_id=trust.stream_id), trust=trust)
    if report.findings:
        raise SystemExit(f"the record does not hold: {report.findings[0].why}")
    return report


def structure(repo: Repository, state: StateHome) -> Report:
    """Verify with every signature of an entry taken as good."""
    # A plain function: a mock's own bookkeeping would be a third of what is measured.
    with mock.patch("agentgov.ledger.keyring.verify_signature", new=_take_as_good):
        return verified(repo, state)


def _take_as_good(*_args: object, **_names: object) -> None: ...


def measure(folder: Path, entries: int, rounds: int) -> dict[str, list[float]]:
    """Make a record and time each part of checking it."""
    root = folder / f"repo{entries}"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    git(root, *who, "commit", "-q", "--allow-empty", "-m", "base")
    repo, state = discover(root), StateHome(folder / f"state{entries}")
    make_record(repo, state, entries)
    with Stream.open(repo, state, clock=SystemClock(), random=os.urandom, create=False) as stream:
        signed: Sequence[SignedEntry] = list(stream.entries())
    # Any key does for the cost; the verifier's own run over the record uses the real ones.
    private = PrivateKey(os.urandom(32))
    pairs = [
        (message, private.sign(message))
        for item in signed[:2000]
        for message in [pae(PAYLOAD_TYPE, item.line)]
    ]

    def hash_lines() -> None:
        for item in signed:
            hashlib.sha256(b"\0" + item.line).digest()

    def check_signatures() -> float:
        def check() -> None:
            for message, signature in pairs:
                verify_ed25519(private.public_key, signature, message)

        return timed(check) * len(signed) / len(pairs)

    sides: dict[str, Callable[[], float]] = {
        LINES: lambda: timed(hash_lines),
        SIGNATURES: check_signatures,
        STRUCTURE: lambda: timed(lambda: structure(repo, state)),
        WHOLE: lambda: timed(lambda: verified(repo, state)),
    }
    times = alternate(rounds, sides)
    print_times(f"a record of {len(signed):,} entries", times, SIGNATURES)
    return {name: [value / len(signed) for value in values] for name, values in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=2_000 if is_quick() else 20_000)
    parser.add_argument("--rounds", type=int, default=3 if is_quick() else 5)
    args = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory(prefix="agv-") as name:
        measure(Path(name), args.entries // 4, args.rounds)
        each = measure(Path(name), args.entries, args.rounds)
    # Milliseconds per entry are kiloseconds per million.
    for what, most in ((STRUCTURE, STRUCTURE_SECONDS), (WHOLE, WHOLE_SECONDS)):
        print_budget(
            f"{what}, 1,000,000 entries, one core, extrapolated:", median(each[what]) * 1000, most, "s"
        )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
