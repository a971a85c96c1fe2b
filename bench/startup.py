"""How long a command takes to say something, beside an interpreter that does nothing.

    agentgov --help   every command's first line; imports no command
    agentgov log      in a repository with a record of a few runs
    agentgov status   the same
    import typer      the command-line library alone: what is left after it is agentgov's own

In turns, in another order each round, with byte code on disk as after an installation.

    python -m bench.startup [--rounds 60] [--runs 5]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench._common import (
    agentgov_command,
    alternate,
    is_quick,
    make_tree,
    median,
    print_budget,
    print_machine,
    print_times,
    sealed_env,
    timed,
)

BASELINE, HELP = "python -c pass", "agentgov --help"
BUDGET_MS = 150.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=8 if is_quick() else 60)
    parser.add_argument("--runs", type=int, default=1 if is_quick() else 5)
    args = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory(prefix="ags-") as name:
        folder = Path(name)
        repo, env = folder / "repo", sealed_env(folder / "home")
        repo.mkdir()
        make_tree(repo, 100)

        def run(command: Sequence[str]) -> None:
            subprocess.run(command, cwd=repo, env=env, check=True, stdout=subprocess.DEVNULL, stderr=log)

        def side(command: Sequence[str]) -> Callable[[], float]:
            return lambda: timed(lambda: run(command))

        with (folder / "log").open("wb") as log:
            for number in range(args.runs):
                script = f"echo '# {number}' >> src/file0.py"
                run(agentgov_command("run", "--workspace", "in-place", "--", "sh", "-c", script))
            sides: Mapping[str, Callable[[], float]] = {
                BASELINE: side([sys.executable, "-c", "pass"]),
                "python -c 'import typer'": side([sys.executable, "-c", "import typer"]),
                HELP: side(agentgov_command("--help")),
                f"agentgov log ({args.runs} runs)": side(agentgov_command("log")),
                "agentgov status": side(agentgov_command("status")),
            }
            alternate(2, sides)
            times = alternate(args.rounds, sides)
    print_times("wall time of a command", times, BASELINE)
    print_budget(f"{HELP} over {BASELINE}", median(times[HELP]) - median(times[BASELINE]), BUDGET_MS, "ms")


if __name__ == "__main__":
    main()
