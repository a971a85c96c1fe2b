"""Sending the record to one remote: what would leave, what was agreed to, and what did.

Rules this module keeps:
    * Nothing is sent that a plan does not name; a plan is made without sending anything.
    * The chain, its witnesses and time stamps, and the payload classes that the caller allows, go to one
      remote, under `refs/agentgov/`: payloads as `refs/agentgov/payloads/<record>/<run>/<class>`, where
      `<record>` is that of the clone which sends them. No branch is touched here.
    * What leaves is looked at first (`sync_leaving`), and remembered before it leaves (`sync_log`), durably.
    * No force, no deletion: a ref that the remote does not take as a successor stays what it is there.
    * A remote without any branch is refused: a record must not become what people clone.
    * What a person agreed to is kept per repository in the user's state folder; another address, another
      class of payloads or a mirror is asked for again.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agentgov.clock import Clock
from agentgov.errors import AgentgovError, BrokenRecordError, UsageError
from agentgov.files import open_private_dir, read_own_file, write_atomic
from agentgov.git import Git, Repository
from agentgov.ids import RunId, parse_run_id
from agentgov.layout import StateHome
from agentgov.ledger import canonical
from agentgov.ledger.archive import ARCHIVE_REF
from agentgov.ledger.checkpoint import parse_checkpoint
from agentgov.ledger.note import parse_note
from agentgov.ledger.remote import Offer, Remote, Sent
from agentgov.ledger.seal import REF_PREFIX, SealStore
from agentgov.ledger.sync_fetch import Finding, Received, fetch_records, stream_of
from agentgov.ledger.sync_leaving import check_payloads, check_records
from agentgov.ledger.sync_log import CLASSES, note_pushes, pushed

__all__ = [
    "QUICK_SECONDS",
    "Agreement",
    "Finding",
    "Plan",
    "Received",
    "fetch_records",
    "is_agreed",
    "make_plan",
    "pushed",
    "remember_agreement",
    "send",
]

QUICK_SECONDS: Final = 10.0
"""How long a command that is about something else waits for the network."""

_PAYLOADS: Final = "refs/agentgov/payloads/"
_is_payload_ref = re.compile(
    r"refs/agentgov/payloads/([0-9a-hjkmnp-tv-z]{5})/(args|changes|output|patch)"
).fullmatch


@dataclass(frozen=True, slots=True)
class PayloadPart:
    """What would leave of one payload class.

    Attributes:
        runs: The runs whose payloads are not there yet.
        size_bytes: What they take, compressed.
    """

    runs: tuple[RunId, ...] = ()
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What would leave.

    Attributes:
        remote: Where to.
        stream_id: This clone's record; None when it has none.
        targets: Commit by the ref it would have there.
        entries: How many entries of this clone's record are not there yet.
        size_bytes: What the chain and its witnesses take, compressed.
        witnesses: How many of the refs are witnesses' and time stamps.
        payloads: What would leave by payload class.
        held_back: How many runs have payloads of classes that stay here, by class.
        gone: The remote's refs of payloads that this clone sent and does not have any more.
    """

    remote: Remote
    stream_id: str | None
    targets: Mapping[str, str] = field(default_factory=dict)
    entries: int = 0
    size_bytes: int = 0
    witnesses: int = 0
    payloads: Mapping[str, PayloadPart] = field(default_factory=dict)
    held_back: Mapping[str, int] = field(default_factory=dict)
    gone: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing would leave."""
        return not self.targets


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a person agreed to send.

    Attributes:
        remote: The address, without its password.
        classes: The payload classes.
        mirror: The mirror branch; empty for none.
    """

    remote: str
    classes: tuple[str, ...]
    mirror: str = ""


def make_plan(
    remote: Remote,
    offer: Offer,
    stream_id: str | None,
    *,
    classes: Collection[str],
    store: Path | None,
    without: Collection[str] = (),
    doubtful: Collection[str] = (),
) -> Plan:
    """Say what would leave.

    Args:
        remote: Where to.
        offer: What it has.
        stream_id: This clone's record; None when it has none.
        classes: The payload classes that may leave.
        store: The private store; None when there is none.
        without: Refs at the remote that nothing may be sent to, because of what was found there.
        doubtful: Records whose copies part: nobody knows whose content is under their names there.

    Raises:
        UsageError: AG0483, when the remote has no branch.
        BrokenRecordError: When this clone's newest seal cannot be read; AG0496, when a ref leads to anything
            else than a record or content of its class.
    """
    if not offer.heads:
        raise UsageError(
            "the remote has no branch yet, and the record must not become its first content",
            id="AG0483",
            where=remote.shown,
            hint=f"git push {remote.name} HEAD",
        )
    git = Git(remote.repository.common_dir)
    chain = {
        ref: oid
        for ref, oid in _refs(git, "refs/agentgov/").items()
        if (ref.startswith(REF_PREFIX) or _is_evidence(ref) or ref == ARCHIVE_REF)
        and offer.refs.get(ref) != oid
        and ref not in without
        and (ref == ARCHIVE_REF or stream_of(ref) not in doubtful)
        and not _is_behind(git, oid, offer.refs.get(ref))
    }
    check_records(git, chain)
    targets = dict(chain)
    payloads: dict[str, PayloadPart] = {}
    held: dict[str, int] = {}
    here: set[str] = set()
    is_doubtful = stream_id in doubtful
    if stream_id is not None and store is not None and not is_doubtful:
        for cls in CLASSES:
            found = _payload_refs(Git(store), stream_id, cls)
            here |= found.keys()
            fresh = {ref: item for ref, item in found.items() if offer.refs.get(ref) != item[1]}
            if cls in classes and fresh:
                tips = [oid for _, oid in fresh.values()]
                leaving = dict(zip(fresh, tips, strict=True))
                check_payloads(Git(store), leaving, cls, offer.refs.values())
                size_bytes = _disk_usage(Git(store), tips, offer.refs.values())
                payloads[cls] = PayloadPart(tuple(run for run, _ in fresh.values()), size_bytes)
                targets.update({ref: oid for ref, (_, oid) in fresh.items() if ref not in without})
            elif found and cls not in classes:
                held[cls] = len(found)
    return Plan(
        remote,
        stream_id,
        targets,
        _new_entries(remote.repository, stream_id, chain, offer),
        _disk_usage(git, chain.values(), offer.refs.values()),
        sum(map(_is_evidence, chain)),
        payloads,
        held,
        tuple(
            sorted(
                ref
                for ref in offer.refs
                if ref.startswith(f"{_PAYLOADS}{stream_id}/") and ref not in here and not is_doubtful
            )
        ),
    )


def send(plan: Plan, state: StateHome, clock: Clock, *, store: Path | None) -> list[Sent]:
    """Send what a plan names, after remembering it.

    Returns:
        What became of each ref.

    Raises:
        AgentgovError: AG0482 or AG0494, when the remote fails.
        BrokenRecordError: AG0489, when what was sent before cannot be read.
    """
    if plan.is_empty:
        return []
    if plan.stream_id is not None:
        what = [(run, cls) for cls, part in plan.payloads.items() for run in part.runs]
        note_pushes(state, plan.stream_id, plan.remote.shown, what, clock.now_us())
    sent = plan.remote.push(plan.targets, objects=store / "objects" if plan.payloads and store else None)
    _follow(plan, sent)
    return sent


def is_agreed(repository: Repository, state: StateHome, wanted: Agreement) -> bool:
    """Whether a person has agreed to all of this for this repository."""
    path = _agreement_path(repository, state)
    try:
        raw = read_own_file(path)
    except FileNotFoundError:
        return False
    try:
        value = canonical.decode(raw.removesuffix(b"\n"))
    except BrokenRecordError:
        value = None
    # Anything else than what is written below: asked again is right, agreed would be wrong.
    if type(value) is not dict or value.keys() != {"classes", "mirror", "remote", "v"} or value["v"] != 1:
        return False
    same = value["remote"] == _ascii(wanted.remote)
    classes = value["classes"]
    covered = type(classes) is list and all(cls in classes for cls in wanted.classes)
    return same and covered and _ascii(wanted.mirror) in ("", value["mirror"])


def remember_agreement(repository: Repository, state: StateHome, agreed: Agreement) -> None:
    """Keep what a person agreed to send."""
    path = _agreement_path(repository, state)
    open_private_dir(path.parent)
    value = {
        "classes": sorted(agreed.classes),
        "mirror": _ascii(agreed.mirror),
        "remote": _ascii(agreed.remote),
        "v": 1,
    }
    write_atomic(path, canonical.encode(value) + b"\n")


def _agreement_path(repository: Repository, state: StateHome) -> Path:
    name = hashlib.sha256(os.fsencode(os.path.realpath(repository.common_dir))).hexdigest()
    return state.root / "sync" / f"{name}.json"


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii")


def _refs(git: Git, prefix: str) -> dict[str, str]:
    listed = git.text("for-each-ref", "--format=%(objectname) %(refname)", prefix)
    return {name: oid for oid, _, name in (line.partition(" ") for line in listed.splitlines())}


def _is_evidence(ref: str) -> bool:
    return ref.startswith(("refs/agentgov/witness/", "refs/agentgov/timestamp/")) and bool(stream_of(ref))


def _is_behind(git: Git, oid: str, offered: str | None) -> bool:
    """Whether the remote has a successor of this already, as far as can be told here."""
    if offered is None or not git.run("cat-file", "-e", offered, check=False).ok:
        return False
    return git.run("merge-base", "--is-ancestor", oid, offered, check=False).ok


def _payload_refs(git: Git, stream_id: str, cls: str) -> dict[str, tuple[RunId, str]]:
    """Return run and commit of a class's payload branches, by the ref they would have at the remote."""
    found = {}
    for ref, oid in _refs(git, _PAYLOADS).items():
        match = _is_payload_ref(ref)
        if match is not None and match[2] == cls:
            found[f"{_PAYLOADS}{stream_id}/{match[1]}/{cls}"] = (parse_run_id(match[1]), oid)
    return found


def _disk_usage(git: Git, tips: Iterable[str], there: Iterable[str]) -> int:
    wanted = list(tips)
    if not wanted:
        return 0
    lines = [*wanted, *(f"^{oid}" for oid in there)]
    done = git.run(
        "rev-list",
        "--objects",
        "--disk-usage",
        "--ignore-missing",
        "--stdin",
        input="".join(f"{line}\n" for line in lines).encode(),
    )
    return int(done.stdout)


def _new_entries(
    repository: Repository, stream_id: str | None, chain: Mapping[str, str], offer: Offer
) -> int:
    """How many entries of this clone's record the remote does not have."""
    ref = f"{REF_PREFIX}{stream_id}"
    if stream_id is None or ref not in chain:
        return 0
    store = SealStore(Git(repository.common_dir), stream_id, repository.object_format)
    try:
        size = parse_checkpoint(parse_note(store.read(chain[ref]).checkpoint).text).size
        try:
            return size - store.read(offer.refs[ref]).size() if ref in offer.refs else size
        except AgentgovError:
            # What is there is not known here: then all of them count as new.
            return size
    finally:
        store.close()


def _follow(plan: Plan, sent: Iterable[Sent]) -> None:
    """Remember what the remote took as seen there, as a fetch would find it."""
    git = Git(plan.remote.repository.common_dir)
    lines = [
        f"option no-deref\nupdate {plan.remote.prefix}{item.ref.removeprefix('refs/agentgov/')} "
        f"{plan.targets[item.ref]}\n"
        for item in sent
        if item.refused is None and not item.ref.startswith(_PAYLOADS)
    ]
    if lines:
        git.run("update-ref", "--stdin", input="".join(["start\n", *lines, "commit\n"]).encode())
