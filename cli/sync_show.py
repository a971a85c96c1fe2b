"""What `agentgov sync` says: before anything leaves, and what became of it."""

from __future__ import annotations

import shlex
from typing import Any

from agentgov.cli.screen import Screen, notes, plural, results
from agentgov.errors import ExitCode
from agentgov.git import short_ref
from agentgov.harness.syncing import Chosen, Syncing
from agentgov.ledger.sync import Plan
from agentgov.ledger.sync_fetch import stream_of

_SHOWN = 10
_WHAT = {
    "args": "what calls were given",
    "changes": "intents, and which lines of which files changed; no content",
    "output": "what calls printed",
    "patch": "content of changes",
}
_UNITS = ("B", "KiB", "MiB", "GiB")


def show_plan(chosen: Chosen, plan: Plan) -> None:
    """Say what would leave and where to, on stderr."""
    out = notes()
    out.line("What leaves this machine, and where to:", "bold")
    out.line(f"  to        {chosen.remote.name}      {chosen.remote.shown}")
    if plan.stream_id is None:
        out.line("  record    none: this clone has recorded nothing of its own")
    else:
        text = f"{plural(plan.entries, 'entry')}" if plan.entries == 1 else f"{plan.entries} entries"
        out.line(f"  record    {text}, signed, {size(plan.size_bytes)}; no path, argument or text is in them")
    if plan.witnesses:
        out.line(f"  witness   {plural(plan.witnesses, 'signature')} of witnesses or time stamps")
    for cls in sorted(chosen.classes):
        part = plan.payloads.get(cls)
        if part is not None:
            out.line(f"  {cls:<9} {plural(len(part.runs), 'run')}, {size(part.size_bytes)}: {_WHAT[cls]}")
    stays = ", ".join(f"{_WHAT[cls]} ({cls})" for cls in sorted(plan.held_back)) or "nothing else is kept"
    out.line(f"  stays     {stays}")
    if chosen.mirror is not None:
        out.line(
            f"  mirror    the same record on the branch {short_ref(chosen.mirror)}, and on no other branch"
        )
    else:
        out.line("  there     under refs/agentgov/; no branch is touched")
    if not chosen.protected:
        out.line("            (no settings on a protected branch: the default classes)")


def show_outcome(doing: Syncing, plan: Plan) -> None:
    """Say what became of it."""
    out = results()
    broken = doing.exit_code in (ExitCode.BROKEN, ExitCode.INCOMPLETE)
    out.line(_headline(doing, plan), "bold red" if broken else "bold")
    received = doing.received
    taken = sum(item.refused is None for item in doing.sent)
    if taken:
        runs = {run for part in plan.payloads.values() for run in part.runs}
        carried = f", content of {plural(len(runs), 'run')}" if runs else ""
        out.line(f"  sent      {_entries(plan)}{carried}, to {doing.chosen.remote.shown}")
    records = {stream_of(ref) for ref in (*received.new, *received.advanced)} - {None, doing.stream_id}
    if records:
        out.line(f"  fetched   {plural(len(records), 'record')} of others      agentgov verify --all")
    for finding in doing.findings[:_SHOWN]:
        out.line(f"  WRONG     {finding.ref}", "red")
        out.line(f"            {finding.text}")
        if finding.kept is not None:
            out.line(f"            kept here as {finding.kept}")
    for item in doing.refused[:_SHOWN]:
        out.line(f"  refused   {item.ref}: {item.refused}", "yellow")
    if doing.outlived:
        out.line(
            f"  outlived  {plural(len(doing.outlived), 'ref')} of content that is no longer the same here",
            "yellow",
        )
    _show_lists(out, doing)
    if doing.offer.odd:
        out.line(f"  odd       {plural(doing.offer.odd, 'name')} under refs/agentgov/ there is none of ours")
    _show_next(doing)


def _show_lists(out: Screen, doing: Syncing) -> None:
    if doing.mirrored is not None:
        newer = (
            f"{plural(len(doing.mirrored.newer), 'record')} newer" if doing.mirrored.newer else "up to date"
        )
        out.line(f"  mirror    {short_ref(doing.mirrored.branch)}: {newer}")
    if doing.archived:
        out.line(f"  archived  {plural(len(doing.archived), 'record')} that ended, witnessed whole")
    for stream_id, why in doing.unarchived[:_SHOWN]:
        out.line(f"  left out  {stream_id}: {why}", "yellow")
    for stream_id, why in doing.skipped[:_SHOWN]:
        out.line(f"  skipped   {stream_id}: {why}", "yellow")


def _show_next(doing: Syncing) -> None:
    out = notes()
    remote = doing.chosen.remote.name
    if doing.exit_code is ExitCode.OK and any(item.refused is None for item in doing.sent):
        out.line(f"is it the same there: agentgov verify --against {shlex.quote(remote)}", "dim")
    if any(finding.code == "ahead" for finding in doing.findings):
        out.line("help: if this clone was copied or restored from a backup: agentgov ledger restart")
    if any(finding.code in ("forked", "shorter", "gone") for finding in doing.findings):
        out.line(f"help: compare the copies: agentgov verify --against {remote}")
    if doing.outlived:
        out.line(
            "help: content that was erased here is still there; to remove it there, as far as others allow:"
        )
    for ref in doing.outlived[:_SHOWN]:
        out.line(f"      git push {remote} :{ref}")
    if doing.archived:
        out.line("help: an archived record's own ref may go; the archive keeps it:")
        out.line(f"      git push {remote} :refs/agentgov/ledger/{doing.archived[0].stream_id}")


def _headline(doing: Syncing, plan: Plan) -> str:
    name = doing.chosen.remote.name
    if doing.exit_code is ExitCode.BROKEN:
        return f"REWRITTEN: the copy at {name} does not continue what was seen before"
    if doing.exit_code is ExitCode.INCOMPLETE:
        return f"INCOMPLETE: {name} names what it does not give"
    if doing.refused:
        return f"{name} refused {len(doing.refused)} of {len(doing.sent)}"
    if not any(item.refused is None for item in doing.sent):
        return f"{name} has all there is; nothing was sent"
    return f"Sent to {name}."


def _entries(plan: Plan) -> str:
    return "1 entry" if plan.entries == 1 else f"{plan.entries} entries"


def size(size_bytes: int) -> str:
    """A number of bytes as people say it: `812 B`, `1.4 MiB`."""
    value, unit = float(size_bytes), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{size_bytes} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def report_json(doing: Syncing, plan: Plan, *, dry_run: bool, agreed: bool) -> dict[str, Any]:
    """The same for programs."""
    received = doing.received
    mirrored = doing.mirrored
    return {
        "v": 1,
        "ok": doing.exit_code is ExitCode.OK,
        "exit_code": int(ExitCode.OK if dry_run else doing.exit_code),
        "dry_run": dry_run,
        "agreed": agreed,
        "remote": doing.chosen.remote.name,
        "url": doing.chosen.remote.shown,
        "record": doing.stream_id,
        "plan": {
            "entries": plan.entries,
            "bytes": plan.size_bytes,
            "witnesses": plan.witnesses,
            "classes": {
                cls: {"runs": list(part.runs), "bytes": part.size_bytes}
                for cls, part in plan.payloads.items()
            },
            "stays": dict(plan.held_back),
            "refs": sorted(plan.targets),
            "mirror": doing.chosen.mirror,
        },
        "sent": [item.ref for item in doing.sent if item.refused is None],
        "refused": [{"ref": item.ref, "why": item.refused} for item in doing.refused],
        "outlived": doing.outlived,
        "fetched": {"new": list(received.new), "advanced": list(received.advanced), "same": received.same},
        "findings": [
            {"code": found.code, "ref": found.ref, "kept": found.kept, "why": found.text}
            for found in doing.findings
        ],
        "mirror": None
        if mirrored is None
        else {"branch": mirrored.branch, "commit": mirrored.commit, "newer": _ids(mirrored.newer)},
        "archived": _ids(doing.archived),
        "unarchived": [{"record": stream_id, "why": why} for stream_id, why in doing.unarchived],
        "skipped": [{"record": stream_id, "why": why} for stream_id, why in doing.skipped],
        "odd": doing.offer.odd,
    }


def _ids(heads: Any) -> list[str]:
    return [head.stream_id for head in heads]
