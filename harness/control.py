"""The client side of a recorder's socket, for people's commands: what waits, an answer, how it is going.

Rules kept here:

- One request, one answer, one connection, as `wire` says; what comes back is `raw_*` until it is parsed.
- A recorder that is gone or silent is an error that says so, never an empty list.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agentgov.errors import AgentgovError, BrokenRecordError, ConflictError, PolicyDeniedError
from agentgov.harness.state import RunState
from agentgov.harness.wire import BrokenRequestError, Request, encode_request, parse_answer
from agentgov.text import printable

TIMEOUT_SECONDS = 30.0
# A recorder answers at once, or is suspended together with its agent: then nobody should wait long.
LOOK_TIMEOUT_SECONDS = 3.0
_MAX_ANSWER_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Control:
    """Talks to the recorder of one live run."""

    run: str
    socket: Path

    @classmethod
    def of(cls, state: RunState) -> Control:
        """The client for a run that `state.live_runs` listed."""
        return cls(state.run, Path(state.socket))

    def pending(self) -> list[Mapping[str, Any]]:
        """The calls that wait for a person, oldest first.

        Raises:
            ConflictError: AG0040, the recorder cannot be reached.
            BrokenRecordError: AG0041, it answered something else.
            AgentgovError: AG0045, it refused.
        """
        found = self._object("pending").get("pending")
        if not isinstance(found, list) or not all(isinstance(ask, dict) for ask in found):
            raise self._garbled()
        return found

    def status(self) -> Mapping[str, Any]:
        """How the run is going.

        Raises:
            ConflictError: AG0040, the recorder cannot be reached.
            BrokenRecordError: AG0041, it answered something else.
            AgentgovError: AG0045, it refused.
        """
        return self._object("status")

    def answer(self, n: int, answer: Literal["allow", "deny"]) -> None:
        """Answer a call that waits.

        Raises:
            ConflictError: AG0042, it does not wait (any more); AG0040, the recorder cannot be reached.
            PolicyDeniedError: AG0043, the answer came from inside the run.
        """
        code, _, said = self._ask("answer", json.dumps({"n": n, "answer": answer}).encode())
        if code == 0:
            return
        reason = printable(said, limit=200) or f"code {code}"
        if code == PolicyDeniedError.exit_code:
            raise PolicyDeniedError(reason, id="AG0043", where=f"{self.run}:{n}")
        raise ConflictError(reason, id="AG0042", where=f"{self.run}:{n}", hint="agentgov pending")

    def _object(self, kind: str) -> Mapping[str, Any]:
        code, out, said = self._ask(kind, b"", LOOK_TIMEOUT_SECONDS)
        if code != 0:
            raise AgentgovError(printable(said, limit=200) or f"code {code}", id="AG0045", where=self.run)
        try:
            found = json.loads(out)
        except ValueError as error:
            raise self._garbled() from error
        if not isinstance(found, dict):
            raise self._garbled()
        return found

    def _ask(
        self, kind: str, payload: bytes, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> tuple[int, bytes, bytes]:
        raw_answer = bytearray()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(timeout_seconds)
                connection.connect(str(self.socket))
                connection.sendall(encode_request(Request(kind, "-", "-", payload)))
                while chunk := connection.recv(1 << 16):
                    raw_answer += chunk
                    if len(raw_answer) > _MAX_ANSWER_BYTES:
                        raise self._garbled()
        except TimeoutError as error:
            raise ConflictError(
                f"the recorder of run {self.run} does not answer: is it suspended (Ctrl-Z)?",
                id="AG0040",
                where=str(self.socket),
                hint="fg brings a suspended run back",
            ) from error
        except OSError as error:
            raise ConflictError(
                f"the recorder of run {self.run} cannot be reached: {error.strerror or error}",
                id="AG0040",
                where=str(self.socket),
                hint="agentgov status",
            ) from error
        try:
            return parse_answer(bytes(raw_answer))
        except BrokenRequestError as error:
            raise self._garbled() from error

    def _garbled(self) -> BrokenRecordError:
        return BrokenRecordError(f"the recorder of run {self.run} gave no proper answer", id="AG0041")
