"""`agentgov verify`: check that a record, or one proof from it, is unchanged, signed and complete."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from agentgov.cli.screen import notes, print_json, results
from agentgov.cli.session import Session
from agentgov.cli.verify_against import compare, forget
from agentgov.cli.verify_outside import Outside, look_outside
from agentgov.cli.verify_show import progress_bar, show_report
from agentgov.errors import ExitCode, UsageError
from agentgov.git import Git
from agentgov.ledger.pins import Pin, advance_pin, pin_path
from agentgov.ledger.succession import resume
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_evidence import ALL_CLASSES
from agentgov.ledger.verify_report import Level, Report, explain, parse_level
from agentgov.ledger.verify_resume import Resume, read_resume, resume_path, write_resume
from agentgov.ledger.verify_signatures import MAX_JOBS
from agentgov.ledger.verify_source import RepositorySource, earlier_leaf, local_trust
from agentgov.rollback.presence import missing_objects

_is_run = re.compile(r"[0-9a-hjkmnp-tv-z]{1,5}").fullmatch


def command(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|FILE]",
            help="A run: check its evidence only, and the record whole. A file: a proof, checked alone.",
        ),
    ] = None,
    require: Annotated[
        str | None,
        typer.Option(
            "--require", metavar="LEVEL", help="chained, signed, saved, pinned, witnessed or timestamped."
        ),
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option(
            "--trust",
            metavar="FILE",
            help="Persons, and witnesses, to trust instead of those that the protected branch names: "
            "a file of their lines, or a folder like .agentgov.",
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every record here: own, fetched, mirrored and archived ones.")
    ] = False,
    stream: Annotated[
        str | None, typer.Option("--record", metavar="ID", help="One of them, by its 32 characters.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="REMOTE|FILE",
            help="Compare with another copy: a remote's, a signed head, a proof or a git bundle.",
        ),
    ] = None,
    forgetting: Annotated[
        bool,
        typer.Option(
            "--forget", help="Give up the last state seen here; that is written down. Then check anew."
        ),
    ] = False,
    structure: Annotated[
        bool,
        typer.Option("--structure", help="Leave the signatures unchecked; quick, and level 0 at most."),
    ] = False,
    incremental: Annotated[
        bool,
        typer.Option("--incremental", help="Go on from what was verified here before; it is not read again."),
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", metavar="N", min=1, max=MAX_JOBS, help="Processes that check signatures."),
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

      agentgov verify call.tlog-proof --trust allowed_signers

      agentgov verify --all --trust allowed_signers

      agentgov verify --against origin

      agentgov verify --explain
    """
    if (every or stream is not None) and what is not None:
        raise UsageError("--all and --record check whole records: leave RUN out", id="AG0350")
    if every and (against is not None or forgetting):
        raise UsageError(
            "--against and --forget are about one record: this clone's, or one named by --record",
            id="AG0350",
        )
    level = None if require is None else parse_level(require)
    if what is not None and _is_file(what):
        from agentgov.cli.verify_file import verify_proof_file

        if require is not None or structure or against is not None or forgetting:
            raise UsageError("a proof is checked whole and alone: --trust is all it takes", id="AG0353")
        raise typer.Exit(int(verify_proof_file(Path(what), trust, as_json=as_json, explain=whole_text)))
    if every or stream is not None:
        from agentgov.cli.verify_records import verify_records

        raise typer.Exit(
            int(
                verify_records(
                    stream,
                    trust=trust,
                    require=level,
                    against=against,
                    forgetting=forgetting,
                    structure=structure,
                    incremental=incremental,
                    jobs=jobs,
                    as_json=as_json,
                    whole_text=whole_text,
                )
            )
        )
    session = Session.here(bare_ok=True)
    report = verify_here(
        session,
        run=what,
        require=level,
        trust=trust,
        against=against,
        forgetting=forgetting,
        structure=structure,
        incremental=incremental,
        jobs=jobs,
    )
    if as_json:
        print_json(report.to_json())
    elif whole_text:
        results().block(explain(report).removesuffix("\n"))
    else:
        show_report(results(), report)
    raise typer.Exit(int(report.exit_code))


def verify_here(
    session: Session,
    *,
    run: str | None = None,
    require: Level | None = None,
    trust: Path | None = None,
    against: str | None = None,
    forgetting: bool = False,
    structure: bool = False,
    incremental: bool = False,
    jobs: int | None = None,
) -> Report:
    """Verify this clone's record, and remember where it stood if it holds.

    Args:
        session: The command's session.
        run: Check the evidence of this run only.
        require: The level that must be reached.
        trust: A file that says who is trusted, instead of the protected branch's.
        against: Another copy to compare with: a remote's name or a file.
        forgetting: Give up the last state seen here first.
        structure: Leave signatures unchecked.
        incremental: Go on from what was verified here before.
        jobs: Processes that check signatures; as many as there are cores when None.

    Raises:
        UsageError: nothing was ever recorded here, or `run` names no run.
    """
    # A change of records that a crash cut short would look like one record in place of another.
    resume(session.repo, session.state, clock=session.clock)
    if forgetting:
        forget(session, RepositorySource(session.repo).stream_id() or "")
    known = local_trust(session.repo, session.state)
    source = RepositorySource(session.repo, known_stream_id=known.stream_id)
    stream_id = source.stream_id()
    if stream_id is None:
        session.demand_record()
    store = Git(session.layout.store) if session.layout.store.is_dir() else None
    history = session.recorded_history
    # A record that cannot be read names no run; it is then verified whole, which says why.
    chosen = history.find_run(run).run if run is not None and history.runs else None
    outside = Outside() if stream_id is None else look_outside(session, stream_id, trust)
    copies = (
        [] if against is None or stream_id is None else compare(session, source, stream_id, known, against)
    )
    # What was fetched of somebody else's record comes without its content.
    content = ALL_CLASSES if session.is_recorded else frozenset()
    with progress_bar() as progress:
        report = verify_ledger(
            source,
            trust=known,
            expected_payloads=content,
            objects=None if store is None else partial(missing_objects, store),
            payloads=session.payloads,
            is_live=session.is_live,
            require=require,
            run=chosen,
            progress=progress,
            anchors=[*outside.anchors, *copies],
            quorum=outside.quorum,
            people=outside.people,
            earlier=partial(earlier_leaf, session.repo),
            structure=structure,
            jobs=jobs or available_cores(),
            since=last_place(session, stream_id) if incremental and stream_id is not None else None,
        )
    report.notes += outside.notes
    remember(session, report)
    return report


def _is_file(what: str) -> bool:
    """Whether a proof is meant: a file that is there, or the name of one; what reads as a run is a run."""
    return what.endswith(".tlog-proof") or (_is_run(what) is None and Path(what).is_file())


def available_cores() -> int:
    """How many cores this process may use."""
    return min(MAX_JOBS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)


def last_place(session: Session, stream_id: str) -> Resume | None:
    """Where the last verification of a record ended here; None when there was none."""
    return read_resume(resume_path(session.state.pins, stream_id))


def remember(session: Session, report: Report) -> None:
    """Pin the head that was verified, if it is saved: the rest may honestly be lost with the disk."""
    head = report.head
    if report.reached is not None:
        path = resume_path(session.state.pins, report.reached.log.rpartition("/")[2])
        session.state.create()
        try:
            write_resume(path, report.reached, session.clock.now_us())
        except OSError as error:
            notes().line(f"agentgov: how far this was verified could not be remembered: {error.strerror}")
    if (
        head is None
        or report.structure_only
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
