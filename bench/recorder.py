"""The hook client alone against a live recorder: no Claude, no model, only what a hook waits for.

A stand-in named ``claude`` runs under ``agentgov run``, reads the hook lines that were injected for it, and
times, in turns, a call's two hooks together:

    /bin/true       ``sh -c /bin/true`` twice: the baseline
    hook line       the injected lines, run by ``sh -c`` as Claude runs them
    recorder alone  the same events over the socket, from a process that is running already

Between two calls the recorder gets time to finish its own work, as it has while a model thinks. Then many
hook clients are started at once: how long they wait, beside as many ``/bin/true``.

    python -m bench.recorder [--files 10000] [--rounds 150] [--crowd 300]
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agentgov.harness.wire import Request, encode_request, parse_answer
from bench._common import (
    ROOT,
    agentgov_command,
    alternate,
    is_quick,
    make_old,
    make_tree,
    print_machine,
    print_times,
    sealed_env,
)

STAND_IN = """#!/bin/sh
case "$*" in *--version*) echo 0.0.1; exit;; esac
PYTHONPATH={root} exec {python} -m bench.recorder --stand-in {out} --rounds {rounds} --crowd {crowd} "$@"
"""
PAUSE_SECONDS = 0.03
BEFORE, AFTER = "PreToolUse", "PostToolUse"
BASELINE = "/bin/true"
Deliver = Callable[[str, bytes], None]


class Hooks:
    """The hooks of a settings file, run as an agent runs them."""

    def __init__(self, settings: Path) -> None:
        groups = json.loads(settings.read_text())["hooks"]
        self.lines = {event: groups[event][0]["hooks"][0]["command"] for event in (BEFORE, AFTER)}
        self.socket_path = next(word for word in shlex.split(self.lines[BEFORE]) if word.endswith(".sock"))
        self._number = 0

    def event(self, name: str, number: int) -> bytes:
        """Return one event's JSON, about as large as a real one."""
        fields: dict[str, Any] = {
            "session_id": "00000000-0000-4000-8000-000000000000",
            "transcript_path": "",
            "cwd": str(Path.cwd()),
            "permission_mode": "default",
            "hook_event_name": name,
            "tool_name": "Bash",
            "tool_input": {"command": f"echo '# edit {number}' >> notes.txt", "description": "one step"},
            "tool_use_id": f"toolu_{number:08d}",
        }
        if name == AFTER:
            fields["tool_response"] = {"stdout": "a line\n" * 80, "stderr": "", "interrupted": False}
        return json.dumps(fields).encode()

    def timed_call(self, deliver: Deliver, work: Callable[[int], None]) -> float:
        """Return how long both hooks of one call took, without the call itself, in milliseconds."""
        self._number += 1
        number, spent = self._number, 0.0
        for name in (BEFORE, AFTER):
            raw = self.event(name, number)
            began = time.perf_counter()
            deliver(name, raw)
            spent += time.perf_counter() - began
            if name == BEFORE:
                work(number)
        time.sleep(PAUSE_SECONDS)
        return spent * 1000

    def by_line(self, name: str, raw: bytes) -> None:
        """Run the injected line."""
        subprocess.run(["/bin/sh", "-c", self.lines[name]], input=raw, check=True)

    def by_true(self, name: str, raw: bytes) -> None:
        """Run ``/bin/true``."""
        subprocess.run(["/bin/sh", "-c", "/bin/true"], input=raw, check=True)

    def by_socket(self, name: str, raw: bytes) -> None:
        """Ask the recorder from this process."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.socket_path)
            connection.sendall(encode_request(Request("hook", "claude", name, raw)))
            answer = b""
            while chunk := connection.recv(1 << 16):
                answer += chunk
        code, _, err = parse_answer(answer)
        if code != 0:
            raise SystemExit(err.decode())

    def crowd(self, name: str, line: str, numbers: Sequence[int], folder: Path) -> list[float]:
        """Start one process per call at once; return how long each took, in milliseconds."""
        began: dict[int, float] = {}
        processes = []
        for number in numbers:
            path = folder / "event"
            path.write_bytes(self.event(name, number))
            with path.open("rb") as file:
                now = time.perf_counter()
                process = subprocess.Popen(["/bin/sh", "-c", line], stdin=file)
            path.unlink()
            began[process.pid] = now
            processes.append(process)
        times = []
        for _ in processes:
            pid, status = os.wait()
            times.append((time.perf_counter() - began[pid]) * 1000)
            if status != 0:
                raise SystemExit("a hook of the crowd failed")
        for process in processes:
            process.returncode = 0
        return times


def stand_in(out: Path, settings: Path, rounds: int, crowd: int) -> None:
    """Be the agent: measure, and write the times down."""
    hooks = Hooks(settings)

    def nothing(number: int) -> None:
        del number

    def one_file(number: int) -> None:
        with Path("notes.txt").open("a") as file:
            file.write(f"# edit {number}\n")

    sides: dict[str, Deliver] = {
        BASELINE: hooks.by_true,
        "hook line": hooks.by_line,
        "recorder alone": hooks.by_socket,
    }
    result: dict[str, dict[str, list[float]]] = {}
    for title, work in (
        ("both hooks of a call that changes nothing", nothing),
        ("both hooks of a call that changes one file", one_file),
    ):
        calls = {name: lambda d=deliver, w=work: hooks.timed_call(d, w) for name, deliver in sides.items()}
        alternate(3, calls)
        result[title] = alternate(rounds, calls)
    numbers = range(10_000_000, 10_000_000 + crowd)
    title = f"{crowd} hooks started at once, each"
    result[title] = {BASELINE: hooks.crowd(BEFORE, "/bin/true", numbers, out.parent)}
    for name, label in ((BEFORE, "before the calls"), (AFTER, "after the calls")):
        result[title][label] = hooks.crowd(name, hooks.lines[name], numbers, out.parent)
    out.write_text(json.dumps(result))


def measure(folder: Path, files: int, rounds: int, crowd: int) -> dict[str, dict[str, list[float]]]:
    """Run the stand-in under agentgov."""
    repo, bin_dir, out = folder / "repo", folder / "bin", folder / "times.json"
    repo.mkdir()
    bin_dir.mkdir()
    make_old(make_tree(repo, files))
    claude = bin_dir / "claude"
    claude.write_text(
        STAND_IN.format(
            root=shlex.quote(str(ROOT)),
            python=shlex.quote(sys.executable),
            out=shlex.quote(str(out)),
            rounds=rounds,
            crowd=crowd,
        )
    )
    claude.chmod(0o755)
    env = sealed_env(folder / "home")
    command = agentgov_command("run", "--workspace", "in-place", "--", str(claude))
    with (folder / "log").open("wb") as log:
        done = subprocess.run(command, cwd=repo, env=env, stdout=log, stderr=log, check=False)
    if done.returncode != 0:
        sys.stderr.write((folder / "log").read_text(errors="replace")[-3000:])
        raise SystemExit(f"agentgov run ended with {done.returncode}")
    times: dict[str, dict[str, list[float]]] = json.loads(out.read_text())
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=1_000 if is_quick() else 10_000)
    parser.add_argument("--rounds", type=int, default=15 if is_quick() else 150)
    parser.add_argument("--crowd", type=int, default=32 if is_quick() else 300)
    parser.add_argument("--stand-in", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--settings", type=Path, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stand_in is not None:
        stand_in(args.stand_in, args.settings, args.rounds, args.crowd)
        return
    print_machine()
    with tempfile.TemporaryDirectory(prefix="agh-") as name:
        times = measure(Path(name), args.files, args.rounds, args.crowd)
    for title, sides in times.items():
        print_times(title, sides, BASELINE)


if __name__ == "__main__":
    main()
