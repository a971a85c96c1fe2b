"""What the benches share: trees to work on, a sealed environment, medians, and how figures are printed.

Rules kept here:
- Every figure stands beside a baseline that was measured in the same run, in turns with it: the ratio and the
  difference mean something on a busy machine too, a bare time does not.
- Medians, never means; the 95th percentile beside them shows what the machine did meanwhile.
- What is measured runs as it does for a user: with byte code on disk, without this process's ``PYTHON*`` and
  ``GIT_*`` variables, with a home folder of its own.
"""

from __future__ import annotations

import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FILES_PER_FOLDER = 25
FOLDERS_PER_FOLDER = 12
PERSON = "[user]\n\tname = Bench\n\temail = bench@localhost\n[gc]\n\tauto = 0\n"


def is_quick() -> bool:
    """Whether only a short run is wanted: it shows that the bench works, its figures are rough."""
    return os.environ.get("BENCH_QUICK", "") not in ("", "0")


def make_tree(root: Path, count: int) -> list[Path]:
    """Make a committed, packed repository with `count` files of 200 to 6,000 bytes, a few folders deep.

    The objects go straight into a pack: a file system that has just deleted 100,000 loose objects (ext4 keeps
    away from recently freed inodes) creates every file slowly for minutes.
    """
    rng = random.Random(count)
    files: list[Path] = []
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "gc.auto", "0")
    git(root, "config", "maintenance.auto", "false")
    importer = subprocess.Popen(["git", "-C", str(root), "fast-import", "--quiet"], stdin=subprocess.PIPE)
    assert importer.stdin is not None
    pipe = importer.stdin
    pipe.write(b"commit refs/heads/main\ncommitter bench <bench@localhost> 1700000000 +0000\ndata 4\nbase\n")

    def add(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        name = path.relative_to(root)
        pipe.write(f"M 100644 inline {name}\ndata {len(text)}\n{text}\n".encode())

    for number in range(count):
        folder = number // FILES_PER_FOLDER
        parts = []
        while folder:
            parts.append(f"d{folder % FOLDERS_PER_FOLDER}")
            folder //= FOLDERS_PER_FOLDER
        path = root.joinpath("src", *reversed(parts), f"file{number}.py")
        lines = [f"value_{number}_{i} = {rng.random()}\n" for i in range(rng.randint(6, 170))]
        add(path, "".join(lines))
        files.append(path)
    add(root / ".gitignore", "*.pyc\nbuild/\nnode_modules/\n.venv/\n*.log\n")
    pipe.close()
    if importer.wait() != 0:
        raise SystemExit("git fast-import failed")
    git(root, "read-tree", "HEAD")
    git(root, "update-index", "-q", "--refresh")
    return files


def make_old(files: Sequence[Path]) -> None:
    """Give files the age that a user's have: those as new as a snapshot are read twice, by design."""
    past = time.time() - 3600
    for file in files:
        os.utime(file, (past, past))


def git(root: Path, *args: str, index: Path | None = None, objects: Path | None = None) -> str:
    """Run git, with an index and an object folder of one's own where they are named."""
    env = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    if index is not None:
        env["GIT_INDEX_FILE"] = str(index)
    if objects is not None:
        env["GIT_OBJECT_DIRECTORY"] = str(objects)
        env["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = str(root / ".git" / "objects")
    done = subprocess.run(["git", "-C", str(root), *args], env=env, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode().strip()


def sealed_env(home: Path, **more: str) -> dict[str, str]:
    """Return an environment with a home of its own, made here, and nothing that steers Python or git."""
    home.mkdir(parents=True, exist_ok=True)
    (home / ".gitconfig").write_text(PERSON)
    foreign = ("PYTHON", "GIT_", "XDG_", "AGENTGOV_", "CLAUDE", "ANTHROPIC_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8", **more}


def agentgov_command(*args: str) -> list[str]:
    """Return the command line of the installed ``agentgov``."""
    script = Path(sys.executable).with_name("agentgov")
    return [str(script), *args] if script.exists() else [sys.executable, "-m", "agentgov", *args]


def timed(action: Callable[[], Any]) -> float:
    """Return the wall time of one call in milliseconds."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def percentile(times: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the times lie."""
    ranked = sorted(times)
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))]


def median(times: Sequence[float]) -> float:
    """Return the p50."""
    return percentile(times, 0.5)


def summary(times: Sequence[float]) -> dict[str, float]:
    """Return the p50 and p95 of some times."""
    return {"p50_ms": round(percentile(times, 0.5), 3), "p95_ms": round(percentile(times, 0.95), 3)}


def alternate(rounds: int, sides: Mapping[str, Callable[[], float]], seed: int = 7) -> dict[str, list[float]]:
    """Measure several things in turns, in another order each round.

    Args:
        rounds: How often.
        sides: What to measure; each returns its time.
        seed: Of the order.
    """
    rng = random.Random(seed)
    names = list(sides)
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        rng.shuffle(names)
        for name in names:
            times[name].append(sides[name]())
    return times


def print_machine() -> None:
    """Say where this was measured, and how busy it was."""
    version = git(ROOT, "version").split()[2]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    quick = "; BENCH_QUICK: rough" if is_quick() else ""
    print(
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, git {version}, load {load}{quick}"
    )


def print_times(title: str, times: Mapping[str, Sequence[float]], baseline: str, unit: str = "ms") -> None:
    """Print medians with their difference from, and ratio to, the baseline."""
    print(f"\n{title}")
    print(f"  {'':34}{'n':>5}{'p50 ' + unit:>11}{'p95':>10}{'more':>10}{'ratio':>8}")
    floor = median(times[baseline])
    for name, values in times.items():
        more = "" if name == baseline else f"{median(values) - floor:+.1f}"
        ratio = "" if name == baseline else f"{median(values) / floor:.2f}"
        print(
            f"  {name:34}{len(values):>5}{median(values):>11.1f}{percentile(values, 0.95):>10.1f}"
            f"{more:>10}{ratio:>8}"
        )
    sys.stdout.flush()


def print_budget(what: str, value: float, most: float, unit: str) -> None:
    """Print a figure beside its budget."""
    verdict = "met" if value <= most else "NOT met"
    print(f"  budget: {what} {value:,.1f} {unit}, at most {most:,g} {unit}: {verdict}", flush=True)
