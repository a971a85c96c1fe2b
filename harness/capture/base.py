"""What the recorder knows about an agent: one small adapter per agent behind one Protocol.

Rules kept here:
- An adapter translates; it never judges, records or prints.
- What an agent sends is ``raw_*`` until an adapter parsed it; an adapter that cannot read an event raises,
  and the recorder then denies the call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from agentgov.calls import ToolCall, Verdict
from agentgov.errors import AgentgovError

HookKind = Literal[
    "pre", "post", "post-failed", "session", "subagent-start", "subagent-stop", "turn-end", "other"
]


class BrokenEventError(AgentgovError):
    """An agent's hook sent what its adapter cannot read; the call it announces is denied."""

    def __init__(self, message: str) -> None:
        super().__init__(message, id="AG0060")


@dataclass(frozen=True, slots=True)
class HookEvent:
    """One event of an agent's hook.

    Attributes:
        kind: What happened.
        call: The call it is about, for ``pre``, ``post`` and ``post-failed``.
        output: What the tool returned, as the agent reports it.
        interrupted: True when a failed call was aborted rather than finished with an error.
        session_id: The agent's own id of the session.
        actor_id: The sub-agent's id, None for the main agent.
        actor_type: The sub-agent's type.
        model: The model's name where the event says it.
        spawned_id: For the result of a call that started a sub-agent: that sub-agent's id.
        transcript: Where the agent keeps its own log of the session, as it says.
    """

    kind: HookKind
    call: ToolCall | None = None
    output: bytes | None = None
    interrupted: bool = False
    session_id: str | None = None
    actor_id: str | None = None
    actor_type: str | None = None
    model: str | None = None
    spawned_id: str | None = None
    transcript: str | None = None


@dataclass(frozen=True, slots=True)
class CaptureContext:
    """What an adapter needs to prepare an agent for a run.

    Attributes:
        socket: The recorder's socket.
        recorder_pid: The process that listens there.
        private_dir: A 0700 folder outside the work tree for files of this run.
        python: Absolute path of an interpreter for the hook client.
        timeout_program: Absolute path of ``timeout``, which ends a hook that hangs.
        hook_timeout_seconds: How long a hook may take; above the time a person has to answer.
        cwd: The folder the agent will start in.
        env: The environment the agent will get.
    """

    socket: Path
    recorder_pid: int
    private_dir: Path
    python: str
    timeout_program: str
    hook_timeout_seconds: int
    cwd: Path
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Prepared:
    """An agent's command, ready for the run.

    Attributes:
        argv: The command to start.
        hooks: Whether its tool calls will be seen.
        env: Variables to set, or with None to remove.
        files: Files that were written for the run.
        warnings: What the person should know before it starts.
        guards: Each says, whenever it is asked, what now keeps calls from being recorded; None for nothing.
    """

    argv: Sequence[str]
    hooks: bool
    env: Mapping[str, str | None] = field(default_factory=dict)
    files: Sequence[Path] = ()
    warnings: Sequence[str] = ()
    guards: Sequence[Callable[[], str | None]] = ()


@dataclass(frozen=True, slots=True)
class HookAnswer:
    """What a hook command prints and returns."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int = 0


class Capture(Protocol):
    """How one agent is observed and stopped."""

    name: str
    program: str

    def recognise(self, argv: Sequence[str]) -> bool:
        """Tell whether a command starts this agent."""

    def is_headless(self, argv: Sequence[str]) -> bool:
        """Tell whether a command runs the agent without a person at the terminal."""

    def version_command(self, argv: Sequence[str]) -> Sequence[str] | None:
        """Return the command that prints the agent's version, if there is one."""

    def parse_version(self, raw_output: bytes) -> str | None:
        """Read the version from what that command printed."""

    def prepare(self, argv: Sequence[str], context: CaptureContext) -> Prepared:
        """Make the command ready for the run.

        Raises:
            UsageError: The command switches off what the run needs.
        """

    def parse(self, event: str, raw: bytes) -> HookEvent:
        """Read one hook event.

        Raises:
            BrokenEventError: The event cannot be read.
        """

    def settled_calls(self, event: HookEvent, open_ids: Collection[str]) -> set[str]:
        """Return those open calls which the agent's own log already holds a result for.

        A call that the agent, or its user, refused after the hook has no result event.
        """

    def ran_calls(self, transcripts: Collection[str], since_us: int) -> set[str]:
        """Return the calls that ran since a moment, by the agent's own logs of its sessions."""

    def model_of(self, event: HookEvent) -> str | None:
        """Return the model behind an event, where the agent's own log names it."""

    def answer(self, event: str, verdict: Verdict | None, message: str) -> HookAnswer:
        """Say a verdict in the agent's words. None is no verdict: the agent goes on as it would."""
