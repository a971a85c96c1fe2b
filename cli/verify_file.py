"""`agentgov verify FILE`: check a proof that stands alone; neither repository nor record is needed.

Rules kept here:

- Whom to believe is said by the reader (`--trust`), never by the file.
- A wrong, untrusted or incomplete proof is this command's result, with its exit code; a file that cannot be
  read, or keys that are none, are errors of use.
- What one proof cannot show is said each time.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentgov.cli.screen import Screen, duration, plural, print_json, results
from agentgov.errors import (
    AgentgovError,
    BrokenRecordError,
    ExitCode,
    IncompleteError,
    UntrustedSignerError,
    UsageError,
)
from agentgov.ledger import proof_trust, tlog_proof
from agentgov.ledger.entry import Entry
from agentgov.ledger.proof_trust import ProofTrust, parse_trust, read_trust
from agentgov.ledger.proof_verify import LIMITS, ProofReport, verify_proof

_SHOWN_BYTES = 4000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a proof: what it shows, or why it does not."""

    report: ProofReport | None
    error: AgentgovError | None

    @property
    def exit_code(self) -> ExitCode:
        """0, 3, 12 or 13."""
        return ExitCode.OK if self.error is None else self.error.exit_code


def verify_proof_file(path: Path, trust_path: Path | None, *, as_json: bool, explain: bool) -> ExitCode:
    """Check a proof, print what it shows, and return the exit code.

    Args:
        path: The proof.
        trust_path: A file of keys, or a folder like `.agentgov`.
        as_json: Print one object.
        explain: Print every entry and all content whole.

    Raises:
        UsageError: AG0315, nobody is named to believe; AG0316, a file cannot be read.
        ConfigError: AG0402, AG0411, AG0421, AG0422 or AG0464, the keys are not understood.
    """
    if trust_path is None:
        raise UsageError(
            "a proof shows nothing to somebody who trusts nobody",
            id="AG0315",
            where=str(path),
            hint=f"agentgov verify {path} --trust KEYS",
        )
    trust = _read_keys(trust_path)
    verdict = judge(_read(path, tlog_proof.MAX_BYTES), trust)
    if as_json:
        print_json(_to_json(verdict))
    elif verdict.report is not None:
        _show(results(), verdict.report, whole=explain)
    elif verdict.error is not None:
        _show_error(results(), verdict.error)
    return verdict.exit_code


def judge(raw: bytes, trust: ProofTrust) -> Verdict:
    """Check a proof; what is wrong with it is the answer, not an error."""
    try:
        return Verdict(verify_proof(raw, trust), None)
    except (BrokenRecordError, UntrustedSignerError, IncompleteError) as error:
        return Verdict(None, error)


def _read_keys(path: Path) -> ProofTrust:
    if not path.is_dir():
        return parse_trust(_read(path, proof_trust.MAX_BYTES), where=str(path))
    files = {name: path / name for name in proof_trust.FILES}
    # A link to nowhere is there: who was revoked must not come back because it cannot be read.
    return read_trust(
        {name: _read_plain(file) for name, file in files.items() if os.path.lexists(file)}, where=str(path)
    )


def _read_plain(path: Path) -> bytes:
    """Read a file that a folder holds: nobody named it, so nobody waits for what is no file."""
    if path.exists() and not path.is_file():
        raise UsageError("this is no regular file", id="AG0316", where=str(path))
    return _read(path, proof_trust.MAX_BYTES)


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            # One byte more than may be there: the parser then says that it is too long.
            return file.read(most + 1)
    except OSError as error:
        raise UsageError(
            f"this file cannot be read: {error.strerror}", id="AG0316", where=str(path)
        ) from None


def _show(out: Screen, report: ProofReport, *, whole: bool) -> None:
    main = report.entries[0]
    out.line(f"Holds: {_named(main)} stands in this record as it was signed.", "bold")

    def say(status: str, name: str, text: str) -> None:
        out.line(f"  {status:<4} {name:<12} {text}")

    for entry in report.entries:
        say("ok", f"entry {entry.seq}", f"{_what(entry)}, {_when(entry.ts // 1_000_000)} by its own clock")
    head = report.head
    say(
        "ok",
        "signed head",
        f"over {plural(head.size, 'entry').replace('entrys', 'entries')} of {head.origin}",
    )
    if report.persons:
        say("ok", "signer", f"{', '.join(report.persons)} stands behind this record's key")
    if report.by_log:
        say("ok", "key", "you trust this record's key itself")
    if report.approved_by:
        say("ok", "approval", f"signed by {', '.join(report.approved_by)}")
    for name, seconds in report.seen.items():
        say("ok", "witness", f"{name}, {_when(seconds)}")
    if not report.witnesses:
        say(
            "--",
            "witness",
            "none that you name has signed it: whoever has its key could have made all of this",
        )
    if report.stamp is not None:
        say("ok", "time stamp", f"{report.stamp.who}, {_when(report.stamp.ts // 1_000_000)} at the latest")
    elif report.unchecked_stamp is not None:
        say("--", "time stamp", f"one is in the file and does not count: {report.unchecked_stamp}")
    if report.payloads:
        sizes = (f"{payload.field} {plural(len(payload.value), 'byte')}" for payload in report.payloads)
        say("ok", "content", ", ".join(sizes))
    else:
        say("--", "content", "not in the file; it was recorded by its hash only")
    if whole:
        _show_whole(out, report)
    out.line("not shown by one file:")
    for limit in LIMITS:
        out.line(f"  {limit}")


def _show_whole(out: Screen, report: ProofReport) -> None:
    for entry in report.entries:
        out.line(f"entry {entry.seq}:")
        out.block(entry.line().decode("ascii"))
    for payload in report.payloads:
        out.line(f"content, {payload.field}:")
        out.block(payload.value[:_SHOWN_BYTES].decode("utf-8", "replace"))
        if len(payload.value) > _SHOWN_BYTES:
            out.line(f"({len(payload.value) - _SHOWN_BYTES} more bytes: --json)")


def _show_error(out: Screen, error: AgentgovError) -> None:
    word = {ExitCode.BROKEN: "BROKEN", ExitCode.UNTRUSTED: "NOT TRUSTED"}.get(error.exit_code, "NOT COMPLETE")
    out.line(f"{word}: {error.message}", "bold red" if word == "BROKEN" else "bold")
    if error.where:
        out.line(f"  at {error.where}")
    out.line(f"  {error.id}; nothing in this file is to be relied on")
    for hint in error.hint:
        out.line(f"help: {hint}")


def _to_json(verdict: Verdict) -> dict[str, Any]:
    if verdict.report is None:
        error = verdict.error
        return {
            "v": 1,
            "ok": False,
            "exit": int(verdict.exit_code),
            "error": None if error is None else error.id,
            "why": None if error is None else error.message,
            "where": None if error is None else error.where,
        }
    report = verdict.report
    return {
        "v": 1,
        "ok": True,
        "exit": 0,
        "entries": [_entry_json(entry) for entry in report.entries],
        "head": {
            "log": report.head.origin,
            "size": report.head.size,
            "root": report.head.root.hex(),
        },
        "key": {"vkey": report.log_key.text(), "trusted": report.by_log},
        "persons": list(report.persons),
        "approved_by": list(report.approved_by),
        "witnesses": dict(report.seen),
        "payloads": [
            {
                "class": payload.cls,
                "field": payload.field,
                "value": base64.b64encode(payload.value).decode(),
            }
            for payload in report.payloads
        ],
        "timestamp": None if report.stamp is None else {"who": report.stamp.who, "ts": report.stamp.ts},
        "timestamp_unchecked": report.unchecked_stamp,
        "not_shown": list(LIMITS),
    }


def _entry_json(entry: Entry) -> Mapping[str, Any]:
    return {
        "seq": entry.seq,
        "kind": entry.kind,
        "run": entry.run,
        "ts": entry.ts,
        "key": entry.key,
        "body": entry.body,
    }


def _named(entry: Entry) -> str:
    if entry.kind.startswith("call.") and entry.run is not None:
        return f"call {entry.body['n']} of run {entry.run}"
    return f"entry {entry.seq} ({entry.kind})"


def _what(entry: Entry) -> str:
    body = entry.body
    if entry.kind == "call.request":
        rules: Sequence[str] = body["verdict"]["rules"]
        by = f" by {', '.join(rules)}" if rules else ""
        return f"{body['tool']} asked for: {body['verdict']['decision']}{by}"
    if entry.kind == "call.answer":
        return f"answered: {body['answer']} by {body['by']}"
    if entry.kind == "call.result":
        return f"ended: {body['status']}, {duration(body['took_us'])}"
    return entry.kind


def _when(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%d %b %Y %H:%M} UTC".lstrip("0")
    except (OverflowError, OSError, ValueError):
        return f"second {seconds} since 1970"
