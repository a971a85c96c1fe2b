"""Who is at the other end of a Unix socket, told by the kernel.

Rules kept here:
- What cannot be found out counts as not allowed: an unreadable process is neither ours nor not ours.
- A number is not a process: what is found out about a number counts only while the process that connected
  still has it, and while the ancestor it is compared with is there to be an ancestor.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_CREDENTIALS = struct.Struct("3i")
MAX_DEPTH = 512
# Linux 6.5; Python has no name for it yet.
_SO_PEERPIDFD = 77


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that opened a connection.

    Attributes:
        pid: Its id; 0 when it lies outside our process namespace.
        uid: Its user.
    """

    pid: int
    uid: int


def peer_of(connection: socket.socket) -> Peer:
    """Return the peer's credentials at the time it connected (``SO_PEERCRED``, unix(7)).

    Raises:
        OSError: The kernel does not say.
    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _gid = _CREDENTIALS.unpack(raw)
    return Peer(pid, uid)


def _open_peer(connection: socket.socket) -> int:
    """Return a descriptor of the very process that connected.

    Raises:
        OSError: It is gone, or the kernel has none to give.
    """
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        # An older kernel: who ended before this line could have been followed by another of its number.
        return os.pidfd_open(peer_of(connection).pid)
    return int.from_bytes(raw, sys.byteorder)


def parent_of(pid: int) -> int | None:
    """Return a process's parent (``/proc/PID/stat``, proc(5)), None when it is gone."""
    try:
        raw = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field, the program's name, may hold spaces and brackets: count from its end.
    fields = raw[raw.rfind(b")") + 1 :].split()
    return int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else None


def is_descendant(pid: int, ancestor: int, parent: Callable[[int], int | None] = parent_of) -> bool | None:
    """Tell whether `pid` is `ancestor` or comes from it; None when that cannot be found out."""
    for _ in range(MAX_DEPTH):
        if pid == ancestor:
            return True
        if pid == 1:
            return False
        above = parent(pid) if pid > 0 else None
        if above is None:
            return None
        if above == 0:
            return False
        pid = above
    return None


def is_from(connection: socket.socket, ancestor: int) -> bool | None:
    """Tell whether who connected comes from `ancestor`; None when it cannot be found out, or no more.

    Once the ancestor is gone its descendants have another parent, and look like strangers.
    """
    try:
        handle = _open_peer(connection)
    except (OSError, ValueError):
        return None
    try:
        found = is_descendant(peer_of(connection).pid, ancestor)
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        has_ended = bool(poller.poll(0))
        return None if has_ended or not is_running(ancestor) else found
    finally:
        os.close(handle)


def is_running(pid: int) -> bool:
    """Tell whether there is such a process, and it has not ended."""
    try:
        raw = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return raw[raw.rfind(b")") + 1 :].split()[:1] not in ([b"Z"], [b"X"], [])


def is_own_user(peer: Peer) -> bool:
    """Tell whether the peer runs as the user we run as."""
    return peer.uid == os.geteuid()
