"""How long a search takes in a record of 1,000,000 entries, beside `grep` over the same texts in one file.

The index is filled as the record would fill it: half a million calls with their results, in runs of 1,000
calls, with the words of real commands. The time to make it from nothing is printed too: it is paid once, and
afterwards only for what is new.

    python -m bench.search [--entries 1000000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentgov.ids import RunId
from agentgov.ledger.entry import Entry
from agentgov.report.search import Query, find_calls, find_runs
from agentgov.report.search_tables import FORM, TABLES, Tables
from bench._common import alternate, is_quick, median, print_budget, print_machine, print_times, timed

RUN_CALLS = 1000
BUDGET_MS = 1000.0
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
COMMANDS = (
    "pytest -q tests/unit/test_{}.py -k {}",
    "git diff --stat HEAD~{} -- src/{}.py",
    "sed -n '{},200p' src/module_{}.py",
    "npm run build --workspace packages/{}-{}",
    "rg -n 'class Widget{}' --type py src/{}",
)
FLOOR = "grep in a file"
QUERIES = {
    "a rare word": Query(text="widget4711"),
    "a common word": Query(text="pytest"),
    "a regular expression": Query(pattern=r"module_\d+7\.py"),
    "denied": Query(denied=True),
    "a path": Query(path="src/file_77.py"),
    "tool, agent, time": Query(tool="Edit", agent="claude", since_us=10**15),
    "nothing found": Query(text="no such text anywhere"),
}


class Made:
    """Payloads made up from their commitment."""

    def get(self, run: RunId, digest: str) -> Any:
        number = int(digest, 16)
        if digest[0] == "c":
            files = [
                {"path": f"src/file_{number % 5000}.py", "status": "M", "hunks": [[1, 1, 1, 2]], "calls": []}
            ]
            value: dict[str, Any] = {"v": 1, "files": files}
        else:
            command = COMMANDS[number % len(COMMANDS)].format(number % 9973, number % 811)
            value = {
                "tool": ("Bash", "Edit", "Read")[number % 3],
                "what": command,
                "input": {"command": command},
            }
        return type("Payload", (), {"value": json.dumps(value).encode()})


def run_id(number: int) -> RunId:
    """Return a run's id for its number."""
    return RunId("".join(ALPHABET[number >> shift & 31] for shift in (20, 15, 10, 5, 0)))


def fill(database: sqlite3.Connection, entries: int) -> list[str]:
    """Fill the tables as a record of that many entries would; return the texts that can be searched."""
    for statement in TABLES.strip().rstrip(";").split(";\n"):
        database.execute(statement)
    database.execute("INSERT INTO form VALUES (?)", (FORM,))
    tables, rng = Tables(database, Made()), random.Random(7)
    database.execute("BEGIN")
    verdicts = ["allow"] * 99 + ["deny"]
    for number in range(entries // 2):
        run, n = run_id(number // RUN_CALLS), number % RUN_CALLS + 1
        step = {"n": n, "from": "a" * 40, "how": "incremental", "open": [n], "tree": "b" * 40}
        args, changes = f"a{rng.getrandbits(248):063x}"[:64], f"c{rng.getrandbits(248):063x}"[:64]
        verdict = {"decision": verdicts[number % 100], "policy": "d" * 64, "rules": []}
        request = {**step, "actor": 0, "args": args, "changes": None, "tool": "Bash", "verdict": verdict}
        result = {**step, "changes": changes, "output": None, "status": "ok", "took_us": 5}
        for seq, kind, body in (
            (2 * number, "call.request", request),
            (2 * number + 1, "call.result", result),
        ):
            tables.take(run, Entry(seq, "0" * 64, "agentgov/x", kind, 10**15 + seq, run, 1, body))
    database.execute("COMMIT")
    return [text for (text,) in database.execute("SELECT text FROM said")]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=100_000 if is_quick() else 1_000_000)
    parser.add_argument("--rounds", type=int, default=3 if is_quick() else 5)
    options = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = sqlite3.connect(folder / "search.db", isolation_level=None)
        database.execute("PRAGMA synchronous = OFF")
        began = time.perf_counter()
        texts = fill(database, options.entries)
        took = time.perf_counter() - began
        size = (folder / "search.db").stat().st_size
        print(
            f"{options.entries} entries indexed in {took:.1f} s, {took / options.entries * 1e6:.0f} us each"
        )
        print(f"{size / 2**20:.0f} MiB on disk\n")
        (folder / "texts").write_text("\n".join(text.replace("\n", " ") for text in texts))
        database.close()

        def grep() -> float:
            words = ["grep", "-c", "widget4711", str(folder / "texts")]
            return timed(lambda: subprocess.run(words, stdout=subprocess.DEVNULL, check=False))

        def side(query: Query) -> Callable[[], float]:
            def search() -> None:
                # A new connection each time: a command finds nothing of its own in memory.
                with sqlite3.connect(folder / "search.db") as opened:
                    find_calls(opened, query, 21)

            return lambda: timed(search)

        def runs() -> None:
            with sqlite3.connect(folder / "search.db") as opened:
                find_runs(opened, Query(), 20, lambda _: False)

        sides = {FLOOR: grep, "the last 20 runs": lambda: timed(runs)}
        sides |= {title: side(query) for title, query in QUERIES.items()}
        times = alternate(options.rounds, sides)
        print_times(f"a search in {options.entries} entries", times, FLOOR)
        print_budget("slowest search", max(median(times[title]) for title in QUERIES), BUDGET_MS, "ms")


if __name__ == "__main__":
    main()
