"""`agentgov ledger`: what is done to a record as a whole."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from agentgov.cli.screen import print_json, results
from agentgov.cli.session import Session, confirm
from agentgov.errors import AgentgovError, ConflictError
from agentgov.harness.state import live_runs
from agentgov.ledger.succession import Succession, begin_successor

JSON_VERSION: Final = 1

group = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@group.callback()
def ledger() -> None:
    """What is done to this clone's record as a whole.

    Examples:

      agentgov ledger restart
    """


@group.command("restart", short_help="Begin a new record where the old one cannot go on.")
def restart(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,"record":...,...}.')] = False,
) -> None:
    """Begin a new record, with a new key, where the old one cannot go on.

    The way out of a copied or restored clone, of a line that does not hold, of a file that is gone.
    Nothing is deleted: the old record keeps its place in git, what of it was not saved yet is set aside
    under .git/agentgov/earlier, and the new record names the last entry of the old one that can be
    read. What is wrong with the old one stays visible: agentgov verify --all.

    Exit codes: 0 begun. 15: a run is going on. 2: nothing was recorded here.

    Examples:

      agentgov ledger restart

      agentgov ledger restart --yes --json
    """
    session = Session.here()
    session.demand_person()
    session.demand_record()
    live = live_runs(session.layout)
    if live:
        raise ConflictError(
            f"run {live[0].run} is still going on, and would have nowhere to write",
            id="AG0071",
            hint="agentgov status",
        )
    confirm("End this clone's record here, and begin a new one?", yes=yes)
    why = _close_runs(session)
    left = _open_runs(session)
    done = begin_successor(
        session.repo, session.state, reason="restarted", clock=session.clock, random=session.random
    )
    still_open = [] if done.ended else left
    if as_json:
        print_json(_to_json(done, still_open, done.hindrance or why))
    else:
        _tell(session, done, still_open)


def _close_runs(session: Session) -> AgentgovError | None:
    """Close what a killed recorder left open, in the old record, if that can still be written."""
    if not session.is_bound:
        return None
    try:
        _ = session.stream
    except AgentgovError as error:
        return error
    return None


def _open_runs(session: Session) -> list[str]:
    try:
        return [run.run for run in session.recorded_history.runs.values() if run.end is None]
    except AgentgovError:
        # What cannot be read names no run.
        return []


def _tell(session: Session, done: Succession, still_open: list[str]) -> None:
    out = results()
    out.line("A new record has begun in this clone, with a key of its own.", "bold")
    out.line(f"  record     {done.new}")
    if done.old is not None:
        entries = "its first entry" if done.size == 1 else f"its first {done.size} entries"
        count = entries if done.size else "nothing of it: no entry can be read"
        out.line(f"  continues  {done.old}: {count}")
    if done.ended:
        out.line("  the old    is closed and signed, and names the new one")
    elif done.hindrance is None:
        out.line("  the old    was begun in another clone, which may go on with it")
    else:
        out.line(f"  the old    could not be closed: error[{done.hindrance.id}]: {done.hindrance.message}")
    out.line(f"  kept       {session.layout.root / 'earlier'}: what was not saved yet")
    for run in still_open:
        out.line(f"  open       {run}: its end could not be entered in the old record")
    out.line("  signer     nobody stands behind the new key yet; the next agentgov approve does that")
    out.line("look: agentgov verify --all")


def _to_json(done: Succession, still_open: list[str], why: AgentgovError | None) -> dict[str, Any]:
    return {
        "v": JSON_VERSION,
        "record": done.new,
        "public_key": done.public_key.hex(),
        "earlier": done.old,
        "continues": done.size,
        "ended": done.ended,
        "hindrance": None if why is None else {"id": why.id, "message": why.message, "where": why.where},
        "open_runs": still_open,
    }
