"""Who is at the other end of a socket."""

from __future__ import annotations

import os
import socket

import pytest

from agentgov.harness.peers import is_descendant, is_from, is_own_user, is_running, parent_of, peer_of


@pytest.mark.parametrize(
    ("pid", "ancestor", "expected"),
    [(5, 5, True), (7, 5, True), (9, 5, False), (8, 5, None), (0, 5, None), (1, 5, False)],
)
def test_descent_is_followed_and_unknown_is_not_a_no(pid: int, ancestor: int, expected: bool | None) -> None:
    parents = {7: 6, 6: 5, 5: 1, 9: 1}
    assert is_descendant(pid, ancestor, parents.get) is expected


def test_a_loop_of_parents_ends_as_unknown() -> None:
    assert is_descendant(2, 5, {2: 3, 3: 2}.get) is None


def test_the_kernel_names_the_peer_and_its_parent() -> None:
    ours, theirs = socket.socketpair()
    peer = peer_of(ours)
    assert peer.pid == os.getpid()
    assert is_own_user(peer)
    assert parent_of(os.getpid()) == os.getppid()
    ours.close()
    theirs.close()


def test_a_process_that_has_ended_is_neither_ours_nor_not_ours() -> None:
    listener, held = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    listener.bind("")
    listener.listen(1)
    child = os.fork()
    if child == 0:
        held.connect(listener.getsockname())
        os._exit(0)
    os.waitpid(child, 0)
    connection, _ = listener.accept()
    with listener, held, connection:
        assert is_from(connection, os.getpid()) is None


def test_an_ancestor_that_has_ended_is_nobodys() -> None:
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    with ours, theirs:
        assert not is_running(child)
        assert is_from(ours, child) is None
        assert is_from(ours, os.getpid()) is True
        assert is_from(ours, os.getppid()) is True
    os.waitpid(child, 0)
