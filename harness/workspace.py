"""Where an agent works: the user's own tree, or a copy of its commit that can be thrown away.

Rules kept here:

- A run in a copy leaves the user's index, HEAD, branches, stash, settings, ignored and untracked files as
  they are; the only thing written to the repository is the ref of `holds`.
- `auto` is in place for a person at a terminal, a copy for a headless agent and for a second run at once.
- What the copy lacks or does otherwise is in `warnings`; nothing differs silently.
- A workspace that could not be made whole is removed again.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from agentgov.config import WorkspaceTable
from agentgov.errors import AgentgovError, ConflictError
from agentgov.files import open_private_dir, write_atomic
from agentgov.git import Repository
from agentgov.harness import carry, holds
from agentgov.harness.cloning import FALLBACK_EMAIL, FALLBACK_NAME, build_clone
from agentgov.harness.environment import find_imports_from
from agentgov.ids import RunId
from agentgov.layout import StateHome
from agentgov.text import printable

Mode = Literal["auto", "clone", "in-place"]
Place = Literal["clone", "in-place"]
_MANIFEST = "manifest.json"
_IDENTITY_KEYS = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")


@dataclass(frozen=True, slots=True)
class Workspace:
    """A place that is ready for an agent.

    Attributes:
        place: "clone" or "in-place".
        root: The top of the tree to be snapshotted.
        cwd: Where the agent starts: the same subfolder the user stood in.
        git_dir: The git folder of that tree.
        base: The commit it started from.
        base_branch: The branch of the same name that is checked out, as `refs/heads/main`; None when
            detached.
        warnings: Lines to show at the start, printable.
        carried: What was copied besides tracked files.
        missing_ignored: What is ignored in the user's tree and not here.
        left_out_dirty: How many files with uncommitted work were left out.
        included_dirty: How many were copied (`--include-dirty`).
        env: Variables the agent's environment gets in addition.
    """

    place: Place
    root: Path
    cwd: Path
    git_dir: Path
    base: str
    base_branch: str | None
    warnings: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()
    missing_ignored: tuple[str, ...] = ()
    left_out_dirty: int = 0
    included_dirty: int = 0
    env: Mapping[str, str] = field(default_factory=dict)


def choose_place(mode: Mode, *, headless: bool, another_run_live: bool) -> Place:
    """Decide where a run works."""
    if mode == "auto":
        return "clone" if headless or another_run_live else "in-place"
    return mode


def workspace_root(repo: Repository, state: StateHome, run: RunId) -> Path:
    """Where the clone of a run lies: in a folder of the repository's own name, which agents show."""
    name = repo.require_work_tree().name
    return state.workspaces / run / ("workspace" if name in ("", _MANIFEST) else name)


def prepare(
    repo: Repository,
    run: RunId,
    *,
    start: Path,
    mode: Mode,
    headless: bool,
    another_run_live: bool,
    state: StateHome,
    settings: WorkspaceTable,
    env: Mapping[str, str],
    include_dirty: bool = False,
) -> Workspace:
    """Make the place a run works in.

    Args:
        repo: Found from `start`.
        run: The run's id.
        start: The folder the user stood in.
        mode: What was asked for.
        headless: Nobody sits at a terminal.
        another_run_live: See `state.live_runs`.
        state: The user's state folder.
        settings: `[workspace]` of `.agentgov.toml`.
        env: The agent's environment.
        include_dirty: Copy uncommitted work too (never the index's own state).

    Raises:
        UsageError: AG0011 bare, AG0012 no commit.
        IncompleteError: AG0036, the commit's files cannot be written.
        ConflictError: AG0037, there is a workspace of that run already.
        AgentgovError: AG0008, git failed.
    """
    top = repo.require_work_tree()
    base = repo.require_head_commit()
    below = start.resolve().relative_to(top.resolve())
    if choose_place(mode, headless=headless, another_run_live=another_run_live) == "in-place":
        return _in_place(repo, base, top / below, env, another_run_live=another_run_live)
    folder = state.workspaces / run
    if folder.exists():
        raise ConflictError("this run has a workspace already", id="AG0037", where=str(folder))
    open_private_dir(folder)
    try:
        return _clone(repo, run, base, below, folder, state, settings, env, include_dirty=include_dirty)
    except BaseException:
        drop(state, run)
        raise


def _in_place(
    repo: Repository, base: str, cwd: Path, env: Mapping[str, str], *, another_run_live: bool
) -> Workspace:
    warnings = []
    if another_run_live:
        warnings.append(
            "another run is live in this repository: their changes cannot be told apart in one tree"
        )
    extra: dict[str, str] = {}
    if not _has_identity(repo, env):
        warnings.append(f"no user.name or user.email: the agent's commits are by {FALLBACK_NAME}")
        values = (FALLBACK_NAME, FALLBACK_EMAIL, FALLBACK_NAME, FALLBACK_EMAIL)
        extra = {key: value for key, value in zip(_IDENTITY_KEYS, values, strict=True) if not env.get(key)}
    return Workspace(
        "in-place",
        repo.require_work_tree(),
        cwd,
        repo.git_dir,
        base,
        repo.head_branch(),
        warnings=tuple(warnings),
        env=extra,
    )


def _has_identity(repo: Repository, env: Mapping[str, str]) -> bool:
    if all(env.get(key) for key in _IDENTITY_KEYS):
        return True
    return repo.config("user.name") is not None and repo.config("user.email") is not None


def _clone(
    repo: Repository,
    run: RunId,
    base: str,
    below: Path,
    folder: Path,
    state: StateHome,
    settings: WorkspaceTable,
    env: Mapping[str, str],
    *,
    include_dirty: bool,
) -> Workspace:
    top = repo.require_work_tree()
    branch = repo.head_branch()
    held: list[str] = []

    def remember(git_dir: Path) -> None:
        held.append(os.fsencode(git_dir).decode("latin-1"))
        write_atomic(folder / _MANIFEST, json.dumps({"v": 1, "held": held}).encode())

    root = workspace_root(repo, state, run)
    clone = build_clone(repo, root, run=run, commit=base, branch=branch, remember=remember)
    warnings = list(clone.warnings)
    dirty = 0
    if include_dirty:
        dirty, more = carry.carry_dirty(repo, root)
        warnings += more
    carried = carry.carry_files(repo, root, settings.carry)
    warnings += carried.warnings
    missing = carry.missing_warning(carried.missing)
    if missing is not None:
        warnings.append(missing)
    warnings += find_imports_from(top, env)
    # An ignored or untracked folder may be where the user stood: empty folders are none of git's business.
    (root / below).mkdir(parents=True, exist_ok=True)
    return Workspace(
        "clone",
        root,
        root / below,
        clone.git_dir,
        base,
        branch,
        warnings=tuple(printable(line) for line in warnings),
        carried=tuple(carried.paths),
        missing_ignored=tuple(carried.missing),
        left_out_dirty=0 if include_dirty else len(carry.dirty_names(repo)),
        included_dirty=dirty,
    )


def drop(state: StateHome, run: RunId) -> bool:
    """Remove a run's clone and the refs that hold what it borrowed; the record stays.

    Returns:
        Whether there was a clone.

    Raises:
        AgentgovError: AG0044, files of it cannot be removed: another user's (a container's root).
    """
    folder = state.workspaces / run
    if not folder.is_dir() or folder.is_symlink():
        return False
    try:
        held = json.loads((folder / _MANIFEST).read_bytes())["held"]
    except FileNotFoundError:
        held = []
    try:
        # The clone goes first: with the refs gone, its objects may go at any time.
        for entry in folder.iterdir():
            if entry.name != _MANIFEST:
                carry.remove_path(entry)
    except OSError as error:
        raise AgentgovError(
            f"the copy cannot be removed: {error.strerror}",
            id="AG0044",
            where=str(error.filename or folder),
            hint=f"remove {folder} yourself, then try again",
        ) from error
    for raw_path in held:
        git_dir = Path(os.fsdecode(raw_path.encode("latin-1")))
        if git_dir.is_dir():
            holds.release(git_dir, run)
    carry.remove_tree(folder)
    return True


@dataclass(frozen=True, slots=True)
class SetupResult:
    """One `[workspace] setup` command that ran.

    Attributes:
        command: The shell command.
        returncode: Its exit code.
        output: Standard output and standard error, as they came.
    """

    command: str
    returncode: int
    output: bytes

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.returncode == 0


def run_setup(workspace: Workspace, commands: Sequence[str], env: Mapping[str, str]) -> list[SetupResult]:
    """Run the `[workspace] setup` commands in a new clone, in order, up to the first that fails.

    They are the user's own (from the user's tree), and run as the user would run them: without `GIT_*`, which
    could make them work on the original.
    """
    results: list[SetupResult] = []
    keep = {name: value for name, value in env.items() if not name.startswith("GIT_")}
    for command in commands:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=workspace.root,
            env=keep,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        results.append(SetupResult(command, done.returncode, done.stdout))
        if done.returncode != 0:
            break
    return results
