"""The client of a recorder's socket says what went wrong, and takes nothing else for an answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentgov.errors import AgentgovError, BrokenRecordError, ConflictError, PolicyDeniedError
from agentgov.harness.control import Control
from agentgov.harness.wire import Request, encode_answer, parse_request

Serve = Callable[[bytes], tuple[Control, list[Request]]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Answers one request with fixed bytes, and keeps what was asked."""
    threads: list[threading.Thread] = []

    def start(raw_answer: bytes) -> tuple[Control, list[Request]]:
        path = tmp_path / "s"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen()
        asked: list[Request] = []

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, listener:
                raw = b""
                while (request := parse_request(raw)) is None:
                    raw += connection.recv(4096)
                asked.append(request)
                connection.sendall(raw_answer)

        threads.append(threading.Thread(target=answer, daemon=True))
        threads[-1].start()
        return Control("7kq2f", path), asked

    yield start
    for thread in threads:
        thread.join(30)


def test_pending_calls_are_listed(serve: Serve) -> None:
    control, asked = serve(encode_answer(0, b'{"v":1,"pending":[{"n":3}]}'))
    assert control.pending() == [{"n": 3}]
    assert asked == [Request("pending", "-", "-", b"")]


def test_status_is_an_object(serve: Serve) -> None:
    control, _ = serve(encode_answer(0, b'{"v":1,"calls":2}'))
    assert control.status()["calls"] == 2


def test_an_answer_is_sent(serve: Serve) -> None:
    control, asked = serve(encode_answer(0))
    control.answer(3, "allow")
    assert asked[0].payload == b'{"n": 3, "answer": "allow"}'


@pytest.mark.parametrize(
    ("code", "kind", "id"), [(10, PolicyDeniedError, "AG0043"), (15, ConflictError, "AG0042")]
)
def test_a_refused_answer_says_why(serve: Serve, code: int, kind: type[AgentgovError], id: str) -> None:
    control, _ = serve(encode_answer(code, b"", b"because\x1b[31m"))
    with pytest.raises(kind) as caught:
        control.answer(3, "deny")
    assert caught.value.id == id
    assert "because" in caught.value.message
    assert "\x1b" not in caught.value.message


@pytest.mark.parametrize(
    "raw",
    [b"", b"x", b"0 5 0\nabc", b"0 2 0\n[]", b"0 2 0\n{x", b"0 2 0\n{}", b'0 15 0\n{"pending":[1]}'],
    ids=str,
)
def test_anything_else_is_no_answer(serve: Serve, raw: bytes) -> None:
    control, _ = serve(raw)
    call: Callable[[], object] = control.pending
    with pytest.raises(BrokenRecordError) as caught:
        call()
    assert caught.value.id == "AG0041"


def test_a_recorder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AgentgovError) as caught:
        Control("7kq2f", tmp_path / "nothing").pending()
    assert caught.value.id == "AG0040"
