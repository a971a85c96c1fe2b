"""Everything lies where it should, is private, and a socket's path is short enough to be bound."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from agentgov import layout as layout_module
from agentgov.errors import AgentgovError
from agentgov.ids import RunId
from agentgov.layout import Layout, StateHome

RUN = RunId("7kq2f")


def test_the_layout_lies_in_the_common_folder_and_is_private(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert not layout.exists()
    layout.create()
    layout.create()
    assert layout.exists()
    assert sorted(path.name for path in layout.root.iterdir()) == ["payloads", "runs", "wal"]
    for folder in (layout.root, layout.wal, layout.runs, layout.payloads):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    named = [layout.lock, layout.seal_lock, layout.store, layout.stream_file]
    assert [path.relative_to(tmp_path).as_posix() for path in named] == [
        "agentgov/lock",
        "agentgov/seal.lock",
        "agentgov/store.git",
        "agentgov/stream",
    ]
    assert layout.run_dir(RUN) == tmp_path / "agentgov/runs/7kq2f"


def test_the_state_home_is_private(tmp_path: Path) -> None:
    state = StateHome(tmp_path / "state")
    state.create()
    assert sorted(path.name for path in state.root.iterdir()) == ["cache", "keys", "pins", "workspaces"]
    assert stat.S_IMODE(state.root.stat().st_mode) == 0o700


def can_bind(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    path.unlink()
    return True


def test_a_socket_lies_in_the_runtime_folder_if_there_is_one(tmp_path: Path) -> None:
    runtime = tmp_path / "r"
    runtime.mkdir()
    state = StateHome(tmp_path / "state", runtime)
    if len(os.fsencode(runtime / "agentgov/7kq2f.sock")) > 106:
        pytest.skip("the temporary folder's own path is too long for a socket")
    assert state.sockets(RUN) == runtime / "agentgov/7kq2f.sock"
    assert can_bind(state.sockets(RUN))
    assert stat.S_IMODE((runtime / "agentgov").stat().st_mode) == 0o700


def test_a_runtime_folder_that_is_gone_is_passed_over(tmp_path: Path) -> None:
    state = StateHome(tmp_path / "s", tmp_path / "gone")
    assert not state.sockets(RUN).is_relative_to(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_a_long_state_folder_gets_a_short_private_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = Path(os.path.realpath("/tmp")) / f"agt-{os.getpid()}"
    short.mkdir()
    monkeypatch.setattr(layout_module, "_FALLBACK_PARENT", short)
    made = []
    try:
        for name in ("a", "b"):
            state = StateHome(tmp_path / name / ("x" * 100))
            path = state.sockets(RUN)
            made.append(path)
            assert path.is_relative_to(short)
            assert len(os.fsencode(path)) < 107
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert state.sockets(RUN) == path
            assert can_bind(path)
        assert made[0] != made[1]
    finally:
        for path in made:
            path.parent.rmdir()
        short.rmdir()


def test_a_fallback_folder_of_another_kind_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout_module, "_SOCKET_PATH_BYTES", 4096)
    state = StateHome(tmp_path / "state")
    state.create()
    (tmp_path / "elsewhere").mkdir()
    (state.root / "s").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AgentgovError) as raised:
        state.sockets(RUN)
    assert raised.value.id == "AG0004"


def test_no_short_folder_is_AG0006(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_module, "_SOCKET_PATH_BYTES", 10)
    with pytest.raises(AgentgovError) as raised:
        StateHome(tmp_path).sockets(RUN)
    assert raised.value.id == "AG0006"
