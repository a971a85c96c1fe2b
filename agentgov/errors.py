"""One base error with a stable id, a message, a place and a hint; its class decides the exit code.

Rules: a library never prints and never exits: it raises one of these, and the command line alone turns it
into `error[AG0012]: what`, where, `help: the exact command` and an exit code. An id stands for one kind of
failure only. Ranges: base and configuration 0001-0029, harness 0030-0099, gates 0100-0149, rollback
0150-0199, ledger 0200-0299 and 0400-0499, command line 0300-0399.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from typing import ClassVar

_ID = re.compile(r"AG[0-9]{4}")


class ExitCode(IntEnum):
    """What a command's exit code means; 125 to 127 are only used by `run`, as env and timeout do."""

    OK = 0
    ERROR = 1
    USAGE = 2
    INCOMPLETE = 3
    DENIED = 10
    APPROVAL_MISSING = 11
    BROKEN = 12
    UNTRUSTED = 13
    DIVERGED = 14
    CONFLICT = 15
    RUN_FAILED = 125
    NOT_EXECUTABLE = 126
    NOT_FOUND = 127
    INTERRUPTED = 130


class AgentgovError(Exception):
    """The base of every error that agentgov raises on purpose.

    Args:
        message: What failed, in one line, for a person.
        id: The stable id, "AG" and four digits.
        where: The file, entry or place it is about, if there is one.
        hint: One line, or several, each of which is a command or a sentence that helps.
        facts: Lines that stand between the message and the help, such as what holds and what is missing.

    Attributes:
        exit_code: What the command line exits with.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.ERROR

    def __init__(
        self,
        message: str,
        *,
        id: str,
        where: str | None = None,
        hint: str | Sequence[str] = (),
        facts: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        if not _ID.fullmatch(id):
            raise ValueError(f"an error id is AG and four digits, not {id!r}")
        self.message = message
        self.id = id
        self.where = where
        self.hint: tuple[str, ...] = (hint,) if isinstance(hint, str) else tuple(hint)
        self.facts: tuple[str, ...] = tuple(facts)

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class UsageError(AgentgovError):
    """The command was used in a way that cannot work here."""

    exit_code = ExitCode.USAGE


class ConfigError(AgentgovError):
    """A configuration file cannot be read or says something it may not."""

    exit_code = ExitCode.USAGE


class IncompleteError(AgentgovError):
    """Evidence that is needed is not there (an object, a payload, a part of the record)."""

    exit_code = ExitCode.INCOMPLETE


class PolicyDeniedError(AgentgovError):
    """Policy forbids it."""

    exit_code = ExitCode.DENIED


class ApprovalMissingError(AgentgovError):
    """An approval or a check that the target demands is missing."""

    exit_code = ExitCode.APPROVAL_MISSING


class BrokenRecordError(AgentgovError):
    """The record is not what was signed: a hash, a link, a signature or a form does not hold."""

    exit_code = ExitCode.BROKEN


class UntrustedSignerError(AgentgovError):
    """A signature is right, but nobody here vouches for its key."""

    exit_code = ExitCode.UNTRUSTED


class DivergedError(AgentgovError):
    """A working tree is not in the state the operation starts from."""

    exit_code = ExitCode.DIVERGED


class ConflictError(AgentgovError):
    """A lock is held by somebody else, or two changes meet in one place."""

    exit_code = ExitCode.CONFLICT


class RunFailedError(AgentgovError):
    """A run could not be started or kept up; the agent's own exit code is never this."""

    exit_code = ExitCode.RUN_FAILED
