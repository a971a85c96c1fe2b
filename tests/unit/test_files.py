"""Files are replaced whole or not at all; a lock keeps others out; a private folder is private."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agentgov.errors import AgentgovError, ConflictError
from agentgov.files import FileLock, fsync_dir, machine_id, open_private_dir, write_atomic


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "f"
    write_atomic(target, b"one")
    assert target.read_bytes() == b"one"
    assert mode_of(target) == 0o600
    old_umask = os.umask(0o077)
    try:
        write_atomic(target, b"", mode=0o644)
    finally:
        os.umask(old_umask)
    assert target.read_bytes() == b""
    assert mode_of(target) == 0o644
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("failing", ["write", "fsync", "fchmod"])
def test_a_failure_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    target = tmp_path / "f"
    write_atomic(target, b"old")

    def fail(*args: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(target, b"new")
    monkeypatch.undo()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real_write(fd, bytes(data)[:3]))
    write_atomic(tmp_path / "f", b"0123456789")
    monkeypatch.undo()
    assert (tmp_path / "f").read_bytes() == b"0123456789"


def test_the_data_is_durable_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(fd: int) -> None:
        events.append("fsync folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "fsync file")
        real_fsync(fd)

    def replace(self: Path, target: Path) -> Path:
        events.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    write_atomic(tmp_path / "f", b"x")
    assert events == ["fsync file", "rename", "fsync folder"]


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"theirs")
    (tmp_path / "f").symlink_to(other)
    write_atomic(tmp_path / "f", b"mine")
    assert other.read_bytes() == b"theirs"
    assert not (tmp_path / "f").is_symlink()


def test_only_a_folder_can_be_synced_as_one(tmp_path: Path) -> None:
    fsync_dir(tmp_path)
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        fsync_dir(tmp_path / "f")


def test_a_private_folder_and_its_parents_are_private(tmp_path: Path) -> None:
    folder = open_private_dir(tmp_path / "a/b/c")
    assert [mode_of(path) for path in (folder, folder.parent, folder.parent.parent)] == [0o700] * 3
    assert open_private_dir(folder) == folder


def test_a_folder_that_was_open_is_closed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o755)
    assert mode_of(open_private_dir(tmp_path / "a")) == 0o700


def test_a_link_or_a_file_is_no_private_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("link", "file", "dangling"):
        with pytest.raises(AgentgovError) as raised:
            open_private_dir(tmp_path / name)
        assert raised.value.id == "AG0004"


def test_another_users_folder_is_no_private_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    with pytest.raises(AgentgovError) as raised:
        open_private_dir(tmp_path / "a")
    assert raised.value.id == "AG0004"


def test_a_lock_keeps_others_out_until_it_is_released(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    with first:
        assert first.held
        for timeout_seconds in (0, 0.01):
            with pytest.raises(ConflictError) as raised:
                second.acquire(timeout_seconds)
            assert raised.value.id == "AG0005"
        assert not second.held
    second.acquire(0)
    second.release()
    second.release()
    assert (tmp_path / "lock").exists()


def test_a_lock_is_not_taken_twice_by_one_object(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    lock.acquire()
    with pytest.raises(ConflictError):
        lock.acquire()
    lock.release()
    lock.acquire(0)
    lock.release()


def test_waiting_threads_get_the_lock_one_at_a_time(tmp_path: Path) -> None:
    inside = 0
    most = 0
    guard = threading.Lock()

    def work(timeout_seconds: float | None) -> None:
        nonlocal inside, most
        for _ in range(20):
            lock = FileLock(tmp_path / "lock")
            lock.acquire(timeout_seconds)
            with guard:
                inside += 1
                most = max(most, inside)
            with guard:
                inside -= 1
            lock.release()

    threads = [threading.Thread(target=work, args=(timeout,)) for timeout in (None, 60.0, None, 60.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from agentgov.files import FileLock\n"
        "lock = FileLock(Path(sys.argv[1])); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(ConflictError):
        FileLock(tmp_path / "lock").acquire(0)
    child.kill()
    child.communicate()
    lock = FileLock(tmp_path / "lock")
    lock.acquire(0)
    lock.release()


def test_a_lock_on_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        FileLock(tmp_path / "lock").acquire(0)
    assert not (tmp_path / "elsewhere").exists()


def test_a_machine_id_differs_by_machine_and_hides_it(tmp_path: Path) -> None:
    one, two, empty = tmp_path / "one", tmp_path / "two", tmp_path / "empty"
    one.write_text("0123456789abcdef0123456789abcdef\n")
    two.write_text("f" * 32)
    empty.write_text("\n")
    assert machine_id([one]) != machine_id([two])
    assert machine_id([tmp_path / "absent", empty, two]) == machine_id([two])
    assert "0123456789abcdef" not in machine_id([one])
    assert machine_id([tmp_path / "absent"]) == machine_id([empty]) != machine_id([one])
