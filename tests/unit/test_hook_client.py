"""The hook client: what it imports, what it says, and that every failure is a failure."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agentgov.harness import wire
from agentgov.harness.capture.claude import HOOK_CLIENT

ALLOWED_MODULES = {"__main__", "builtins", "sys", "posix", "_socket"}


def run_client(
    path: Path, event: bytes = b"{}", *flags: str, pid: str = str(os.getpid())
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, *flags, "-I", "-S", str(HOOK_CLIENT), str(path), pid, "claude", "PreToolUse"]
    return subprocess.run(command, input=event, capture_output=True, check=False)


class OneAnswer:
    """A server that takes one request and sends given bytes."""

    def __init__(self, path: Path, answer: bytes) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(8)
        self.request: wire.Request | None = None
        self._answer = answer
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self.listener.accept()
        raw = b""
        while (request := wire.parse_request(raw)) is None:
            raw += connection.recv(65536)
        self.request = request
        connection.sendall(self._answer)
        connection.close()

    def join(self) -> None:
        self._thread.join()
        self.listener.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def test_the_client_imports_nothing_beyond_the_interpreter_itself(path: Path) -> None:
    probe = (
        "import sys; before = set(sys.modules); sys.argv[:] = ['c']; path = sys.orig_argv[-1]\n"
        "exec(compile(open(path).read().replace('__main__', 'no'), path, 'exec'))\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-I", "-S", "-c", probe, str(HOOK_CLIENT)]
    added = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert set(added) <= ALLOWED_MODULES


def test_an_event_reaches_the_recorder_and_the_answer_the_agent(path: Path) -> None:
    event = b'{"x": "' + b"y" * 300_000 + b'"}'
    server = OneAnswer(path, wire.encode_answer(7, b"out", b"err"))
    done = run_client(path, event)
    server.join()
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out", b"err")
    assert server.request == wire.Request("hook", "claude", "PreToolUse", event)


def test_an_allowed_call_prints_nothing(path: Path) -> None:
    server = OneAnswer(path, wire.encode_answer(0))
    done = run_client(path)
    server.join()
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("answer", [b"", b"0 0", b"0 5 0\nabc", b"nonsense\n", b"0 0 0\nextra"])
def test_a_broken_answer_is_a_failure_with_a_reason(path: Path, answer: bytes) -> None:
    server = OneAnswer(path, answer)
    done = run_client(path)
    server.join()
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.startswith(b"agentgov:")


def test_no_recorder_is_a_failure_with_a_reason(path: Path) -> None:
    done = run_client(path)
    assert done.returncode == 1
    assert done.stderr.startswith(b"agentgov: the recorder did not answer")


def test_a_socket_of_another_process_is_not_believed(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        done = run_client(path, pid="1")
    assert done.returncode == 1
    assert b"another process" in done.stderr
