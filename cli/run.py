"""`agentgov run`: wrap an agent's run."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from agentgov.cli.reporting import JsonReporter, RunReporter
from agentgov.cli.session import state_home
from agentgov.clock import SystemClock
from agentgov.errors import AgentgovError, RunFailedError, UsageError
from agentgov.harness.process import NotExecutableError, NotFoundError
from agentgov.harness.request import Deps, Reporter, RunRequest
from agentgov.harness.run import run_agent
from agentgov.harness.terminal import is_interactive, plan_ownership


class WorkspaceChoice(StrEnum):
    """Where the agent may work."""

    AUTO = "auto"
    CLONE = "clone"
    IN_PLACE = "in-place"


def command(
    argv: Annotated[
        list[str] | None, typer.Argument(metavar="-- CMD...", help="The agent and its arguments.")
    ] = None,
    intent: Annotated[
        str | None,
        typer.Option("--intent", "-i", help="What the run is for, in your words.", envvar="AGENTGOV_INTENT"),
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", help="The agent, where its command does not show it.")
    ] = None,
    workspace: Annotated[
        WorkspaceChoice | None,
        typer.Option("--workspace", "-w", help="auto: in place with a terminal, else in a clone."),
    ] = None,
    include_dirty: Annotated[
        bool, typer.Option("--include-dirty", help="Copy your uncommitted changes into the clone.")
    ] = False,
    policy_ref: Annotated[
        str | None, typer.Option("--policy-ref", metavar="REF", help="Take the rules from this ref.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as one object on stderr.")] = False,
) -> None:
    """Run an agent: record every call, judge it before it runs, keep its work apart.

    The agent's output and exit code pass through. If agentgov itself cannot start or go on, the code is
    125; 126 and 127 mean that the command cannot be executed or was not found.

    Examples:

      agentgov run -- claude

      agentgov run --intent "fix the failing test" -- claude -p "fix the failing test"

      agentgov run --workspace in-place -- ./my-agent.sh
    """
    if not argv:
        raise UsageError(
            "there is no command to run", id="AG0068", hint="agentgov run -- claude -p 'fix the failing test'"
        )
    home = os.environ.get("HOME")
    request = RunRequest(
        start=Path.cwd(),
        argv=argv,
        env=dict(os.environ),
        home=Path(home) if home else None,
        intent=intent,
        agent=agent,
        workspace=None if workspace is None else workspace.value,
        include_dirty=include_dirty,
        policy_ref=policy_ref,
        interactive=is_interactive(),
        ownership=plan_ownership(),
    )
    reporter: Reporter = JsonReporter() if as_json else RunReporter()
    deps = Deps(state=state_home(os.environ), clock=SystemClock(), random=os.urandom)
    try:
        outcome = run_agent(request, reporter, deps)
    except (NotFoundError, NotExecutableError):
        raise
    except AgentgovError as error:
        # The codes of agents pass through; ours must be one apart, as for env and timeout.
        raise RunFailedError(
            error.message, id=error.id, where=error.where, hint=error.hint, facts=error.facts
        ) from error
    except OSError as error:
        what = f"a file cannot be read or written: {error.strerror or type(error).__name__}"
        where = None if error.filename is None else os.fsdecode(error.filename)
        raise RunFailedError(what, id="AG0313", where=where) from error
    raise typer.Exit(outcome.exit_code)
