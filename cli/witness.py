"""`agentgov witness`: sign what a record has become, so that nobody can replace it later unseen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from agentgov.cli.screen import notes, plural, print_json, results
from agentgov.cli.session import Session
from agentgov.cli.stamping import Stamping
from agentgov.cli.verify_show import progress_bar
from agentgov.errors import AgentgovError, ExitCode, UsageError
from agentgov.ledger.anchor_store import timestamp_ref, witness_ref
from agentgov.ledger.records import Place, find_records
from agentgov.ledger.witness import Memory, Witnessed, WitnessKey, witness_record

JSON_VERSION: Final = 1
KEY_VARIABLE: Final = "AGENTGOV_WITNESS_KEY"
_GRAVEST: Final = (ExitCode.BROKEN, ExitCode.UNTRUSTED, ExitCode.INCOMPLETE, ExitCode.ERROR)

group = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass
class _Outcome:
    """What became of one record."""

    stream_id: str
    where: str
    witnessed: Witnessed | None = None
    stamped: str | None = None
    error: AgentgovError | None = None
    sent: bool | None = None
    refs: dict[str, str] = field(default_factory=dict)
    parted: bool = False


@group.callback(invoke_without_command=True)
def witness(
    context: typer.Context,
    key_file: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help=f"The witness's key; else the text in ${KEY_VARIABLE}."),
    ] = None,
    streams: Annotated[
        list[str] | None,
        typer.Option("--record", metavar="ID", help="This record, by its 32 characters; may be repeated."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every record here: own and fetched ones.")] = False,
    remote: Annotated[
        str | None,
        typer.Option("--remote", metavar="NAME", help="Fetch the records from there first, and send back."),
    ] = None,
    timestamp: Annotated[
        str | None,
        typer.Option(
            "--timestamp", metavar="URL", help="Let a time stamp authority (RFC 3161) stamp it too."
        ),
    ] = None,
    query_file: Annotated[
        Path | None,
        typer.Option("--timestamp-query", metavar="FILE", help="Write the query for an authority, and stop."),
    ] = None,
    response_file: Annotated[
        Path | None,
        typer.Option("--timestamp-response", metavar="FILE", help="Take an authority's answer from a file."),
    ] = None,
    authorities: Annotated[
        Path | None,
        typer.Option(
            "--authorities",
            metavar="FILE",
            help="Certificates of authorities, instead of the protected branch's.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,"records":[...]}.')] = False,
) -> None:
    """Verify a record, check that it only grew since the last time, and sign what it is now.

    A witness is somebody else than who writes the record: CI, mostly (docs/ci-witness.md). What it signed
    cannot be cut or replaced unseen, not even with the record's own key. Who counts as a witness stands in
    .agentgov/witnesses on the protected branch. Only what is saved is signed; nothing of yours is changed.

    Exit codes: 0 signed, or nothing new. 12: the record does not hold, or is not the one that was signed
    before; both heads are kept, nothing is signed. 3: a part of it is not here. 1: the signature could not
    be stored or sent. 2: no key, or no such record.

    Examples:

      agentgov witness new-key ci

      agentgov witness --key ci.key --all --remote origin

      agentgov witness --timestamp https://timestamp.example/tsr

      agentgov witness --timestamp-query head.tsq
    """
    if context.invoked_subcommand is not None:
        return
    session = Session.here(bare_ok=True)
    session.demand_person()
    stamping = Stamping(session, timestamp, query_file, response_file, authorities)
    key = _find_key(session, key_file, needed=not stamping.is_asked)
    outcomes = _fetch(session, remote, streams or [], every=every)
    # Of two copies that part, neither is signed: nobody here knows which one is right.
    doubtful = {outcome.stream_id for outcome in outcomes if outcome.parted}
    places = _choose(session, streams or [], every=every, remote=remote)
    places = [place for place in places if place.stream_id not in doubtful]
    if stamping.is_for_one and len(places) != 1:
        raise UsageError(
            "a query or an answer is about one record: say which", id="AG0328", hint="add --record ID"
        )
    for place in places:
        outcomes.append(_witness(session, place, key, stamping))
    if remote is not None:
        _send(session, remote, outcomes)
    _tell(outcomes, key, as_json=as_json)
    codes = {outcome.error.exit_code for outcome in outcomes if outcome.error is not None}
    raise typer.Exit(int(next((code for code in _GRAVEST if code in codes), ExitCode.OK)))


@group.command("new-key")
def new_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the witness is called, such as ci.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The key file; NAME.key if left out."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help='One object: {"v":1,"file":...,"key":...}.')
    ] = False,
) -> None:
    """Make a witness's key, and print the lines for .agentgov/witnesses.

    The key file is for the witness only: a secret of your CI, say. Whoever has it can vouch for a record
    that was rewritten. An existing file is never replaced.

    Exit codes: 0 made. 2: there is such a file, or no witness may have that name.

    Examples:

      agentgov witness new-key ci

      agentgov witness new-key ci -o ~/ci.key
    """
    import os

    if not name or any(char in name for char in "/\\+") or any(char.isspace() for char in name):
        raise UsageError(
            f"no witness may be called {name!a}: no blanks, + or /", id="AG0329", hint="such as: ci"
        )
    path = output if output is not None else Path(f"{name}.key")
    key = WitnessKey.generate(name, os.urandom)
    key.write(path)
    if as_json:
        print_json({"v": JSON_VERSION, "witness": name, "key": key.public.text(), "file": str(path)})
        return
    notes().line(f"agentgov: the key is in {path}; keep it out of the repository")
    notes().line(f"agentgov: for CI, put its one line into the secret {KEY_VARIABLE}")
    notes().line("agentgov: on the protected branch, .agentgov/witnesses gets these lines:")
    results().line(f"witness {name} {key.public.text()}")
    results().line(f"quorum {name}")


def _find_key(session: Session, key_file: Path | None, *, needed: bool) -> WitnessKey | None:
    if key_file is not None:
        return WitnessKey.read(key_file)
    raw = session.env.get(KEY_VARIABLE)
    if raw:
        return WitnessKey.parse(raw.strip().encode(), where=f"${KEY_VARIABLE}")
    if needed:
        raise UsageError(
            "there is no witness's key to sign with",
            id="AG0327",
            hint=("agentgov witness new-key NAME", f"then --key NAME.key, or its text in ${KEY_VARIABLE}"),
        )
    return None


def _fetch(session: Session, remote: str | None, streams: list[str], *, every: bool) -> list[_Outcome]:
    """Fetch records; what the remote shows of a rewritten one is an outcome already."""
    if remote is None:
        return []
    from agentgov.errors import BrokenRecordError, IncompleteError
    from agentgov.ledger.remote import find_remote
    from agentgov.ledger.seal import REF_PREFIX
    from agentgov.ledger.sync_fetch import fetch_records, stream_of

    there = find_remote(session.repo, remote)
    wanted = frozenset(streams) if streams and not every else None
    received = fetch_records(there, there.offer(), wanted)
    outcomes = []
    for finding in received.findings:
        kind = IncompleteError if finding.exit_code is ExitCode.INCOMPLETE else BrokenRecordError
        where = finding.ref if finding.kept is None else f"{finding.ref}, kept as {finding.kept}"
        error = kind(finding.text, id="AG0462", where=where)
        parted = finding.ref.startswith(REF_PREFIX)
        outcomes.append(_Outcome(stream_of(finding.ref) or "archive", remote, error=error, parted=parted))
    return outcomes


def _choose(session: Session, streams: list[str], *, every: bool, remote: str | None) -> list[Place]:
    # What was kept because it did not fit is evidence, and no record to vouch for.
    places = [place for place in find_records(session.repo) if "/conflicts/" not in place.where]
    if streams:
        missing = [name for name in streams if name not in {place.stream_id for place in places}]
        if missing:
            raise UsageError(
                f"no record {missing[0]!a} is saved or fetched here",
                id="AG0330",
                hint="agentgov verify --all names those that are",
            )
        return [place for place in places if place.stream_id in streams]
    if every or remote is not None:
        chosen = places if every else [place for place in places if place.where == remote]
    else:
        from agentgov.ledger.verify_source import local_trust

        own = local_trust(session.repo, session.state).stream_id
        chosen = [place for place in places if place.stream_id == own and place.where == "here"]
    if not chosen:
        raise UsageError(
            "there is no saved record to witness here",
            id="AG0331",
            hint="agentgov witness --all --remote origin",
        )
    return chosen


def _witness(session: Session, place: Place, key: WitnessKey | None, stamping: Stamping) -> _Outcome:
    outcome = _Outcome(place.stream_id, place.where)
    try:
        if key is not None:
            session.state.create()
            folder = session.state.root / "witness" / key.public.key_id.hex()
            with progress_bar() as progress:
                outcome.witnessed = witness_record(
                    session.repo,
                    place.stream_id,
                    place.tip,
                    key,
                    Memory(folder),
                    clock=session.clock,
                    progress=progress,
                )
            # Sent again when an earlier attempt could not: the remote takes what it has as nothing new.
            ref = witness_ref(place.stream_id, key.public)
            commit = session.repo.ref(ref)
            if commit is not None:
                outcome.refs[ref] = commit
        if stamping.is_asked:
            outcome.stamped = stamping.stamp(place)
            ref = timestamp_ref(place.stream_id)
            commit = session.repo.ref(ref)
            if commit is not None:
                outcome.refs[ref] = commit
    except AgentgovError as error:
        if isinstance(error, UsageError):
            raise
        outcome.error = error
    return outcome


def _send(session: Session, remote: str, outcomes: list[_Outcome]) -> None:
    from agentgov.ledger.remote import find_remote

    refs = {ref: commit for outcome in outcomes for ref, commit in outcome.refs.items()}
    if not refs:
        return
    refused = {
        sent.ref: sent.refused for sent in find_remote(session.repo, remote).push(refs) if sent.refused
    }
    for outcome in outcomes:
        why = [refused[ref] for ref in outcome.refs if ref in refused]
        outcome.sent = bool(outcome.refs) and not why
        if why and outcome.error is None:
            outcome.error = AgentgovError(
                f"{remote} did not take the signature: {why[0]}",
                id="AG0463",
                where=f"record {outcome.stream_id}",
                hint=f"git fetch {remote}, then the same command again",
            )


def _tell(outcomes: list[_Outcome], key: WitnessKey | None, *, as_json: bool) -> None:
    if as_json:
        records = [_to_json(outcome) for outcome in outcomes]
        ok = all(outcome.error is None for outcome in outcomes)
        who: Mapping[str, Any] = {} if key is None else {"witness": key.public.name, "key": key.public.text()}
        print_json({"v": JSON_VERSION, "ok": ok, **who, "records": records})
        return
    out = results()
    good = sum(outcome.error is None for outcome in outcomes)
    whole = good == len(outcomes)
    out.line(
        f"{good} of {plural(len(outcomes), 'record')}: unchanged, and only grown.",
        "bold" if whole else "bold red",
    )
    for outcome in outcomes:
        out.line(f"record {outcome.stream_id} ({outcome.where})")
        seen = outcome.witnessed
        if seen is not None and key is not None:
            new = "nothing new" if seen.commit is None else f"{seen.size - seen.before} of them new"
            out.line(f"  signed     entries 0-{seen.size - 1} by {key.public.name}, {new}")
        if outcome.stamped is not None:
            out.line(f"  stamped    {outcome.stamped}")
        if outcome.sent:
            out.line("  sent       to the remote")
        if outcome.error is not None:
            out.line(f"  refused    error[{outcome.error.id}]: {outcome.error.message}", "red")
            for fact in (*((outcome.error.where,) if outcome.error.where else ()), *outcome.error.facts):
                out.line(f"             {fact}")
            for hint in outcome.error.hint:
                out.line(f"help: {hint}")
    if whole:
        out.line("look: agentgov verify --all --require witnessed")


def _to_json(outcome: _Outcome) -> dict[str, Any]:
    seen, error = outcome.witnessed, outcome.error
    return {
        "record": outcome.stream_id,
        "where": outcome.where,
        "signed": None if seen is None else {"size": seen.size, "before": seen.before, "commit": seen.commit},
        "stamped": outcome.stamped,
        "sent": outcome.sent,
        "error": None
        if error is None
        else {"id": error.id, "message": error.message, "where": error.where, "facts": list(error.facts)},
    }
