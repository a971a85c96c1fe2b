"""`agentgov keys revoke`: a person leaves, or a key was lost; what was signed before stays good."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentgov.cli.screen import Screen, notes, plural, print_json
from agentgov.cli.session import Session

if TYPE_CHECKING:
    from agentgov.harness.revoking import Frozen
    from agentgov.harness.trusting import TrustChange
    from agentgov.ids import RunId
    from agentgov.ledger.people import People
    from agentgov.ledger.revocation import Revocation

SHOWN = 12


def command(
    person: Annotated[
        str, typer.Argument(metavar="PERSON", help="Any of their names, or a key's fingerprint.")
    ],
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="SHA256:...", help="Only this key: it was lost, its owner stays."),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; others will read it.")] = "",
    as_saved: Annotated[
        bool,
        typer.Option(
            "--as-saved", help="Freeze what nobody witnessed as it is saved here: you vouch for it."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,"frozen":[...],...}.')] = False,
) -> None:
    """Revoke a person, or one key: one commit on a new branch, for a pull request.

    Every record that lies here is frozen at the last state that its witnesses have seen. What the person
    signed below it stays good and reads "since left"; all else counts for nothing, everywhere, once the
    branch is merged. In a record that nobody witnessed nothing of theirs counts, unless --as-saved is
    said. Fetch first, to freeze what others have: agentgov sync. Exit codes: 0 made, 13 nobody is called
    that, 2 revoked already.

    Examples:

      agentgov keys revoke bob@example.org --reason "left the company"

      agentgov keys revoke alice@example.org --key SHA256:uE1... --reason "laptop stolen"
    """
    from agentgov.cli.keys_change import TrustFiles
    from agentgov.cli.keys_witnesses import quorum_of, seen_by_witnesses
    from agentgov.harness import revoking
    from agentgov.ledger.revocation import append_revocation
    from agentgov.ledger.trust_text import date_keys

    session = Session.here()
    session.demand_person()
    files = TrustFiles.read(session)
    people = files.people()
    name = revoking.find_person(people, person)
    problems: list[str] = []
    frozen = revoking.freeze_records(
        session.repo,
        lambda stream_id: seen_by_witnesses(session, files.base.commit, stream_id, problems),
        quorum_of(session, files.base.commit),
        as_saved=as_saved,
        problems=problems,
    )
    revocation = revoking.make_revocation(people, name, frozen, key=key, reason=reason)
    today = datetime.fromtimestamp(session.clock.now_us() / 1_000_000, UTC).strftime("%Y%m%d")
    changed = {"revoked": append_revocation(files.revoked, revocation)}
    signers = date_keys(files.signers, revocation.fingerprints, today)
    if signers != files.signers:
        changed["allowed_signers"] = signers
    what = f"Revoke {name}" if key is None else f"Revoke a key of {name}"
    change = files.propose(session, changed, what, f"revoke-{name}")
    running = _open_runs(session, people, name)
    if as_json:
        print_json(_json(revocation, frozen, running, change, problems))
    else:
        _show(notes(), revocation, frozen, running, change, problems)


def _open_runs(session: Session, people: People, name: str) -> Sequence[RunId]:
    """The runs that this person started and that go on, as far as the record that lies here says."""
    from agentgov.harness.revoking import open_runs
    from agentgov.report.facts import start_facts

    history = session.recorded_history

    def operator_of(run: RunId) -> str | None:
        operator = start_facts(history.runs[run], session.payloads).get("operator")
        email = operator.get("email") if isinstance(operator, dict) else None
        return email if isinstance(email, str) else None

    return open_runs(history, people.names_of(name) or [name], operator_of)


def _json(
    revocation: Revocation,
    frozen: Sequence[Frozen],
    running: Sequence[RunId],
    change: TrustChange,
    problems: Sequence[str],
) -> dict[str, Any]:
    from agentgov.cli.keys_change import change_json

    return {
        "v": 1,
        "person": revocation.name,
        "scope": revocation.scope,
        "keys": list(revocation.fingerprints),
        "reason": revocation.reason,
        "frozen": [
            {
                "record": item.stream_id,
                "where": item.where,
                "size": 0 if item.head is None else item.head.size,
                "root": None if item.head is None else item.head.root.hex(),
                "witnessed": item.head is not None and item.is_witnessed,
                "why": item.why_none or None,
            }
            for item in frozen
        ],
        "open_runs": list(running),
        "problems": list(dict.fromkeys(problems)),
        "change": change_json(change),
    }


def _show(
    out: Screen,
    revocation: Revocation,
    frozen: Sequence[Frozen],
    running: Sequence[RunId],
    change: TrustChange,
    problems: Sequence[str],
) -> None:
    from agentgov.cli.keys_change import say_change

    what = revocation.name if revocation.scope == "person" else f"a key of {revocation.name}"
    reason = f": {revocation.reason}" if revocation.reason else ""
    out.line(f"agentgov: revoke {what}{reason}", "bold")
    for fingerprint in revocation.fingerprints:
        out.line(f"  key       {fingerprint}")
    kept = [item for item in frozen if item.head is not None]
    lost = [item for item in frozen if item.head is None]
    for item in kept[:SHOWN]:
        size = 0 if item.head is None else item.head.size
        rest = "" if item.is_witnessed else "; nobody but you vouches for that"
        out.line(
            f"  stays     {item.stream_id[:8]} ({item.where}): what they signed in entries 0-{size - 1}{rest}"
        )
    if len(kept) > SHOWN:
        out.line(f"            and {plural(len(kept) - SHOWN, 'more record')}")
    for why in dict.fromkeys(item.why_none for item in lost):
        those = [f"{item.stream_id[:8]} ({item.where})" for item in lost if item.why_none == why]
        more = "" if len(those) <= 3 else f" and {len(those) - 3} more"
        out.line(f"  nothing   of theirs counts any more in {', '.join(those[:3])}{more}: {why}")
    if not frozen:
        out.line("  nothing   of theirs counts any more: no record lies here to be frozen")
    for problem in dict.fromkeys(problems):
        out.line(f"  note      {problem}")
    for run in running:
        out.line(f"  running   {run}, started by them: agentgov show {run}")
    say_change(out, change)
