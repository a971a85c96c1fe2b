"""The command line as a person uses it, called in this process: what it printed, and its exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentgov.cli.app import main
from agentgov.harness import demo_agent


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on stdout; JSON on the command line is ASCII and versioned."""
        assert self.out.isascii()
        assert self.out.count("\n") == 1
        value = json.loads(self.out)
        assert value["v"] == 1
        return value

    @property
    def summary(self) -> Any:
        """The object that `run --json` printed on stderr."""
        value = json.loads(self.err)
        assert self.err.isascii()
        assert value["v"] == 1
        return value


class Cli:
    """Runs `agentgov ARGS` in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capture = capture

    def __call__(self, cwd: Path, *args: str | Path, code: int | None = 0) -> Said:
        self._monkeypatch.chdir(cwd)
        self._capture.readouterr()
        got = main([str(arg) for arg in args])
        out, err = self._capture.readouterr()
        if code is not None:
            assert got == code, f"agentgov {args}: {got}, not {code}\n{out}{err}"
        return Said(got, out, err)

    def shell(self, cwd: Path, script: str, *options: str, code: int | None = 0) -> str:
        """Run a shell script as an agent without hooks; returns the run's id."""
        said = self(cwd, "run", "--json", *options, "--", "sh", "-c", script, code=code)
        return str(json.loads(said.err.splitlines()[-1])["run"])

    def play(self, cwd: Path, steps: Sequence[Mapping[str, Any]], *options: str, code: int | None = 0) -> str:
        """Let the demonstration agent make calls through its hooks; returns the run's id."""
        said = self(cwd, "run", "--json", *options, *demo(cwd, steps), code=code)
        return str(json.loads(said.err.splitlines()[-1])["run"])


def demo(cwd: Path, steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """The arguments that run the demonstration agent; its script lies next to the repository."""
    script = cwd.parent / "script.json"
    script.write_text(json.dumps(steps))
    return ["--agent", "demo", "--", sys.executable, "-I", str(Path(demo_agent.__file__)), str(script)]


@pytest.fixture
def agentgov(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """The command line."""
    return Cli(monkeypatch, capfd)


def bash(command: str, agent: str | None = None) -> dict[str, Any]:
    """A call of a shell."""
    return {"tool": "Bash", "input": {"command": command}, **({} if agent is None else {"agent": agent})}


def write(path: str, content: str) -> dict[str, Any]:
    """A call that writes a file."""
    return {"tool": "Write", "input": {"file_path": path, "content": content}}
