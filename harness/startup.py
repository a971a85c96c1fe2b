"""What happens before the agent starts: checks, settings, its version, its environment.

Rules kept here:
- What can fail fails here, before anything was recorded or copied.
- The agent gets the user's environment, less what would point its git at the user's own repository, and less
  the key of a witness.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from agentgov.config import FILE_NAME, Settings
from agentgov.errors import RunFailedError, UsageError
from agentgov.git import SECRETS, Repository
from agentgov.harness.capture.base import Capture
from agentgov.harness.process import NotFoundError, find_program
from agentgov.ids import RunId, is_token

VERSION_SECONDS = 20
_POINTS_ELSEWHERE = frozenset(
    {
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_COMMON_DIR",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_NAMESPACE",
        "GIT_PREFIX",
    }
)


def check_command(argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
    """Check that there is a command, and that something of that name exists.

    Raises:
        UsageError: AG0068, there is none.
        NotFoundError: AG0032, no such program.
    """
    if not argv or not argv[0]:
        raise UsageError("no command to run", id="AG0068", hint="agentgov run -- claude -p 'fix the test'")
    is_path = "/" in argv[0]
    if find_program(argv[0], env, cwd) is None and not (is_path and (cwd / argv[0]).exists()):
        raise NotFoundError(f"{argv[0]}: command not found", id="AG0032", hint=f"command -v {argv[0]}")


def read_settings(repo: Repository) -> Settings:
    """Return the settings of the user's own tree: what is carried, set up and left out.

    Policy does not come from here (:mod:`agentgov.gates.adoption`).

    Raises:
        ConfigError: AG0020, the file is wrong.
    """
    path = repo.require_work_tree() / FILE_NAME
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return Settings()
    return Settings.parse(raw, str(path))


def find_timeout(env: Mapping[str, str]) -> str:
    """Return the absolute path of ``timeout``, which ends a hook that hangs.

    The system's own comes first: a folder of the user's PATH may lie in the repository.

    Raises:
        RunFailedError: AG0067, there is none.
    """
    for name in ("timeout", "gtimeout"):
        found = shutil.which(name, path=os.defpath) or shutil.which(name, path=env.get("PATH", os.defpath))
        if found is not None:
            return str(Path(found).absolute())
    raise RunFailedError(
        "there is no timeout program, so a hook that hangs could not be ended",
        id="AG0067",
        hint="install GNU coreutils",
    )


def find_version(capture: Capture, argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> str | None:
    """Ask the agent for its version; None when it does not say."""
    command = capture.version_command(argv)
    if command is None:
        return None
    try:
        done = subprocess.run(
            list(command),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version = capture.parse_version(done.stdout)
    return version if version is not None and is_token(version) else None


def agent_env(
    run: RunId,
    env: Mapping[str, str],
    cwd: Path,
    *,
    is_clone: bool,
    changes: Sequence[Mapping[str, str | None]],
) -> dict[str, str]:
    """Return the agent's environment.

    Args:
        run: The run.
        env: The user's.
        cwd: Where the agent starts.
        is_clone: It works in a copy.
        changes: What the workspace and the adapter set or (with None) remove, in order.
    """
    dropped = SECRETS | _POINTS_ELSEWHERE if is_clone else SECRETS
    kept = {name: value for name, value in env.items() if name not in dropped}
    kept |= {"PWD": str(cwd), "AGENTGOV_RUN": run}
    for change in changes:
        for name, value in change.items():
            if value is None:
                kept.pop(name, None)
            else:
                kept[name] = value
    return kept


def hook_python() -> str:
    """Return the interpreter for the hook client: a real file, because a version manager's shim is slow."""
    return str(Path(sys.executable).resolve())
