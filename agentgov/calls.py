"""What a tool call is and what was decided about it, in words that no agent owns.

Rules: `harness/capture` makes these out of an agent's own dialect, `gates` judges them; neither needs to know
the other. Everything in a `ToolCall` was said by the agent: it is data to judge, never a fact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

CallKind = Literal["shell", "write", "edit", "delete", "read", "search", "fetch", "agent", "mcp", "other"]
"""What a tool does, whatever an agent calls it."""

Decision = Literal["allow", "ask", "deny"]
"""What policy says about a call: deny > ask > allow."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool call as an agent announced it, before it runs.

    Attributes:
        tool: The tool's name in the agent's own words.
        kind: What the tool does.
        call_id: The agent's id that ties the call to its result.
        actor_id: The sub-agent's id; None for the main agent.
        actor_type: The sub-agent's type; None for the main agent.
        session_id: The agent's session, if it names one.
        cwd: The folder the call would run in.
        input: The tool's arguments as announced.
        command: The shell command line, for kind "shell".
        reads: Paths it would read, as announced; relative ones are relative to `cwd`.
        writes: Paths it would write.
        deletes: Paths it would delete.
        urls: Addresses it would connect to.
    """

    tool: str
    kind: CallKind
    call_id: str
    actor_id: str | None
    actor_type: str | None
    session_id: str | None
    cwd: Path
    input: Mapping[str, Any]
    command: str | None = None
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    deletes: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What policy decided about one call, and on which ground.

    Attributes:
        decision: allow, ask or deny.
        rules: The names of the rules that decided, empty when none matched.
        policy: The digest (hex) of the policy that was asked.
        reason: One sentence for the agent and the person.
        where: The file and line of the deciding rule, or the name of a built-in set.
        effects: The effects that were judged, printable, such as "fs.delete important/".
    """

    decision: Decision
    rules: tuple[str, ...]
    policy: str
    reason: str
    where: str
    effects: tuple[str, ...]
