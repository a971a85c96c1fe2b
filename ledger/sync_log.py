"""What was sent where: the memory that an erasure asks before it may say that nothing ever left.

Rules: a line is on disk before the first byte leaves, so a push that was cut off counts as one that arrived;
nothing is ever taken out again; a file that cannot be read is an error and never "nothing was sent". The
address is kept without its password. One file per record, in the user's state folder, so that it outlives the
clone: `<state>/pushed/<stream id>.jsonl`, each line canonical JSON
`{class, remote, run, stream, ts, v: 1}`.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from agentgov.errors import AgentgovError, BrokenRecordError
from agentgov.files import FileLock, fsync_dir, open_private_dir, read_own_file
from agentgov.ids import RunId, is_run_id
from agentgov.layout import StateHome
from agentgov.ledger import canonical

CLASSES: Final = ("args", "changes", "output", "patch")
_SUFFIX: Final = ".jsonl"
_KEYS: Final = {"class", "remote", "run", "stream", "ts", "v"}
_is_stream_id = re.compile(r"[0-9a-f]{32}").fullmatch


def pushed(state: StateHome, run: RunId, cls: str, *, stream_id: str | None = None) -> list[tuple[str, int]]:
    """Return where payloads of a run and class were sent from this machine, and when; empty means never.

    Args:
        state: The user's state folder.
        run: The run.
        cls: The payloads' class: args, changes, output or patch.
        stream_id: The record that the run belongs to, 32 hex characters; any record when None, which may
            name another run of the same short name and never misses one.

    Returns:
        (address without its password, microseconds since 1970 UTC), the oldest first.

    Raises:
        BrokenRecordError: AG0489, when the memory cannot be read.
    """
    folder = _folder(state)
    if not folder.is_dir():
        return []
    every = stream_id is None
    paths = sorted(folder.glob(f"*{_SUFFIX}")) if every else [folder / f"{stream_id}{_SUFFIX}"]
    found = [
        (str(line["remote"]), int(line["ts"]))
        for path in paths
        for line in _lines(path)
        if (line["run"], line["class"]) == (run, cls)
    ]
    return sorted(found, key=lambda item: item[1])


def note_pushes(
    state: StateHome, stream_id: str, remote: str, what: Iterable[tuple[RunId, str]], ts: int
) -> None:
    """Remember, durably, that payloads are about to be sent.

    Args:
        state: The user's state folder.
        stream_id: The record they belong to.
        remote: The address, without its password.
        what: (run, class) pairs.
        ts: Now, microseconds since 1970 UTC.

    Raises:
        BrokenRecordError: AG0489, when what is there already cannot be read.
        OSError: The disk refuses; then nothing may be sent.
    """
    lines = b"".join(
        canonical.encode(
            {"class": cls, "remote": _ascii(remote), "run": run, "stream": stream_id, "ts": ts, "v": 1}
        )
        + b"\n"
        for run, cls in what
    )
    if not lines:
        return
    folder = open_private_dir(_folder(state))
    path = folder / f"{stream_id}{_SUFFIX}"
    with FileLock(folder / "lock"):
        _end_torn_line(path)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(lines)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        fsync_dir(folder)


def _folder(state: StateHome) -> Path:
    return state.root / "pushed"


def _ascii(remote: str) -> str:
    # Canonical JSON here is ASCII; an address that is not is kept exactly, in another form.
    if remote.isascii():
        return remote
    return "b64:" + base64.b64encode(remote.encode("utf-8", "surrogateescape")).decode("ascii")


def _end_torn_line(path: Path) -> None:
    """Cut a line that a crash left without its LF: what it announced was not sent yet."""
    try:
        data = read_own_file(path)
    except FileNotFoundError:
        return
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, whole)
            os.fsync(fd)
        finally:
            os.close(fd)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        data = read_own_file(path)
    except FileNotFoundError:
        return
    for raw_line in data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]:
        try:
            line = canonical.decode(raw_line)
        except BrokenRecordError:
            raise _unreadable(path) from None
        if type(line) is not dict or line.keys() != _KEYS or line["v"] != 1:
            raise _unreadable(path)
        texts = all(type(line[name]) is str for name in ("class", "remote", "run", "stream"))
        if not texts or type(line["ts"]) is not int or line["class"] not in CLASSES:
            raise _unreadable(path)
        if not is_run_id(line["run"]) or not _is_stream_id(line["stream"]):
            raise _unreadable(path)
        line["remote"] = _address(line["remote"], path)
        yield line


def _address(remote: str, path: Path) -> str:
    if not remote.startswith("b64:"):
        return remote
    try:
        return base64.b64decode(remote[4:], validate=True).decode("utf-8", "surrogateescape")
    except ValueError:
        raise _unreadable(path) from None


def _unreadable(path: Path) -> AgentgovError:
    return BrokenRecordError(
        "the memory of what was sent cannot be read, so nothing can be said about what left this machine",
        id="AG0489",
        where=str(path),
        hint=f"look at it, then set it aside: mv {path} {path}.unreadable",
    )
