"""The mirror: a branch of a remote that holds the records as well, because servers protect branches only.

Rules this module keeps:
    * The branch holds nothing but lists of records (see `archive`); one that holds anything else is refused,
      so no branch that people work on is ever pushed to.
    * It only grows: each commit's first parent is what the branch was. Somebody else who was quicker is no
      error: their list is fetched, and ours is made upon it.
    * No list names a head that the one before it contradicts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from agentgov.errors import AgentgovError, BrokenRecordError, ConflictError, UsageError
from agentgov.git import ZERO_OID, CatFile, Git, short_ref
from agentgov.ledger.archive import ListedHead, ancestry, newer_heads, read_list, write_list
from agentgov.ledger.remote import Offer, Remote
from agentgov.text import printable

_ATTEMPTS: Final = 4


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What became of a mirror.

    Attributes:
        branch: The branch, as a full ref name.
        commit: Its commit now.
        newer: The heads that it did not hold before.
    """

    branch: str
    commit: str | None
    newer: tuple[ListedHead, ...]


def update_mirror(
    remote: Remote, offer: Offer, branch: str, heads: Iterable[ListedHead], *, ts: int
) -> Mirrored:
    """Add heads to a remote's mirror branch, and make the branch if it is not there.

    Args:
        remote: The remote.
        offer: What it has.
        branch: The branch's full ref name.
        heads: Heads of records whose seals lie here.
        ts: Now, microseconds since 1970 UTC.

    Raises:
        UsageError: AG0487, when the branch holds anything else than lists, or is what people clone.
        BrokenRecordError: AG0486, when a head does not continue what the branch names; or the branch itself
            was rewritten since it was seen.
        ConflictError: AG0493, when others changed the branch all the time.
        AgentgovError: AG0482 or AG0494, when the remote fails; AG0490, when it refuses the branch.
    """
    every = list(heads)
    for _ in range(_ATTEMPTS):
        if branch == offer.default:
            raise _other_content(branch, "it is the remote's default branch")
        previous = fetch_mirror(remote, offer, branch)
        git = Git(remote.repository.common_dir)
        known: dict[str, ListedHead] = {}
        if previous is not None:
            with CatFile(git) as objects:
                known = read_list(objects, previous)
        newer = newer_heads(known, every, ancestry(git))
        if not newer:
            return Mirrored(branch, previous, ())
        after = {**known, **{head.stream_id: head for head in newer}}
        commit = write_list(remote.repository, after, previous=previous, newer=newer, ts=ts)
        (sent,) = remote.push({branch: commit})
        if sent.refused is None:
            git.run("update-ref", "--no-deref", mirror_ref(remote, branch), commit)
            return Mirrored(branch, commit, tuple(newer))
        offer = remote.offer()
        if offer.heads.get(branch) == previous:
            raise AgentgovError(
                f"the remote does not take the mirror branch {short_ref(branch)}: {sent.refused}",
                id="AG0490",
                where=remote.shown,
                hint=f"let this account push to it, or propose it: "
                f"git push {remote.name} {commit}:refs/heads/{short_ref(branch)}-update",
            )
    raise ConflictError(
        f"others changed the mirror branch {short_ref(branch)} each time it was to be changed here",
        id="AG0493",
        where=remote.shown,
        hint="agentgov sync",
    )


def fetch_mirror(remote: Remote, offer: Offer, branch: str) -> str | None:
    """Fetch a mirror branch and return its commit; None when the remote has no such branch.

    Raises:
        UsageError: AG0487, when it holds anything else than lists.
        BrokenRecordError: AG0486, when it is no successor of what was seen before.
        AgentgovError: AG0482 or AG0494, when the remote fails.
    """
    ref = mirror_ref(remote, branch)
    seen, offered = remote.repository.ref(ref), offer.heads.get(branch)
    if offered is None and seen is not None:
        raise _rewritten(remote, branch, seen)
    if offered is None:
        return None
    if offered != seen:
        remote.fetch([branch])
    git = Git(remote.repository.common_dir)
    with CatFile(git) as objects:
        try:
            read_list(objects, offered)
        except BrokenRecordError:
            raise _other_content(branch, "it holds other files than the list of records") from None
    if seen is not None and not ancestry(git)(seen, offered):
        raise _rewritten(remote, branch, seen)
    zero = ZERO_OID[remote.repository.object_format]
    git.run("update-ref", "--no-deref", ref, offered, seen or zero)
    return offered


def mirror_ref(remote: Remote, branch: str) -> str:
    """Return the ref that remembers a remote's mirror branch here."""
    return f"{remote.prefix}mirror/{short_ref(branch)}"


def _other_content(branch: str, why: str) -> UsageError:
    return UsageError(
        f"{printable(short_ref(branch), limit=100)} cannot hold the records: {why}",
        id="AG0487",
        hint="name a branch of its own: agentgov sync --mirror agentgov-records",
    )


def _rewritten(remote: Remote, branch: str, seen: str) -> BrokenRecordError:
    return BrokenRecordError(
        f"the mirror branch {short_ref(branch)} was rewritten or removed since it was seen here",
        id="AG0486",
        where=remote.shown,
        hint=f"what was seen is kept: git log {seen}",
    )
