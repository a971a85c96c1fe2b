"""One synchronisation of a repository's record with a remote, in the order that loses and leaks nothing.

Rules kept here:

- What leaves is decided by the protected branch's `[sync]` table; one on an agent's own commit may narrow it
  to the default, never widen it.
- Look, fetch, compare, and only then send: a copy that does not continue what was seen there gets nothing of
  that record any more, and says so.
- Ended records are archived after the caller's verification, mirrored heads are those that lie here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from agentgov.clock import Clock
from agentgov.config import SyncTable
from agentgov.errors import AgentgovError, BrokenRecordError, ExitCode, IncompleteError
from agentgov.gates.adoption import find_policy
from agentgov.git import Git, Repository, branch_ref
from agentgov.layout import StateHome
from agentgov.ledger import sync
from agentgov.ledger.archive import ARCHIVE_REF, ListedHead, add_to_archive, has_ended, head_of
from agentgov.ledger.mirror import Mirrored, fetch_mirror, update_mirror
from agentgov.ledger.remote import Offer, Remote, Sent, find_remote
from agentgov.ledger.seal import REF_PREFIX, SealStore
from agentgov.ledger.sync_fetch import Finding, Received, fetch_records, fetched_refs

# What git itself says, before the remote is asked, of a ref that would have to be forced.
_NOT_NEWER = ("[rejected] (fetch first)", "[rejected] (non-fast-forward)", "[rejected] (needs force)")

Verify = Callable[[str, str], str | None]
"""Given a record and its newest seal: why it may not be archived; None when witnesses vouch for all of it."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is to be synchronised with what.

    Attributes:
        remote: The remote.
        classes: The payload classes that may leave.
        mirror: The mirror branch's full ref name; None for none.
        protected: Whether the settings stand on a protected branch.
    """

    remote: Remote
    classes: tuple[str, ...]
    mirror: str | None
    protected: bool

    @property
    def agreement(self) -> sync.Agreement:
        """What a person has to agree to once."""
        return sync.Agreement(self.remote.shown, self.classes, self.mirror or "")


def choose(
    repo: Repository,
    state: StateHome,
    remote: str | None,
    mirror: str | None,
    *,
    left_seconds: Callable[[], float] | None = None,
) -> Chosen:
    """Read what the protected branch says about synchronising, and what was asked for.

    Args:
        repo: The repository.
        state: The user's state folder.
        remote: A remote's name; the settings' or the only one when None.
        mirror: A branch to mirror to; the settings' when None.
        left_seconds: How long the network may still take; None waits, and lets git ask for a password.

    Raises:
        UsageError: AG0480 or AG0481, there is no such remote, or its address is not used; AG0016, the mirror
            cannot be a branch.
        ConfigError: The settings cannot be read.
    """
    head = repo.head_commit()
    adopted = find_policy(repo, state, head) if head is not None else None
    protected = adopted is not None and adopted.protected
    table = adopted.settings.sync if adopted is not None and protected else SyncTable()
    branch = mirror or table.mirror
    return Chosen(
        find_remote(repo, remote or table.remote or None, left_seconds=left_seconds),
        tuple(sorted(set(table.classes))),
        branch_ref(branch) if branch else None,
        protected,
    )


def mirror_branches(repo: Repository, state: StateHome) -> list[str]:
    """Return where the mirror branch that the protected settings name lies here, as full ref names.

    In a mirror of the remote it is a branch, in a clone it is what was fetched of one.

    Raises:
        ConfigError: The settings cannot be read.
    """
    head = repo.head_commit()
    adopted = find_policy(repo, state, head) if head is not None else None
    if adopted is None or not adopted.protected or not adopted.settings.sync.mirror:
        return []
    ref = branch_ref(adopted.settings.sync.mirror)
    ending = ref.removeprefix("refs/heads/")
    listed = Git(repo.common_dir).text("for-each-ref", "--format=%(refname)", ref, f"refs/remotes/*/{ending}")
    return listed.splitlines()


@dataclass
class Syncing:
    """One synchronisation, step by step; the command line asks in between.

    Attributes:
        chosen: What with what.
        stream_id: This clone's record; None when it has none.
        offer: What the remote has, after `look`.
        received: What came.
        archived: Heads that are new in the archive.
        unarchived: Ended records that may not be archived, with the reason.
        mirrored: What became of the mirror.
        sent: What became of each ref that was pushed.
        skipped: Records that could not be listed, with the reason.
        gone: The remote's refs of content that this clone sent and does not have any more.
    """

    repo: Repository
    state: StateHome
    clock: Clock
    chosen: Chosen
    stream_id: str | None
    offer: Offer = field(default_factory=Offer)
    received: Received = field(default_factory=Received)
    archived: list[ListedHead] = field(default_factory=list)
    unarchived: list[tuple[str, str]] = field(default_factory=list)
    mirrored: Mirrored | None = None
    sent: list[Sent] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    gone: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong with the remote's copy."""
        return self.received.findings

    @property
    def refused(self) -> list[Sent]:
        """What the remote did not take, though it should have."""
        outlived = set(self.outlived)
        return [item for item in self.sent if item.refused is not None and item.ref not in outlived]

    @property
    def outlived(self) -> list[str]:
        """The remote's refs of content that was erased or written anew here since it was sent."""
        changed = [
            item.ref
            for item in self.sent
            if "/payloads/" in item.ref and item.refused is not None and item.refused.startswith(_NOT_NEWER)
        ]
        return [*self.gone, *changed]

    @property
    def exit_code(self) -> ExitCode:
        """The gravest of what was found, then whether everything was taken."""
        codes = {finding.exit_code for finding in self.findings}
        for code in (ExitCode.BROKEN, ExitCode.INCOMPLETE):
            if code in codes:
                return code
        return ExitCode.ERROR if self.refused else ExitCode.OK

    def look(self) -> Offer:
        """Ask the remote what it has; raises as `Remote.offer`."""
        self.offer = self.chosen.remote.offer()
        return self.offer

    def fetch(self, streams: Collection[str] | None) -> Received:
        """Fetch records, and the mirror; raises as `fetch_records` and `fetch_mirror`."""
        self.received = fetch_records(self.chosen.remote, self.offer, streams, own=self.stream_id)
        if self.chosen.mirror is not None:
            fetch_mirror(self.chosen.remote, self.offer, self.chosen.mirror)
        return self.received

    def plan(self) -> sync.Plan:
        """Say what would leave; raises as `sync.make_plan`."""
        store = self.repo.layout.store
        plan = sync.make_plan(
            self.chosen.remote,
            self.offer,
            self.stream_id,
            classes=self.chosen.classes,
            store=store if store.is_dir() else None,
            without={finding.ref for finding in self.findings},
            doubtful={
                finding.ref.removeprefix(REF_PREFIX)
                for finding in self.findings
                if finding.ref.startswith(REF_PREFIX) and finding.code != "gone"
            },
        )
        self.gone = plan.gone
        return plan

    def send(self, plan: sync.Plan) -> list[Sent]:
        """Send what a plan names; raises as `sync.send`."""
        self.sent = sync.send(plan, self.state, self.clock, store=self.repo.layout.store)
        return self.sent

    def archive(self, verify: Verify) -> None:
        """Put every ended record that lies here, and that `verify` vouches for, into the archive.

        Raises:
            BrokenRecordError: AG0486 or AG0488, when the archive contradicts what lies here.
        """
        upstream = fetched_refs(self.chosen.remote).get(ARCHIVE_REF)
        heads = []
        for stream_id, seal in sorted(self._heads_here().items()):
            store = self._store(stream_id)
            try:
                if not has_ended(store.read(seal)):
                    continue
                why = verify(stream_id, seal)
                if why is None:
                    heads.append(head_of(store, stream_id, seal))
                else:
                    self.unarchived.append((stream_id, why))
            except (BrokenRecordError, IncompleteError) as error:
                self.unarchived.append((stream_id, error.message))
            finally:
                store.close()
        self.archived = add_to_archive(self.repo, heads, upstream=upstream, ts=self.clock.now_us())

    def mirror(self) -> Mirrored | None:
        """Add the heads that lie here to the mirror; raises as `update_mirror`."""
        if self.chosen.mirror is None:
            return None
        bad = {finding.ref for finding in self.findings}
        heads = []
        for stream_id, seal in sorted(self._heads_here().items()):
            if f"{REF_PREFIX}{stream_id}" in bad:
                continue
            store = self._store(stream_id)
            try:
                heads.append(head_of(store, stream_id, seal))
            except (BrokenRecordError, IncompleteError) as error:
                self.skipped.append((stream_id, error.message))
            finally:
                store.close()
        self.mirrored = update_mirror(
            self.chosen.remote, self.offer, self.chosen.mirror, heads, ts=self.clock.now_us()
        )
        return self.mirrored

    def _heads_here(self) -> dict[str, str]:
        """Return the newest seal of each record here: fetched from this remote, and this clone's own."""
        fetched = {
            ref.removeprefix(REF_PREFIX): oid
            for ref, oid in fetched_refs(self.chosen.remote).items()
            if ref.startswith(REF_PREFIX)
        }
        listed = Git(self.repo.common_dir).text(
            "for-each-ref", "--format=%(objectname) %(refname)", REF_PREFIX
        )
        own = {
            name.removeprefix(REF_PREFIX): oid
            for oid, _, name in (line.partition(" ") for line in listed.splitlines())
        }
        return {**fetched, **own}

    def _store(self, stream_id: str) -> SealStore:
        return SealStore(Git(self.repo.common_dir), stream_id, self.repo.object_format)


def sync_quickly(
    repo: Repository, state: StateHome, clock: Clock, stream_id: str | None
) -> Syncing | AgentgovError:
    """Synchronise beside something else, if a person has agreed to it before; it never waits long or fails.

    Args:
        repo: The repository.
        state: The user's state folder.
        clock: Time.
        stream_id: This clone's record.

    Returns:
        What was done; or why nothing was, which the caller may say and goes on.
    """
    try:
        end = clock.monotonic() + sync.QUICK_SECONDS
        chosen = choose(repo, state, None, None, left_seconds=lambda: end - clock.monotonic())
        doing = Syncing(repo, state, clock, chosen, stream_id)
        if not sync.is_agreed(repo, state, chosen.agreement):
            return AgentgovError(
                "the record was not sent: nobody has agreed to it yet", id="AG0495", hint="agentgov sync"
            )
        doing.look()
        doing.fetch(())
        doing.send(doing.plan())
        doing.mirror()
    except AgentgovError as error:
        return error
    except OSError as error:
        return AgentgovError(f"the record was not sent: {error.strerror}", id="AG0495", hint="agentgov sync")
    return doing
