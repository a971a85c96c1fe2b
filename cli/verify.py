"""`agentgov verify`: check that the record is unchanged, signed and complete."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from agentgov.cli.screen import Screen, notes, print_json, results
from agentgov.cli.session import Session
from agentgov.errors import ExitCode
from agentgov.git import Git
from agentgov.ledger.pins import Pin, advance_pin, pin_path
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_report import Level, Report, explain, parse_level
from agentgov.ledger.verify_source import RepositorySource, local_trust
from agentgov.rollback.presence import missing_objects

PROGRESS_FROM = 20_000


def command(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]", help="Check the evidence of this run only; the record is checked whole."
        ),
    ] = None,
    require: Annotated[
        str | None,
        typer.Option(
            "--require", metavar="LEVEL", help="chained, signed, saved, pinned, witnessed or timestamped."
        ),
    ] = None,
    whole_text: Annotated[bool, typer.Option("--explain", help="Every check with what it means.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,"ok":...,...}.')] = False,
) -> None:
    """Check that the record is unchanged, signed and complete.

    Exit code 0: it holds. 12: broken; the first broken entry is named. 13: signed by a key nobody
    here knows. 3: something is missing or open, or less is proven than --require asks for.
    Nothing is changed or repaired.

    Examples:

      agentgov verify

      agentgov verify 7kq2f --require pinned

      agentgov verify --explain
    """
    session = Session.here()
    report = verify_here(session, run=run, require=None if require is None else parse_level(require))
    if as_json:
        print_json(report.to_json())
    elif whole_text:
        results().block(explain(report).removesuffix("\n"))
    else:
        _show(results(), report)
    raise typer.Exit(int(report.exit_code))


def verify_here(session: Session, *, run: str | None = None, require: Level | None = None) -> Report:
    """Verify this clone's record, and remember where it stood if it holds.

    Raises:
        UsageError: nothing was ever recorded here, or `run` names no run.
    """
    trust = local_trust(session.repo, session.state)
    source = RepositorySource(session.repo, known_stream_id=trust.stream_id)
    if source.stream_id() is None:
        session.demand_record()
    store = Git(session.layout.store) if session.layout.store.is_dir() else None
    history = session.recorded_history
    # A record that cannot be read names no run; it is then verified whole, which says why.
    chosen = history.find_run(run).run if run is not None and history.runs else None
    report = verify_ledger(
        source,
        trust=trust,
        objects=None if store is None else partial(missing_objects, store),
        payloads=session.payloads,
        is_live=session.is_live,
        require=require,
        run=chosen,
        progress=_progress(),
    )
    _remember(session, report)
    return report


def _remember(session: Session, report: Report) -> None:
    """Pin the head that was verified, if it is saved: the rest may honestly be lost with the disk."""
    head = report.head
    if (
        head is None
        or report.exit_code in (ExitCode.BROKEN, ExitCode.UNTRUSTED)
        or report.sealed != head.size
    ):
        return
    session.state.create()
    pin = Pin(head.log, head.public_key, head.size, head.root, head.leaf, session.clock.now_us())
    try:
        advance_pin(pin_path(session.state.pins, head.log.rpartition("/")[2]), pin)
    except OSError as error:
        # What was verified holds all the same; only the next cut back to an earlier state may not be seen.
        notes().line(f"agentgov: this state could not be remembered: {error.strerror}")


def _progress() -> Callable[[int], None] | None:
    """A progress line for long records, on a terminal only."""
    if not sys.stderr.isatty():
        return None

    def show(count: int) -> None:
        if count >= PROGRESS_FROM:
            sys.stderr.write(f"\r{count} entries read")
            sys.stderr.flush()

    return show


def _show(out: Screen, report: Report) -> None:
    broken = report.broken_at is not None
    out.line(report.headline(), "bold red" if broken else "bold")
    held = report.holds()
    if held is not None:
        out.line(f"  {held}")
    for check in report.checks:
        style = "red" if check.status in ("broken", "untrusted") else None
        out.line(f"  {check.status:<10} {check.name:<12} {check.text}", style)
    for finding in report.findings[:10]:
        out.line(f"  {finding.place()}: {finding.why}")
    if len(report.findings) > 10:
        out.line(f"  ({len(report.findings) - 10} more: --json)")
    if broken:
        out.line(
            "help: compare with another copy of this repository; do not run agents here until it is clear"
        )
        return
    if report.level is not None:
        level = f"level {int(report.level)} of {int(max(Level))} ({report.level.label})"
        out.line(f"{level}      whole text: --explain")
