"""How git is called: the one place that builds its command line and its environment.

What an agent can write is never trusted: its repository's configuration, hooks, replace refs, grafts and
commit-graph, and every `GIT_*` variable that it could have left behind. So each call gets

- no inherited `GIT_*` but those that say where the user's configuration lies; replace objects off, grafts at
  /dev/null, the commit-graph off;
- no hooks, fsmonitor, pager, editor, alternate-refs command, external diff, text conversion, signing program;
- no transport: a configuration could name an `ext::` command as the promisor of a partial clone. Only
  GIT_ALLOW_PROTOCOL forbids that: `protocol.allow=never` loses against the repository's `protocol.ext.allow`;
- an index of its own, or none: the user's is used only together with a work tree that the caller names;
- durable objects and refs, no maintenance in the background, one language.

The user's own configuration stays in force, because `safe.directory` lives there.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

from agentgov.errors import AgentgovError, UsageError
from agentgov.text import printable

DEFAULT_TIMEOUT_SECONDS = 600.0
_PLACES_OF_CONFIGURATION = frozenset({"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"})
OLDEST_GIT = (2, 38)
SECRETS = frozenset({"AGENTGOV_WITNESS_KEY"})

_ENVIRONMENT = {
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_GRAFT_FILE": "/dev/null",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_EDITOR": ":",
    "GIT_PAGER": "cat",
    "LC_ALL": "C",
}
_GUARDS = {
    "core.commitGraph": "false",
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.untrackedCache": "false",
    "core.pager": "cat",
    # Run by a shell with the alternate's path as argument; ":" ignores it and names no ref.
    "core.alternateRefsCommand": ":",
    "core.fsync": "objects,reference",
    "core.fsyncMethod": "fsync",
    "protocol.allow": "never",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "commit.gpgSign": "false",
    "tag.gpgSign": "false",
    # With it, `git log` would run the repository's gpg.program.
    "log.showSignature": "false",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "advice.detachedHead": "false",
    # Said about our own GIT_GRAFT_FILE; it would stand in errors in place of what went wrong.
    "advice.graftFileDeprecated": "false",
}
# An empty diff.external is still run, as the command "": the flags are the way to switch it off.
_DIFFS = frozenset(
    {"diff", "diff-tree", "diff-index", "diff-files", "log", "show", "format-patch", "whatchanged"}
)
_NEEDS_INDEX = frozenset(
    {"add", "am", "apply", "checkout", "checkout-index", "cherry-pick", "clean", "commit", "diff-files"}
    | {"diff-index", "ls-files", "merge", "mv", "read-tree", "rebase", "reset", "restore", "revert", "rm"}
    | {"sparse-checkout", "stash", "status", "switch", "update-index", "write-tree"}
)
_NO_INDEX = "agentgov-has-no-index-here"

Arg = str | bytes | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class GitResult:
    """What one git command gave back."""

    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        """Whether it exited with 0."""
        return self.returncode == 0

    @property
    def message(self) -> str:
        """The last line git said, printable."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        return printable(lines[-1], limit=300) if lines else f"exit code {self.returncode}"


class RunOptions(TypedDict, total=False):
    """The options of `Git.run`, for the methods that hand them on."""

    input: bytes | None
    check: bool
    config: Mapping[str, str] | None
    env: Mapping[str, str] | None
    timeout_seconds: float | None
    cwd: Path | None


class Git:
    """Calls git on one repository, with the guards of this module.

    Args:
        git_dir: The git folder; None for commands that need no repository or find it from `cwd`.
        work_tree: The work tree for commands that read or write one. Without it the git folder stands in for
            one, so that a hostile `core.worktree` and attributes in files are out of reach.
        index_file: An index of the caller's own. Without it the repository's index is used when a work tree
            is given, and an index that does not exist otherwise.
    """

    def __init__(
        self, git_dir: Path | None, *, work_tree: Path | None = None, index_file: Path | None = None
    ) -> None:
        self.git_dir = git_dir.absolute() if git_dir is not None else None
        self.work_tree = work_tree.absolute() if work_tree is not None else None
        self.index_file = index_file.absolute() if index_file is not None else None

    def run(
        self,
        *args: Arg,
        input: bytes | None = None,
        check: bool = True,
        config: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        timeout_seconds: float | None = DEFAULT_TIMEOUT_SECONDS,
        cwd: Path | None = None,
    ) -> GitResult:
        """Run one git command to its end.

        Args:
            args: The subcommand and its arguments. Names from outside must have passed `gitnames` or follow
                `--end-of-options` or `--`.
            input: Standard input; empty when None.
            check: Raise when git exits with another code than 0.
            config: Settings for this call. `protocol.<name>.allow=always` permits that transport.
            env: Variables for this call, such as GIT_COMMITTER_DATE.
            timeout_seconds: After this time git is killed.
            cwd: Where it runs; the work tree, else the git folder, else `/`.

        Raises:
            AgentgovError: AG0007 git is missing, AG0008 git failed, AG0009 git took too long.
        """
        command = self.command(*args, config=config)
        try:
            done = subprocess.run(
                command,
                input=input if input is not None else b"",
                capture_output=True,
                cwd=cwd or self._cwd(),
                env=self.environment(config=config, env=env),
                timeout=timeout_seconds,
                check=False,
            )
        except FileNotFoundError as error:
            raise _cannot_start(error) from error
        except subprocess.TimeoutExpired as error:
            raise AgentgovError(
                f"git {_name(args)} did not end within {timeout_seconds:g} s",
                id="AG0009",
                where=self._where(),
            ) from error
        result = GitResult(done.returncode, done.stdout, done.stderr)
        if check and not result.ok:
            raise AgentgovError(f"git {_name(args)}: {result.message}", id="AG0008", where=self._where())
        return result

    def text(self, *args: Arg, **options: Unpack[RunOptions]) -> str:
        """Like `run`, and return the output as text without the last line feed.

        Bytes that are not UTF-8 become surrogates: for paths use `lines_z`.
        """
        result = self.run(*args, **options)
        return result.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")

    def lines_z(self, *args: Arg, **options: Unpack[RunOptions]) -> list[bytes]:
        """Like `run` for a command with `-z`: the output's records, split at NUL."""
        result = self.run(*args, **options)
        return result.stdout.removesuffix(b"\x00").split(b"\x00") if result.stdout else []

    def command(self, *args: Arg, config: Mapping[str, str] | None = None) -> list[Arg]:
        """Build the command line; for callers that keep the process, such as a long-lived reader.

        Raises:
            ValueError: When the subcommand needs an index and this object has none to give.
        """
        name = _name(args)
        if self.git_dir is not None and not (self.work_tree or self.index_file) and name in _NEEDS_INDEX:
            raise ValueError(f"git {name} needs a work tree or an index file of its own")
        command: list[Arg] = ["git", "--no-pager"]
        if self.git_dir is not None:
            command += [f"--git-dir={self.git_dir}", f"--work-tree={self.work_tree or self.git_dir}"]
        for key, value in {**_GUARDS, **(config or {})}.items():
            command += ["-c", f"{key}={value}"]
        command += args[:1]
        if name in _DIFFS:
            command += ["--no-ext-diff", "--no-textconv"]
        if name == "diff-tree":
            # `ignore = all` in a .gitmodules would hide a changed submodule from whoever judges the change.
            command.append("--ignore-submodules=none")
        return [*command, *args[1:]]

    def environment(
        self, *, config: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Build the environment that belongs to `command`."""
        result = clean_environment()
        result.update(_ENVIRONMENT)
        allowed = [
            key.split(".")[1]
            for key, value in (config or {}).items()
            if key.startswith("protocol.")
            and key.endswith(".allow")
            and key.count(".") == 2
            and value == "always"
        ]
        # An empty list would read as one empty name; "none" is no transport.
        result["GIT_ALLOW_PROTOCOL"] = ":".join(allowed) or "none"
        if self.index_file is not None:
            result["GIT_INDEX_FILE"] = str(self.index_file)
        elif self.git_dir is not None and self.work_tree is None:
            result["GIT_INDEX_FILE"] = str(self.git_dir / _NO_INDEX)
        result.update(env or {})
        return result

    def plain(self, *args: Arg, cwd: Path | None = None) -> GitResult:
        """Run a command that only reads settings, without the settings above, which would hide the user's.

        Only for `config`, `var` and `version`: they run nothing that a repository can name.
        """
        if _name(args) not in ("config", "var", "version"):
            raise ValueError(f"git {_name(args)} must not run without the guards")
        command: list[Arg] = ["git", "--no-pager"]
        if self.git_dir is not None:
            command += [f"--git-dir={self.git_dir}"]
        try:
            done = subprocess.run(
                [*command, *args],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                cwd=cwd or self._cwd(),
                env=self.environment(),
                timeout=DEFAULT_TIMEOUT_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            raise _cannot_start(error) from error
        return GitResult(done.returncode, done.stdout, done.stderr)

    def _cwd(self) -> Path:
        return self.work_tree or self.git_dir or Path("/")

    def _where(self) -> str | None:
        folder = self.work_tree or self.git_dir
        return str(folder) if folder is not None else None


def clean_environment() -> dict[str, str]:
    """Return this process's environment without `GIT_*`, but for those that say where configuration lies.

    Git's own list (`git rev-parse --local-env-vars`) is not enough: GIT_EXTERNAL_DIFF or GIT_SSH_COMMAND
    name programs too. Where a person keeps their configuration is as much theirs as HOME is. Of PATH only
    absolute places are kept: in any other a repository brings its own programs, and an `ssh-keygen` of its
    own calls every signature right. A witness's key is handed to nobody: a program's environment can be read
    by others of the same user.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if (not name.startswith("GIT_") or name in _PLACES_OF_CONFIGURATION) and name not in SECRETS
    }
    if "PATH" in kept:
        places = [place for place in kept["PATH"].split(os.pathsep) if place.startswith("/")]
        # An empty PATH is the folder that one stands in.
        kept["PATH"] = os.pathsep.join(places) or os.defpath
    return kept


def git_version() -> str:
    """Return git's version, such as "2.47.1".

    Raises:
        UsageError: AG0013, when it is too old to be used, or does not say what it is.
        AgentgovError: AG0007, when git is missing.
    """
    raw_version = (
        Git(None).plain("version").stdout.decode("ascii", "replace").removeprefix("git version ").split()
    )
    version = raw_version[0] if raw_version else ""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isascii() and part.isdigit())
    if len(numbers) < 2 or numbers < OLDEST_GIT:
        oldest = ".".join(map(str, OLDEST_GIT))
        raise UsageError(
            f"git {printable(version, limit=40) or '(unknown)'} is too old: {oldest} or later is needed",
            id="AG0013",
            hint="install a newer git, and check with: git version",
        )
    return version


def _name(args: tuple[Arg, ...]) -> str:
    return str(args[0]) if args else ""


def _cannot_start(error: FileNotFoundError) -> AgentgovError:
    if error.filename not in (None, "git"):
        return AgentgovError(
            "the folder git should run in does not exist", id="AG0008", where=str(error.filename)
        )
    return AgentgovError("git was not found", id="AG0007", hint="install git, and check with: git version")
