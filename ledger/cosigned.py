"""What lies beside a record's signed heads: the same heads cosigned or stamped, none of it verified here.

Rules this module keeps:
    * Witnesses' refs hold commits with a file `checkpoint`, the authority's also one `timestamp`; own refs
      and those fetched from remotes are read alike: own ones first, then fetched ones, then conflicts.
    * Whoever can push can put anything there: what is too large or has another form is passed over, never
      believed and never an error.
    * Nobody can hide a signature behind others: refs are asked for by the keys that count, all parents of a
      commit are followed, and where more lies there than is read, the caller is told.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from agentgov.errors import BrokenRecordError, IncompleteError
from agentgov.git import CatFile, Git, Repository, is_oid
from agentgov.ledger.checkpoint import parse_checkpoint
from agentgov.ledger.note import Note, parse_note

MAX_REFS: Final = 256
MAX_COMMITS: Final = 2**17
MAX_FILE_BYTES: Final = 65_536
_is_info = re.compile(rb"([0-9a-f]{40,64}) blob ([0-9]{1,9})").fullmatch


@dataclass(slots=True)
class Read:
    """How far a reading came.

    Attributes:
        is_whole: Whether everything that lies there was read; False after more refs or commits than the
            limits allow, or ones whose history is not all here.
    """

    is_whole: bool = True


def cosigned_notes(
    repository: Repository, stream_id: str, key_ids: Collection[str] | None, read: Read
) -> Iterator[Note]:
    """Return the cosigned heads of a record as they come, not verified.

    Args:
        repository: Where they lie.
        stream_id: Which record.
        key_ids: The witnesses' key ids, 8 hex characters each; None for all of them.
        read: Told how far the reading came.
    """
    places = [f"witness/{stream_id}/{key_id}" for key_id in (("*",) if key_ids is None else key_ids)]
    for (raw_note,) in _files(repository, places, ("checkpoint",), read):
        try:
            yield parse_note(raw_note)
        except BrokenRecordError:
            continue


def read_cosigned(repository: Repository, stream_id: str) -> dict[int, list[Note]]:
    """Return the cosigned heads of a record by size, not verified."""
    found: dict[int, list[Note]] = {}
    for note in cosigned_notes(repository, stream_id, None, Read()):
        try:
            size = parse_checkpoint(note.text).size
        except BrokenRecordError:
            continue
        found.setdefault(size, []).append(note)
    return found


def read_timestamps(repository: Repository, stream_id: str) -> dict[bytes, bytes]:
    """Return the time stamps of a record's signed heads, not verified: the stamped note to its response."""
    found: dict[bytes, bytes] = {}
    for raw_note, raw_response in read_stamped(repository, stream_id, Read()):
        found.setdefault(raw_note, raw_response)
    return found


def read_stamped(repository: Repository, stream_id: str, read: Read) -> Iterator[tuple[bytes, bytes]]:
    """Return each stamped note with its response as they come, not verified, own and newest ones first."""
    files = _files(repository, [f"timestamp/{stream_id}"], ("checkpoint", "timestamp"), read)
    return ((note, response) for note, response in files)


def _files(
    repository: Repository, places: list[str], names: tuple[str, ...], read: Read
) -> Iterator[tuple[bytes, ...]]:
    git = Git(repository.common_dir)
    commits = _commits(git, places, read)
    asked = "".join(f"{commit}:{name}\n" for commit in commits for name in names)
    listed = git.run(
        "cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)", input=asked.encode()
    )
    infos = listed.stdout.split(b"\n")[:-1]
    seen: set[tuple[str, ...]] = set()
    with CatFile(git) as objects:
        for start in range(0, len(infos), len(names)):
            matches = [_is_info(info) for info in infos[start : start + len(names)]]
            oids = tuple(m[1].decode() for m in matches if m is not None and int(m[2]) <= MAX_FILE_BYTES)
            if len(oids) != len(names) or oids in seen:
                continue
            seen.add(oids)
            try:
                yield tuple(objects.read(oid)[1] for oid in oids)
            except (BrokenRecordError, IncompleteError):
                read.is_whole = False


def _commits(git: Git, places: list[str], read: Read) -> list[str]:
    """The commits of each ref at the places: own ones first, those of a ref the newest first."""
    if not places:
        return []
    patterns = [f"refs/agentgov/{prefix}{place}" for place in places for prefix in ("", "remotes/**/")]
    listed = git.run("for-each-ref", "--format=%(objectname) %(refname)", *patterns)
    refs = [line.partition(" ") for line in listed.stdout.decode("utf-8", "replace").splitlines()]
    refs.sort(key=lambda ref: (ref[2].startswith("refs/agentgov/remotes/"), "/conflicts/" in ref[2]))
    read.is_whole &= len(refs) <= MAX_REFS
    commits: dict[str, None] = {}
    for tip, _, _ in refs[:MAX_REFS]:
        left = MAX_COMMITS - len(commits)
        if not is_oid(tip) or tip in commits:
            continue
        walked = git.run("rev-list", f"--max-count={left + 1}", tip, check=False)
        found = walked.stdout.decode("ascii", "replace").split()
        read.is_whole &= walked.ok and len(found) <= left
        commits |= dict.fromkeys(oid for oid in found[:left] if is_oid(oid))
    return list(commits)
