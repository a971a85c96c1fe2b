"""`agentgov verify --all` and `--record`: every record that lies in a repository, whoever wrote it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from agentgov.cli.screen import plural, print_json, results
from agentgov.cli.session import FETCH_HINT, Session
from agentgov.cli.verify import available_cores, last_place, remember, verify_here
from agentgov.cli.verify_against import compare, forget
from agentgov.cli.verify_outside import look_outside
from agentgov.cli.verify_show import progress_bar, show_report
from agentgov.errors import ExitCode, UsageError
from agentgov.harness.syncing import mirror_branches
from agentgov.ledger.anchors import Anchor
from agentgov.ledger.pins import pin_path, read_pin
from agentgov.ledger.records import Place, find_records
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_report import JSON_VERSION, Level, Report, explain
from agentgov.ledger.verify_source import RepositorySource, Trust, earlier_leaf, local_trust

_GRAVEST = (ExitCode.BROKEN, ExitCode.UNTRUSTED, ExitCode.INCOMPLETE)


def verify_records(
    stream: str | None,
    *,
    trust: Path | None,
    require: Level | None,
    against: str | None = None,
    forgetting: bool = False,
    structure: bool,
    incremental: bool = False,
    jobs: int | None = None,
    as_json: bool,
    whole_text: bool,
) -> ExitCode:
    """Verify every record here, or the one named; print what was found, and return the gravest code.

    Raises:
        UsageError: AG0352, when there is no such record.
    """
    session = Session.here(bare_ok=True)
    own = local_trust(session.repo, session.state).stream_id
    branches = mirror_branches(session.repo, session.state)
    places = [p for p in find_records(session.repo, branches=branches) if stream in (None, p.stream_id)]
    if not places and not (own is not None and stream in (None, own)):
        named = "no record lies" if stream is None else f"no record {stream!a} lies"
        raise UsageError(
            f"{named} in this repository",
            id="AG0352",
            hint=FETCH_HINT,
        )
    if forgetting and stream is not None:
        forget(session, stream)
    reports: list[tuple[str, str, Report]] = []
    if own is not None and stream in (None, own):
        report = verify_here(
            session, require=require, trust=trust, against=against, structure=structure, jobs=jobs
        )
        reports.append((own, "here", report))
    for place in places:
        if place.stream_id == own and place.where == "here":
            continue
        # What another copy of this record held, in turn, must be in this one.
        copies = [
            Anchor("copy", report.head.size, bytes.fromhex(report.head.root), where)
            for stream_id, where, report in reports
            if stream_id == place.stream_id and report.head is not None and report.broken_at is None
        ]
        if against is not None:
            source = RepositorySource(session.repo, stream_id=place.stream_id, tip=place.tip)
            known = Trust(pin=read_pin(pin_path(session.state.pins, place.stream_id)))
            copies += compare(session, source, place.stream_id, known, against)
        report = _verify_place(session, place, copies, trust, require, structure, incremental, jobs)
        reports.append((place.stream_id, place.where, report))
    return _tell(reports, as_json=as_json, whole_text=whole_text)


def _verify_place(
    session: Session,
    place: Place,
    copies: list[Anchor],
    trust: Path | None,
    require: Level | None,
    structure: bool,
    incremental: bool,
    jobs: int | None,
) -> Report:
    """Verify a record that somebody else wrote, or that this clone wrote once."""
    # Remembered before it is read: what is fetched meanwhile is newer, not older.
    known = Trust(pin=read_pin(pin_path(session.state.pins, place.stream_id)))
    outside = look_outside(session, place.stream_id, trust)
    with progress_bar() as progress:
        report = verify_ledger(
            RepositorySource(session.repo, stream_id=place.stream_id, tip=place.tip),
            trust=known,
            payloads=session.payloads,
            # Snapshots and content stay with their writer, unless the configuration sends them.
            expected_payloads=frozenset(),
            require=require,
            progress=progress,
            anchors=[*outside.anchors, *copies],
            quorum=outside.quorum,
            people=outside.people,
            earlier=partial(earlier_leaf, session.repo),
            structure=structure,
            jobs=jobs or available_cores(),
            since=last_place(session, place.stream_id) if incremental else None,
        )
    report.notes += outside.notes
    remember(session, report)
    return report


def _tell(reports: list[tuple[str, str, Report]], *, as_json: bool, whole_text: bool) -> ExitCode:
    codes = {report.exit_code for _, _, report in reports}
    code = next((code for code in _GRAVEST if code in codes), ExitCode.OK)
    if as_json:
        records = [{"record": i, "where": where, **report.to_json()} for i, where, report in reports]
        whole = {"v": JSON_VERSION, "ok": code is ExitCode.OK, "exit_code": int(code), "records": records}
        print_json(whole)
        return code
    out = results()
    good = sum(report.exit_code is ExitCode.OK for _, _, report in reports)
    verb = "holds" if len(reports) == 1 else "hold"
    out.line(f"{good} of {plural(len(reports), 'record')} {verb}.", "bold")
    for stream_id, where, report in reports:
        out.line()
        out.line(f"record {stream_id} ({where})", "bold")
        if whole_text:
            out.block(explain(report).removesuffix("\n"))
        else:
            show_report(out, report)
    return code
