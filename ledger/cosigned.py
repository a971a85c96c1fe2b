"""What lies beside a record's signed heads: the same heads cosigned or stamped, none of it verified here.

Rules: witnesses' refs hold commits with a file `checkpoint`, the authority's also one `timestamp`; own refs
and those fetched from remotes are read alike, the newest commits first. Whoever can push can put anything
there: what is too large, too much or has another form is passed over, never believed and never an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from agentgov.errors import BrokenRecordError, IncompleteError
from agentgov.git import CatFile, Git, Repository, is_oid
from agentgov.ledger.checkpoint import parse_checkpoint
from agentgov.ledger.note import Note, parse_note

MAX_REFS: Final = 64
MAX_COMMITS: Final = 64
MAX_FILE_BYTES: Final = 65_536
_is_info = re.compile(rb"([0-9a-f]{40,64}) blob ([0-9]{1,9})").fullmatch


def read_cosigned(repository: Repository, stream_id: str) -> dict[int, list[Note]]:
    """Return the cosigned heads of a record by size, not verified."""
    found: dict[int, list[Note]] = {}
    for (raw_note,) in _files(repository, f"witness/{stream_id}/*", ("checkpoint",)):
        try:
            note = parse_note(raw_note)
            size = parse_checkpoint(note.text).size
        except BrokenRecordError:
            continue
        found.setdefault(size, []).append(note)
    return found


def read_timestamps(repository: Repository, stream_id: str) -> dict[bytes, bytes]:
    """Return the time stamps of a record's signed heads, not verified: the stamped note to its response."""
    files = _files(repository, f"timestamp/{stream_id}", ("checkpoint", "timestamp"))
    return {stamped[0]: stamped[1] for stamped in reversed(list(files))}


def read_stamped(repository: Repository, stream_id: str) -> list[tuple[bytes, bytes]]:
    """Return every stamped note and its response, not verified, own ones and the newest first."""
    files = _files(repository, f"timestamp/{stream_id}", ("checkpoint", "timestamp"))
    return list(dict.fromkeys((stamped[0], stamped[1]) for stamped in files))


def _files(repository: Repository, place: str, names: tuple[str, ...]) -> Iterator[tuple[bytes, ...]]:
    git = Git(repository.common_dir)
    commits = _commits(git, place)
    asked = "".join(f"{commit}:{name}\n" for commit in commits for name in names)
    listed = git.run(
        "cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)", input=asked.encode()
    )
    infos = listed.stdout.split(b"\n")[:-1]
    with CatFile(git) as objects:
        for start in range(0, len(infos), len(names)):
            matches = [_is_info(info) for info in infos[start : start + len(names)]]
            oids = [m[1].decode() for m in matches if m is not None and int(m[2]) <= MAX_FILE_BYTES]
            if len(oids) != len(names):
                continue
            try:
                yield tuple(objects.read(oid)[1] for oid in oids)
            except (BrokenRecordError, IncompleteError):
                continue


def _commits(git: Git, place: str) -> list[str]:
    """The newest commits of each ref at `place`, own ones first."""
    patterns = (f"refs/agentgov/{place}", f"refs/agentgov/remotes/**/{place}")
    listed = git.run("for-each-ref", f"--count={MAX_REFS}", "--format=%(objectname)", *patterns)
    commits: list[str] = []
    for tip in listed.stdout.decode("ascii", "replace").split():
        if is_oid(tip):
            walked = git.run("rev-list", "--first-parent", f"--max-count={MAX_COMMITS}", tip, check=False)
            commits += [oid for oid in walked.stdout.decode("ascii", "replace").split() if is_oid(oid)]
    return list(dict.fromkeys(commits))
