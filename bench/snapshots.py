"""How long a snapshot takes, beside `git add -A` and `write-tree` on a persistent private index.

Both sides work on the same tree in the same run, alternately. Times are wall-clock milliseconds from the
moment the edit is done to the moment the tree's id is known; ours includes the watcher, ignore rules, blobs,
trees and the shadow commit with its ref, and, in the durable rows, all fsyncs. Between two snapshots the
store makes its next temporary files, as the recorder does while the agent works; that is not counted. Run it
on a quiet machine:

    python -m bench.snapshots [--sizes 1000,10000,100000] [--rounds 60] [--folder DIR] [--json]
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentgov.git import discover
from agentgov.ids import RunId
from agentgov.rollback.ignore import IgnoreRules
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.shadow import ShadowHistory
from agentgov.rollback.snapshot import Snapshotter, known_objects, tracked_paths
from bench._common import git, is_quick, make_old, make_tree, print_machine, summary, timed


class Ours:
    """A snapshotter with its own store and shadow history."""

    def __init__(self, root: Path, store_dir: Path, durable: bool, cache: Path | None) -> None:
        repo = discover(root)
        self.store = ObjectStore(store_dir, repo.objects_dir, repo.object_format, durable=durable)
        self.store.ensure()
        known = known_objects(repo.git(), repo.require_head_commit())
        self.snapshotter = Snapshotter(
            root,
            self.store,
            IgnoreRules.pin(root, repo),
            tracked=tracked_paths(repo.git(with_work_tree=True)),
            base_known=known,
            cache_path=cache,
        )
        self.shadow = ShadowHistory(self.store, RunId("bench"))
        self.tree = self.snapshotter.start().tree
        self.shadow.commit(self.tree, "start", 0)

    def take(self) -> None:
        """Take one snapshot and put it on the shadow history."""
        self.tree = self.snapshotter.take().tree
        self.shadow.commit(self.tree, "call", 0)

    def close(self) -> None:
        """Save the cache and release everything."""
        self.snapshotter.close()
        self.store.close()


def measure(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Measure one size."""
    root = folder / f"w{count}"
    root.mkdir()
    files = make_tree(root, count)
    make_old(files)
    time.sleep(0.1)
    result: dict[str, Any] = {"files": count}
    cache = folder / f"cache{count}"
    holder: list[Ours] = []
    result["start_first_ms"] = round(
        timed(lambda: holder.append(Ours(root, folder / f"a{count}.git", False, cache))), 1
    )
    fast = holder.pop()
    fast.close()
    result["start_again_ms"] = round(
        timed(lambda: holder.append(Ours(root, folder / f"a{count}.git", False, cache))), 1
    )
    fast = holder.pop()
    durable = Ours(root, folder / f"b{count}.git", True, None)
    index, objects = folder / f"index{count}", folder / f"objects{count}"
    objects.mkdir()
    git(root, "read-tree", "HEAD", index=index)
    private_rounds = max(5, min(rounds, 400_000 // count))

    def private() -> None:
        git(root, "add", "-A", index=index, objects=objects)
        git(root, "write-tree", index=index, objects=objects)

    private()
    rng = random.Random(7)
    one: list[float] = []
    one_durable: list[float] = []
    none: list[float] = []
    twenty: list[float] = []
    other: list[float] = []
    for number in range(rounds):
        edit(rng, files, 1, number)
        order: list[tuple[list[float], Callable[[], None]]] = [(one, fast.take), (one_durable, durable.take)]
        if number % 2:
            order.reverse()
        if number < private_rounds:
            order.insert(number % 3, (other, private))
        for times, action in order:
            times.append(timed(action))
        # As the recorder does while the agent works.
        fast.store.prepare()
        durable.store.prepare()
        none.append(timed(fast.take))
    for number in range(max(5, rounds // 4)):
        edit(rng, files, 20, number)
        twenty.append(timed(fast.take))
        durable.take()
    ours = git(root, "--git-dir", str(folder / f"a{count}.git"), "rev-parse", f"{fast.tree}^{{tree}}")
    private()
    theirs = git(root, "write-tree", index=index, objects=objects)
    result["same_tree_as_git"] = ours == theirs == durable.tree
    result["full_reconcile_ms"] = round(timed(lambda: fast.snapshotter.take(full=True)), 1)
    result["one_file"] = summary(one)
    result["one_file_durable"] = summary(one_durable)
    result["no_change"] = summary(none)
    result["twenty_files"] = summary(twenty)
    result["private_index_one_file"] = summary(other)
    result["times_faster"] = round(summary(other)["p50_ms"] / summary(one)["p50_ms"], 1)
    again = [sys.executable, "-m", "bench.snapshots"]
    command = [*again, "--memory-of", str(root), "--folder", str(folder / f"m{count}.git")]
    result["max_rss_mb"] = int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    fast.close()
    durable.close()
    return result


def edit(rng: random.Random, files: list[Path], count: int, number: int) -> None:
    """Change some files as an agent's edit does."""
    for path in rng.sample(files, count):
        with path.open("a") as file:
            file.write(f"# edit {number} {rng.random()}\n")


def main() -> None:
    """Measure each size in a process of its own and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="1000,10000" if is_quick() else "1000,10000,100000")
    parser.add_argument("--rounds", type=int, default=12 if is_quick() else 60)
    parser.add_argument("--folder", type=Path, default=None, help="where to work (a real disk, not tmpfs)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--memory-of", type=Path, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        ours = Ours(args.memory_of, args.folder, False, None)
        ours.take()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    sizes = [int(size) for size in args.sizes.split(",")]
    if len(sizes) == 1 and args.folder:
        show(measure(args.folder, sizes[0], args.rounds), args.json)
        return
    if not args.json:
        print_machine()
    # One folder for all, so that nothing is deleted between the sizes; one process per size: the peak of
    # memory is then that size's own.
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        for size in sizes:
            own = [f"--sizes={size}", f"--rounds={args.rounds}", f"--folder={name}"]
            own += ["--json"] if args.json else []
            subprocess.run([sys.executable, "-m", "bench.snapshots", *own], check=True)


def show(result: dict[str, Any], as_json: bool) -> None:
    """Print one size's figures."""
    if as_json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key:26} {value}")
    print(flush=True)


if __name__ == "__main__":
    main()
