"""What a run is asked for, what it tells while it lasts, and what came of it: data only.

Rules kept here:
- Nothing is printed here or below; a :class:`Reporter` hears of it.
- What comes from an agent is printable already when it gets here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agentgov.clock import Clock, Random
from agentgov.harness.session import Denied
from agentgov.harness.steps import FileTotal
from agentgov.harness.terminal import Ownership
from agentgov.harness.workspace import Mode
from agentgov.ids import RunId
from agentgov.layout import StateHome


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What ``agentgov run`` was asked for.

    Attributes:
        start: The folder the user stands in.
        argv: The agent's command.
        env: The user's environment, which the agent gets.
        home: The user's home folder, for policy.
        intent: What the run is for, in the user's words.
        agent: The agent's name, where the command does not show it; "files-only" for no hooks.
        workspace: Where it works; None for what the settings say.
        include_dirty: Copy uncommitted work into a copy.
        policy_ref: The ref to take policy from, where the user names one.
        organisation_policy: The organisation's policy file, which comes before all others.
        interactive: A person sits at a terminal at both ends.
        ownership: Who owns the terminal (:func:`agentgov.harness.terminal.plan_ownership`).
    """

    start: Path
    argv: Sequence[str]
    env: Mapping[str, str]
    home: Path | None = None
    intent: str | None = None
    agent: str | None = None
    workspace: Mode | None = None
    include_dirty: bool = False
    policy_ref: str | None = None
    organisation_policy: Path | None = None
    interactive: bool = False
    ownership: Ownership = "none"


@dataclass(frozen=True, slots=True)
class Deps:
    """What the outside world gives a run."""

    state: StateHome
    clock: Clock
    random: Random


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What is known when the agent is about to start.

    Attributes:
        run: The run.
        agent: The agent's name.
        agent_version: Its version, if it says.
        hooks: Whether its calls will be seen.
        files: "watch" or "scan".
        place: "clone" or "in-place".
        root: The top of the tree it works in.
        base: The commit it starts from.
        base_branch: The branch that is checked out, as ``refs/heads/main``; None when detached.
        carried: What was copied besides tracked files.
        left_out_dirty: Files with uncommitted work that were left out.
        included_dirty: Files with uncommitted work that were copied.
        policy: Digest of the rules.
        policy_source: Where the rules come from.
        unprotected: Nobody but whoever made the base commit stands behind the rules.
    """

    run: RunId
    agent: str
    agent_version: str | None
    hooks: bool
    files: str
    place: str
    root: Path
    base: str
    base_branch: str | None
    carried: Sequence[str]
    left_out_dirty: int
    included_dirty: int
    policy: str
    policy_source: str
    unprotected: bool


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What came of a run.

    Attributes:
        info: What was known at its start.
        exit_code: What to exit with: the agent's own code, or 125 when recording failed.
        state: "finished", "stopped" or "failed".
        took_us: How long it lasted.
        calls: Calls that were announced.
        ran: Calls that ran.
        denied: Calls that did not, in order.
        unrecorded: Results that came in for no announced call.
        saw_hooks: Whether any hook was heard; without one, calls cannot be told from none.
        model: The model's name, if it was seen.
        files: Paths that differ between start and end.
        lines_with_call: Changed lines that belong to a call.
        lines: All changed lines.
        ended: Left-over processes that were ended.
        tree: The last snapshot.
        result: The result tree; None when it could not be made.
        problems: What keeps the result from landing, one line each.
        skipped: What no snapshot holds, as (path, reason).
        warnings: What was out of order, one line each.
    """

    info: RunInfo
    exit_code: int
    state: str
    took_us: int
    calls: int
    ran: int
    denied: Sequence[Denied]
    unrecorded: int
    saw_hooks: bool
    model: str | None
    files: Sequence[FileTotal]
    lines_with_call: int
    lines: int
    ended: int
    tree: str
    result: str | None
    problems: Sequence[str]
    skipped: Sequence[tuple[bytes, str]]
    warnings: Sequence[str]


class Reporter(Protocol):
    """Who hears of a run: the command line, or a test."""

    def first_use(self, record: Path) -> None:
        """There was no record in this repository until now."""

    def policy(self, source: str, digest: str, *, changed: bool) -> None:
        """Rules were adopted: at first use, and whenever they change."""

    def recovered(self, run: RunId) -> None:
        """An earlier run whose recorder had died was closed."""

    def started(self, info: RunInfo) -> None:
        """The agent is about to start."""

    def warning(self, text: str) -> None:
        """Something is not as it should be."""

    def asks(self, ask: dict[str, Any]) -> None:
        """A call waits for a person (as ``agentgov pending`` lists it)."""

    def denied(self, n: int, what: str, rules: Sequence[str], where: str) -> None:
        """A call was denied."""

    def finished(self, outcome: RunOutcome) -> None:
        """The run is over."""
