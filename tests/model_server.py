"""A scripted model server on the loopback address, for driving real agents without a network.

Rules kept here:
- A reply depends only on the request: the conversation is found by a key in its first user message, the
  step by the number of assistant turns already in it. Retries, parallel conversations and sub-agents
  therefore need no state.
- Headers and body leave in one write on a socket with TCP_NODELAY: a stall of some 40 ms would otherwise
  hide, or invert, the cost of a hook.
- What a model says (:class:`Turn`) knows nothing of a wire format; each format is one :class:`Wire`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self


@dataclass(frozen=True)
class Call:
    """One tool call that the scripted model makes."""

    tool: str
    input: Mapping[str, Any]
    id: str = ""


@dataclass(frozen=True)
class Turn:
    """One reply of the model: text, then any number of calls made at once."""

    text: str = ""
    calls: Sequence[Call] = ()


@dataclass(frozen=True)
class Query:
    """What a request asks for, whatever its wire format."""

    model: str
    streaming: bool
    first_user_text: str
    assistant_turns: int
    offers_tools: bool


@dataclass(frozen=True)
class Seen:
    """A request as it arrived, kept for assertions."""

    path: str
    headers: Mapping[str, str]
    body: Any
    query: Query
    key: str | None
    at_seconds: float


class Wire(Protocol):
    """One wire format of a model provider."""

    def is_for(self, path: str) -> bool:
        """Tell whether a request path belongs to this format."""

    def parse_query(self, raw_body: Any) -> Query:
        """Read a decoded request body."""

    def render(self, query: Query, turn: Turn, step: str) -> tuple[str, bytes]:
        """Return the content type and the whole body of a reply."""


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def _sse(events: Sequence[tuple[str, Mapping[str, Any]]]) -> bytes:
    return b"".join(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode() for name, data in events)


class AnthropicMessages:
    """Anthropic Messages: https://docs.anthropic.com/en/api/messages and /messages-streaming."""

    def is_for(self, path: str) -> bool:
        """Tell whether a path is the Messages endpoint."""
        return path.split("?")[0].endswith("/v1/messages")

    def parse_query(self, raw_body: Any) -> Query:
        """Read a Messages request."""
        messages = raw_body.get("messages", [])
        users = [_text_of(m.get("content")) for m in messages if m.get("role") == "user"]
        return Query(
            model=str(raw_body.get("model", "")),
            streaming=bool(raw_body.get("stream")),
            first_user_text=users[0] if users else "",
            assistant_turns=sum(1 for m in messages if m.get("role") == "assistant"),
            offers_tools=bool(raw_body.get("tools")),
        )

    def render(self, query: Query, turn: Turn, step: str) -> tuple[str, bytes]:
        """Render one assistant message, as one JSON object or as server-sent events."""
        blocks: list[dict[str, Any]] = []
        if turn.text or not turn.calls:
            blocks.append({"type": "text", "text": turn.text or "done"})
        for index, call in enumerate(turn.calls):
            call_id = call.id or f"toolu_{step}_{index}"
            blocks.append({"type": "tool_use", "id": call_id, "name": call.tool, "input": dict(call.input)})
        reason = "tool_use" if turn.calls else "end_turn"
        message: dict[str, Any] = {
            "id": f"msg_{step}", "type": "message", "role": "assistant", "model": query.model,
            "content": [], "stop_reason": None, "stop_sequence": None,
            "usage": {"input_tokens": 10, "output_tokens": 1},
        }  # fmt: skip
        if not query.streaming:
            message.update(content=blocks, stop_reason=reason)
            return "application/json", json.dumps(message).encode()
        events: list[tuple[str, dict[str, Any]]] = [
            ("message_start", {"type": "message_start", "message": message})
        ]
        for index, block in enumerate(blocks):
            empty = {**block, "text": ""} if block["type"] == "text" else {**block, "input": {}}
            delta = (
                {"type": "text_delta", "text": block["text"]}
                if block["type"] == "text"
                else {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            )
            events += [
                (
                    "content_block_start",
                    {"type": "content_block_start", "index": index, "content_block": empty},
                ),
                ("content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}),
                ("content_block_stop", {"type": "content_block_stop", "index": index}),
            ]
        stop = {"stop_reason": reason, "stop_sequence": None}
        events += [
            ("message_delta", {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 5}}),
            ("message_stop", {"type": "message_stop"}),
        ]
        return "text/event-stream", _sse(events)


WIRES: tuple[Wire, ...] = (AnthropicMessages(),)


@dataclass
class ModelServer:
    """A server that plays a script.

    Attributes:
        script: Key to turns. The key is looked for in the first user message of a conversation; the longest
        key
            that occurs wins. Behind the last turn, and in conversations without a key, the model only says
            "done".
    """

    script: Mapping[str, Sequence[Turn]]
    wires: Sequence[Wire] = WIRES
    seen: list[Seen] = field(default_factory=list)
    _http: ThreadingHTTPServer | None = None
    _thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base address, without a final slash."""
        assert self._http is not None, "the server is not running"
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def key_of(self, query: Query) -> str | None:
        """Find the conversation that a request belongs to."""
        keys = [key for key in self.script if key in query.first_user_text]
        return max(keys, key=len) if keys and query.offers_tools else None

    def answer(self, path: str, headers: Mapping[str, str], raw_body: Any) -> tuple[int, str, bytes]:
        """Answer one request."""
        wire = next((wire for wire in self.wires if wire.is_for(path)), None)
        if wire is None:
            if "count_tokens" in path:
                return 200, "application/json", b'{"input_tokens":10}'
            return (
                404,
                "application/json",
                b'{"type":"error","error":{"type":"not_found_error","message":"no"}}',
            )
        query = wire.parse_query(raw_body)
        key = self.key_of(query)
        self.seen.append(Seen(path, headers, raw_body, query, key, time.monotonic()))
        turns = self.script[key] if key is not None else ()
        turn = turns[query.assistant_turns] if query.assistant_turns < len(turns) else Turn("done")
        safe = "".join(c for c in key or "other" if c.isalnum())
        kind, body = wire.render(query, turn, f"{safe}_{query.assistant_turns}")
        return 200, kind, body

    def __enter__(self) -> Self:
        """Start serving on a free port of the loopback address."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm: ClassVar[bool] = True
            wbufsize = -1

            def _reply(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)
                self.wfile.flush()

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("content-length") or 0))
                try:
                    decoded = json.loads(raw or b"{}")
                except ValueError:
                    decoded = {}
                self._reply(*server.answer(self.path, dict(self.headers), decoded))

            def do_GET(self) -> None:
                self._reply(404, "application/json", b"{}")

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing: the agent under test owns the terminal."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

        self._http = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        assert self._http is not None
        assert self._thread is not None
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
