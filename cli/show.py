"""`agentgov show`: one run call by call, or one call whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from agentgov.cli.screen import Screen, duration, plural, print_json, results
from agentgov.cli.session import Session
from agentgov.ledger.history import RunRecord
from agentgov.report.facts import FileFact
from agentgov.report.runs import CallView, RunView, call_detail, call_views, file_json, run_view, total_files
from agentgov.text import printable

OUTPUT_LINES = 40


def command(
    what: Annotated[
        str | None,
        typer.Argument(metavar="[RUN][:N]", help="A run, or call N of it; the last run if left out."),
    ] = None,
    all_calls: Annotated[bool, typer.Option("--all", "-a", help="Reads too, and long output whole.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,"run":{...},...}.')] = False,
) -> None:
    """One run call by call, or one call whole.

    Examples:

      agentgov show              the last run here

      agentgov show 7kq2f        that run

      agentgov show :9           call 9 of the last run: arguments, output, verdict, changes
    """
    session = Session.here()
    run, ref = session.resolve(what)
    view = run_view(run, session.payloads, session.is_live)
    if isinstance(ref.point, int):
        run.tree_after(ref.point)
        detail = call_detail(run, run.calls[ref.point], session.payloads)
        if as_json:
            print_json({"v": 1, "run": run.run, "call": detail})
        else:
            _show_call(results(), run, detail, whole=all_calls)
        return
    calls = call_views(run, session.payloads)
    files = total_files(run, session.payloads)
    if as_json:
        print_json(
            {
                "v": 1,
                "run": view.to_json(),
                "calls": [call.to_json() for call in calls],
                "files": None if files is None else [file_json(file) for file in files],
                "unattributed": _unattributed(run, session),
            }
        )
        return
    _show_run(results(), run, view, calls, _unattributed(run, session), all_calls=all_calls)


def _unattributed(run: RunRecord, session: Session) -> list[dict[str, Any]]:
    from agentgov.report.facts import changed_files

    found = []
    for step in run.steps:
        if step.owner is not None or step.changes is None or step.kind == "run.rollback":
            continue
        files = changed_files(run, session.payloads, step.changes)
        found.append(
            {
                "entry": step.seq,
                "kind": step.kind,
                "files": None if files is None else [file_json(file) for file in files],
            }
        )
    return found


def _show_run(
    out: Screen,
    run: RunRecord,
    view: RunView,
    calls: list[CallView],
    unattributed: list[dict[str, Any]],
    *,
    all_calls: bool,
) -> None:
    model = f" ({view.model})" if view.model else ""
    ended = "" if view.exit is None else f", exit {view.exit}"
    took = (
        ""
        if view.ended_us is None or view.started_us is None
        else f", {duration(view.ended_us - view.started_us)}"
    )
    agent = " ".join(part for part in (view.agent, view.agent_version) if part) or "?"
    out.line(
        f"{view.run}  {view.state}{ended}{took}   {agent}{model}   started by {view.operator or '?'}", "bold"
    )
    no_intent = f"intent {view.intent_missing}" if view.intent_missing else "no intent given"
    intent = f'intent "{view.intent}"' if view.intent else no_intent
    branch = (view.base_branch or "commit").removeprefix("refs/heads/")
    base = f"from {branch} {view.base[:7]}" if view.base else "base unknown"
    result = f"   result tree {view.result[:7]}" if view.result else ""
    rules = f"   rules {view.policy[:4]}" if view.policy else ""
    out.line(f"{intent}     {base}{result}{rules}")
    out.line(
        "seen by hooks and files; model gateway off" if view.hooks else "files only: no hooks for this agent"
    )
    shown = [call for call in calls if all_calls or not _is_plain_read(call)]
    if shown:
        out.columns(
            ["N", "TIME", "WHO", "CALL", "VERDICT", "TOOK", "CHANGED"],
            [_call_row(call) for call in shown],
            right=(0,),
            elastic=3,
            styles={index: "red" for index, call in enumerate(shown) if call.status == "denied"},
            indent="  ",
        )
    hidden = len(calls) - len(shown)
    if hidden:
        out.line(f"  ({plural(hidden, 'read')} hidden: --all)")
    for step in unattributed:
        names = "?" if step["files"] is None else ", ".join(_name(file["path"]) for file in step["files"])
        out.line(f"  no call   {names}   changed while no call was open", "yellow")
    for entry in run.rollbacks:
        point = ":start" if entry.body["to"] < 0 else f":{entry.body['to']}"
        out.line(f"  then rolled back to {point}")
    one = "one call: agentgov show :N     " if calls else ""
    back = "back to a call: agentgov rollback :N" if calls else "take back: agentgov rollback :start"
    out.line(f"{one}changes: agentgov diff     {back}", "dim")


def _is_plain_read(call: CallView) -> bool:
    return call.reads_only and call.status == "ok" and not call.files


def _call_row(call: CallView) -> list[str]:
    seconds = call.offset_us // 1_000_000
    return [
        str(call.n),
        f"+{seconds // 60}:{seconds % 60:02d}",
        call.actor,
        f"{call.tool:<6} {call.what}",
        _verdict(call),
        "-" if call.took_us is None else duration(call.took_us),
        _changed(call),
    ]


def _verdict(call: CallView) -> str:
    if call.status == "denied":
        return "DENIED"
    if call.decision != "ask":
        return "allow"
    if call.answered:
        return "asked, yes"
    return "waits" if call.status == "open" else "no answer"


def _changed(call: CallView) -> str:
    if call.status == "denied":
        return ", ".join(call.rules) or str(call.denied_by)
    if call.status in ("error", "interrupted", "open"):
        return call.status
    if call.files is None:
        return "?"
    return lines_of(call.files) + (" shared" if call.shared else "")


def lines_of(files: Sequence[FileFact]) -> str:
    """`+6 -2`, or how many files when no line can be counted."""
    text = " ".join(_counts(sum(file.added for file in files), sum(file.deleted for file in files)))
    return text or (plural(len(files), "file") if files else "")


def _show_call(out: Screen, run: RunRecord, detail: dict[str, Any], *, whole: bool) -> None:
    status = detail["status"].upper() if detail["status"] == "denied" else detail["status"]
    rules = f" by {', '.join(detail['rules'])}" if detail["rules"] else ""
    out.line(f"{run.run}:{detail['n']}  {detail['tool']}   {status}{rules}", "bold")
    moment = datetime.fromtimestamp(detail["at_us"] / 1_000_000).strftime("%d %b %Y %H:%M:%S")
    took = "" if detail["took_us"] is None else f"   took {duration(detail['took_us'])}"
    out.line(f"  when      {moment}{took}")
    out.line(f"  who       {detail['actor']}" + (f" ({detail['model']})" if detail["model"] else ""))
    out.line(f"  what      {detail['what'] or _absent(detail, 'args')}")
    for name, value in _arguments(detail):
        out.field(name, value, OUTPUT_LINES if not whole else None)
    for effect in detail["effects"] or ():
        out.line(f"  would     {effect}")
    reason = detail["reason"] or "no rule matched"
    out.line(f"  verdict   {detail['decision']}: {reason}   rules {detail['policy'][:4]}")
    if detail["rules"] and detail["where"]:
        out.line(f"  rule at   {detail['where']}")
    if detail["denied_by"] not in (None, "policy"):
        out.line(f"  answer    no, by {detail['denied_by']}")
    if detail["files"] is None:
        out.line(f"  changed   {_absent(detail, 'changes')}")
    for file in detail["files"] or ():
        out.line(f"  changed   {file['status']} {_name(file['path'])} {_file_lines(file)}".rstrip())
    if not detail["files"] and detail["files"] is not None:
        out.line("  changed   nothing")
    if detail["shared"]:
        out.line("  shared    other calls were open at the same time; a change may be theirs")
    _show_output(out, detail, whole=whole)
    out.line(
        f"changes: agentgov diff :{detail['n']}     back to here: agentgov rollback :{detail['n']}", "dim"
    )


def _absent(detail: dict[str, Any], name: str) -> str:
    return f"({detail['missing'].get(name, 'cannot be read')})"


def _show_output(out: Screen, detail: dict[str, Any], *, whole: bool) -> None:
    text = detail["output"]
    if text is None:
        none = "none: it did not run" if detail["status"] == "denied" else "none"
        out.line("  output    " + (_absent(detail, "output") if "output" in detail["missing"] else none))
        return
    limit = None if whole else OUTPUT_LINES
    for name, value in _parts(text):
        out.field(name, printable(value, newlines=True, strip=True), limit)


def _parts(output: str) -> list[tuple[str, str]]:
    """A shell's output as what it printed; any other as it is."""
    try:
        fields = json.loads(output)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or not isinstance(fields.get("stdout"), str):
        return [("output", output)]
    rest = {name: value for name, value in fields.items() if name not in ("stdout", "stderr")}
    said = [("output", fields["stdout"])]
    if isinstance(fields.get("stderr"), str):
        said.append(("stderr", fields["stderr"]))
    shown = [(name, text.removesuffix("\n")) for name, text in said if text]
    shown += [(name, json.dumps(value)) for name, value in rest.items() if value not in (None, False, "", [])]
    return shown or [("output", "nothing")]


def _arguments(detail: dict[str, Any]) -> list[tuple[str, str]]:
    """The arguments that `what` does not say whole, for a person to judge them."""
    given = detail["input"]
    if not isinstance(given, dict):
        return []
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    return [(printable(name), text) for name, text in texts.items() if printable(text) != detail["what"]]


def _name(path: Any) -> str:
    if isinstance(path, str):
        return path
    from agentgov.text import decode_name

    return printable(decode_name(path))


def _file_lines(file: dict[str, Any]) -> str:
    if file["kind"] != "file":
        return str(file["kind"])
    words = ["binary"] if file["added"] is None else _counts(file["added"], file["deleted"])
    if file["executable"] is not None:
        words.append("executable" if file["executable"] else "not executable any more")
    return " ".join(words)


def _counts(added: int, deleted: int) -> list[str]:
    return [word for word in (f"+{added}" if added else "", f"-{deleted}" if deleted else "") if word]
