"""Which runs are alive, told by a lock that the kernel takes back when a recorder dies.

Rules kept here:

- A run is alive exactly while its recorder holds `flock` on `runs/<run>/alive`. Process ids are for showing
  only: they are used again.
- `state.json` is written once, whole, before the run counts as started, and removed when it has ended in
  good order: a run with a file and without a holder is one whose recorder died.
- The file may have been damaged by a crash or a person: what cannot be read is reported, not guessed.
- What was written for the agent alone (its settings, which may hold keys of the user's) goes with the run.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, get_args

from agentgov.errors import AgentgovError, BrokenRecordError, ConflictError
from agentgov.files import FileLock, open_private_dir, read_own_file, write_atomic
from agentgov.harness.peers import MAX_DEPTH, is_descendant, parent_of
from agentgov.ids import RunId, parse_run_id
from agentgov.layout import Layout

Place = Literal["clone", "in-place"]
_STATE, _ALIVE, _AGENT = "state.json", "alive", "agent"


@dataclass(frozen=True, slots=True)
class RunState:
    """What other commands need to know of a run that is not over.

    Attributes:
        run: Its id.
        pid: The recorder's process id, to show.
        socket: The recorder's socket.
        workspace: The top of the tree it works in.
        place: "clone" or "in-place".
        agent: The agent's name.
        started_us: When it began, in microseconds UTC.
    """

    run: RunId
    pid: int
    socket: str
    workspace: str
    place: Place
    agent: str
    started_us: int

    def encode(self) -> bytes:
        """The file's content."""
        return json.dumps({"v": 1, **asdict(self)}, sort_keys=True).encode() + b"\n"

    @classmethod
    def parse(cls, raw: bytes, where: str) -> RunState:
        """Read the file's content.

        Raises:
            BrokenRecordError: AG0038, when it is not one.
        """
        try:
            fields = json.loads(raw)
            version = fields.pop("v")
            state = cls(**fields)
            right = (
                version == 1
                and all(type(value) is str for value in (state.socket, state.workspace, state.agent))
                and all(type(value) is int for value in (state.pid, state.started_us))
                and state.place in get_args(Place)
            )
            parse_run_id(state.run)
        except (ValueError, KeyError, TypeError, AttributeError, AgentgovError) as error:
            raise _broken(where) from error
        if not right:
            raise _broken(where)
        return state


def _broken(where: str) -> BrokenRecordError:
    return BrokenRecordError(
        "this does not describe a run", id="AG0038", where=where,
        hint=f"if no run is going on, set it aside: mv {where} {where}.bad",
    )  # fmt: skip


def agent_dir(layout: Layout, run: RunId) -> Path:
    """Return a private folder for what is written for the agent; it goes when the run is over."""
    return open_private_dir(layout.run_dir(run) / _AGENT)


def _remove_agent_dir(folder: Path) -> None:
    # A link that somebody put in its place is removed, not followed.
    if (folder / _AGENT).is_symlink():
        (folder / _AGENT).unlink()
    elif (folder / _AGENT).is_dir():
        shutil.rmtree(folder / _AGENT)


class RunLock:
    """What a recorder holds for as long as its run is alive."""

    def __init__(self, layout: Layout, run: RunId) -> None:
        self._folder = layout.run_dir(run)
        self._run = run
        self._lock = FileLock(self._folder / _ALIVE)

    def acquire(self) -> None:
        """Take the lock; the run counts as alive from here on.

        Raises:
            ConflictError: AG0039, when another process holds it: a run has one recorder.
        """
        open_private_dir(self._folder)
        try:
            # Somebody who only looks holds it for an instant.
            self._lock.acquire(timeout_seconds=5.0)
        except ConflictError as error:
            raise ConflictError(
                f"run {self._run} has a recorder already", id="AG0039", where=str(self._folder)
            ) from error

    def publish(self, state: RunState) -> None:
        """Write what others need to know."""
        write_atomic(self._folder / _STATE, state.encode())

    def finish(self) -> None:
        """The run ended in good order: nothing is left to recover."""
        _remove_agent_dir(self._folder)
        (self._folder / _STATE).unlink(missing_ok=True)
        self._lock.release()

    def release(self) -> None:
        """Let go without an end in good order: the next command recovers the run."""
        self._lock.release()

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_alive(layout: Layout, run: RunId) -> bool:
    """Whether a recorder serves this run right now."""
    try:
        fd = os.open(layout.run_dir(run) / _ALIVE, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def read_state(layout: Layout, run: RunId) -> RunState | None:
    """Read a run's state; None when it ended in good order or never began.

    Raises:
        BrokenRecordError: AG0038, when the file is damaged.
    """
    path = layout.run_dir(run) / _STATE
    try:
        raw = read_own_file(path)
    except FileNotFoundError:
        return None
    state = RunState.parse(raw, str(path))
    if state.run != run:
        raise _broken(str(path))
    return state


def _unfinished(layout: Layout) -> list[RunId]:
    try:
        folders = sorted(layout.runs.iterdir())
    except FileNotFoundError:
        return []
    found = []
    for folder in folders:
        if (folder / _STATE).exists():
            try:
                found.append(parse_run_id(folder.name))
            except AgentgovError:
                continue
    return found


def live_runs(layout: Layout) -> list[RunState]:
    """The runs that have a recorder, oldest first."""
    states = [read_state(layout, run) for run in _unfinished(layout) if is_alive(layout, run)]
    return sorted((state for state in states if state is not None), key=lambda state: state.started_us)


def run_above(layout: Layout, pid: int) -> RunId | None:
    """The run whose recorder a process comes from; whether its lock is held is not asked.

    Whoever can reach our files can remove them under a living recorder; its supervisor's command line stays.

    Raises:
        BrokenRecordError: AG0038, when a run's file is damaged: who is asking can then not be told.
    """
    for run in _unfinished(layout):
        state = read_state(layout, run)
        if state is not None and is_descendant(pid, state.pid):
            return run
    return _marked_above(layout, pid)


def marks(layout: Layout, run: RunId) -> tuple[str, str, str]:
    """What a supervisor's command line says of its run: the repository, by place and by name, and the run."""
    status = layout.root.parent.stat()
    return f"{status.st_dev}:{status.st_ino}", os.fspath(layout.root), run


def _marked_above(layout: Layout, pid: int) -> RunId | None:
    for _ in range(MAX_DEPTH):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\x00")[:-1]
        except OSError:
            return None
        if len(words) == 8 and words[3].endswith(b"/harness/supervisor.py"):
            *ours, _ = map(os.fsencode, marks(layout, RunId("")))
            if words[5] == ours[0] or words[6] == ours[1]:
                return parse_run_id(os.fsdecode(words[7]))
        above = parent_of(pid)
        if not above:
            return None
        pid = above
    return None


def dead_runs(layout: Layout) -> list[RunId]:
    """The runs whose recorder died before they ended: `recovery` closes them."""
    return [run for run in _unfinished(layout) if not is_alive(layout, run)]


def clear(layout: Layout, run: RunId) -> None:
    """After recovery: forget that a run was unfinished. Its folder stays."""
    _remove_agent_dir(layout.run_dir(run))
    (layout.run_dir(run) / _STATE).unlink(missing_ok=True)


def forget(layout: Layout, run: RunId) -> None:
    """Remove the folder of a run that is over.

    Raises:
        ConflictError: AG0039, when it is alive.
    """
    if is_alive(layout, run):
        raise ConflictError(f"run {run} is still running", id="AG0039")
    folder: Path = layout.run_dir(run)
    if folder.is_dir():
        shutil.rmtree(folder)
