"""Saving beside the loop: hooks are answered meanwhile, errors arrive, the end waits."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from agentgov.errors import AgentgovError
from agentgov.harness import recorder
from agentgov.harness.saving import Saver
from tests.support.recording import LiveRecorder, Rig


class SlowSave:
    """A save that is held up, counted, and fails if it is told to."""

    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()
        self.error: Exception | None = None
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        self.began.set()
        assert self.go_on.wait(30)
        if self.error is not None:
            raise self.error


class SavingRecorder(LiveRecorder):
    """A recorder whose saves are slow."""

    def __init__(self, rig: Rig, path: Path, save: SlowSave) -> None:
        self.save = save
        super().__init__(rig, path)

    def _seal(self) -> None:
        self.save()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(recorder, "SEAL_ENTRIES", 2)
    return tmp_path / "s"


def test_one_save_at_a_time_and_the_end_waits_for_it() -> None:
    save = SlowSave()
    saver = Saver(save)
    saver.finish()
    saver.start()
    saver.start()
    saver.look()
    assert saver.is_saving
    save.go_on.set()
    saver.finish()
    saver.start()
    saver.finish()
    assert save.count == 2


def test_what_a_save_raised_is_raised_once_where_it_is_looked_at() -> None:
    save = SlowSave()
    save.error = AgentgovError("full", id="AG0226")
    save.go_on.set()
    saver = Saver(save)
    saver.start()
    with pytest.raises(AgentgovError):
        saver.finish()
    assert not saver.is_saving
    saver.finish()


def test_hooks_are_answered_while_the_record_is_being_saved(path: Path) -> None:
    save = SlowSave()
    with SavingRecorder(Rig(), path, save) as live:
        for number in range(3):
            assert live.hook("PreToolUse", f"t{number}")[0] == 0
            assert live.hook("PostToolUse", f"t{number}")[0] == 0
        assert save.began.wait(30)
        assert live.hook("PreToolUse", "during")[0] == 0
        assert save.count == 1
        save.go_on.set()
    assert live.recorder.failure is None


def test_a_save_that_fails_fails_the_run(path: Path) -> None:
    save = SlowSave()
    save.error = AgentgovError("full", id="AG0226")
    save.go_on.set()
    with SavingRecorder(Rig(), path, save) as live:
        live.hook("PreToolUse", "one")
        live.hook("PostToolUse", "one")
        assert live.agent.terminated.wait(30)
    assert live.recorder.failure is save.error


def test_a_run_does_not_end_before_its_save(path: Path) -> None:
    save = SlowSave()
    with SavingRecorder(Rig(), path, save) as live:
        live.hook("PreToolUse", "one")
        live.hook("PostToolUse", "one")
        assert save.began.wait(30)
        live.agent.end()
        live.thread.join(0.2)
        assert live.thread.is_alive()
        save.go_on.set()
        live.thread.join(30)
        assert not live.thread.is_alive()
