"""What the harness says to an agent and about its calls: short texts, no decisions.

Rules kept here:
- Text that came from an agent leaves here printable, on one line and cut.
- A denial says what, why and what now, and no way around it.
"""

from __future__ import annotations

import json

from agentgov.calls import ToolCall, Verdict
from agentgov.text import printable

SUMMARY_LIMIT = 160


def summary_of(call: ToolCall) -> str:
    """Return one printable line that says what a call is: the command, the path, the address."""
    if call.command is not None:
        text = call.command
    elif targets := (*call.writes, *call.deletes, *call.urls, *call.reads):
        text = " ".join(targets)
    elif call.kind == "agent":
        text = call.input.get("subagent_type") or call.input.get("description") or ""
    else:
        text = json.dumps(dict(call.input), ensure_ascii=False)
    # A line feed ends a command: shown as a space it would make the next one look like an argument.
    return printable(str(text).strip(), limit=SUMMARY_LIMIT)


def denial(run: str, n: int, call: ToolCall, verdict: Verdict) -> str:
    """Return what an agent is told about a call that policy denied."""
    rules = ", ".join(verdict.rules) or "default"
    return (
        f"agentgov denied this call: rule {rules} ({verdict.where}).\n"
        f"`{summary_of(call)}`: {printable(verdict.reason)}. Do not retry it in another form.\n"
        f"Go on without it, or say to the user that you need it. Reference {run}:{n}"
    )


def refusal(run: str, n: int, call: ToolCall, by: str) -> str:
    """Return what an agent is told about a call that a person refused, or that nobody answered for."""
    why = {
        "operator": "a person said no",
        "timeout": "nobody answered in time",
        "run-ended": "the run is ending",
    }[by]
    return (
        f"agentgov asked about this call and {why}.\n"
        f"`{summary_of(call)}` did not run. Do not retry it in another form. Reference {run}:{n}"
    )


def changed(n: int, call: ToolCall, verdict: Verdict) -> str:
    """Return what a person is told about a call that another hook changed after it was judged."""
    rules = f", against rule {', '.join(verdict.rules) or 'default'}" if verdict.decision != "allow" else ""
    return f"a hook changed call {n} after it was judged, and this ran{rules}: {summary_of(call)}"


def unreadable(why: str) -> str:
    """Return what an agent is told when its hook's event cannot be read."""
    return f"agentgov denied this call: its hook event could not be read ({printable(why)})"


BROKEN = "agentgov denied this call: the recorder failed, and the run is being stopped"
STRANGER = "agentgov denied this call: it does not come from the agent of this run"
