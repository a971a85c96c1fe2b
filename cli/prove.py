"""`agentgov prove`: one call, or one entry, in one small file that anybody can check alone."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from agentgov.cli.screen import notes, plural, print_json
from agentgov.cli.session import Session
from agentgov.errors import IncompleteError, UsageError
from agentgov.ids import RunRef, parse_run_ref
from agentgov.ledger.commitments import Commitment, commitments_of, tombstones_of
from agentgov.ledger.entry import Entry
from agentgov.ledger.proof_extra import ProvenPayload, parse_extra
from agentgov.ledger.proving import SealedTree, make_proof
from agentgov.ledger.tlog_policy import Policy
from agentgov.ledger.tlog_proof import SUFFIX, TlogProof

WITNESSES = ".agentgov/witnesses"
_is_stream = re.compile(r"[0-9a-f]{32}").fullmatch


def command(
    what: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]:N", help="Call N of a run; of the last run if it is left out."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where to write it; - is stdout. Default RUN-N.tlog-proof."
        ),
    ] = None,
    number: Annotated[
        int | None,
        typer.Option("--entry", metavar="SEQ", min=0, help="One entry of the record instead of a call."),
    ] = None,
    stream: Annotated[
        str | None,
        typer.Option("--record", metavar="ID", help="With --entry: another record in this repository."),
    ] = None,
    payloads: Annotated[
        bool, typer.Option("--payloads", help="With the content: arguments, output, changes.")
    ] = False,
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", metavar="NAME", help="With this content only: args, output, changes, ..."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,...}.')] = False,
) -> None:
    """Write one call, or one entry, into a file that anybody can check alone.

    The file holds the exact entries, their place in the record and its signature, and who stands
    behind its key. It is checked with `agentgov verify FILE --trust KEYS`, without this repository.
    Without --payloads it shows that a call was recorded, not what it said.

    Exit code 0: written. 3: not saved here, or the content is not here. 12: the record is damaged.

    Examples:

      agentgov prove 7kq2f:6

      agentgov prove :6 -o call.proof --field args

      agentgov prove --entry 412 -o - | tail -5
    """
    if (what is None) == (number is None) or (stream is not None and number is None):
        raise UsageError(
            "name one call, or one entry",
            id="AG0317",
            hint=("agentgov prove :6", "agentgov prove --entry 412"),
        )
    session = Session.here(bare_ok=True)
    stream_id, numbers, name = _find(session, what, number, stream)
    if output is None:
        output = Path(f"{name}{SUFFIX}")
    if str(output) != "-" and os.path.lexists(output):
        raise _exists(output)
    with _sealed(session, stream_id, max(numbers)) as tree:
        wanted = _content(
            session, [tree.record(seq).entry for seq in numbers], all_of=payloads, fields=fields or ()
        )
        proof = make_proof(
            tree, session.repo, numbers[0], related=numbers[1:], payloads=wanted, policy=_policy(session)
        )
    raw = proof.to_bytes()
    _write(output, raw)
    _report(proof, output, len(raw), as_json=as_json)


def _find(
    session: Session, what: str | None, number: int | None, stream: str | None
) -> tuple[str, list[int], str]:
    """The record, the numbers of the entries with the proven one first, and a name for the file."""
    if what is not None:
        ref: RunRef = parse_run_ref(what)
        if not isinstance(ref.point, int) or ref.end is not None:
            raise UsageError("name one call of the run", id="AG0317", where=what, hint="agentgov show")
        run = session.find_run(ref.run)
        run.tree_after(ref.point)
        call = run.calls[ref.point]
        entries = [entry for entry in (call.request, call.answer, call.result) if entry is not None]
        return call.request.log.rpartition("/")[2], [entry.seq for entry in entries], f"{run.run}-{ref.point}"
    if stream is not None and _is_stream(stream) is None:
        raise UsageError("a record is named by its 32 hex characters", id="AG0317", where=stream)
    from agentgov.ledger.keys import read_stream_id

    own = stream or read_stream_id(session.layout.stream_file)
    if own is None:
        session.demand_record()
    assert number is not None  # noqa: S101 - one of both was given, for the type checker
    return own or "", [number], f"entry-{number}"


def _sealed(session: Session, stream_id: str, last: int) -> SealedTree:
    """The record's saved part, which covers entry `last`; what is not saved yet is saved first."""
    from agentgov.ledger.keys import read_stream_id

    own = read_stream_id(session.layout.stream_file) == stream_id and session.is_bound
    with contextlib.suppress(IncompleteError):
        tree = SealedTree(session.repo, stream_id)
        if last < tree.size or not own:
            return tree
        tree.close()
    if own:
        session.stream.seal()
    return SealedTree(session.repo, stream_id)


def _content(
    session: Session, entries: Sequence[Entry], *, all_of: bool, fields: Sequence[str]
) -> list[ProvenPayload]:
    """The content that was asked for."""
    committed = [item for entry in entries for item in commitments_of(entry)]
    chosen = [item for item in committed if all_of or item.field in fields]
    missing = set(fields) - {item.field for item in committed}
    if missing:
        there = ", ".join(dict.fromkeys(item.field for item in committed)) or "nothing"
        raise UsageError(
            f"it has no content {', '.join(sorted(missing))}; it has {there}",
            id="AG0317",
            hint="agentgov prove :6 --field args",
        )
    return [_payload(session, item) for item in chosen]


def _payload(session: Session, item: Commitment) -> ProvenPayload:
    payload = session.payloads.get(item.run, item.digest)
    if payload is None:
        from agentgov.ledger.reader import read_continued

        gone = tombstones_of(signed.entry for signed in read_continued(session.repo)).is_gone(item)
        why = "was erased on purpose" if gone else "is not on this machine"
        raise IncompleteError(
            f"the content {item.field} of entry {item.seq} {why}",
            id="AG0414",
            hint="without --payloads the entry is proven all the same; --field names what to take along",
        )
    return ProvenPayload(payload.cls, payload.field, payload.salt, payload.value)


def _policy(session: Session) -> Policy | None:
    """The witnesses that the protected branch names."""
    from agentgov.gates.adoption import protected_commit, read_at

    found = protected_commit(session.repo, session.state)
    raw = None if found is None else read_at(session.repo, found[0], WITNESSES)
    return None if raw is None else Policy.parse(raw, where=WITNESSES)


def _write(output: Path, raw: bytes) -> None:
    """Write the file whole or not at all."""
    if str(output) == "-":
        sys.stdout.buffer.write(raw)
        sys.stdout.buffer.flush()
        return
    try:
        # It may hold what a call said: nobody else is to read it before it is handed on.
        fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise _exists(output) from None
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            output.unlink()
        raise


def _report(proof: TlogProof, output: Path, size_bytes: int, *, as_json: bool) -> None:
    extra = parse_extra(proof.extra or b"")
    head = proof.checkpoint
    shown = [payload.field for payload in extra.payloads]
    numbers = [proof.index, *(item.index for item in extra.related)]
    cosigners = len(proof.note.signatures) - 1
    if as_json and str(output) != "-":
        print_json(
            {
                "v": 1,
                "file": str(output),
                "bytes": size_bytes,
                "entries": numbers,
                "log": head.origin,
                "size": head.size,
                "content": shown,
                "endorsements": len(extra.endorsements),
                "cosignatures": cosigners,
            }
        )
        return
    out = notes()
    out.line(f"agentgov: {output}, {plural(size_bytes, 'byte')}: {_list(numbers)} of {head.size}", "bold")
    out.line(f"  content      {', '.join(shown) if shown else 'none: hashes only (--payloads)'}")
    behind = "nobody yet: the first agentgov approve or sync asks for it"
    if extra.endorsements:
        behind = plural(len(extra.endorsements), "person")
    out.line(f"  behind it    {behind}")
    out.line(f"  witnesses    {cosigners or 'none yet: agentgov witness'}")
    if str(output) != "-":
        out.line(f"check it       agentgov verify {output} --trust KEYS")


def _list(numbers: Sequence[int]) -> str:
    return f"{'entry' if len(numbers) == 1 else 'entries'} {', '.join(map(str, numbers))}"


def _exists(output: Path) -> UsageError:
    return UsageError(
        "this file is there already and is not written over",
        id="AG0318",
        where=str(output),
        hint="another name: -o FILE",
    )
