"""Processes are told apart by id and birth; without /proc nothing is found, and nothing is guessed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import NoReturn

import pytest

from agentgov.harness import sweeping, terminal
from agentgov.harness.sweeping import Proc, Sweep, descendants, prctl, read_proc, send


def test_a_name_with_spaces_and_brackets_does_not_shift_the_fields() -> None:
    fields = b" ".join(str(number).encode() for number in range(5, 52))
    proc = Proc(b"42 (a) R (b c) S 7 8 " + fields)
    assert (proc.pid, proc.name, proc.state, proc.parent, proc.group) == (42, b"a) R (b c", "S", 7, 8)
    # proc(5): field 22 is the start time; the numbers above stand in fields 6 and later.
    assert proc.born == 21


def test_this_process_is_found_and_a_missing_one_is_not() -> None:
    me = read_proc(os.getpid())
    assert me is not None
    assert me.parent == os.getppid()
    assert read_proc(2**30) is None


def test_a_signal_never_reaches_a_later_process_with_the_same_id() -> None:
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])
    try:
        proc = read_proc(child.pid)
        assert proc is not None
        proc.born -= 1
        send(proc, signal.SIGKILL)
        assert child.poll() is None
        proc.born += 1
        send(proc, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        send(proc, signal.SIGKILL)
    finally:
        child.kill()
        child.wait()


def test_a_sweep_spares_what_it_is_told_to_spare() -> None:
    code = "import time; time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", code])
    others = frozenset(proc.pid for proc in descendants(os.getpid()))
    try:
        assert Sweep(os.getpid(), others).kill() == 0
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_without_proc_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> NoReturn:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert descendants(os.getpid()) == []
    assert Sweep(os.getpid()).kill() == 0


def test_without_prctl_no_option_counts_as_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "IS_LINUX", False)
    assert not prctl(sweeping.PR_SET_CHILD_SUBREAPER, 1)
    assert not sweeping.is_subreaper()


def test_without_a_terminal_nobody_owns_one() -> None:
    with open(os.devnull) as null:
        assert terminal.plan_ownership(null.fileno(), null.fileno()) == "none"
        assert not terminal.is_interactive(null.fileno(), null.fileno())
        assert terminal.SavedTerminal.save(null.fileno()) is None
