"""The first half of a run: its place, its first snapshot, and the entry that begins it.

Rules kept here:
- What fails before the first entry is undone: no workspace, no ref and no run stays behind.
- A run in place holds its base commit, a copy holds what it borrowed: snapshots need not copy either.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from agentgov.config import Settings
from agentgov.errors import RunFailedError
from agentgov.files import open_private_dir
from agentgov.gates.adoption import AdoptedPolicy, remember_policy
from agentgov.git import Git, Repository
from agentgov.harness import holds, startup, workspace
from agentgov.harness.capture.base import Capture, CaptureContext
from agentgov.harness.clients import listen
from agentgov.harness.guarding import Guard, SameSocket
from agentgov.harness.request import Deps, Reporter, RunInfo, RunRequest
from agentgov.harness.secrets import dotenv_secrets
from agentgov.harness.state import RunLock, RunState, agent_dir, live_runs
from agentgov.ids import RunId, new_run_id
from agentgov.ledger.entry import Draft
from agentgov.ledger.keys import Signer
from agentgov.ledger.payloads import PayloadStore
from agentgov.ledger.redaction import Redactor
from agentgov.ledger.stream import Stream
from agentgov.rollback.ignore import IgnoreRules
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.shadow import ShadowHistory, shadow_ref
from agentgov.rollback.snapshot import Snapshotter, known_objects, tracked_paths

HOOK_MARGIN_SECONDS = 30


class Opening:
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
        # From the protected configuration: an agent's edit must not let secrets into the next run's record.
        redacts_env = adopted.settings.record.redact_env
        redactor = Redactor(request.env, dotenv_secrets(repo)) if redacts_env else Redactor()
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
            # Whoever finds the run in the list can connect; until it serves, they wait.
            self._listen()
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
        argv, cwd = self.request.argv, self.place.cwd
        self.ask_seconds = self.adopted.settings.policy.ask_timeout_seconds
        prepared = self.capture.prepare(
            argv,
            CaptureContext(
                socket=self.socket,
                recorder_pid=os.getpid(),
                private_dir=agent_dir(self.layout, self.run),
                python=startup.hook_python(),
                timeout_program=startup.find_timeout(self.request.env),
                hook_timeout_seconds=self.ask_seconds + HOOK_MARGIN_SECONDS,
                cwd=cwd,
                env=self.env,
            ),
        )
        self.argv, self.hooks = prepared.argv, prepared.hooks
        self.guards: list[Guard] = [SameSocket(self.socket), *prepared.guards] if prepared.hooks else []
        self.version = startup.find_version(self.capture, argv, self.env, cwd)
        for name, value in prepared.env.items():
            self.env.pop(name, None)
            if value is not None:
                self.env[name] = value
        self.warnings += [*self.place.warnings, *prepared.warnings]

    def _listen(self) -> None:
        self.listener = listen(self.socket)
        self.stack.callback(self.listener.close)
        self.stack.callback(self._remove_socket)

    def _remove_socket(self) -> None:
        # An agent may have closed the folder: the run's outcome matters more than a name that leads nowhere.
        with suppress(OSError):
            self.socket.unlink()

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
            "agent": self.payloads.public_name(self.capture.name),
            "agent_version": None if self.version is None else self.payloads.public_name(self.version),
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
        # Saved before the agent can do anything: of a run whose entries are all unsaved, nothing would be
        # missed after its recorder was killed and they were cut off.
        self.stream.seal()
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


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
