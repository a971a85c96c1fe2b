"""Revoking a person's keys: which records they are frozen in, and where.

Rules kept here:

- A key is frozen at the last head of a record that enough witnesses have seen and that lies here with that
  very root. A head that only its writer vouches for is none: who holds a stolen key may have written it.
- A record that nobody witnessed is frozen at 0: nothing that the key signed in it counts any more; unless the
  person who revokes says to take its last saved head, and so vouches for it themselves.
- Nothing is fetched: the records are those that lie in this repository, own, fetched and archived ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from agentgov.errors import AgentgovError, UntrustedSignerError, UsageError
from agentgov.git import Git, Repository
from agentgov.ids import RunId
from agentgov.ledger.anchors import Anchor
from agentgov.ledger.checkpoint import parse_checkpoint
from agentgov.ledger.history import History
from agentgov.ledger.note import parse_note
from agentgov.ledger.people import People
from agentgov.ledger.records import Place, find_records
from agentgov.ledger.revocation import FrozenHead, Revocation, one_line
from agentgov.ledger.seal import SealStore
from agentgov.ledger.verify_anchors import Quorum, witnessed_size
from agentgov.text import printable

ORIGIN_PREFIX: Final = "agentgov/"
ReadAnchors = Callable[[str], Sequence[Anchor]]
"""The verified heads that others have seen of a record, by its id."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """Where one record is frozen.

    Attributes:
        stream_id: The record.
        where: Where it lies: "here", a remote's name, an archive.
        head: The head; None when nothing in it stays good.
        why_none: Why there is none.
        is_witnessed: Whether witnesses have seen that head.
    """

    stream_id: str
    where: str
    head: FrozenHead | None
    why_none: str = ""
    is_witnessed: bool = True


def find_person(people: People, raw_name: str) -> str:
    """Return the one name of a person of the trust file, by any of their names or by a key's fingerprint.

    Raises:
        UntrustedSignerError: AG0089, when nobody has it.
    """
    for line in people.lines:
        if raw_name == line.key.fingerprint and line.names:
            return people.person_of(line.names[0])
    person = people.person_of(raw_name)
    if person not in people.persons():
        raise UntrustedSignerError(
            f"the trust file names nobody {printable(raw_name, limit=80)!a}",
            id="AG0089",
            hint="agentgov keys list",
        )
    return person


def freeze_records(
    repo: Repository,
    read_anchors: ReadAnchors,
    quorum: Quorum | None,
    *,
    as_saved: bool = False,
    problems: list[str],
) -> list[Frozen]:
    """Return for every record that lies here where it is frozen, sorted by name; one line for each record.

    Args:
        repo: The repository.
        read_anchors: Finds what witnesses have seen of a record.
        quorum: Which witnesses are enough; any one when None.
        as_saved: Freeze what nobody witnessed at its last saved head instead of at 0.
        problems: Takes what is wrong with an archive: whoever may push one must not keep anybody from being
            revoked. What only lies in it is frozen at 0.
    """
    found: dict[str, Frozen] = {}
    for place in find_records(repo, problems=problems):
        frozen = _freeze(repo, place, read_anchors(place.stream_id), quorum, as_saved=as_saved)
        known = found.get(place.stream_id)
        # Of several copies the one that goes furthest with the witnesses counts.
        if known is None or _size(frozen) > _size(known):
            found[place.stream_id] = frozen
    return [found[stream_id] for stream_id in sorted(found)]


def _size(frozen: Frozen) -> int:
    return 0 if frozen.head is None else frozen.head.size


def _freeze(
    repo: Repository, place: Place, anchors: Sequence[Anchor], quorum: Quorum | None, *, as_saved: bool
) -> Frozen:
    seen = [anchor for anchor in anchors if anchor.kind == "witness"]
    size = witnessed_size(seen, quorum)
    if not size and as_saved and (saved := _saved_head(repo, place)) is not None:
        return Frozen(place.stream_id, place.where, saved, is_witnessed=False)
    if not size:
        why = "nobody has witnessed it" if not seen else "too few witnesses have seen it"
        return Frozen(place.stream_id, place.where, None, why)
    roots = {anchor.root for anchor in seen if anchor.size == size}
    own = _root_at(repo, place, size)
    if own is None or roots != {own}:
        return Frozen(
            place.stream_id, place.where, None, "it is not what its witnesses saw: agentgov verify --all"
        )
    return Frozen(place.stream_id, place.where, FrozenHead(ORIGIN_PREFIX + place.stream_id, size, own))


def _saved_head(repo: Repository, place: Place) -> FrozenHead | None:
    for head in _saved_heads(repo, place):
        return head
    return None


def _root_at(repo: Repository, place: Place, size: int) -> bytes | None:
    """The root that this copy's own signed head of that size has; None when there is none."""
    for head in _saved_heads(repo, place):
        if head.size <= size:
            return head.root if head.size == size else None
    return None


def _saved_heads(repo: Repository, place: Place) -> Iterator[FrozenHead]:
    """This copy's own signed heads, newest first, unverified: up to the first that cannot be read."""
    store = SealStore(Git(repo.common_dir), place.stream_id, repo.object_format)
    try:
        for seal in store.newest_first(place.tip):
            head = parse_checkpoint(parse_note(seal.checkpoint).text)
            yield FrozenHead(ORIGIN_PREFIX + place.stream_id, head.size, head.root)
    except AgentgovError:
        # Whether it is broken is for `verify` to say; here it is only known not to go further back.
        return
    finally:
        store.close()


def make_revocation(
    people: People, person: str, frozen: Sequence[Frozen], *, key: str | None, reason: str
) -> Revocation:
    """Return the block that goes into the file of revoked keys.

    Args:
        people: The persons now.
        person: Who, by the one name under which they are counted.
        frozen: Where the records are frozen.
        key: The fingerprint of the only key that is meant; all of the person's, now and later, when None.
        reason: Why, for people.

    Raises:
        UsageError: AG0090, when the person has no such key, or it is revoked already.
    """
    held = tuple(dict.fromkeys(line.key.fingerprint for line in people.lines_of(person)))
    known = [r for r in people.revocations_of(person) if key is None or key in r.fingerprints]
    shown = printable(person, limit=80)
    if any(r.scope == "person" or key is not None for r in known):
        raise UsageError(f"{shown} was revoked already", id="AG0090", hint="agentgov keys list")
    if key is not None and key not in held:
        raise UsageError(
            f"{shown} has no key {printable(key, limit=80)}", id="AG0090", hint="agentgov keys list"
        )
    heads = {item.head.log: item.head for item in frozen if item.head is not None}
    scope_keys = held if key is None else (key,)
    return Revocation(person, "person" if key is None else "keys", scope_keys, heads, one_line(reason))


def open_runs(
    history: History, names: Sequence[str], operator_of: Callable[[RunId], str | None]
) -> list[RunId]:
    """Return the runs that a person started and that have not ended."""
    wanted = {name.casefold() for name in names}
    return [
        record.run
        for record in history
        if record.state == "open" and (operator_of(record.run) or "").casefold() in wanted
    ]
