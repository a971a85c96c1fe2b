"""The recorder: the parent of the agent, serving its hooks from one thread.

Rules kept here:
- One turn of the loop answers all that is ready with one snapshot, one durable append, and then the answers.
- ``call.request`` is on disk before the agent hears "allow"; the snapshot behind a call is taken before the
  agent goes on from it.
- Hook events count only from the agent's own processes, answers of a person only from outside them.
- While it serves, it looks at what the agent's hooks need: once that was tampered with, it fails.
- It fails closed: after an error of its own every call is denied, the agent is ended and the run is
  ``failed``.
- Nothing a client does can block the loop (``clients.py``), nor does saving (``saving.py``); nothing an agent
  sends can end it.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
from collections.abc import Callable, Sequence

from agentgov.calls import ToolCall
from agentgov.clock import Clock
from agentgov.errors import AgentgovError
from agentgov.harness import messages
from agentgov.harness.asks import Ask, Asks, parse_answer_request
from agentgov.harness.capture.base import BrokenEventError, Capture, HookEvent
from agentgov.harness.clients import Client, Clients
from agentgov.harness.peers import is_from
from agentgov.harness.saving import Saver
from agentgov.harness.session import AnsweredBy, LiveCall, Session
from agentgov.harness.surroundings import Agent, Options, Told, Watched
from agentgov.harness.wire import BrokenRequestError, Request

SEAL_ENTRIES = 256
SEAL_SECONDS = 30.0
HEARTBEAT_SECONDS = 600.0
# After the first news of a change: long enough for a burst to be one step, and more where a look is
# expensive.
GATHER_SECONDS = 0.2
LONGEST_GATHER_SECONDS = 2.0
GATHER_PER_LOOK = 5.0
GUARD_SECONDS = 1.0
SAVING_SECONDS = 0.1


class Recorder:
    """Serves one run until its agent has ended.

    Args:
        session: The run's bookkeeping.
        capture: The agent's adapter.
        listener: The listening socket (:func:`agentgov.harness.clients.listen`).
        agent: The agent, started already or about to be.
        watched: The workspace's watcher.
        seal: Saves what was entered in the repository; called in a thread beside the loop.
        clock: Time.
        told: Who hears of it.
        options: How to behave.
    """

    def __init__(
        self,
        session: Session,
        capture: Capture,
        listener: socket.socket,
        agent: Agent,
        watched: Watched,
        seal: Callable[[], object],
        clock: Clock,
        told: Told,
        options: Options,
    ) -> None:
        self._session = session
        self._capture = capture
        self._agent = agent
        self._watched = watched
        self._saver = Saver(seal)
        self._clock = clock
        self._told = told
        self._options = options
        self._selector = selectors.DefaultSelector()
        self._clients = Clients(listener, self._selector, clock.monotonic, self._client_gone)
        self._asks = Asks(session.run, options.intent)
        self._answers: list[tuple[Client, int, bytes, bytes, int | None]] = []
        self._abandoned: list[int] = []
        self._ended = False
        self._stopping = False
        self._watching: int | None = None
        self._look_at: float | None = None
        self._gather_seconds = GATHER_SECONDS
        now = clock.monotonic()
        self._sealed_at, self._entered_at = now, now
        self._sealed_entries = 0
        self._problem: str | None = None
        self.failure: Exception | None = None

    @property
    def state(self) -> str:
        """How the run ended, in the record's words."""
        if self.failure is not None:
            return "failed"
        return "stopped" if self._stopping else "finished"

    def stop(self) -> None:
        """End the agent; the loop goes on until it has."""
        if not self._stopping:
            self._stopping = True
            self._agent.terminate()

    def serve(self, signals: int | None = None) -> None:
        """Run the loop until the agent has ended.

        Args:
            signals: A descriptor on which the numbers of signals arrive, one byte each.
        """
        self._selector.register(self._agent.fd, selectors.EVENT_READ, self._agent_news)
        if signals is not None:
            self._selector.register(signals, selectors.EVENT_READ, lambda _mask: self._take_signals(signals))
        while not self._ended:
            self._turn()
        # The last hooks may have been sent just before the agent ended.
        self._selector.unregister(self._agent.fd)
        self._turn(wait=False)
        self._guarded(self._release_all)
        self._guarded(self._saver.finish)
        self._clients.close()
        self._selector.close()

    def _turn(self, *, wait: bool = True) -> None:
        self._follow_watcher()
        for key, mask in self._selector.select(self._timeout() if wait else 0):
            key.data(mask)
        self._clients.drop_slow()
        ready, self._clients.ready = self._clients.ready, []
        if self.failure is None:
            self._guarded(lambda: self._work(ready))
        self._deny_after_failure(ready)

    def _deny_after_failure(self, clients: Sequence[Client]) -> None:
        if self.failure is not None:
            for client in clients:
                self._clients.answer(client, 2, b"", messages.BROKEN.encode())

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self._fail(error)

    def _work(self, ready: Sequence[Client]) -> None:
        now = self._clock.monotonic()
        self._look_at_guards()
        self._saver.look()
        for n in self._abandoned:
            if any(live.n == n for live in self._session.open_calls):
                self._session.close(n, "interrupted")
        self._abandoned = []
        for client in ready:
            if client.request is not None:
                self._take(client, client.request)
        for ask in self._asks.take_expired(now):
            self._settle(ask, allow=False, by="timeout")
        if self._look_at is not None and now >= self._look_at:
            self._look(now)
        self._publish()
        self._upkeep()

    def _look_at_guards(self) -> None:
        problem = self._problem or (self._options.guard() if self._options.guard is not None else None)
        if problem is not None:
            raise AgentgovError(problem, id="AG0046")

    def _look(self, now: float) -> None:
        self._look_at = None
        if not self._session.open_calls:
            self._session.look()
            took = self._clock.monotonic() - now
            self._gather_seconds = min(LONGEST_GATHER_SECONDS, max(GATHER_SECONDS, took * GATHER_PER_LOOK))

    def _publish(self) -> None:
        """Make the turn durable, then answer."""
        before = self._session.counts.entries
        self._session.commit()
        if self._session.counts.entries != before:
            self._entered_at = self._clock.monotonic()
        answers, self._answers = self._answers, []
        for client, code, out, err, n in answers:
            if not self._clients.answer(client, code, out, err) and n is not None:
                # It was allowed, and its hook is gone: the agent never heard, so the call did not run.
                self._abandoned.append(n)
        self._session.keep_history()

    def _upkeep(self) -> None:
        now = self._clock.monotonic()
        unsaved = self._session.counts.entries - self._sealed_entries
        due = unsaved >= SEAL_ENTRIES or (unsaved and now - self._sealed_at >= SEAL_SECONDS)
        if due and not self._saver.is_saving:
            self._saver.start()
            self._sealed_at, self._sealed_entries = now, self._session.counts.entries
        elif not unsaved:
            self._sealed_at = now
        if now - self._entered_at >= HEARTBEAT_SECONDS:
            self._session.beat()
            self._session.commit()
            self._entered_at = now

    def _take(self, client: Client, request: Request) -> None:
        try:
            if request.kind == "hook":
                self._take_hook(client, request)
            else:
                self._take_question(client, request)
        except BrokenEventError as error:
            self._told.warning(f"a hook event could not be read: {error}")
            self._say(client, 2, b"", messages.unreadable(str(error)).encode())
        except BrokenRequestError as error:
            self._say(client, 2, b"", str(error).encode())

    def _take_hook(self, client: Client, request: Request) -> None:
        if self._options.check_peers and not is_from(client.connection, self._agent.supervisor_pid):
            self._told.warning("a process outside the run spoke as the agent's hook, and was refused")
            self._say(client, 2, b"", messages.STRANGER.encode())
            return
        if request.agent != self._capture.name:
            raise BrokenEventError("the event is of another agent")
        event = self._capture.parse(request.event, request.payload)
        if self._session.model is None and event.call is not None:
            self._session.model = self._capture.model_of(event)
        open_ids = self._session.open_ids(event.actor_id)
        if open_ids and event.kind in ("pre", "subagent-stop", "turn-end"):
            over = event.kind != "pre"
            settled = set(open_ids) if over else self._capture.settled_calls(event, open_ids)
            self._session.close_settled(settled)
        if event.kind == "pre" and event.call is not None:
            self._take_call(client, request.event, event, event.call)
            return
        if event.call is not None:
            self._session.see_actor(event)
            if not self._session.finish(event, event.call):
                self._told.warning("a result came in for a call that was not announced")
            self._take_changed()
        else:
            self._session.see_actor(event)
        self._say(client, 0)

    def _take_changed(self) -> None:
        """A call that ran is entered first; if it should not have run, the run fails in the next turn."""
        for n, call, verdict in self._session.changed:
            text = messages.changed(n, call, verdict)
            self._told.warning(text)
            if verdict.decision != "allow":
                self._problem = text
        self._session.changed.clear()

    def _take_call(self, client: Client, event_name: str, event: HookEvent, call: ToolCall) -> None:
        if self._stopping:
            self._say(client, 2, b"", b"agentgov denied this call: the run is being stopped")
            return
        live = self._session.announce(event, call)
        if live.verdict.decision == "ask":
            deadline = self._clock.monotonic() + self._options.ask_seconds
            ask = Ask(live, client, event_name, deadline)
            self._asks.add(ask)
            self._told.asks(self._asks.describe(ask, self._clock.monotonic()))
            return
        if live.verdict.decision == "deny":
            text = messages.denial(self._session.run, live.n, live.call, live.verdict)
            self._deny(client, event_name, live, text)
            return
        said = self._capture.answer(event_name, live.verdict, "")
        self._say(client, said.exit_code, said.stdout, said.stderr, live.n)

    def _take_question(self, client: Client, request: Request) -> None:
        now = self._clock.monotonic()
        if request.kind == "pending":
            self._say(client, 0, json.dumps(self._asks.to_json(now)).encode())
        elif request.kind == "status":
            counts = self._session.counts
            status = {
                "v": 1,
                "run": self._session.run,
                "pid": os.getpid(),
                "calls": counts.calls,
                "denied": counts.denied,
                "open": len(self._session.open_calls),
                "pending": len(self._asks),
            }
            self._say(client, 0, json.dumps(status).encode())
        else:
            # Unknown is not outside: an answer must come from a process that is known not to be the agent's.
            inside = is_from(client.connection, self._agent.supervisor_pid)
            if self._options.check_peers and inside is not False:
                self._told.warning("the agent tried to answer for a person, and was refused")
                self._say(client, 10, b"", b"an answer must come from outside the run")
                return
            n, allow = parse_answer_request(request.payload)
            ask = self._asks.take(n)
            if ask is None:
                self._say(client, 15, b"", b"that call does not wait for an answer (any more)")
                return
            self._settle(ask, allow=allow, by="operator")
            self._say(client, 0)

    def _settle(self, ask: Ask, *, allow: bool, by: AnsweredBy) -> None:
        live = self._session.settle_ask(ask.live.n, allow=allow, by=by)
        if live is None:
            return
        if allow:
            self._say(ask.client, 0, n=live.n)
        else:
            text = messages.refusal(self._session.run, live.n, live.call, by)
            self._deny(ask.client, ask.event, live, text)

    def _deny(self, client: Client, event_name: str, live: LiveCall, text: str) -> None:
        said = self._capture.answer(event_name, live.verdict, text)
        self._say(client, said.exit_code, said.stdout, said.stderr)
        denied = self._session.denied[-1]
        self._told.denied(denied.n, denied.what, denied.rules, denied.where)

    def _say(
        self, client: Client, code: int, out: bytes = b"", err: bytes = b"", n: int | None = None
    ) -> None:
        self._answers.append((client, code, out, err, n))

    def _client_gone(self, client: Client) -> None:
        ask = self._asks.take_of(client)
        if ask is not None:
            self._guarded(lambda: self._settle(ask, allow=False, by="timeout"))

    def _release_all(self) -> None:
        if self.failure is None:
            for ask in self._asks.take_all():
                self._settle(ask, allow=False, by="run-ended")
            self._publish()

    def _fail(self, error: Exception) -> None:
        self.failure = error
        what = str(error) if isinstance(error, AgentgovError) else f"{type(error).__name__}: {error}"
        self._told.warning(f"the recorder failed, the agent is being ended: {what}")
        waiting = [client for client, *_ in self._answers] + [ask.client for ask in self._asks.take_all()]
        self._answers = []
        for client in waiting:
            self._clients.answer(client, 2, b"", messages.BROKEN.encode())
        self._agent.terminate()

    def _agent_news(self, _mask: int) -> None:
        # It may stop this process, or end and collect all its children: saving holds a lock, and runs git.
        self._guarded(self._saver.finish)
        self._ended = self._agent.handle()

    def _take_signals(self, fd: int) -> None:
        for number in os.read(fd, 4096):
            if not self._agent.signal(number):
                self.stop()

    def _follow_watcher(self) -> None:
        """Listen to the watcher only while no call is open: otherwise its news waits for the call's end."""
        fd = self._watched.fd
        idle = self._look_at is None and not self._session.open_calls and self.failure is None
        wanted = fd if idle else None
        if wanted == self._watching:
            return
        if self._watching is not None:
            self._selector.unregister(self._watching)
        if wanted is not None:
            self._selector.register(wanted, selectors.EVENT_READ, self._changed)
        self._watching = wanted

    def _changed(self, _mask: int) -> None:
        self._look_at = self._clock.monotonic() + self._gather_seconds

    def _timeout(self) -> float:
        now = self._clock.monotonic()
        if self.failure is not None:
            return 1.0
        times = [
            self._clients.next_deadline(),
            self._asks.next_deadline(),
            self._look_at,
            self._entered_at + HEARTBEAT_SECONDS,
            None if self._saver.is_saving else self._sealed_at + SEAL_SECONDS,
            now if self._answers or self._abandoned or self._problem else None,
            now + GUARD_SECONDS if self._options.guard is not None else None,
            now + SAVING_SECONDS if self._saver.is_saving else None,
        ]
        return max(0.0, min(when for when in times if when is not None) - now)
