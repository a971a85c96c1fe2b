"""A process that holds a private key keeps others of the same user out of its memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentgov.memory import core_limit

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
READY = "print('ready', flush=True); input()"
NOBODY = 65534
# Becomes an ordinary user where the tests run as root, who may read everything. Changing the user closes a
# process by itself: it is opened again, as any other program's.
DROP = f"""
import ctypes, os
import agentgov.ledger.keys, cryptography.hazmat.primitives.asymmetric.ed25519
if os.geteuid() == 0:
    os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
"""
# Each line makes a process hold a private key in one of the ways there are.
HOLDERS = {
    "a session key": "from agentgov.ledger.signing import PrivateKey; key = PrivateKey(bytes(range(32)))",
    "a new log key": (
        "import sys, os; from pathlib import Path; from agentgov.ledger.keys import KeyFolder;"
        "key = KeyFolder(Path(sys.argv[1])).create_key(os.urandom)"
    ),
    "the log key": (
        "import sys; from pathlib import Path; from agentgov.ledger.keys import KeyFolder;"
        "key = KeyFolder(Path(sys.argv[2])).load_key()"
    ),
}
SPY = """
import sys
for name in ("mem", "environ", "maps"):
    try:
        with open(f"/proc/{sys.argv[1]}/{name}", "rb") as file:
            if name != "mem":
                file.read(1)
        print(name)
    except PermissionError:
        pass
"""


@contextmanager
def holder(code: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", f"{DROP}\n{code}\n{READY}", *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.communicate("\n")


def readable(pid: int) -> list[str]:
    """What a process of the same ordinary user can read of another."""
    command = [sys.executable, "-c", f"{DROP}\n{SPY}", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that the ordinary user reaches: pytest's own are closed to all but the one who runs it."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o711)
        yield Path(path)


def folder(path: Path) -> str:
    path.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    return str(path)


@linux_only
@pytest.mark.parametrize("way", HOLDERS)
def test_the_memory_of_a_process_that_holds_a_key_cannot_be_read(way: str, open_path: Path) -> None:
    new, old = folder(open_path / "new"), folder(open_path / "old")
    seed = Path(old) / "log.key"
    seed.write_bytes(bytes(range(32)))
    seed.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(seed, NOBODY, NOBODY)
    with holder("pass") as open_to_all, holder(HOLDERS[way], new, old) as process:
        assert readable(open_to_all.pid)
        assert readable(process.pid) == []
        core = Path(f"/proc/{process.pid}/limits").read_text()
        assert next(line.split()[4] for line in core.splitlines() if line.startswith("Max core")) == "0"


@linux_only
def test_what_is_started_from_there_is_open_again_and_knows_the_old_limit() -> None:
    code = (
        "import resource, subprocess, sys; from agentgov.memory import core_limit, guard_memory;"
        "before = resource.getrlimit(resource.RLIMIT_CORE)[0];"
        "assert core_limit() == before; assert guard_memory() and guard_memory();"
        "assert core_limit() == before;"
        "assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0;"
        "child = 'import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))';"
        "print(subprocess.run([sys.executable, '-c', child], capture_output=True, text=True).stdout)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]


def test_the_limit_is_a_number_before_anything_was_guarded() -> None:
    assert isinstance(core_limit(), int)
