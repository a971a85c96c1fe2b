"""`agentgov demo` shows what it says, and leaves nothing behind."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from agentgov.cli import demo
from agentgov.errors import AgentgovError
from tests.e2e.conftest import Cli


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary folders."""
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_the_demo_shows_the_whole_product_and_leaves_nothing(
    agentgov: Cli, tmp_path: Path, place: Path, home: Path
) -> None:
    before = sorted(home.rglob("*"))
    said = agentgov(tmp_path, "demo")
    order = [
        "== 1. ",
        "denied  rm -rf important/",
        "== 2. ",
        "Unchanged, signed and complete",
        "== 3. ",
        "BROKEN at entry ",
        "# exit code 12",
        "== 4. ",
        "back at :4",
        "== 5. ",
        "error[AG0110]: main was not moved",
        "# exit code 11",
        "approved  by reviewer@example.org",
        "Agent-Run: ",
        "Unchanged, signed and complete",
        "agentgov run -- claude",
    ]
    at = 0
    for part in order:
        found = said.out.find(part, at)
        assert found >= 0, f"{part!r} is not there after {said.out[:at][-200:]!r}"
        at = found
    assert said.err == ""
    assert list(place.iterdir()) == []
    assert sorted(home.rglob("*")) == before


def test_a_demo_that_goes_wrong_says_so_and_leaves_nothing(
    agentgov: Cli, tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "RULES", {"nonsense": {"x": 1}})
    said = agentgov(tmp_path, "demo", code=1)
    assert said.err.startswith("error[AG0312]: ")
    assert list(place.iterdir()) == []


def test_a_demo_without_ssh_keygen_names_what_is_missing(
    agentgov: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "ssh-keygen" else f"/bin/{name}")
    said = agentgov(tmp_path, "demo", code=1)
    assert "the demo needs ssh-keygen" in said.err
    assert AgentgovError.exit_code == 1
