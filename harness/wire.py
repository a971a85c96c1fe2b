r"""The protocol on the recorder's socket: one request, one answer, then the connection ends.

    request:  AG1 KIND AGENT EVENT LENGTH LF  LENGTH bytes
    answer:   EXIT_CODE OUT_LENGTH ERR_LENGTH LF  standard output  standard error

KIND is ``hook`` (from the agent's hook command), ``pending``, ``answer`` or ``status`` (from a person's
command).

Rules kept here:
- A request is read with limits on its head, its size and its time; what exceeds one is an error, never a
  wait.
- Numbers are plain decimal: what does not print back identically is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agentgov.errors import AgentgovError

MAX_HEAD_BYTES = 256
MAX_PAYLOAD_BYTES = 32 * 1024 * 1024
REQUEST_SECONDS = 10.0

_HEAD = re.compile(
    rb"AG1 (hook|pending|answer|status) ([A-Za-z0-9_.-]{1,32}) ([A-Za-z0-9_.-]{1,64}) (0|[1-9][0-9]{0,8})"
)


class BrokenRequestError(AgentgovError):
    """Bytes on the socket are not a request of ours."""

    def __init__(self, message: str) -> None:
        super().__init__(message, id="AG0066")


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        kind: hook, pending, answer or status.
        agent: The agent's name, for a hook; otherwise "-".
        event: The event's name, for a hook; otherwise "-".
        payload: What was sent with it.
    """

    kind: str
    agent: str
    event: str
    payload: bytes


def parse_request(raw: bytes | bytearray) -> Request | None:
    """Read a request from what has arrived so far; None while it is not whole.

    Raises:
        BrokenRequestError: It never will be one.
    """
    end = raw.find(b"\n", 0, MAX_HEAD_BYTES + 1)
    if end < 0:
        if len(raw) > MAX_HEAD_BYTES or not b"AG1 ".startswith(bytes(raw[:4])):
            raise BrokenRequestError("the request has no head")
        return None
    head = _HEAD.fullmatch(raw[:end])
    if head is None:
        raise BrokenRequestError("the request's head is malformed")
    size = int(head[4])
    if size > MAX_PAYLOAD_BYTES:
        raise BrokenRequestError(f"the request is larger than {MAX_PAYLOAD_BYTES} bytes")
    have = len(raw) - end - 1
    if have > size:
        raise BrokenRequestError("there are bytes behind the request")
    if have < size:
        return None
    kind, agent, event = (head[index].decode("ascii") for index in (1, 2, 3))
    return Request(kind, agent, event, bytes(raw[end + 1 :]))


def encode_request(request: Request) -> bytes:
    """Return a request as it goes over the socket."""
    head = f"AG1 {request.kind} {request.agent} {request.event} {len(request.payload)}\n"
    return head.encode("ascii") + request.payload


def encode_answer(exit_code: int, stdout: bytes = b"", stderr: bytes = b"") -> bytes:
    """Return an answer as it goes over the socket."""
    return b"%d %d %d\n" % (exit_code, len(stdout), len(stderr)) + stdout + stderr


def parse_answer(raw: bytes) -> tuple[int, bytes, bytes]:
    """Read a whole answer: exit code, standard output, standard error.

    Raises:
        BrokenRequestError: It is malformed or cut off.
    """
    head, newline, rest = raw.partition(b"\n")
    words = head.split(b" ")
    if not newline or len(words) != 3 or not all(word.isdigit() and len(word) < 10 for word in words):
        raise BrokenRequestError("the recorder's answer is malformed")
    code, out_size, err_size = (int(word) for word in words)
    if len(rest) != out_size + err_size:
        raise BrokenRequestError("the recorder's answer was cut off")
    return code, rest[:out_size], rest[out_size:]
