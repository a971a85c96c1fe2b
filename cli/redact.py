"""`agentgov redact`: erase what a call or a run carried; the record says so, and still holds."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agentgov.cli.screen import ago, notes, plural, print_json
from agentgov.cli.session import Session, confirm
from agentgov.errors import UsageError
from agentgov.harness.erasing import Plan, erase, plan_erasure
from agentgov.ids import RunRef
from agentgov.ledger.bodies import PAYLOAD_FIELDS
from agentgov.ledger.payload_erase import Removed
from agentgov.text import printable

_SHOWN = 8


def command(
    which: Annotated[
        str, typer.Argument(metavar="RUN[:N]", help="A call, such as 7kq2f:14, calls 7kq2f:3..9, or a run.")
    ],
    reason: Annotated[
        str, typer.Option("--reason", help="Why; it is kept, and can be erased like the rest.")
    ],
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", help="What goes: output, args, changes, intent, start ...; may be repeated."),
    ] = None,
    all_fields: Annotated[
        bool, typer.Option("--all-fields", help="Everything that the calls carried.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,"erased":[...],...}.')] = False,
) -> None:
    """Erase what a call or a run carried, for ever; the record says so, and still holds.

    A signed entry says first what goes and why; then the content and its salt are destroyed in every file and
    object of this clone that is agentgov's own. `agentgov verify` holds as before and shows the gap. Erasing
    start or changes takes away what apply, blame and coverage need.

    Exit codes: 0 erased, 1 something could not be erased (the next command tries again), 2 nothing such is
    recorded, 10 asked for by an agent.

    Examples:

      agentgov redact 7kq2f:9 --field output --reason "printed a customer's address"

      agentgov redact 7kq2f --field intent --reason "named a person" --yes

      agentgov redact 7kq2f:3..9 --all-fields --reason "a key was in it"
    """
    wanted = _fields(fields, all_fields=all_fields)
    session = Session.here()
    session.demand_person()
    record, ref = session.resolve(which)
    stream = session.stream
    plan = plan_erasure(
        session.repo, session.state, session.payloads, record, calls=_calls(ref), fields=wanted
    )
    if not plan.targets:
        what = "nothing" if wanted is None else "no " + " or ".join(sorted(wanted))
        raise UsageError(
            f"{what} is recorded for {printable(which)}, or it is gone already",
            id="AG0340",
            hint=f"agentgov show {which}",
        )
    here = sum(target.size_bytes is not None for target in plan.targets)
    question = f"Erase {plural(len(plan.targets), 'value')} of run {plan.run} for ever ({here} of them here)?"
    if not as_json:
        _describe(session, plan)
    confirm(question, yes=yes)
    removed = erase(session.repo, stream, session.payloads, plan, reason)
    if as_json:
        print_json(_json(plan, removed))
        return
    _report(session, plan, removed)


def _fields(fields: list[str] | None, *, all_fields: bool) -> frozenset[str] | None:
    if all_fields == bool(fields):
        raise UsageError(
            "name what goes with --field, or take all with --all-fields",
            id="AG0339",
            hint='agentgov redact RUN:N --field output --reason "why"',
        )
    unknown = sorted(set(fields or ()).difference(PAYLOAD_FIELDS))
    if unknown:
        raise UsageError(
            f"there is no field {unknown[0]!a}", id="AG0341", hint="fields: " + ", ".join(PAYLOAD_FIELDS)
        )
    return None if all_fields else frozenset(fields or ())


def _calls(ref: RunRef) -> tuple[int, int] | None:
    if ref.point is None:
        return None
    if not isinstance(ref.point, int):
        raise UsageError(
            "a moment holds nothing that could be erased",
            id="AG0342",
            hint="agentgov redact RUN --field start",
        )
    return ref.point, ref.point if ref.end is None else ref.end


def _describe(session: Session, plan: Plan) -> None:
    out = notes()
    out.line("What is erased for ever, and what that does not reach:", "bold")
    for target in plan.targets[:_SHOWN]:
        name = f"{plan.run}:{target.item.n}" if target.item.n is not None else plan.run
        size = "not here" if target.size_bytes is None else plural(target.size_bytes, "byte")
        said = "" if target.tombstone is None else f"   entry {target.tombstone} says already that it is gone"
        out.line(f"  {name:<10} {target.item.field:<8} {size}{said}")
    if len(plan.targets) > _SHOWN:
        out.line(f"  ... and {len(plan.targets) - _SHOWN} more")
    _reach(session, plan)


def _reach(session: Session, plan: Plan) -> None:
    """Say what erasing does not reach."""
    out = notes()
    now = session.clock.now_us()
    if plan.sent:
        for remote, ts_us in plan.sent[:_SHOWN]:
            out.line(f"  sent       to {remote}, {ago(ts_us, now)}: it is still there; remove it there with")
            for ref in _refs_there(plan):
                out.line(f"             git push {remote} :{ref}")
    else:
        out.line("  sent       never, from this machine")
    for copy in plan.copies.found[:_SHOWN]:
        path = copy.path.decode("utf-8", "backslashreplace")
        out.line(f"  file       {path} in snapshot {copy.tree[:12]} has a line of it: it stays")
    if len(plan.copies.found) > _SHOWN:
        out.line(f"  file       ... and {len(plan.copies.found) - _SHOWN} more files")
    if not plan.copies.is_whole:
        out.line("  file       not every file was looked at: there are too many, or one is missing")
    for commit in plan.merges:
        out.line(f"  merge      the message of {commit[:12]} has the intent: it stays")
    out.line("  not        other clones, backups, the agent's own transcript, what a terminal showed")


def _refs_there(plan: Plan) -> list[str]:
    """What holds such payloads at a remote (docs/format.md)."""
    places = {(target.item.log.rpartition("/")[2], target.item.cls) for target in plan.targets}
    return [f"refs/agentgov/payloads/{stream}/{plan.run}/{cls}" for stream, cls in sorted(places)]


def _report(session: Session, plan: Plan, removed: Removed) -> None:
    out = notes()
    gone = len(removed.digests)
    out.line(
        f"agentgov {plan.run}: {plural(len(plan.targets), 'value')} erased on purpose, {gone} destroyed here",
        "bold",
    )
    for line in removed.kept:
        out.line(f"  still here {line}", "yellow")
    out.line(f"see the gap: agentgov show {plan.run}        is the record whole: agentgov verify", "dim")


def _json(plan: Plan, removed: Removed) -> dict[str, Any]:
    return {
        "v": 1,
        "run": plan.run,
        "erased": [
            {
                "entry": target.item.seq,
                "n": target.item.n,
                "field": target.item.field,
                "class": target.item.cls,
                "commitment": target.item.digest,
                "size": target.size_bytes,
                "destroyed": target.item.digest in removed.digests,
            }
            for target in plan.targets
        ],
        "sent": [{"remote": remote, "at_us": ts_us} for remote, ts_us in plan.sent],
        "files": [
            {"path": copy.path.decode("utf-8", "backslashreplace"), "tree": copy.tree}
            for copy in plan.copies.found
        ],
        "files_all_searched": plan.copies.is_whole,
        "merges": list(plan.merges),
        "still_here": list(removed.kept),
    }
