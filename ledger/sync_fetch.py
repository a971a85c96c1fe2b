"""Fetching records from a remote into its own namespace, and telling a growing copy from a rewritten one.

Rules this module keeps:
    * Fetched refs lie under `refs/agentgov/remotes/<remote>/`, never on a record of this clone.
    * A ref moves only to a successor of what it was. Anything else is evidence: it is kept under
      `refs/agentgov/remotes/<remote>/conflicts/<first 16 hex of the commit>/`, the ref stays, and a finding
      says which copy is shorter, differs, or is gone.
    * Records are fetched by name: those asked for, those fetched before, and this clone's own.
    * Nothing that was fetched is believed: `verify` judges it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from agentgov.errors import AgentgovError, ExitCode
from agentgov.git import ZERO_OID, CatFile, Git
from agentgov.ledger.archive import ARCHIVE_REF, ListedHead, ancestry, read_list
from agentgov.ledger.remote import Offer, Remote

_OURS: Final = "refs/agentgov/"
_CONFLICTS: Final = "conflicts/"
_ATTEMPTS: Final = 4
_OF_STREAMS: Final = ("ledger", "timestamp", "witness")

FindingCode = Literal["ahead", "damaged", "forked", "gone", "missing", "shorter"]
_TEXTS: Final[dict[FindingCode, str]] = {
    "ahead": "the remote has more of this clone's own record than this clone: it was copied or restored",
    "damaged": "what the remote has in this place is no record",
    "forked": "the remote has other entries than were seen before: rewritten, or written on by a copy",
    "gone": "the remote no longer has what was seen there",
    "missing": "the remote names it and did not give it",
    "shorter": "the remote has fewer entries than were seen there: cut back",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a remote's copy should not be.

    Attributes:
        code: What it is.
        ref: The ref at the remote.
        kept: The ref here that keeps the evidence, if there is any.
    """

    code: FindingCode
    ref: str
    kept: str | None = None

    @property
    def text(self) -> str:
        """What it means, for a person."""
        return _TEXTS[self.code]

    @property
    def exit_code(self) -> ExitCode:
        """3 for what is only missing, 12 for everything else."""
        return ExitCode.INCOMPLETE if self.code == "missing" else ExitCode.BROKEN


@dataclass(frozen=True, slots=True)
class Received:
    """What a fetch brought.

    Attributes:
        new: The remote's refs that were not here before.
        advanced: Those that went on.
        same: How many were here already.
        findings: What is wrong.
    """

    new: tuple[str, ...] = ()
    advanced: tuple[str, ...] = ()
    same: int = 0
    findings: tuple[Finding, ...] = ()


def stream_of(ref: str) -> str | None:
    """Return the record that a ref of ours is about; None for the archive."""
    parts = ref.removeprefix(_OURS).split("/")
    return parts[1] if len(parts) > 1 and parts[0] in (*_OF_STREAMS, "payloads") else None


def fetched_refs(remote: Remote) -> dict[str, str]:
    """Return what was fetched from a remote before, under the names it has there."""
    git = Git(remote.repository.common_dir)
    listed = git.text("for-each-ref", "--format=%(objectname) %(refname)", remote.prefix)
    found = {}
    for line in listed.splitlines():
        oid, _, name = line.partition(" ")
        rest = name.removeprefix(remote.prefix)
        if not rest.startswith(_CONFLICTS):
            found[_OURS + rest] = oid
    return found


def fetch_records(
    remote: Remote,
    offer: Offer,
    streams: Collection[str] | None,
    *,
    own: str | None = None,
    asked_again: int = 0,
) -> Received:
    """Fetch records, their witnesses and time stamps, and the archive.

    Args:
        remote: Where from.
        offer: What it has.
        streams: The records to fetch besides those fetched before and this clone's; None for all of them.
        own: This clone's record, which nobody else may go on with.
        asked_again: How often the remote was asked again because it had changed meanwhile.

    Raises:
        AgentgovError: AG0482, AG0484 or AG0494, when the remote fails; AG0008, when a ref cannot be written.
    """
    before = fetched_refs(remote)
    local = _own_refs(remote)
    known = {stream for ref in (*before, *local) if (stream := stream_of(ref)) is not None}
    chosen = {
        ref: oid
        for ref, oid in offer.refs.items()
        if not ref.startswith(f"{_OURS}payloads/")
        and ((stream := stream_of(ref)) is None or streams is None or stream in known or stream in streams)
    }
    fresh = {ref: oid for ref, oid in chosen.items() if before.get(ref) != oid}
    remote.fetch(list(fresh))
    for attempt in range(_ATTEMPTS):
        fetching = _Fetching(remote, own)
        try:
            for ref, oid in fresh.items():
                if before.get(ref) != oid:
                    fetching.take(ref, before.get(ref), oid)
            for ref in before:
                if ref not in offer.refs and (stream_of(ref) is not None or ref == ARCHIVE_REF):
                    fetching.miss(ref, before[ref], offer)
            for ref, oid in chosen.items():
                fetching.compare(ref, local.get(ref), oid)
            if fetching.findings and asked_again < _ATTEMPTS:
                # Another sync may have sent something meanwhile: then the remote only looks cut back.
                now = remote.offer()
                if any(now.refs.get(found.ref) != offer.refs.get(found.ref) for found in fetching.findings):
                    return fetch_records(remote, now, streams, own=own, asked_again=asked_again + 1)
            fetching.write()
            break
        except AgentgovError as error:
            # Another fetch may have moved the same refs: then what it saw counts as seen before.
            earlier, before = before, fetched_refs(remote)
            if error.id != "AG0008" or before == earlier or attempt == _ATTEMPTS - 1:
                raise
        finally:
            fetching.close()
    return Received(
        tuple(fetching.new), tuple(fetching.advanced), len(chosen) - len(fresh), tuple(fetching.findings)
    )


def _own_refs(remote: Remote) -> dict[str, str]:
    git = Git(remote.repository.common_dir)
    listed = git.text("for-each-ref", "--format=%(objectname) %(refname)", f"{_OURS}ledger/")
    return {name: oid for oid, _, name in (line.partition(" ") for line in listed.splitlines())}


class _Fetching:
    """One fetch, from the objects that have arrived to the refs."""

    def __init__(self, remote: Remote, own: str | None) -> None:
        self._remote = remote
        self._git = Git(remote.repository.common_dir)
        self._objects = CatFile(self._git)
        self._is_ancestor = ancestry(self._git)
        self._own = own
        self._archived: dict[str, ListedHead] | None = None
        self._updates: dict[str, tuple[str, str | None]] = {}
        self.new: list[str] = []
        self.advanced: list[str] = []
        self.findings: list[Finding] = []

    def take(self, ref: str, old: str | None, new: str) -> None:
        """Follow a ref, or keep what it became as evidence."""
        info = self._objects.info(new)
        if info is None:
            self.findings.append(Finding("missing", ref))
        elif info[0] != "commit":
            self.findings.append(Finding("damaged", ref))
        elif old is None:
            self._updates[self._place(ref)] = (new, None)
            self.new.append(ref)
        elif self._is_ancestor(old, new):
            self._updates[self._place(ref)] = (new, old)
            self.advanced.append(ref)
        else:
            shorter = self._is_ancestor(new, old)
            self.findings.append(Finding("shorter" if shorter else "forked", ref, self._keep(ref, new)))

    def miss(self, ref: str, old: str, offer: Offer) -> None:
        """Judge what is no longer offered: a record that the remote's archive holds is not gone."""
        if not ref.startswith(f"{_OURS}ledger/"):
            self.findings.append(Finding("gone", ref, self._place(ref)))
            return
        if self._archived is None:
            self._archived = self._read_archive(offer.refs.get(f"{_OURS}archive"))
        head = self._archived.get(stream_of(ref) or "")
        if head is None or not self._is_ancestor(old, head.seal):
            self.findings.append(Finding("gone", ref, self._place(ref)))

    def _read_archive(self, commit: str | None) -> dict[str, ListedHead]:
        if commit is None:
            return {}
        try:
            return read_list(self._objects, commit)
        except AgentgovError:
            # Whatever is wrong with it, it holds nothing that may be relied on.
            self.findings.append(Finding("damaged", f"{_OURS}archive"))
            return {}

    def compare(self, ref: str, local: str | None, offered: str) -> None:
        """Compare the remote's copy with the one that lies here under the same name."""
        if local is None or local == offered or self._objects.info(offered) is None:
            return
        if self._is_ancestor(offered, local):
            return
        if not self._is_ancestor(local, offered):
            found = Finding("forked", ref, self._place(ref))
        elif stream_of(ref) == self._own:
            found = Finding("ahead", ref, self._place(ref))
        else:
            return
        if not any(finding.ref == ref for finding in self.findings):
            self.findings.append(found)

    def write(self) -> None:
        """Move all refs in one transaction, each from what it was."""
        if self._updates:
            zero = ZERO_OID[self._remote.repository.object_format]
            lines = ["start\n"]
            for ref, (new, old) in self._updates.items():
                lines.append(f"option no-deref\nupdate {ref} {new} {old or zero}\n")
            self._git.run("update-ref", "--stdin", input="".join([*lines, "commit\n"]).encode())

    def close(self) -> None:
        self._objects.close()

    def _place(self, ref: str) -> str:
        return self._remote.prefix + ref.removeprefix(_OURS)

    def _keep(self, ref: str, oid: str) -> str:
        kept = f"{self._remote.prefix}{_CONFLICTS}{oid[:16]}/{ref.removeprefix(_OURS)}"
        self._updates[kept] = (oid, self._remote.repository.ref(kept))
        return kept
