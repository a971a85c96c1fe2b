"""`agentgov sync`: send this clone's record to one remote, and fetch what others sent there."""

from __future__ import annotations

import re
import shlex
from functools import partial
from typing import Annotated

import typer

from agentgov.cli.screen import notes, print_json
from agentgov.cli.session import Session, confirm
from agentgov.cli.sync_show import report_json, show_outcome, show_plan
from agentgov.errors import AgentgovError, BrokenRecordError, ExitCode, UsageError
from agentgov.harness.syncing import Chosen, Syncing, choose
from agentgov.ledger import sync

_is_stream_id = re.compile(r"[0-9a-f]{32}").fullmatch


def command(
    remote: Annotated[
        str | None,
        typer.Argument(metavar="[REMOTE]", help="A remote of this repository; origin if left out."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask the remote, say what would leave, change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, also not the first time.")] = False,
    streams: Annotated[
        list[str] | None,
        typer.Option("--record", metavar="ID", help="Fetch this record too; may be repeated."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Fetch every record that is there.")] = False,
    mirror: Annotated[
        str | None,
        typer.Option(
            "--mirror", metavar="BRANCH", help="Also keep the records on this branch of the remote."
        ),
    ] = None,
    archive: Annotated[
        bool,
        typer.Option(
            "--archive", help="Also put records that have ended, and are witnessed, into the archive."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,"remote":...,...}.')] = False,
) -> None:
    """Send this clone's record to one remote, and fetch what others sent there.

    What leaves: the signed entries, which hold no path, argument or text, and of the stored content the
    class "changes" (intents, and which lines of which files changed). Arguments, output and patches stay
    here unless the protected branch's [sync] table names them. The first time it shows what leaves and
    where to, and asks. No branch is touched but the one named by --mirror; nothing is forced or deleted.

    Exit codes: 0 done. 12: the remote's copy does not continue what was seen before; nothing of that
    record is sent. 3: it names what it does not give. 1: it cannot be reached, or refuses something. 2: no
    such remote, or not agreed to.

    Examples:

      agentgov sync --dry-run

      agentgov sync origin --yes

      agentgov sync --all --mirror agentgov-records

      agentgov sync --all --archive --yes
    """
    wanted = _streams(streams or [])
    session = Session.here(bare_ok=True)
    session.demand_person()
    chosen = choose(session.repo, session.state, remote, mirror)
    stream_id = _save(session, changing=not dry_run)
    doing = Syncing(session.repo, session.state, session.clock, chosen, stream_id)
    if not as_json:
        notes().line(f"agentgov: asking {chosen.remote.name} ({chosen.remote.shown})", "dim")
    doing.look()
    if not dry_run:
        doing.fetch(None if every else wanted)
        if archive:
            doing.archive(partial(_why_not_witnessed, session))
    plan = doing.plan()
    agreed = sync.is_agreed(session.repo, session.state, chosen.agreement)
    if not dry_run:
        if not plan.is_empty or chosen.mirror is not None:
            if not agreed:
                _ask(chosen, plan, yes=yes, as_json=as_json)
                sync.remember_agreement(session.repo, session.state, chosen.agreement)
            # A record that goes on with a new key needs a person behind it as the first one did.
            if stream_id is not None and _endorse(session, known=agreed):
                plan = doing.plan()
            doing.send(plan)
            doing.mirror()
    elif not as_json:
        show_plan(chosen, plan)
        notes().line(f"nothing was sent; to send it: agentgov sync {shlex.quote(chosen.remote.name)}", "dim")
    if as_json:
        print_json(report_json(doing, plan, dry_run=dry_run, agreed=agreed))
    elif not dry_run:
        show_outcome(doing, plan)
    raise typer.Exit(int(ExitCode.OK if dry_run else doing.exit_code))


def _ask(chosen: Chosen, plan: sync.Plan, *, yes: bool, as_json: bool) -> None:
    if not as_json:
        show_plan(chosen, plan)
    confirm(f"Send this to {chosen.remote.name}, now and from now on?", yes=yes)


def _endorse(session: Session, *, known: bool) -> bool:
    """Let this person's key stand behind the record, once; without a key it goes on, and says so."""
    from agentgov.cli.gate import home_folder
    from agentgov.harness import people
    from agentgov.harness.settled import Workplace
    from agentgov.rollback.objects import ObjectStore

    repo = session.repo
    store = ObjectStore(session.layout.store, repo.objects_dir, repo.object_format)
    try:
        key = people.find_key(repo, home_folder(), None)
        work = Workplace(repo, session.stream, session.payloads, store, session.clock)
        if not people.endorse(work, session.state, key):
            return False
    except BrokenRecordError:
        raise
    except AgentgovError as error:
        out = notes()
        out.line(f"agentgov: nobody's key stands behind this record yet: {error.message}")
        if not known:
            out.line("  others can check it, and cannot tell whose it is      agentgov keys new")
        return False
    finally:
        store.close()
    session.stream.seal()
    notes().line("agentgov: your key now stands behind this clone's record")
    return True


def _streams(raw_ids: list[str]) -> frozenset[str]:
    for raw_id in raw_ids:
        if not _is_stream_id(raw_id):
            raise UsageError(
                f"{raw_id!a} is no record's name: 32 of 0-9 and a-f",
                id="AG0333",
                hint="agentgov sync --all; agentgov verify --all names them",
            )
    return frozenset(raw_ids)


def _save(session: Session, *, changing: bool) -> str | None:
    """Save what is not saved yet, so that it can be sent; returns the name of this clone's record."""
    if not session.is_bound:
        if session.is_recorded and changing:
            notes().line("agentgov: this clone was moved or copied: it begins a record of its own with a run")
        return None
    if changing:
        session.stream.seal()
        for run in session.layout.payload_runs():
            if not session.is_live(run):
                session.payloads.fold(run)
    from agentgov.ledger.keys import read_stream_id

    return read_stream_id(session.layout.stream_file)


def _why_not_witnessed(session: Session, stream_id: str, seal: str) -> str | None:
    """Verify a record, and say what it lacks to be archived."""
    from agentgov.cli.verify_outside import look_outside
    from agentgov.ledger.pins import pin_path, read_pin
    from agentgov.ledger.verify import verify_ledger
    from agentgov.ledger.verify_report import Level
    from agentgov.ledger.verify_source import RepositorySource, Trust, earlier_leaf

    known = Trust(pin=read_pin(pin_path(session.state.pins, stream_id)))
    outside = look_outside(session, stream_id, None)
    try:
        report = verify_ledger(
            RepositorySource(session.repo, stream_id=stream_id, tip=seal),
            trust=known,
            require=Level.WITNESSED,
            anchors=outside.anchors,
            quorum=outside.quorum,
            people=outside.people,
            earlier=partial(earlier_leaf, session.repo),
        )
    except AgentgovError as error:
        return error.message
    return None if report.exit_code is ExitCode.OK else report.headline()
