"""Attacks on the files that agentgov keeps: links, FIFOs, devices, folders and huge files in their place.

No command waits for ever, none fails without saying what is wrong, and none says that all is well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentgov.errors import BrokenRecordError, ExitCode
from agentgov.files import read_own_file
from agentgov.git import discover
from agentgov.layout import StateHome
from tests.conftest import MakeRepo
from tests.support.running import run, shell

COMMANDS = {
    "verify": ["verify"],
    "log": ["log"],
    "status": ["status"],
    "run": ["run", "--", "true"],
}


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _folder(path: Path) -> None:
    path.mkdir()


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


TRICKS: list[Callable[[Path], None]] = [_fifo, _loop, _endless, _folder, _huge]


def _agentgov(repo: Path, state: StateHome, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the real command line; one that waits for ever is a failure."""
    return subprocess.run(
        [sys.executable, "-m", "agentgov", *args],
        cwd=repo,
        env={**os.environ, "AGENTGOV_HOME": str(state.root)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("trick", TRICKS)
def test_only_a_regular_file_of_ours_is_read(trick: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "file"
    trick(path)
    with pytest.raises(BrokenRecordError) as caught:
        read_own_file(path)
    assert caught.value.id == "AG0021"


def test_the_content_of_a_file_of_ours_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x\x00\n" * 100_000)
    assert read_own_file(tmp_path / "file") == b"x\x00\n" * 100_000


@pytest.fixture
def recorded(make_repo: MakeRepo, state: StateHome) -> Path:
    """A repository with one run in its record."""
    repo = make_repo()
    assert run(repo, state, shell("echo x > new.txt")).exit_code == 0
    return repo


def _places(repo: Path, state: StateHome) -> dict[str, Path]:
    layout = discover(repo).layout
    stream = layout.stream_file.read_text().strip()
    folder = next(path for path in layout.runs.iterdir() if path.is_dir())
    return {
        "stream": layout.stream_file,
        "segment": max(layout.wal.iterdir()),
        "pin": state.pins / f"{stream}.json",
        "state of a run": folder / "state.json",
    }


@pytest.mark.parametrize("what", ["stream", "segment", "pin", "state of a run"])
def test_a_fifo_in_place_of_a_file_stops_no_command(what: str, recorded: Path, state: StateHome) -> None:
    path = _places(recorded, state)[what]
    path.unlink(missing_ok=True)
    _fifo(path)
    for command in (["verify"], ["log"], ["status"]):
        done = _agentgov(recorded, state, *command)
        assert "Traceback" not in done.stderr
        # A command that does not need the file may go on; `verify` needs all but what is kept of living runs.
        if done.returncode == 0:
            assert command != ["verify"] or what == "state of a run"
        else:
            assert done.returncode == ExitCode.BROKEN
            assert str(path) in done.stdout + done.stderr or command == ["verify"]


def test_a_missing_file_of_unsaved_entries_is_not_taken_for_an_empty_one(
    recorded: Path, state: StateHome
) -> None:
    assert _agentgov(recorded, state, "verify").returncode == ExitCode.OK
    layout = discover(recorded).layout
    shutil.rmtree(layout.wal)
    done = _agentgov(recorded, state, "verify")
    assert done.returncode == ExitCode.INCOMPLETE
    assert "are gone" in done.stdout


def test_a_file_that_begins_beyond_the_last_entry_shows_a_cut(recorded: Path, state: StateHome) -> None:
    layout = discover(recorded).layout
    (newest,) = layout.wal.iterdir()
    newest.rename(layout.wal / f"{int(newest.name) + 3:016d}")
    done = _agentgov(recorded, state, "verify")
    assert done.returncode == ExitCode.BROKEN
    assert f"entries {int(newest.name)} to {int(newest.name) + 2} are missing" in done.stdout


def test_a_record_without_the_file_that_names_it_is_incomplete(recorded: Path, state: StateHome) -> None:
    discover(recorded).layout.stream_file.unlink()
    assert _agentgov(recorded, state, "verify").returncode == ExitCode.INCOMPLETE
    assert _agentgov(recorded, state, "log").returncode == ExitCode.BROKEN


@pytest.mark.parametrize("trick", [_fifo, _loop, _folder])
def test_no_trick_with_the_whole_folder_ends_in_a_traceback(
    trick: Callable[[Path], None], recorded: Path, state: StateHome
) -> None:
    root = discover(recorded).layout.root
    shutil.rmtree(root)
    trick(root)
    for arguments in COMMANDS.values():
        done = _agentgov(recorded, state, *arguments)
        assert done.returncode != 0 or arguments == ["status"]
        assert "Traceback" not in done.stderr, done.stderr
        assert "error[AG" in done.stderr or done.stdout


@pytest.mark.parametrize("name", ["", "wal", "runs", "payloads", "store.git"])
def test_a_link_in_place_of_a_folder_is_not_written_through(
    name: str, recorded: Path, state: StateHome, tmp_path: Path
) -> None:
    folder, there = discover(recorded).layout.root / name, tmp_path / "there"
    folder.rename(there)
    folder.symlink_to(there)
    before = sorted((path, path.stat().st_mtime_ns) for path in there.rglob("*") if path.is_file())
    done = _agentgov(recorded, state, "run", "--", "true")
    assert done.returncode == ExitCode.RUN_FAILED
    assert "AG0004" in done.stderr
    after = sorted((path, path.stat().st_mtime_ns) for path in there.rglob("*") if path.is_file())
    assert [item for item in after if item not in before] == []
