"""The command line: which commands there are, and how an error becomes an exit code.

Rules kept here:

- A command's module is imported only when that command is asked for: `agentgov --help` pays for none.
- One place turns an `AgentgovError` into text and an exit code (`main`); no command catches one to exit.
- Results go to stdout, everything said along the way to stderr.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperGroup

from agentgov.errors import AgentgovError, BrokenRecordError, ExitCode, UsageError


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """One line of `agentgov --help`: where the command lives and what it says of itself.

    A group's module has a `typer.Typer` named `group`, every other one a function named `command`.
    """

    module: str
    summary: str
    pass_through: bool = False
    group: bool = False


COMMANDS: dict[str, dict[str, CommandEntry]] = {
    "Run": {
        "run": CommandEntry("run", "Run an agent: record, judge and keep its work apart.", pass_through=True),
        "status": CommandEntry("status", "What is running here, what waits for you, where the record is."),
        "pending": CommandEntry("pending", "Calls that wait for a person's yes or no."),
        "answer": CommandEntry("answer", "Answer a waiting call: yes or no."),
        "demo": CommandEntry("demo", "See the whole product work in a throwaway repository."),
    },
    "Look": {
        "log": CommandEntry("log", "The runs of this repository, newest first."),
        "show": CommandEntry("show", "One run call by call, or one call whole."),
        "diff": CommandEntry("diff", "What a run, or some of its calls, changed."),
    },
    "Take or take back": {
        "apply": CommandEntry("apply", "Bring a run's result into your working tree, uncommitted."),
        "rollback": CommandEntry("rollback", "Put everything back to the state after a call."),
        "drop": CommandEntry("drop", "Throw a run's copy away; its record stays."),
        "approve": CommandEntry("approve", "Sign off exactly this result for a branch."),
        "promote": CommandEntry("promote", "Merge a run's result into a branch, through its gates."),
    },
    "Keep the record": {
        "verify": CommandEntry("verify", "Check that the record is unchanged, signed and complete."),
        "prove": CommandEntry("prove", "Write one call into a file that anybody can check alone."),
        "keys": CommandEntry(
            "keys", "Whose keys sign here, who is trusted, and who no longer is.", group=True
        ),
        "witness": CommandEntry(
            "witness", "Sign what a record is now, as somebody else than its writer.", group=True
        ),
        "sync": CommandEntry("sync", "Send the record to one remote, and fetch what others sent there."),
        "redact": CommandEntry("redact", "Erase what a call carried; the record says so, and holds."),
        "prune": CommandEntry("prune", "Let go of stored content that is past its time."),
        "ledger": CommandEntry("ledger", "Begin a new record where the old one cannot go on.", group=True),
    },
}


def _entry(name: str) -> CommandEntry | None:
    for section in COMMANDS.values():
        if name in section:
            return section[name]
    return None


def _load(name: str, entry: CommandEntry) -> Any:
    module = importlib.import_module(f"agentgov.cli.{entry.module}")
    if entry.group:
        return typer.main.get_command(module.group)
    function: Callable[..., Any] = module.command
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    settings: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
    if entry.pass_through:
        settings |= {"allow_interspersed_args": False, "ignore_unknown_options": False}
    single.command(name, context_settings=settings)(function)
    return typer.main.get_command(single)


class LazyGroup(TyperGroup):
    """The root group, which imports a command's module only when that command is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of `--help`."""
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, its module imported now; None for a name that is none."""
        entry = _entry(cmd_name)
        return None if entry is None else _load(cmd_name, entry)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands by what a person wants to do, without importing them."""
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.summary) for name, entry in section.items()])


app = typer.Typer(
    cls=LazyGroup,
    name="agentgov",
    rich_markup_mode=None,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: agentgov demo     then: agentgov run -- claude",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"agentgov {version('agentgov')}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_print_version, is_eager=True
    ),
) -> None:
    """Record, judge and take back what coding agents do, inside your git repository.

    `agentgov run -- AGENT...` wraps any agent; every call it makes is signed into a record kept in
    .git/agentgov, can be refused by rules, verified later, and rolled back.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(int(ExitCode.USAGE))


def report_error(error: AgentgovError) -> None:
    """Print `error[ID]: what`, where it is, and the next command, on stderr."""
    from agentgov.text import printable

    lines = [f"error[{error.id}]: {printable(error.message, newlines=True)}"]
    if error.where:
        lines.append(f"  at {printable(error.where)}")
    lines += [f"  {printable(fact)}" for fact in error.facts]
    hints = error.hint or (("agentgov verify",) if isinstance(error, BrokenRecordError) else ())
    lines += [f"help: {printable(hint)}" for hint in hints]
    sys.stderr.write("\n".join(lines) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; `sys.argv[1:]` when None.

    Returns:
        The process's exit code, as listed in `agentgov.errors.ExitCode`.
    """
    try:
        result = app(args=None if argv is None else list(argv), prog_name="agentgov", standalone_mode=False)
    except AgentgovError as error:
        report_error(error)
        return int(error.exit_code)
    except typer.Exit as stop:
        return int(stop.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        # How far it came is not known here: what was cut short is finished or undone by the next command.
        sys.stderr.write("agentgov: interrupted\n")
        return int(ExitCode.INTERRUPTED)
    except SystemExit as stop:
        # The framework's own exits: completion, a reader that went away (`agentgov log | head`).
        if not isinstance(stop.__context__, BrokenPipeError):
            return stop.code if isinstance(stop.code, int) else int(ExitCode.OK)
        # Python flushes stdout once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.OK)
    except OSError as error:
        # Whoever may write beside our files may put anything in their place; a full disk ends here too.
        what = error.strerror or type(error).__name__
        where = None if error.filename is None else os.fsdecode(error.filename)
        report_error(AgentgovError(f"a file cannot be read or written: {what}", id="AG0313", where=where))
        return int(ExitCode.ERROR)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "agentgov"
        if context is not None and error.format_message() == context.get_help():
            # A group without a subcommand: what it offers is the answer, and nothing went wrong.
            typer.echo(context.get_help(), err=True)
            return int(ExitCode.USAGE)
        said = error.format_message().replace(": Value error, ", ": ")
        report_error(UsageError(said, id="AG0308", hint=f"{command} --help"))
        return int(ExitCode.USAGE)
    return result if isinstance(result, int) else int(ExitCode.OK)
