"""Who is at the other end of a socket."""

from __future__ import annotations

import os
import socket

import pytest

from agentgov.harness.peers import is_descendant, is_own_user, parent_of, peer_of


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
