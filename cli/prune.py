"""`agentgov prune`: let go of stored content that is past its time; the signed chain stays."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any

import typer

from agentgov.cli.screen import ago, notes, plural, print_json, results
from agentgov.cli.session import Session, confirm
from agentgov.errors import UsageError
from agentgov.harness.erasing import find_prunable, prune, retention_of
from agentgov.ids import RunId
from agentgov.ledger.retention import Due, cutoffs_at, cutoffs_of

_AGE = re.compile(r"([1-9][0-9]{0,4})(d|w|y)?")
_DAYS = {None: 1, "d": 1, "w": 7, "y": 365}


class PayloadClass(StrEnum):
    """What can be pruned."""

    ARGS = "args"
    OUTPUT = "output"
    PATCH = "patch"
    CHANGES = "changes"


def command(
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than", metavar="AGE", help="Instead of [retention]: older than 90d, 12w or 1y goes."
        ),
    ] = None,
    classes: Annotated[
        list[PayloadClass] | None,
        typer.Option("--class", help="With --older-than: what goes; args, output and patch if left out."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,"pruned":[...],...}.')] = False,
) -> None:
    """Let go of stored content that is past its time; the signed chain is never pruned.

    Without an option [retention] in the protected .agentgov.toml decides: 400 days for arguments, output and
    patches, for ever for intents and lists of changes. A signed entry says for each run what went. Runs that
    go on keep everything; a run whose copy still exists keeps what leads to it (agentgov drop).

    Exit codes: 0 pruned, or nothing was due; 1 something could not be removed (the next command tries again);
    2 the configuration is wrong; 10 asked for by an agent.

    Examples:

      agentgov prune --dry-run

      agentgov prune --yes

      agentgov prune --older-than 90d --class output
    """
    session = Session.here()
    session.demand_person()
    now = session.clock.now_us()
    if older_than is None and classes:
        raise UsageError(
            "--class needs an age", id="AG0344", hint="agentgov prune --older-than 90d --class output"
        )
    if older_than is None:
        cutoffs, cause = cutoffs_of(retention_of(session.repo, session.state), now), "retention"
    else:
        chosen = classes or [PayloadClass.ARGS, PayloadClass.OUTPUT, PayloadClass.PATCH]
        cutoffs, cause = cutoffs_at([cls.value for cls in chosen], _days(older_than), now), "operator"
    stream = session.stream
    due, kept = find_prunable(session.repo, session.payloads, session.history, cutoffs)
    if due and not dry_run:
        if not as_json:
            _list(due, now)
        confirm(_question(due), yes=yes)
        removed = prune(session.repo, stream, session.payloads, due, cause)
        still_here, destroyed = list(removed.kept), len(removed.digests)
    else:
        still_here, destroyed = [], 0
    if as_json:
        print_json(_json(due, kept, still_here, destroyed, dry_run=dry_run))
        return
    if dry_run or not due:
        _list(due, now)
        said = f"{_summary(due)} would go; nothing was changed" if due else "nothing to prune"
        results().line(said, "bold")
        if due:
            notes().line("let it go: the same command without --dry-run", "dim")
        elif older_than is None:
            notes().line("what is younger: agentgov prune --older-than 90d --dry-run", "dim")
    else:
        notes().line(
            f"agentgov: {_summary(due)} pruned, {destroyed} destroyed here; the record says so", "bold"
        )
    for line in still_here:
        notes().line(f"  still here {line}", "yellow")
    if kept:
        runs = " ".join(kept[:8])
        notes().line(f"  kept       {runs}: still running, or its copy still exists (agentgov drop)")


def _days(raw_age: str) -> int:
    match = _AGE.fullmatch(raw_age)
    if match is None:
        raise UsageError(f"{raw_age!a} is not an age", id="AG0343", hint="ages: 90d, 12w, 1y")
    return int(match[1]) * _DAYS[match[2]]


def _list(due: list[Due], now_us: int) -> None:
    rows = [(item.run, item.cls, str(len(item.digests)), ago(item.oldest_us, now_us)) for item in due]
    if rows:
        results().columns(("RUN", "WHAT", "VALUES", "OLDEST"), rows, right=(2,))


def _summary(due: list[Due]) -> str:
    runs: set[RunId] = {item.run for item in due}
    return f"{plural(sum(len(item.digests) for item in due), 'value')} of {plural(len(runs), 'run')}"


def _question(due: list[Due]) -> str:
    return f"Remove {_summary(due)} for ever?"


def _json(
    due: list[Due], kept: list[RunId], still_here: list[str], destroyed: int, *, dry_run: bool
) -> dict[str, Any]:
    return {
        "v": 1,
        "dry_run": dry_run,
        "pruned": [
            {
                "run": item.run,
                "class": item.cls,
                "before": item.before,
                "count": len(item.digests),
                "oldest_us": item.oldest_us,
            }
            for item in due
        ],
        "destroyed": destroyed,
        "kept_runs": list(kept),
        "still_here": still_here,
    }
