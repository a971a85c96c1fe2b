"""How a verification looks: its progress while it runs, the report when it is done."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from agentgov.cli.screen import Screen
from agentgov.errors import ExitCode
from agentgov.ledger.verify_report import Level, Report

PROGRESS_FROM: Final = 20_000
MAX_FINDINGS: Final = 10
MAX_NOTES: Final = 5
RAISED_BY: Final = {
    Level.CHECKPOINT: "agentgov sync (CI then witnesses)",
    Level.PINNED: "agentgov sync (CI then witnesses)",
}
_TEXT_AT: Final = 26


@contextmanager
def progress_bar() -> Iterator[Callable[[int], None] | None]:
    """A progress bar for long records, on a terminal only; it is gone when the work is done."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    # No refreshing thread: it would take time from the checks, and a process with threads forks badly.
    bar = Progress(
        TextColumn("checking"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("entries"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=True,
        auto_refresh=False,
    )
    task = bar.add_task("", total=None)

    def show(count: int) -> None:
        if count >= PROGRESS_FROM:
            if not bar.live.is_started:
                bar.start()
            bar.update(task, completed=count, refresh=True)

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()


def show_report(out: Screen, report: Report) -> None:
    """Print a report: the answer, the checks, what was found, the level."""
    broken = report.broken_at is not None
    out.line(report.headline(), "bold red" if broken else "bold")
    held = report.holds()
    if held is not None:
        out.line(f"  {held}")
    for check in report.checks:
        style = "red" if check.status in ("broken", "untrusted") else None
        first, *rest = wrap(check.text, out.width - _TEXT_AT)
        out.line(f"  {check.status:<10} {check.name:<12} {first}", style)
        for line in rest:
            out.line(" " * _TEXT_AT + line, style)
    for note in report.notes[:MAX_NOTES]:
        for number, line in enumerate(wrap(note, out.width - 13)):
            out.line(f"  {'' if number else 'note':<10} {line}")
    if len(report.notes) > MAX_NOTES:
        out.line(f"  note       ({len(report.notes) - MAX_NOTES} more: --explain)")
    for finding in report.findings[:MAX_FINDINGS]:
        out.line(f"  {finding.place()}: {finding.why}")
    if len(report.findings) > MAX_FINDINGS:
        out.line(f"  ({len(report.findings) - MAX_FINDINGS} more: --json)")
    for hint in hints(report):
        out.line(f"help: {hint}")
    if not broken and report.level is not None:
        level = f"level {int(report.level)} of {int(max(Level))} ({report.level.label})"
        raising = RAISED_BY.get(report.level) if report.exit_code is ExitCode.OK else None
        how = "" if raising is None else f"      raise it: {raising}"
        out.line(f"{level}{how}      whole text: --explain")


def wrap(text: str, width: int) -> list[str]:
    """Break a text into lines at its blanks; a word longer than a line stays whole."""
    return textwrap.wrap(text, max(width, 20), break_long_words=False, break_on_hyphens=False) or [""]


def hints(report: Report) -> list[str]:
    """What to do next, when a report is not good."""
    if report.broken_at is not None:
        return [
            "compare with another copy: agentgov verify --against REMOTE|FILE",
            "to go on here, when it is clear what happened: agentgov ledger restart",
        ]
    if report.exit_code is ExitCode.UNTRUSTED:
        if any(found.error_id == "AG0443" for found in report.findings):
            return ["the key was revoked: ask for a new approval"]
        return ["say whom you trust: agentgov verify --trust FILE"]
    return []
