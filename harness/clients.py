"""Connections to the recorder's socket that can neither block it nor wear it out.

Rules kept here:
- Every socket is non-blocking; a request has a time and a size; a client that is slow, silent or wrong is
  dropped.
- While there are too many connections, further ones wait in the kernel's backlog.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from collections.abc import Callable
from pathlib import Path

from agentgov.harness.peers import Peer, is_own_user, peer_of
from agentgov.harness.wire import REQUEST_SECONDS, BrokenRequestError, Request, encode_answer, parse_request

BACKLOG = 1024
MAX_CLIENTS = 400
_CHUNK_BYTES = 1 << 18


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at `path`, which only this user can connect to."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.unlink(missing_ok=True)
        listener.bind(os.fspath(path))
        path.chmod(0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


class Client:
    """One connection: a request comes in, an answer goes out."""

    def __init__(self, connection: socket.socket, peer: Peer, deadline: float) -> None:
        self.connection = connection
        self.peer = peer
        self.deadline: float | None = deadline
        self.request: Request | None = None
        self.gone = False
        self._raw = bytearray()
        self._out = b""

    def read(self) -> Request | None:
        """Take in what has arrived; return the request once it is whole.

        Raises:
            BrokenRequestError: It is not one, or the client hung up.
        """
        try:
            chunk = self.connection.recv(_CHUNK_BYTES)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise BrokenRequestError(f"the connection broke: {error}") from None
        if not chunk or self.request is not None:
            raise BrokenRequestError("the client hung up")
        self._raw += chunk
        self.request = parse_request(self._raw)
        if self.request is not None:
            self._raw = bytearray()
            self.deadline = None
        return self.request

    def write(self, data: bytes = b"") -> bool:
        """Send as much as goes; True when all is sent.

        Raises:
            OSError: The client is gone.
        """
        self._out += data
        while self._out:
            try:
                self._out = self._out[self.connection.send(self._out) :]
            except (BlockingIOError, InterruptedError):
                return False
        return True


class Clients:
    """All connections of a recorder.

    Args:
        listener: The listening socket.
        selector: The recorder's selector; what is registered carries a callable as its data.
        monotonic: Time in seconds.
        on_gone: Told of a client that hung up while its request was being answered.
    """

    def __init__(
        self,
        listener: socket.socket,
        selector: selectors.BaseSelector,
        monotonic: Callable[[], float],
        on_gone: Callable[[Client], None],
    ) -> None:
        self._listener = listener
        self._selector = selector
        self._monotonic = monotonic
        self._on_gone = on_gone
        self._clients: set[Client] = set()
        self._listening = False
        self.ready: list[Client] = []
        self._listen()

    def answer(self, client: Client, exit_code: int, stdout: bytes = b"", stderr: bytes = b"") -> bool:
        """Answer and end a connection; False when the client is gone already."""
        if client.gone:
            return False
        client.deadline = self._monotonic() + REQUEST_SECONDS
        try:
            done = client.write(encode_answer(exit_code, stdout, stderr))
        except OSError:
            self._drop(client)
            return False
        if done:
            self._drop(client)
        else:
            self._watch(client, selectors.EVENT_WRITE)
        return True

    def next_deadline(self) -> float | None:
        """When the next slow client is to be dropped."""
        return min((c.deadline for c in self._clients if c.deadline is not None), default=None)

    def drop_slow(self) -> None:
        """Drop the clients whose time is up."""
        now = self._monotonic()
        for client in [c for c in self._clients if c.deadline is not None and c.deadline <= now]:
            self._drop(client)

    def close(self) -> None:
        """End every connection."""
        for client in list(self._clients):
            self._drop(client)
        if self._listening:
            self._selector.unregister(self._listener)
            self._listening = False

    def _listen(self) -> None:
        if not self._listening:
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
            self._listening = True

    def _accept(self, _mask: int) -> None:
        while len(self._clients) < MAX_CLIENTS:
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # Out of descriptors: leave the rest in the backlog until a client has left.
                break
            connection.setblocking(False)
            try:
                peer = peer_of(connection)
            except OSError:
                connection.close()
                continue
            if not is_own_user(peer):
                connection.close()
                continue
            client = Client(connection, peer, self._monotonic() + REQUEST_SECONDS)
            self._clients.add(client)
            self._watch(client, selectors.EVENT_READ)
        if self._clients:
            self._selector.unregister(self._listener)
            self._listening = False

    def _watch(self, client: Client, events: int) -> None:
        def act(mask: int) -> None:
            self._act(client, mask)

        try:
            self._selector.modify(client.connection, events, act)
        except KeyError:
            self._selector.register(client.connection, events, act)

    def _act(self, client: Client, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE:
                if client.write():
                    self._drop(client)
            elif client.read() is not None:
                self.ready.append(client)
        except (BrokenRequestError, OSError):
            self._drop(client)
            if client.request is not None:
                self._on_gone(client)

    def _drop(self, client: Client) -> None:
        client.gone = True
        self._clients.discard(client)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(client.connection)
        client.connection.close()
        if len(self._clients) < MAX_CLIENTS:
            self._listen()
