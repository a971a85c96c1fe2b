"""What the redaction funnel costs on text as agents make it, beside the least that looking through it costs.

    floor        the text in small letters, and one search for one word that is not in it
    patterns     the curated patterns alone
    5, 20, 60    the same with as many secrets from the environment, in all their spellings

The text is what agents read and print: source code, a build's log, JSON of tool calls, a diff, object ids.
The adversarial part repeats the keywords: the work must stay linear, so twice the text may not cost much more
than twice the time.

    python -m bench.redaction [--megabytes 16]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from agentgov.ledger.redaction import Redactor
from bench._common import ROOT, is_quick, median, print_machine

BUDGET_MB_PER_SECOND = 20.0
ROUNDS = 5
_PROSE = (
    "the build finished with warnings in module parser returned expected value for request while compiling"
)


def text_of(size: int) -> bytes:
    """Return `size` bytes of code, logs, JSON, diffs and ids."""
    rng = random.Random(7)
    words = _PROSE.split()
    code = b"\n".join(path.read_bytes() for path in sorted(Path(ROOT).glob("[a-z]*/*.py")))
    parts: list[bytes] = []
    total = 0
    while total < size:
        at = rng.randrange(max(1, len(code) - 8000))
        piece = code[at : at + 8000]
        kind = rng.randrange(4)
        if kind == 0:
            lines = (" ".join(rng.choices(words, k=12)) for _ in range(90))
            piece = "\n".join(f"[{n:>4}/900] {line}" for n, line in enumerate(lines)).encode()
        elif kind == 1:
            call = {
                "tool": "Bash",
                "output": piece.decode("utf-8", "replace"),
                "id": f"{rng.getrandbits(160):040x}",
            }
            piece = json.dumps(call).encode()
        elif kind == 2:
            piece = b"index %040x..%040x\n" % (rng.getrandbits(160), rng.getrandbits(160)) + piece
        parts.append(piece)
        total += len(piece)
    return b"\n".join(parts)[:size]


def environment(count: int) -> dict[str, str]:
    """Return so many variables with secrets."""
    rng = random.Random(11)
    alphabet = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789-_/+"
    return {f"SERVICE_{n}_TOKEN": "".join(rng.choices(alphabet, k=40)) for n in range(count)}


def adversarial(size: int) -> bytes:
    """Return text that is almost a secret everywhere."""
    pieces = [
        b"password=",
        b"-----BEGIN RSA PRIVATE KEY-----\n",
        b"eyJ",
        b"://a:",
        b"token: ",
        b"sk-",
        b"curl -u ",
    ]
    return b"".join(pieces * (size // sum(map(len, pieces)) + 1))[:size]


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Return the median time of a piece of work, in processor seconds of this process."""
    figures = []
    for _ in range(rounds):
        begin = time.process_time()
        work()
        figures.append(time.process_time() - begin)
    return median(figures)


def main() -> int:
    """Measure and print; 1 when a budget is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=2 if is_quick() else 16)
    size = parser.parse_args().megabytes * 1_000_000
    rounds = 3 if is_quick() else ROUNDS
    print_machine()
    text = text_of(size)
    floor = seconds(lambda: (text.lower(), text.find(b"no such word")), rounds)
    print(f"{'':14}{'MB/s':>8}  times the floor")
    print(f"{'floor':14}{size / 1e6 / floor:8.0f}")
    missed = False
    for count in (0, 5, 20, 60):
        redactor = Redactor(environment(count))
        redactor.redact(text[:1000])
        took = seconds(lambda: redactor.redact(text), rounds)  # noqa: B023 (called at once)
        speed = size / 1e6 / took
        name = "patterns" if count == 0 else f"{count} secrets"
        print(f"{name:14}{speed:8.1f}  {took / floor:8.0f}")
        missed = missed or (count in (0, 5) and speed < BUDGET_MB_PER_SECOND)
    small, large = size // 16, size // 8
    first = seconds(lambda: Redactor().redact(adversarial(small)), rounds)
    second = seconds(lambda: Redactor().redact(adversarial(large)), rounds)
    print(f"almost secrets {small / 1e6 / first:.1f} MB/s, twice as much takes {second / first:.1f} times")
    missed = missed or second / first > 3
    print(
        f"budget {BUDGET_MB_PER_SECOND:.0f} MB/s, alone and with 5 secrets: {'MISSED' if missed else 'kept'}"
    )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
