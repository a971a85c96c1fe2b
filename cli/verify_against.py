"""`agentgov verify --against` and `--forget`: a second copy to compare with, and a memory to give up.

Rules kept here:

- What a remote shows is fetched into its own namespace, and moves nothing of this clone's.
- A copy that was cut back at the remote is an answer of its own: the record here may be whole.
- Forgetting is said, written down outside the repository, and entered in this clone's own record.
"""

from __future__ import annotations

from pathlib import Path

from agentgov.cli.screen import notes
from agentgov.cli.session import Session
from agentgov.errors import AgentgovError, BrokenRecordError, ExitCode, UsageError
from agentgov.git import Git
from agentgov.ledger.anchors import Anchor
from agentgov.ledger.copies import compare_copy, read_file
from agentgov.ledger.entry import Draft, parse_entry
from agentgov.ledger.pins import forget_pin
from agentgov.ledger.seal import SealStore, ledger_ref
from agentgov.ledger.verify_source import RecordSource, Trust


def compare(session: Session, source: RecordSource, stream_id: str, trust: Trust, what: str) -> list[Anchor]:
    """Return what another copy of a record shows, to be compared by the verification.

    Args:
        session: The command's session.
        source: The record here.
        stream_id: Its name.
        trust: What is known about it here.
        what: A remote's name, else a file: a signed head, a proof, or a git bundle.

    Raises:
        UsageError: AG0479, when it is neither a remote nor a file.
        BrokenRecordError: AG0462, when what is there is no copy of this record, or was cut back there.
    """
    public_key = _log_key(source, trust)
    if what not in session.repo.remotes():
        path = Path(what)
        if not path.is_file():
            raise UsageError(
                f"{what!a} is neither a remote of this repository nor a file",
                id="AG0479",
                hint="agentgov verify --against origin",
            )
        return read_file(source, session.repo, path, stream_id=stream_id, public_key=public_key)
    return _compare_remote(session, source, stream_id, public_key, what)


def forget(session: Session, stream_id: str) -> None:
    """Give up the last state seen of a record: the next verification takes what it finds for the first.

    Raises:
        UsageError: AG0479, when nothing is remembered of it.
        AgentgovError: When it cannot be written down.
    """
    session.demand_person()
    forgotten = forget_pin(session.state.pins, stream_id, session.clock.now_us())
    if forgotten is None:
        raise UsageError("no earlier state of this record was seen here", id="AG0479", where=stream_id)
    out = notes()
    size = "that could not be read" if forgotten.pin is None else f"of {forgotten.pin.size} entries"
    out.line(f"agentgov: the state {size} is forgotten; that is written to {forgotten.list_file}")
    if forgotten.pin is None or not session.is_bound:
        return
    pin = forgotten.pin
    body = {"log": pin.log, "root": pin.root, "size": pin.size}
    try:
        stream = session.stream
        stream.append([Draft("pin.forgotten", None, body)], stream.log_signer())
    except AgentgovError as error:
        out.line(f"agentgov: this clone's record cannot say so: {error.message}")


def _compare_remote(
    session: Session, source: RecordSource, stream_id: str, public_key: bytes, name: str
) -> list[Anchor]:
    from agentgov.ledger.remote import find_remote
    from agentgov.ledger.sync_fetch import fetch_records

    remote = find_remote(session.repo, name)
    received = fetch_records(remote, remote.offer(), frozenset({stream_id}))
    ref = ledger_ref(stream_id)
    for finding in received.findings:
        # Where both copies lie here, the comparison names the very entry.
        if finding.ref == ref and finding.code in ("shorter", "gone", "damaged", "missing"):
            where = f"{name}" if finding.kept is None else f"{name}, kept as {finding.kept}"
            kind = BrokenRecordError if finding.exit_code is ExitCode.BROKEN else AgentgovError
            raise kind(finding.text, id="AG0462", where=where)
    kept = [finding.kept for finding in received.findings if finding.ref == ref and finding.kept]
    fetched = remote.prefix + ref.removeprefix("refs/agentgov/")
    anchors: list[Anchor] = []
    for place in dict.fromkeys((fetched, *kept)):
        tip = session.repo.ref(place)
        if tip is None:
            continue
        who = name if place == fetched else f"{name} now"
        store = SealStore(Git(session.repo.common_dir), stream_id, session.repo.object_format)
        try:
            anchors += compare_copy(source, store, tip, stream_id=stream_id, public_key=public_key, who=who)
        finally:
            store.close()
    if not anchors:
        raise UsageError(
            f"{name} has no copy of this record",
            id="AG0479",
            where=f"record {stream_id}",
            hint=f"agentgov sync {name}",
        )
    return anchors


def _log_key(source: RecordSource, trust: Trust) -> bytes:
    """The record's key: as it is known here, else as its first entry says; `verify` judges that entry."""
    if trust.public_key is not None:
        return bytes.fromhex(trust.public_key)
    if trust.pin is not None:
        return bytes.fromhex(trust.pin.public_key)
    tail = source.tail()
    first = next((seal.lines()[0] for seal in source.seals()), None)
    if first is None and tail.records:
        first = tail.records[0].line
    if first is None:
        raise UsageError("there is no record here to compare", id="AG0479")
    return bytes.fromhex(parse_entry(first).body["public_key"])
