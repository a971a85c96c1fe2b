"""Pins never go back, and a record that does not continue its pin is refused."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from agentgov.errors import BrokenRecordError
from agentgov.ledger.pins import Pin, advance_pin, forget_pin, parse_pin, pin_path, read_pin, verify_pin

PIN = Pin("agentgov/" + "0" * 32, "1" * 64, 5, "2" * 64, "3" * 64, 7)


def test_a_pin_is_read_back_and_only_goes_forward(tmp_path: Path) -> None:
    path = pin_path(tmp_path, "0" * 32)
    assert read_pin(path) is None
    advance_pin(path, PIN)
    assert read_pin(path) == PIN
    advance_pin(path, dataclasses.replace(PIN, size=4, root="4" * 64))
    assert read_pin(path) == PIN
    larger = dataclasses.replace(PIN, size=6, root="5" * 64)
    advance_pin(path, larger)
    assert read_pin(path) == larger


@pytest.mark.parametrize(
    "changes", [{"root": "9" * 64}, {"leaf": "9" * 64}, {"public_key": "9" * 64, "size": 9}]
)
def test_another_tree_or_another_key_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = pin_path(tmp_path, "0" * 32)
    advance_pin(path, PIN)
    with pytest.raises(BrokenRecordError) as error:
        advance_pin(path, dataclasses.replace(PIN, **changes))
    assert error.value.id == "AG0230"
    assert read_pin(path) == PIN


@pytest.mark.parametrize("changes", [{"size": 4}, {"leaf": "9" * 64}, {"log": "x"}, {"public_key": "9" * 64}])
def test_a_record_that_does_not_continue_its_pin_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    good: dict[str, Any] = {"log": PIN.log, "public_key": PIN.public_key, "size": 8, "leaf": PIN.leaf}
    verify_pin(PIN, tmp_path, **good)
    verify_pin(PIN, tmp_path, **{**good, "leaf": None})
    with pytest.raises(BrokenRecordError) as error:
        verify_pin(PIN, tmp_path, **{**good, **changes})
    assert error.value.id == "AG0230"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"null",
        b"[" * 5000,
        b"\xff",
        PIN.to_bytes() + b"\n",
        PIN.to_bytes().replace(b'"size":5', b'"size":0'),
        PIN.to_bytes().replace(b'"size":5', b'"size":"5"'),
        PIN.to_bytes().replace(b'"v":1', b'"v":2'),
        PIN.to_bytes().replace(b'"v":1', b'"v":true'),
        PIN.to_bytes().replace(b"222", b"2x2"),
    ],
)
def test_what_cannot_be_read_is_never_taken_for_no_pin(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(BrokenRecordError) as error:
        parse_pin(raw)
    assert error.value.id == "AG0229"
    path = pin_path(tmp_path, "0" * 32)
    path.write_bytes(raw)
    with pytest.raises(BrokenRecordError):
        advance_pin(path, PIN)
    assert path.read_bytes() == raw


def test_a_forgotten_pin_is_written_down_and_gone(tmp_path: Path) -> None:
    path = pin_path(tmp_path, "a" * 32)
    advance_pin(path, PIN)
    forgotten = forget_pin(tmp_path, "a" * 32, 7)
    assert forgotten is not None
    assert forgotten.pin == PIN
    assert read_pin(path) is None
    assert forgotten.list_file.read_text() == f"7 {'a' * 32} {PIN.size} {PIN.root}\n"
    assert forget_pin(tmp_path, "a" * 32, 8) is None


def test_a_pin_that_cannot_be_read_can_be_forgotten(tmp_path: Path) -> None:
    path = pin_path(tmp_path, "a" * 32)
    path.write_bytes(b"nonsense")
    forgotten = forget_pin(tmp_path, "a" * 32, 7)
    assert forgotten is not None
    assert forgotten.pin is None
    assert "unreadable" in forgotten.list_file.read_text()
    assert not path.exists()


def test_nothing_is_forgotten_that_could_not_be_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pin_path(tmp_path, "a" * 32)
    advance_pin(path, PIN)
    (tmp_path / "forgotten").mkdir()
    with pytest.raises(IsADirectoryError):
        forget_pin(tmp_path, "a" * 32, 7)
    assert read_pin(path) == PIN


def test_forgetting_does_not_wait_for_a_fifo_and_keeps_the_pin(tmp_path: Path) -> None:
    path = pin_path(tmp_path, "0" * 32)
    advance_pin(path, PIN)
    os.mkfifo(tmp_path / "forgotten")
    with pytest.raises(OSError, match="No such device"):
        forget_pin(tmp_path, "0" * 32, 7)
    assert read_pin(path) == PIN
