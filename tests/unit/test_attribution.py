"""Which call a changed path belongs to."""

from __future__ import annotations

from pathlib import Path

from agentgov.calls import CallKind, ToolCall
from agentgov.harness.attribution import Writer, calls_by_path, writer_of


def writer(n: int, kind: CallKind, *targets: bytes) -> Writer:
    return Writer(n, kind, frozenset(targets))


def test_a_single_call_owns_what_it_changed_whatever_it_announced() -> None:
    assert calls_by_path([b"a", b"b"], [writer(3, "read")]) == {b"a": [3], b"b": [3]}


def test_nobody_owns_a_change_without_an_open_call() -> None:
    assert calls_by_path([b"a"], []) == {b"a": []}


def test_among_several_the_one_that_named_the_path_owns_it() -> None:
    calls = [writer(1, "edit", b"a"), writer(2, "edit", b"b")]
    assert calls_by_path([b"a", b"b"], calls) == {b"a": [1], b"b": [2]}


def test_an_unnamed_path_belongs_to_the_calls_that_could_have_written_it() -> None:
    calls = [
        writer(1, "agent"),
        writer(2, "shell"),
        writer(3, "read"),
        writer(4, "shell"),
        writer(5, "edit", b"x"),
    ]
    assert calls_by_path([b"a"], calls) == {b"a": [2, 4]}


def test_if_no_call_could_have_written_it_all_share_it() -> None:
    assert calls_by_path([b"a"], [writer(1, "agent"), writer(2, "read")]) == {b"a": [1, 2]}


def test_targets_are_relative_to_the_workspace_and_outside_it_none(tmp_path: Path) -> None:
    (tmp_path / "w" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "w")
    writes = (
        "../x",
        str(tmp_path / "w" / "y"),
        str(tmp_path / "link" / "z"),
        "/etc/passwd",
        "a\x00/b",
        "\ud800",
    )
    call = ToolCall("Edit", "edit", "id", None, None, None, tmp_path / "w" / "sub", {}, writes=writes)
    assert writer_of(1, call, tmp_path / "w").targets == {b"x", b"y", b"z"}
