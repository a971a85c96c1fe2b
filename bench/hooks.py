"""What agentgov adds to a tool call of the real Claude Code, from one model request to the next.

Four Claudes live at once, each in its own copy of the same repository, and take steps in turns: a scripted
model holds the reply of each until it is that one's turn, in another order each round. So all of them meet
the same machine. A step's time runs from the reply that asks for the call to the request that brings its
result; between two steps the model "thinks" for a while, as a real one does (a thousand times longer).

    no hooks            Claude alone
    /bin/true           the same with ``/bin/true`` before and after each call: the baseline
    client, no recorder the same with agentgov's hook line against a socket that says yes to everything
    agentgov run        the product: judged, recorded, signed, on disk, with a snapshot before and after

Half of the calls change nothing, half change one file; they are reported apart. A negative difference would
be a fault of the bench: see that the model server sends headers and body at once, with TCP_NODELAY.

    python -m bench.hooks [--files 10000] [--steps 120] [--think 0.05]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentgov.harness.capture.base import CaptureContext
from agentgov.harness.capture.claude import hook_command
from agentgov.harness.startup import find_timeout, hook_python
from bench._common import (
    ROOT,
    agentgov_command,
    is_quick,
    make_old,
    make_tree,
    median,
    print_budget,
    print_machine,
    print_times,
    sealed_env,
)
from tests.model_server import Call, ModelServer, Query, Turn

AGENTS_BIN = ROOT / ".agents" / "node_modules" / ".bin"
WARM_UP_STEPS = 6
BASELINE, PRODUCT, CLIENT = "/bin/true hooks", "agentgov run", "client, no recorder"
KINDS = ("a call that changes nothing", "a call that changes one file")
BUDGET_MS = 40.0


@dataclass
class Lane:
    """One Claude.

    Attributes:
        name: What is measured.
        key: What its conversation is found by.
        repo: Its copy of the repository.
        arrived: When the request of each step came in.
        released: When the reply of each step left.
    """

    name: str
    key: str
    repo: Path
    arrived: list[float] = field(default_factory=list)
    released: list[float] = field(default_factory=list)

    def times(self, kind: int) -> list[float]:
        """Milliseconds of the steps of one kind, without those that warm up."""
        spans = [(b - a) * 1000 for a, b in zip(self.released, self.arrived[1:], strict=False)]
        return [span for step, span in enumerate(spans) if step >= WARM_UP_STEPS and step % 2 == kind]


class TurnTaking(ModelServer):
    """A model that lets one of several conversations take its step at a time."""

    def take_turns(self, lanes: Sequence[Lane], think_seconds: float) -> None:
        """Say who takes part; call it before anything asks."""
        self._lanes = {lane.key: lane for lane in lanes}
        self._think_seconds = think_seconds
        self._rng = random.Random(11)
        self._round: list[str] = []
        self._changed = threading.Condition()
        self._running: str | None = None
        self._waiting: set[str] = set()
        self._over: set[str] = set()

    def answer(self, path: str, headers: Mapping[str, str], raw_body: Any) -> tuple[int, str, bytes]:
        """Answer when it is this conversation's turn."""
        now = time.monotonic()
        key = self._key_in(path, raw_body)
        if key is None:
            return super().answer(path, headers, raw_body)
        lane = self._lanes[key]
        with self._changed:
            lane.arrived.append(now)
            if len(lane.arrived) > len(self.script[key]):
                self._over.add(key)
            if self._running == key:
                self._running = None
            self._waiting.add(key)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_turn_of(key))
            self._waiting.discard(key)
            self._running = None if key in self._over else key
            self._changed.notify_all()
        time.sleep(self._think_seconds)
        # The script's turn is found by the number of assistant turns; a request is never repeated here.
        lane.released.append(time.monotonic())
        return super().answer(path, headers, raw_body)

    def gone(self, key: str) -> None:
        """Go on without a lane whose agent has ended."""
        with self._changed:
            self._over.add(key)
            if self._running == key:
                self._running = None
            self._changed.notify_all()

    def _key_in(self, path: str, raw_body: Any) -> str | None:
        wire = next((wire for wire in self.wires if wire.is_for(path)), None)
        query: Query | None = None if wire is None else wire.parse_query(raw_body)
        return None if query is None else self.key_of(query)

    def _is_turn_of(self, key: str) -> bool:
        if key in self._over:
            return True
        if self._running is not None or not set(self._lanes) - self._over <= self._waiting:
            return False
        if not set(self._round) - self._over:
            self._round = sorted(self._lanes)
            self._rng.shuffle(self._round)
        self._round = [name for name in self._round if name not in self._over]
        if self._round[0] != key:
            return False
        self._round.pop(0)
        return True


class YesServer:
    """A recorder that only says yes: what is left is the cost of the client."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1024)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                data = connection.recv(1 << 16)
                head, _, rest = data.partition(b"\n")
                missing = int(head.split(b" ")[4]) - len(rest)
                while missing > 0:
                    missing -= len(connection.recv(1 << 16))
                connection.sendall(b"0 0 0\n")


def hooked_settings(before: str, after: str) -> dict[str, Any]:
    """Return settings with one hook before and one after each call."""
    groups = {
        event: [{"matcher": "*", "hooks": [{"type": "command", "command": command}]}]
        for event, command in (("PreToolUse", before), ("PostToolUse", after))
    }
    return {"hooks": groups}


def client_settings(socket_path: Path, repo: Path, env: Mapping[str, str]) -> dict[str, Any]:
    """Return settings with agentgov's own hook lines, for another socket."""
    context = CaptureContext(
        socket=socket_path,
        recorder_pid=os.getpid(),
        private_dir=repo,
        python=hook_python(),
        timeout_program=find_timeout(env),
        hook_timeout_seconds=630,
        cwd=repo,
        env=env,
    )
    lines = [hook_command("claude", context, event, 630) for event in ("PreToolUse", "PostToolUse")]
    return hooked_settings(*lines)


def start(lane: Lane, folder: Path, server: ModelServer, yes: YesServer) -> subprocess.Popen[bytes]:
    """Start one Claude."""
    home = folder / f"home-{lane.key}"
    env = sealed_env(
        home,
        PATH=f"{AGENTS_BIN}{os.pathsep}{os.environ['PATH']}",
        ANTHROPIC_BASE_URL=server.url,
        ANTHROPIC_API_KEY="sk-ant-bench",
        CLAUDE_CONFIG_DIR=str(home / "claude"),
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
    )
    settings: dict[str, Any] = {"permissions": {"allow": ["Bash"]}}
    if lane.name == BASELINE:
        settings |= hooked_settings("/bin/true", "/bin/true")
    elif lane.name == CLIENT:
        settings |= client_settings(yes.path, lane.repo, env)
    argv = ["claude", "-p", f"{lane.key} go", "--output-format", "stream-json", "--verbose"]
    argv += ["--settings", json.dumps(settings)]
    if lane.name == PRODUCT:
        argv = agentgov_command("run", "--workspace", "in-place", "--", *argv)
    log = (folder / f"log-{lane.key}").open("wb")
    return subprocess.Popen(
        argv, cwd=lane.repo, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
    )


def script(steps: int, files: Sequence[Path]) -> list[Turn]:
    """Return calls that change nothing and calls that change one file, in turns."""
    rng = random.Random(3)
    turns = []
    for step in range(steps + WARM_UP_STEPS):
        path = rng.choice(files)
        command = f"echo '# edit {step}' >> {path}" if step % 2 else f"head -n 1 {path}"
        turns.append(Turn(calls=[Call("Bash", {"command": command})]))
    return turns


def measure(folder: Path, files: int, steps: int, think_seconds: float) -> list[Lane]:
    """Let all Claudes play the script."""
    origin = folder / "origin"
    origin.mkdir()
    paths = [path.relative_to(origin) for path in make_tree(origin, files)]
    lanes = []
    for number, name in enumerate(["no hooks", BASELINE, CLIENT, PRODUCT]):
        repo = folder / f"lane{number}"
        shutil.copytree(origin, repo, symlinks=True)
        make_old([repo / path for path in paths])
        lanes.append(Lane(name, f"LANE{number}KEY", repo))
    turns = script(steps, paths)
    yes = YesServer(folder / "yes.sock")
    with TurnTaking({lane.key: turns for lane in lanes}) as server:
        server.take_turns(lanes, think_seconds)
        processes = [(lane, start(lane, folder, server, yes)) for lane in lanes]
        failed = wait_for_all(processes, server, len(turns) + 1)
    for lane in failed:
        sys.stderr.write((folder / f"log-{lane.key}").read_text(errors="replace")[-3000:])
    if failed:
        raise SystemExit(f"not every step was taken: {', '.join(lane.name for lane in failed)}")
    return lanes


def wait_for_all(
    processes: Sequence[tuple[Lane, subprocess.Popen[bytes]]], server: TurnTaking, requests: int
) -> list[Lane]:
    """Wait until every Claude is done; return the lanes that failed, after ending the rest."""
    left = list(processes)
    while left:
        time.sleep(0.1)
        for lane, process in list(left):
            if process.poll() is None:
                continue
            left.remove((lane, process))
            server.gone(lane.key)
            if process.returncode != 0 or len(lane.arrived) != requests:
                for _, other in left:
                    other.terminate()
                    other.wait()
                return [lane]
    return []


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=1_000 if is_quick() else 10_000)
    parser.add_argument("--steps", type=int, default=24 if is_quick() else 160)
    parser.add_argument("--think", type=float, default=0.05, help="seconds before each reply")
    args = parser.parse_args()
    if shutil.which("claude", path=str(AGENTS_BIN)) is None:
        print("SKIPPED: Claude Code is not installed, so NO figure for a hooked call (make agents)")
        return
    print_machine()
    with tempfile.TemporaryDirectory(prefix="agh-") as name:
        lanes = measure(Path(name), args.files, args.steps, args.think)
    for kind, title in enumerate(KINDS):
        times = {lane.name: lane.times(kind) for lane in lanes}
        print_times(f"{title}, {args.files:,} files", times, BASELINE)
        more = median(times[PRODUCT]) - median(times[BASELINE])
        print_budget(f"p50 over {BASELINE}", more, BUDGET_MS, "ms")


if __name__ == "__main__":
    main()
