"""``agentgov run``: workspace, record, agent, and the end of it, in that order.

Rules kept here:
- Everything that can fail before the agent starts does so without leaving a run behind.
- The run is alive (``state.py``) from before its first entry until its last; if this process dies in
  between, the next command closes the run.
- However a run ends, the agent's processes are gone before the last snapshot is taken, and the terminal is
  the user's again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from agentgov.calls import ToolCall
from agentgov.config import Settings
from agentgov.errors import AgentgovError, ExitCode, RunFailedError
from agentgov.files import FileLock, open_private_dir
from agentgov.gates.adoption import AdoptedPolicy, find_policy, remember_policy
from agentgov.gates.places import Places
from agentgov.git import Git, Repository, discover
from agentgov.harness import finishing, holds, startup, sweeping, workspace
from agentgov.harness.attribution import Writer, writer_of
from agentgov.harness.capture.base import Capture, CaptureContext
from agentgov.harness.capture.registry import find_capture
from agentgov.harness.clients import listen
from agentgov.harness.job import Job, signal_numbers
from agentgov.harness.process import AgentProcess
from agentgov.harness.recorder import Options, Recorder
from agentgov.harness.recovery import close_run, recover
from agentgov.harness.request import Deps, Reporter, RunInfo, RunOutcome, RunRequest
from agentgov.harness.session import Session, Tools
from agentgov.harness.state import RunLock, RunState, live_runs
from agentgov.harness.steps import total_of
from agentgov.ids import RunId, new_run_id
from agentgov.ledger.entry import Draft, SignedEntry
from agentgov.ledger.keys import Signer
from agentgov.ledger.payloads import PayloadStore
from agentgov.ledger.redaction import Redactor
from agentgov.ledger.stream import Stream
from agentgov.rollback.changes import describe, to_payload
from agentgov.rollback.ignore import IgnoreRules
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.shadow import ShadowHistory, shadow_ref
from agentgov.rollback.snapshot import Snapshotter, known_objects, tracked_paths

HOOK_MARGIN_SECONDS = 30


def run_agent(request: RunRequest, reporter: Reporter, deps: Deps) -> RunOutcome:
    """Run an agent under the record.

    Returns:
        What came of it; its ``exit_code`` is what to exit with.

    Raises:
        AgentgovError: The agent was not started; its class says with which code to exit.
    """
    sweeping.prctl(sweeping.PR_SET_DUMPABLE, 0)
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


class _Run:
    """One run's parts, in the order in which they come to be."""

    def __init__(
        self,
        request: RunRequest,
        reporter: Reporter,
        deps: Deps,
        repo: Repository,
        base: str,
        capture: Capture,
        settings: Settings,
        adopted: AdoptedPolicy,
        stream: Stream,
        stack: ExitStack,
    ) -> None:
        self.request, self.reporter, self.deps = request, reporter, deps
        self.repo, self.base, self.capture = repo, base, capture
        self.settings, self.adopted, self.stream, self.stack = settings, adopted, stream, stack
        self.layout = repo.layout
        self.warnings: list[str] = []
        self.store = ObjectStore(self.layout.store, repo.objects_dir, repo.object_format)
        self.store.ensure()
        stack.callback(self.store.close)
        redactor = Redactor(request.env if settings.record.redact_env else {})
        self.payloads = PayloadStore(
            self.layout, self.layout.store, repo.object_format, redactor, deps.random
        )
        stack.callback(self.payloads.close)
        self.run = self._free_id()
        self.lock = RunLock(self.layout, self.run)
        self.socket = deps.state.sockets(self.run)
        self.started_us = deps.clock.now_us()
        self.started_at = deps.clock.monotonic()

    def _free_id(self) -> RunId:
        while True:
            run = new_run_id(self.deps.random)
            taken = self.layout.run_dir(run).exists() or self.store.ref(shadow_ref(run)) is not None
            if not taken:
                return run

    def warn(self, text: str) -> None:
        """Say at once, and again in the summary, that something is out of order."""
        self.warnings.append(text)
        self.reporter.warning(text)

    def make_place(self) -> None:
        """Choose and make the workspace; the run is alive from here on."""
        request = self.request
        live = bool(live_runs(self.layout))
        self.lock.acquire()
        try:
            self.place = workspace.prepare(
                self.repo,
                self.run,
                start=request.start,
                mode=request.workspace or self.settings.run.default_workspace,
                headless=not request.interactive or self.capture.is_headless(request.argv),
                another_run_live=live,
                state=self.deps.state,
                settings=self.settings.workspace,
                env=request.env,
                include_dirty=request.include_dirty,
            )
            self.env = startup.agent_env(
                self.run,
                request.env,
                self.place.cwd,
                is_clone=self.place.place == "clone",
                changes=[self.place.env],
            )
            self._set_up()
            # Whatever the snapshots do not copy must stay where it is as long as they are needed.
            if self.place.place == "in-place":
                holds.hold(self.repo, self.run, holds.Borrowed((self.base,), (), ()))
            self.lock.publish(
                RunState(
                    self.run,
                    os.getpid(),
                    str(self.socket),
                    str(self.place.root),
                    self.place.place,
                    self.capture.name,
                    self.started_us,
                )
            )
        except BaseException:
            self._undo_place()
            raise

    def _set_up(self) -> None:
        if self.place.place == "in-place":
            return
        for done in workspace.run_setup(self.place, self.settings.workspace.setup, self.env):
            if not done.ok:
                raise RunFailedError(
                    f"[workspace] setup failed with exit code {done.returncode}: {done.command}",
                    id="AG0069",
                    hint=done.output.decode("utf-8", "backslashreplace").strip().splitlines()[-1:],
                )

    def _undo_place(self) -> None:
        workspace.drop(self.deps.state, self.run)
        holds.release(self.repo.git_dir, self.run)
        self.lock.finish()

    def open_record(self) -> None:
        """Take the first snapshot and enter the start; from here on the run is a run."""
        entered = False
        try:
            self._prepare_agent()
            self._watch()
            self.signer: Signer = self.stream.delegate(self.run)
            entered = True
            self._enter_start()
        except BaseException:
            if not entered:
                self._undo_place()
            raise

    def _prepare_agent(self) -> None:
        self.listener = listen(self.socket)
        self.stack.callback(self.listener.close)
        self.stack.callback(self.socket.unlink, missing_ok=True)
        argv, cwd = self.request.argv, self.place.cwd
        self.ask_seconds = self.adopted.settings.policy.ask_timeout_seconds
        prepared = self.capture.prepare(
            argv,
            CaptureContext(
                socket=self.socket,
                private_dir=open_private_dir(self.layout.run_dir(self.run)),
                python=startup.hook_python(),
                timeout_program=startup.find_timeout(self.request.env),
                hook_timeout_seconds=self.ask_seconds + HOOK_MARGIN_SECONDS,
                cwd=cwd,
                env=self.env,
            ),
        )
        self.argv, self.hooks = prepared.argv, prepared.hooks
        self.version = startup.find_version(self.capture, argv, self.env, cwd)
        for name, value in prepared.env.items():
            self.env.pop(name, None)
            if value is not None:
                self.env[name] = value
        self.warnings += [*self.place.warnings, *prepared.warnings]

    def _watch(self) -> None:
        place, snapshots = self.place, self.settings.snapshots
        self.rules = IgnoreRules.pin(place.root, self.repo)
        self.snapshotter = Snapshotter(
            place.root,
            self.store,
            self.rules,
            tracked=tracked_paths(Git(place.git_dir, work_tree=place.root)),
            base_known=known_objects(self.repo.git(), self.base),
            max_file_bytes=snapshots.max_file_bytes,
            secret_patterns=snapshots.secret,
            watch=self.settings.capture.watch,
            cache_path=self._cache_path(),
        )
        self.stack.callback(self.snapshotter.close)
        self.first = self.snapshotter.start()

    def _cache_path(self) -> Path | None:
        if self.place.place == "clone":
            return None
        name = hashlib.sha256(os.fsencode(self.place.root)).hexdigest()[:32]
        return open_private_dir(self.deps.state.cache) / f"snapshot-{name}"

    def _enter_start(self) -> None:
        drafts = []
        is_new = self.adopted.is_first_use or self.adopted.is_changed
        if is_new:
            drafts.append(
                Draft(
                    "policy.adopted",
                    self.run,
                    {
                        "digest": self.adopted.digest,
                        "source": self.adopted.source,
                        "text": self.payloads.put(self.run, "args", "text", self.adopted.text),
                    },
                )
            )
        intent = self.request.intent
        put = self.payloads.put
        body: dict[str, Any] = {
            "agent": self.capture.name,
            "agent_version": self.version,
            "base": self.base,
            "capture": {
                "hooks": self.hooks,
                "gateway": "off",
                "files": self.files,
                "ledger": "open",
                "keys": "open",
                "sandbox": "none",
            },
            "how": self.first.how,
            "intent": None if intent is None else put(self.run, "changes", "intent", _utf8(intent)),
            "policy": self.adopted.digest,
            "start": put(self.run, "args", "start", self._start_facts()),
            "tree": self.first.tree,
            "workspace": self.place.place,
        }
        drafts.append(Draft("run.start", self.run, body))
        self.payloads.sync()
        signed = self.stream.append(drafts, self.signer)
        self.shadow = ShadowHistory(self.store, self.run)
        self.shadow.commit(self.first.tree, f"{self.run}:start", signed[-1].entry.ts)
        if is_new:
            self.reporter.policy(self.adopted.source, self.adopted.digest, changed=self.adopted.is_changed)
            remember_policy(self.repo, self.deps.state, self.adopted)

    @property
    def files(self) -> str:
        """How changes are noticed."""
        return "watch" if self.snapshotter.is_watching else "scan"

    def _start_facts(self) -> bytes:
        facts = {
            "v": 1,
            "argv": list(self.request.argv),
            "cwd": str(self.place.cwd),
            "work_tree": str(self.repo.require_work_tree()),
            "root": str(self.place.root),
            "branch": self.place.base_branch,
            "operator": {
                "name": self.repo.config("user.name"),
                "email": self.repo.config("user.email"),
            },
            "host": platform.node(),
            "platform": f"{platform.system()} {platform.machine()}",
            "git_version": self.repo.git().text("version").removeprefix("git version "),
            "python": platform.python_version(),
        }
        return _utf8(json.dumps(facts, ensure_ascii=False, sort_keys=True, separators=(",", ":")))

    def info(self) -> RunInfo:
        """Say what is known before the agent starts."""
        place = self.place
        return RunInfo(
            run=self.run,
            agent=self.capture.name,
            agent_version=self.version,
            hooks=self.hooks,
            files=self.files,
            place=place.place,
            root=place.root,
            base=self.base,
            base_branch=place.base_branch,
            carried=place.carried,
            left_out_dirty=place.left_out_dirty,
            included_dirty=place.included_dirty,
            policy=self.adopted.digest,
            policy_source=self.adopted.source,
            unprotected=not self.adopted.protected,
        )

    def serve(self) -> RunOutcome:
        """Start the agent, serve it, and close the run when it has ended."""
        info = self.info()
        self.reporter.started(info)
        for line in self.warnings:
            self.reporter.warning(line)
        session = Session(self.run, self.first.tree, self._tools())
        try:
            process = AgentProcess.start(
                self.argv, cwd=self.place.cwd, env=self.env, ownership=self.request.ownership
            )
        except AgentgovError:
            session.end("failed", None, 0)
            self._close_run(session)
            raise
        with process, signal_numbers() as signals:
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
                Options(self.ask_seconds, self.request.intent, check_peers=sweeping.IS_LINUX),
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

        return Tools(
            append=append,
            snapshots=self.snapshotter,
            payloads=self.payloads,
            judge=judge.decide,
            describe=lambda old, new: describe(self.store, old, new),
            encode=to_payload,
            writer_of=target,
            clock=self.deps.clock,
            shadow=self.shadow.commit,
        )

    def _finish(self, info: RunInfo, session: Session, recorder: Recorder, agent: Job) -> RunOutcome:
        if agent.left:
            self.warn(f"{agent.left} processes of the agent could not be ended")
        if self.hooks and not session.saw_hooks:
            self.warn(f"no hook of {self.capture.name} was heard: its calls, if any, were not seen")
        state = "failed" if agent.lost else recorder.state
        if agent.lost:
            self.warn("the agent's supervisor was killed")
        bound = self._end(session, state, agent, recorder)
        failed = state == "failed"
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
            return close_run(
                self.repo,
                self.stream,
                self.payloads,
                self.store,
                self.run,
                self.place.root,
                state="failed",
                code=agent.code,
            )
        except (AgentgovError, OSError) as error:
            self.warn(f"the record could not be closed, the next command will try again: {error}")
            return None

    def _close_run(self, session: Session) -> finishing.Bound | None:
        session.keep_history()
        bound = self._bind(session)
        self.stream.end_key(self.signer)
        self.payloads.fold(self.run)
        self.stream.seal()
        self.lock.finish()
        return bound

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


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
