"""Where everything lies: inside a repository's common git folder, and in the user's state folder.

Rules: nothing is ever written into a work tree; every folder made here has mode 0700; the home folder and the
environment are read by the command line only, which builds the `StateHome`; a socket's path stays under the
107 bytes that `sun_path` holds.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from agentgov.errors import AgentgovError
from agentgov.files import open_private_dir
from agentgov.ids import RunId, is_run_id, parse_run_id

_SOCKET_PATH_BYTES = 106
_FALLBACK_PARENT = Path("/tmp")  # noqa: S108 - the folder in it is made 0700 and its owner is checked


@dataclass(frozen=True, slots=True)
class Layout:
    """What agentgov keeps inside a repository, shared by all its worktrees.

    Attributes:
        common_dir: The repository's common git folder, such as `.git`.
    """

    common_dir: Path

    @property
    def root(self) -> Path:
        """The folder that holds everything else."""
        return self.common_dir / "agentgov"

    @property
    def lock(self) -> Path:
        """The append lock; never replaced."""
        return self.root / "lock"

    @property
    def seal_lock(self) -> Path:
        """The lock of the one who seals; taken before the append lock, never after it."""
        return self.root / "seal.lock"

    @property
    def wal(self) -> Path:
        """The folder of entries that are not sealed yet."""
        return self.root / "wal"

    @property
    def store(self) -> Path:
        """The private bare repository of snapshots and payloads."""
        return self.root / "store.git"

    @property
    def runs(self) -> Path:
        """One folder per run that is alive or has left something behind."""
        return self.root / "runs"

    @property
    def payloads(self) -> Path:
        """Payloads that are not in the store yet."""
        return self.root / "payloads"

    @property
    def stream_file(self) -> Path:
        """The file that names this clone's stream."""
        return self.root / "stream"

    def run_dir(self, run: RunId) -> Path:
        """The folder of one run."""
        return self.runs / run

    def payload_runs(self) -> list[RunId]:
        """The runs that have payloads which are not in the store yet."""
        try:
            names = sorted(path.name for path in self.payloads.iterdir())
        except FileNotFoundError:
            return []
        return [parse_run_id(name) for name in names if is_run_id(name)]

    def exists(self) -> bool:
        """Whether agentgov was ever used in this repository."""
        return self.root.is_dir()

    def create(self) -> None:
        """Make the folders that are missing, readable by this user only."""
        open_private_dir(self.root)
        for folder in (self.wal, self.runs, self.payloads):
            open_private_dir(folder)


@dataclass(frozen=True, slots=True)
class StateHome:
    """What agentgov keeps for this user, outside every repository.

    Attributes:
        root: The state folder, such as `~/.local/state/agentgov`.
        runtime_dir: The session's runtime folder (`XDG_RUNTIME_DIR`), if there is one.
    """

    root: Path
    runtime_dir: Path | None = None

    @property
    def keys(self) -> Path:
        """Log keys, one folder per clone."""
        return self.root / "keys"

    @property
    def pins(self) -> Path:
        """The last head seen of each stream."""
        return self.root / "pins"

    @property
    def workspaces(self) -> Path:
        """Clones that runs work in."""
        return self.root / "workspaces"

    @property
    def cache(self) -> Path:
        """What may be deleted at any time."""
        return self.root / "cache"

    def create(self) -> None:
        """Make the folders that are missing, readable by this user only."""
        open_private_dir(self.root)
        for folder in (self.keys, self.pins, self.workspaces, self.cache):
            open_private_dir(folder)

    def sockets(self, run: RunId) -> Path:
        """Return a path for a run's socket, in a private folder that exists, short enough for `bind`.

        Raises:
            AgentgovError: AG0006, when no folder gives a short enough path; AG0004, when the folder is
                another user's.
        """
        name = f"{run}.sock"
        tag = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        folders = [self.root / "s", _FALLBACK_PARENT / f"agentgov-{os.geteuid()}-{tag}"]
        if self.runtime_dir is not None and self.runtime_dir.is_dir():
            folders.insert(0, self.runtime_dir / "agentgov")
        for folder in folders:
            path = folder / name
            if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES:
                open_private_dir(folder)
                return path
        raise AgentgovError("no folder is short enough for a socket", id="AG0006", where=str(self.root))
