"""Close runs whose recorder died, or could not go on: from the record and from what is on disk.

Rules kept here:
- Nothing that was acknowledged is lost, and nothing is made up: calls without a result stay without one,
  the run's end names them as open, and what changed since the last snapshot belongs to them.
- The dead recorder's key is closed first, by ``key.lost``, signed by the log key, which may not sign anything
  about calls: if the recorder lives after all, it can enter nothing behind the end.
- Each step looks at the record before it writes: recovery may be cut short and done again, by anybody.
- One process recovers a run at a time: it holds the run's own lock meanwhile.
- What the run's own file says is a hint that it may need closing, and nothing more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from agentgov.clock import Clock, Random
from agentgov.config import Settings
from agentgov.errors import AgentgovError, ConflictError
from agentgov.files import FileLock, open_private_dir
from agentgov.git import Repository
from agentgov.harness import erasing, finishing
from agentgov.harness.attribution import Writer, calls_by_path
from agentgov.harness.startup import read_settings
from agentgov.harness.state import RunLock, clear, dead_runs, read_state
from agentgov.ids import RunId
from agentgov.layout import StateHome
from agentgov.ledger.entry import Draft
from agentgov.ledger.history import RunRecord, fold
from agentgov.ledger.payloads import PayloadStore
from agentgov.ledger.stream import Stream
from agentgov.report.facts import start_facts
from agentgov.rollback.changes import describe, to_payload
from agentgov.rollback.ignore import IgnoreRules
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.shadow import ShadowHistory, ShadowStep, shadow_ref
from agentgov.rollback.snapshot import Snapshot

EndState = Literal["interrupted", "failed"]


def recover(
    repo: Repository,
    state: StateHome,
    stream: Stream,
    payloads: PayloadStore,
    *,
    clock: Clock,
    random: Random,
) -> list[RunId]:
    """Close every run of this repository whose recorder died, and finish an erasure that was cut short.

    Returns:
        The runs that were closed by this call.

    Raises:
        AgentgovError: The record cannot be read or written.
    """
    erasing.finish(repo, payloads)
    closed: list[RunId] = []
    for run in dead_runs(repo.layout):
        lock = RunLock(repo.layout, run)
        try:
            lock.acquire()
        except ConflictError:
            # Somebody else is at it, and will finish it.
            continue
        try:
            left = read_state(repo.layout, run)
            if left is None:
                continue
            store = ObjectStore(repo.layout.store, repo.objects_dir, repo.object_format)
            store.ensure()
            _remove_stale_locks(store, run)
            record = _read(stream, run)
            try:
                close_run(repo, stream, payloads, store, run, _root_of(record, payloads), state="interrupted")
            finally:
                store.close()
            state.sockets(run).unlink(missing_ok=True)
            clear(repo.layout, run)
            if _was_killed(record):
                closed.append(run)
        finally:
            lock.release()
    return closed


def close_run(
    repo: Repository,
    stream: Stream,
    payloads: PayloadStore,
    store: ObjectStore,
    run: RunId,
    root: Path | None,
    *,
    state: EndState,
    code: int | None = None,
) -> finishing.Bound | None:
    """Enter what is missing at the end of a run; the caller holds its lock.

    Args:
        repo: The user's repository.
        stream: Its record.
        payloads: Its payloads.
        store: Its snapshots.
        run: The run.
        root: The workspace; need not exist any more, nor be known.
        state: How the run ended.
        code: The agent's exit code, if it is known.

    Returns:
        The result, when it was bound by this call.
    """
    # The caller's lock is held on a file that an agent can replace: two may be here at once.
    with FileLock(open_private_dir(repo.layout.run_dir(run)) / "closing"):
        # First of all: after it, a recorder that was taken for dead enters nothing behind the end.
        stream.lose_keys(run)
        record = _read(stream, run)
        bound = None
        if record is not None and record.start is not None:
            # Where it is not known a name in the run's own folder stands in: nothing is there either.
            root = root or repo.layout.run_dir(run) / "unknown"
            rules = IgnoreRules.pin(root if root.is_dir() else repo.require_work_tree(), repo)
            if record.end is None:
                stream.append(
                    [_end(repo, payloads, store, record, root, rules, state, code)], stream.log_signer()
                )
                record = _read(stream, run) or record
            if record.result is None:
                bound = _bind(repo, stream, payloads, store, record, root, rules)
            _rebuild_history(store, record)
        payloads.fold(run)
        stream.seal()
    return bound


def _remove_stale_locks(store: ObjectStore, run: RunId) -> None:
    """Remove the ref locks that the dead recorder held; whoever holds the run's lock is the only writer."""
    for ref in (shadow_ref(run), finishing.result_ref(run)):
        (store.dir / f"{ref}.lock").unlink(missing_ok=True)
    for lock in (store.dir / "refs" / "agentgov" / "payloads" / run).glob("*.lock"):
        lock.unlink(missing_ok=True)


def _was_killed(record: RunRecord | None) -> bool:
    """Whether the record agrees: anybody could have written the file of a run that ended, or never began."""
    if record is None or record.start is None:
        return False
    return record.end is None or record.end.body["state"] == "interrupted"


def _root_of(record: RunRecord | None, payloads: PayloadStore) -> Path | None:
    """The top of the tree that a run worked in, as its signed start says; None when that cannot be known.

    The file that says the same of a running run is anybody's to write: a folder of secrets named there would
    be recorded as what the agent left.
    """
    root = None if record is None else start_facts(record, payloads).get("root")
    return Path(root) if isinstance(root, str) else None


def _read(stream: Stream, run: RunId) -> RunRecord | None:
    return fold(signed.entry for signed in stream.entries()).runs.get(run)


def _end(
    repo: Repository,
    payloads: PayloadStore,
    store: ObjectStore,
    record: RunRecord,
    root: Path,
    rules: IgnoreRules,
    state: EndState,
    code: int | None,
) -> Draft:
    last = str(record.last_tree)
    seen = _look(repo, store, root, rules, last)
    tree, how, skipped = (last, "incremental", ()) if seen is None else (seen.tree, seen.how, seen.skipped)
    is_open = [call.n for call in record.calls.values() if call.allowed and call.result is None]
    changes = None
    if tree != last:
        described = describe(store, last, tree)
        # What each open call was to write is not needed: the end belongs to all of them together.
        owners = calls_by_path(
            (change.path for change in described), [Writer(n, "shell", frozenset()) for n in is_open]
        )
        changes = payloads.put(record.run, "changes", "changes", to_payload(described, skipped, owners))
        payloads.sync()
    body: dict[str, Any] = {
        "from": last,
        "tree": tree,
        "how": how,
        "open": sorted(is_open),
        "changes": changes,
        "state": state,
        "exit": code,
        "ended": 0,
    }
    return Draft("run.end", record.run, body)


def _look(repo: Repository, store: ObjectStore, root: Path, rules: IgnoreRules, last: str) -> Snapshot | None:
    """Take a full snapshot; None when there is nothing to look at any more."""
    if not root.is_dir():
        return None
    try:
        return finishing.look(store, root, rules, last, _settings(repo).snapshots)
    except AgentgovError:
        return None


def _settings(repo: Repository) -> Settings:
    try:
        return read_settings(repo)
    except AgentgovError:
        # A file that became wrong since must not keep the run open.
        return Settings()


def _bind(
    repo: Repository,
    stream: Stream,
    payloads: PayloadStore,
    store: ObjectStore,
    record: RunRecord,
    root: Path,
    rules: IgnoreRules,
) -> finishing.Bound | None:
    if record.start is None or record.start_tree is None or record.end_tree is None:
        return None
    try:
        bound = finishing.bind(
            repo,
            store,
            payloads,
            record.run,
            base=record.start.body["base"],
            start_tree=record.start_tree,
            end_tree=record.end_tree,
            root=root,
            is_ignored=lambda path: rules.is_ignored(path, False),
        )
    except AgentgovError:
        # The run ends without a result: it can be looked at and rolled back, and does not land.
        return None
    stream.append([bound.draft], stream.log_signer())
    return bound


def _rebuild_history(store: ObjectStore, record: RunRecord) -> None:
    if record.start is None or record.start_tree is None:
        return
    steps = [ShadowStep(record.start_tree, f"{record.run}:start", record.start.ts)]
    steps += [
        ShadowStep(step.tree, f"{record.run}:{step.n or step.kind}", record.last_ts)
        for step in record.steps
        if step.tree != step.from_tree
    ]
    ShadowHistory(store, record.run).rebuild(steps)
