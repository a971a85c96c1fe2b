"""Which records lie in a repository: its own, fetched ones, and those kept in an archive.

Rules this module keeps:
    * Only names are read here, nothing is believed: whoever wrote a ref or an archive may have lied.
    * One stream that lies in several places is listed once for each different newest seal; a place whose seal
      is an earlier one of another place's adds nothing.
    * An archive is a commit whose tree holds `streams`: a line for each record, with its id, size, root and
      newest seal. Lines are bounded in number and form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from agentgov.errors import AgentgovError, BrokenRecordError, IncompleteError
from agentgov.git import CatFile, Git, Repository

MAX_STREAMS_BYTES: Final = 256 * 1024 * 1024
_LEDGER = re.compile(r"refs/agentgov/(?:remotes/(?P<remote>.+)/)?ledger/(?P<id>[0-9a-f]{32})").fullmatch
_ARCHIVE = re.compile(r"refs/agentgov/(?:remotes/(?P<remote>.+)/)?archive(?:/.+)?").fullmatch
_MIRROR = re.compile(r"refs/agentgov/remotes/(?P<remote>.+)/mirror/(?P<branch>.+)").fullmatch
_is_parent_line = re.compile(rb"parent ([0-9a-f]{40}|[0-9a-f]{64})").fullmatch
MAX_COMMIT_BYTES: Final = 1024 * 1024
_line = re.compile(
    rb"([0-9a-f]{32}) (?:0|[1-9][0-9]{0,15}) [A-Za-z0-9+/]{43}= ([0-9a-f]{40}|[0-9a-f]{64})"
).fullmatch


@dataclass(frozen=True, slots=True)
class Place:
    """A record that lies somewhere in a repository.

    Attributes:
        stream_id: Its name.
        tip: Its newest seal there.
        where: The place in words: "here", "origin", "archive", "origin's archive".
    """

    stream_id: str
    tip: str
    where: str


def find_records(
    repository: Repository, *, branches: Iterable[str] = (), problems: list[str] | None = None
) -> list[Place]:
    """Return the records of a repository, sorted by name; those of this clone come first for each name.

    Args:
        repository: Where to look.
        branches: Branches that mirror records, as full ref names; those that were fetched as mirrors are
            found without.
        problems: Takes what is wrong with an archive, which is then passed over.

    Raises:
        BrokenRecordError: AG0446, when an archive cannot be read, and `problems` is None.
    """
    git = Git(repository.common_dir)
    listed = git.lines_z("for-each-ref", "--format=%(objectname) %(refname)%00", "refs/agentgov/")
    found: dict[tuple[str, str], Place] = {}
    archives: dict[str, str] = {}
    for raw in listed:
        tip, _, name = raw.strip(b"\n").decode("utf-8", "replace").partition(" ")
        ledger, archive, mirror = _LEDGER(name), _ARCHIVE(name), _MIRROR(name)
        if ledger is not None:
            place = Place(ledger["id"], tip, ledger["remote"] or "here")
            found.setdefault((place.stream_id, tip), place)
        elif archive is not None:
            archives.setdefault(tip, f"{archive['remote']}'s archive" if archive["remote"] else "archive")
        elif mirror is not None:
            archives.setdefault(tip, f"{mirror['remote']}'s {mirror['branch']}")
    for branch in branches:
        commit = repository.ref(branch)
        if commit is not None:
            archives.setdefault(commit, re.sub("^refs/(heads|remotes)/", "", branch))
    for tip, where in archives.items():
        try:
            streams = read_streams(git, tip)
        except BrokenRecordError as error:
            if problems is None:
                raise
            problems.append(f"{where}: {error.message}")
            continue
        for stream_id, seal in streams:
            found.setdefault((stream_id, seal), Place(stream_id, seal, where))
    return _without_earlier(git, sorted(found.values(), key=lambda p: (p.stream_id, p.where != "here")))


def read_streams(git: Git, commit: str) -> list[tuple[str, str]]:
    """Return the id and newest seal of each record that an archive's commit names.

    Raises:
        BrokenRecordError: AG0446, when it is no archive.
    """
    name = f"{commit}:streams"
    try:
        if int(git.text("cat-file", "-s", name)) > MAX_STREAMS_BYTES:
            raise _no_archive(commit)
        raw = git.run("cat-file", "blob", name).stdout
    except BrokenRecordError:
        raise
    except (AgentgovError, ValueError) as error:
        raise _no_archive(commit) from error
    if raw and not raw.endswith(b"\n"):
        raise _no_archive(commit)
    lines = raw[:-1].split(b"\n") if raw else []
    found = []
    for line in lines:
        match = _line(line)
        if match is None:
            raise _no_archive(commit)
        found.append((match[1].decode(), match[2].decode()))
    return found


def _without_earlier(git: Git, places: list[Place]) -> list[Place]:
    """Leave out a place whose newest seal is in the past of another place of the same record."""
    by_stream: dict[str, list[Place]] = {}
    for place in places:
        by_stream.setdefault(place.stream_id, []).append(place)
    kept = []
    with CatFile(git, max_bytes=MAX_COMMIT_BYTES) as objects:
        for group in by_stream.values():
            past = _past(objects, [place.tip for place in group]) if len(group) > 1 else set()
            kept += [place for place in group if place.tip not in past]
    return kept


def _past(objects: CatFile, tips: list[str]) -> set[str]:
    """Return what lies before some seals, each commit read once; where one cannot be read its past ends."""
    past: set[str] = set()
    for tip in tips:
        commit = _parent(objects, tip) if tip not in past else None
        while commit is not None and commit not in past:
            past.add(commit)
            commit = _parent(objects, commit)
    return past


def _parent(objects: CatFile, commit: str) -> str | None:
    try:
        kind, data = objects.read(commit)
    except (BrokenRecordError, IncompleteError):
        return None
    headers = data.partition(b"\n\n")[0].split(b"\n")
    parents = [match[1].decode() for match in map(_is_parent_line, headers) if match]
    return parents[0] if kind == "commit" and len(parents) == 1 else None


def _no_archive(commit: str) -> BrokenRecordError:
    return BrokenRecordError("this is not an archive of records", id="AG0446", where=commit)
