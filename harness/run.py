"""``agentgov run``: workspace, record, agent, and the end of it, in that order.

Rules kept here:
- Everything that can fail before the agent starts does so without leaving a run behind.
- The run is alive (``state.py``) from before its first entry until its last; if this process dies in
  between, the next command closes the run.
- However a run ends, the agent's processes are gone before the last snapshot is taken, and the terminal is
  the user's again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from agentgov.calls import ToolCall
from agentgov.errors import AgentgovError, ExitCode
from agentgov.files import FileLock
from agentgov.gates.adoption import find_policy
from agentgov.gates.places import Places
from agentgov.git import discover
from agentgov.harness import finishing, startup, sweeping
from agentgov.harness.attribution import Writer, writer_of
from agentgov.harness.capture.registry import find_capture
from agentgov.harness.guarding import first_problem
from agentgov.harness.job import Job, signal_numbers
from agentgov.harness.opening import Opening
from agentgov.harness.process import AgentProcess
from agentgov.harness.recorder import Recorder
from agentgov.harness.recovery import close_run, recover
from agentgov.harness.request import Deps, Reporter, RunInfo, RunOutcome, RunRequest
from agentgov.harness.session import Session, Tools
from agentgov.harness.state import marks
from agentgov.harness.steps import total_of
from agentgov.harness.surroundings import Options
from agentgov.harness.telling import Undisturbed
from agentgov.ledger.entry import Draft, SignedEntry
from agentgov.ledger.store_packing import pack_store
from agentgov.ledger.stream import Stream
from agentgov.memory import guard_memory
from agentgov.rollback.changes import describe, to_payload


def run_agent(request: RunRequest, reporter: Reporter, deps: Deps) -> RunOutcome:
    """Run an agent under the record.

    Returns:
        What came of it; its ``exit_code`` is what to exit with.

    Raises:
        AgentgovError: The agent was not started; its class says with which code to exit.
    """
    guard_memory()
    reporter = Undisturbed(reporter)
    repo = discover(request.start)
    repo.require_work_tree()
    base = repo.require_head_commit()
    startup.check_command(request.argv, request.env, request.start)
    capture = find_capture(request.argv, request.agent)
    settings = startup.read_settings(repo)
    adopted = find_policy(
        repo, deps.state, base, request.policy_ref, organisation=request.organisation_policy
    )
    # One start at a time: two at once must see each other to know that they are two.
    with ExitStack() as stack:
        is_first = not Stream.exists(repo)
        stream = stack.enter_context(Stream.open(repo, deps.state, clock=deps.clock, random=deps.random))
        if is_first:
            reporter.first_use(repo.layout.root)
        run = _Run(request, reporter, deps, repo, base, capture, settings, adopted, stream, stack)
        for recovered in recover(
            repo, deps.state, stream, run.payloads, clock=deps.clock, random=deps.random
        ):
            reporter.recovered(recovered)
        with FileLock(repo.layout.runs / "starting"):
            run.make_place()
        try:
            run.open_record()
            return run.serve()
        finally:
            run.lock.release()


class _Run(Opening):
    """A run from the start of its agent on."""

    unclosed = False

    def serve(self) -> RunOutcome:
        """Start the agent, serve it, and close the run when it has ended."""
        info = self.info()
        self.reporter.started(info)
        for line in self.warnings:
            self.reporter.warning(line)
        session = Session(self.run, self.first.tree, self._tools())
        # Heard from before the agent starts: a Ctrl-C right after it must not end the recorder alone.
        with signal_numbers() as signals:
            try:
                process = AgentProcess.start(
                    self.argv,
                    cwd=self.place.cwd,
                    env=self.env,
                    ownership=self.request.ownership,
                    marks=marks(self.layout, self.run),
                )
            except AgentgovError:
                session.end("failed", None, 0)
                self._close_run(session)
                raise
            with process:
                agent = Job(process)
                recorder = Recorder(
                    session,
                    self.capture,
                    self.listener,
                    agent,
                    self.snapshotter,
                    self.stream.seal,
                    self.deps.clock,
                    self,
                    Options(
                        self.ask_seconds,
                        self.request.intent,
                        check_peers=sweeping.IS_LINUX,
                        guard=lambda: first_problem(self.guards),
                    ),
                )
                recorder.serve(signals)
        return self._finish(info, session, recorder, agent)

    def asks(self, ask: dict[str, Any]) -> None:
        """Pass on that a call waits."""
        self.reporter.asks(ask)

    def denied(self, n: int, what: str, rules: Sequence[str], where: str) -> None:
        """Pass on that a call was denied."""
        self.reporter.denied(n, what, rules, where)

    def warning(self, text: str) -> None:
        """Pass on, once, that something is not as it should be."""
        if text not in self.warnings:
            self.warn(text)

    def _tools(self) -> Tools:
        root = self.place.root
        judge = self.adopted.judge(
            Places.of(
                root,
                home=self.request.home,
                repository=self.repo.require_work_tree() if self.place.place == "clone" else None,
                git_dirs=[self.repo.git_dir, self.repo.common_dir],
                state_home=self.deps.state.root,
            ),
        )

        def append(drafts: Sequence[Draft]) -> Sequence[SignedEntry]:
            return self.stream.append(drafts, self.signer)

        def target(n: int, call: ToolCall) -> Writer:
            return writer_of(n, call, root)

        def keep(tree: str, message: str, ts_us: int) -> None:
            self.shadow.commit(tree, message, ts_us)
            # Nobody waits now, and the next snapshot need not create its files.
            self.store.prepare()

        return Tools(
            append=append,
            snapshots=self.snapshotter,
            payloads=self.payloads,
            judge=judge.decide,
            describe=lambda old, new: describe(self.store, old, new),
            encode=to_payload,
            writer_of=target,
            clock=self.deps.clock,
            shadow=keep,
        )

    def _finish(self, info: RunInfo, session: Session, recorder: Recorder, agent: Job) -> RunOutcome:
        if agent.left:
            self.warn(f"{agent.left} processes of the agent could not be ended")
        if self.hooks and not session.saw_hooks:
            self.warn(f"no hook of {self.capture.name} was heard: its calls, if any, were not seen")
        ran = self.capture.ran_calls(session.transcripts, self.started_us)
        if silent := {call_id for call_id in ran if not session.was_announced(call_id)}:
            session.counts.unrecorded += len(silent)
            self.warn(f"{len(silent)} calls ran that no hook announced, by the agent's own log")
        state = "failed" if agent.lost else recorder.state
        if agent.lost:
            self.warn("the agent's supervisor was killed")
        bound = self._end(session, state, agent, recorder)
        failed = state == "failed" or self.unclosed
        changes = describe(self.store, self.first.tree, session.tree)
        counts = session.counts
        outcome = RunOutcome(
            info=info,
            exit_code=ExitCode.RUN_FAILED if failed else agent.code,
            state=state,
            took_us=int((self.deps.clock.monotonic() - self.started_at) * 1_000_000),
            calls=counts.calls,
            ran=counts.ran,
            denied=session.denied,
            unrecorded=counts.unrecorded,
            saw_hooks=session.saw_hooks,
            model=session.model,
            files=[total_of(change) for change in changes],
            lines_with_call=counts.lines.with_call,
            lines=counts.lines.total,
            ended=agent.ended,
            tree=session.tree,
            result=bound.tree if bound is not None else None,
            problems=bound.problems if bound is not None else (),
            skipped=[(skip.path, skip.reason) for skip in session.skipped],
            warnings=self.warnings,
        )
        self.reporter.finished(outcome)
        return outcome

    def _end(self, session: Session, state: str, agent: Job, recorder: Recorder) -> finishing.Bound | None:
        """Enter the end. What the session cannot do any more is left to recovery, which reads the record."""
        try:
            if recorder.failure is None:
                session.end(state, agent.code, agent.ended)
                return self._close_run(session)
        except (AgentgovError, OSError) as error:
            self.warn(f"the run could not be closed as usual: {error}")
        try:
            bound = close_run(
                self.repo,
                self.stream,
                self.payloads,
                self.store,
                self.run,
                self.place.root,
                state="failed",
                code=agent.code,
            )
            self.lock.finish()
            return bound
        except (AgentgovError, OSError) as error:
            self.warn(f"the record could not be closed, the next command will try again: {error}")
            self.unclosed = True
            return None

    def _close_run(self, session: Session) -> finishing.Bound | None:
        session.keep_history()
        bound = self._bind(session)
        self.stream.end_key(self.signer)
        self.payloads.fold(self.run)
        self.stream.seal()
        self.lock.finish()
        self._pack_store()
        return bound

    def _pack_store(self) -> None:
        layout = self.repo.layout
        try:
            pack_store(layout.store, layout.payloads / "fold.lock", self.repo.object_format)
        except (AgentgovError, OSError) as error:
            self.warn(f"the private store takes more room than it has to: {error}")

    def _bind(self, session: Session) -> finishing.Bound | None:
        before = {skip.path for skip in self.first.skipped}
        try:
            bound = finishing.bind(
                self.repo,
                self.store,
                self.payloads,
                self.run,
                base=self.base,
                start_tree=self.first.tree,
                end_tree=session.tree,
                root=self.place.root,
                is_ignored=lambda path: self.rules.is_ignored(path, False),
                skipped={skip.path for skip in session.skipped} - before,
            )
        except AgentgovError as error:
            self.warn(f"the result could not be made: {error}")
            return None
        self.stream.append([bound.draft], self.signer)
        return bound
