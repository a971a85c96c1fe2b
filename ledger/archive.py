"""Lists of records: what the archive and a mirror branch hold, and how one more head is added to them.

Rules this module keeps:
    * A list is a commit whose tree has one file, `streams`, a sorted line for each record:
      `<32 hex> SP <size> SP <base64 root> SP <newest seal> LF`. Its parents are the list before it and the
      seals it newly names, so whoever fetches the list has the records.
    * A line never goes back: the seal it names next is a successor of the one it named.
    * What is read is hashed, bounded and refused in any other form. A list proves nothing: the records it
      holds are verified like any others.
    * Only a record that has ended is archived, and only after the caller has verified it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from agentgov.errors import AgentgovError, BrokenRecordError
from agentgov.git import CatFile, Git, Repository, hash_object
from agentgov.ledger.checkpoint import parse_checkpoint
from agentgov.ledger.entry import parse_entry
from agentgov.ledger.note import parse_note
from agentgov.ledger.seal import Seal, SealStore

ARCHIVE_REF: Final = "refs/agentgov/archive"
MAX_LIST_BYTES: Final = 2**26
_ORIGIN: Final = "agentgov/"
_PERSON: Final = "agentgov <agentgov@localhost>"
_parse_line = re.compile(
    rb"([0-9a-f]{32}) ([1-9][0-9]{0,15}) ([A-Za-z0-9+/]{43}=) ([0-9a-f]{40}|[0-9a-f]{64})"
).fullmatch
_find_tree = re.compile(rb"tree ([0-9a-f]{40}|[0-9a-f]{64})\n").match


@dataclass(frozen=True, slots=True)
class ListedHead:
    """One line of a list.

    Attributes:
        stream_id: The record, 32 hex characters.
        size: How many entries it has.
        root: The root of the tree over them, 32 bytes.
        seal: Its newest seal.
    """

    stream_id: str
    size: int
    root: bytes
    seal: str

    def line(self) -> str:
        """Return the line, with its LF."""
        return f"{self.stream_id} {self.size} {base64.b64encode(self.root).decode('ascii')} {self.seal}\n"


def encode_heads(heads: Iterable[ListedHead]) -> bytes:
    """Return the content of `streams`."""
    return "".join(head.line() for head in sorted(heads, key=lambda head: head.stream_id)).encode("ascii")


def parse_heads(raw: bytes, *, where: str) -> dict[str, ListedHead]:
    """Parse the content of `streams`.

    Raises:
        BrokenRecordError: AG0488, when it has another form, order or a record twice.
    """
    heads: dict[str, ListedHead] = {}
    for raw_line in raw.split(b"\n")[:-1]:
        match = _parse_line(raw_line)
        if match is None:
            raise _no_list(where)
        stream_id, seal = match[1].decode("ascii"), match[4].decode("ascii")
        heads[stream_id] = ListedHead(stream_id, int(match[2]), base64.b64decode(match[3]), seal)
    # What does not print back identically is refused: another order, a line twice, base64 in another form.
    if encode_heads(heads.values()) != raw:
        raise _no_list(where)
    return heads


def read_list(objects: CatFile, commit: str) -> dict[str, ListedHead]:
    """Return what a list holds, by record.

    Raises:
        BrokenRecordError: AG0488, it is no list; AG0018, an object is not what its name says.
        IncompleteError: AG0017, when an object is missing.
    """
    kind, data = objects.read(commit)
    tree = _find_tree(data)
    if kind != "commit" or tree is None:
        raise _no_list(commit)
    kind, data = objects.read(tree[1].decode("ascii"))
    prefix, width = b"100644 streams\x00", len(tree[1]) // 2
    if kind != "tree" or not data.startswith(prefix) or len(data) != len(prefix) + width:
        raise _no_list(commit)
    blob = data[len(prefix) :].hex()
    info = objects.info(blob)
    if info is not None and (info[0] != "blob" or info[1] > MAX_LIST_BYTES):
        raise _no_list(commit)
    return parse_heads(objects.read(blob)[1], where=commit)


def head_of(store: SealStore, stream_id: str, seal: str) -> ListedHead:
    """Return the line for a record whose newest seal this is; its checkpoint is read, not believed.

    Raises:
        BrokenRecordError: AG0488, it belongs to another record or has a size that no list takes; and as
            `SealStore.read`.
        IncompleteError: AG0017, when objects are missing.
    """
    checkpoint = parse_checkpoint(parse_note(store.read(seal).checkpoint).text)
    if checkpoint.origin != _ORIGIN + stream_id:
        raise BrokenRecordError("this seal belongs to another record", id="AG0488", where=seal)
    head = ListedHead(stream_id, checkpoint.size, checkpoint.root, seal)
    # Whoever may push a head must not make a list that nobody can read, and that can only grow.
    if _parse_line(head.line().removesuffix("\n").encode("ascii")) is None:
        raise BrokenRecordError("no record has so many entries", id="AG0488", where=seal)
    return head


def has_ended(seal: Seal) -> bool:
    """Whether the last entry of a record's newest seal says that nothing follows.

    Raises:
        BrokenRecordError: AG0228 or AG0200 to AG0204, when it is no entry.
    """
    return parse_entry(seal.lines()[-1]).kind == "log.end"


def newer_heads(
    known: Mapping[str, ListedHead], heads: Iterable[ListedHead], is_ancestor: Callable[[str, str], bool]
) -> list[ListedHead]:
    """Return the heads that a list does not hold yet.

    Args:
        known: What it holds.
        heads: What it should hold.
        is_ancestor: Whether the first commit is an ancestor of the second.

    Raises:
        BrokenRecordError: AG0486, when a head is no successor of the one that the list names.
    """
    newer = []
    for head in heads:
        old = known.get(head.stream_id)
        if old is not None and (old == head or (old.size > head.size and is_ancestor(head.seal, old.seal))):
            continue
        if old is not None and not (old.size < head.size and is_ancestor(old.seal, head.seal)):
            raise BrokenRecordError(
                f"record {head.stream_id[:8]} goes on differently than its copy: {old.size} entries there, "
                f"{head.size} here, not the same ones",
                id="AG0486",
                where=head.seal,
                hint=f"git log {old.seal} {head.seal}",
            )
        newer.append(head)
    return newer


def write_list(
    repository: Repository,
    heads: Mapping[str, ListedHead],
    *,
    previous: str | None,
    newer: Iterable[ListedHead],
    ts: int,
) -> str:
    """Write a list's commit, and return it; no ref moves.

    Args:
        repository: Where the seals lie and the list is to.
        heads: All lines.
        previous: The list before.
        newer: The heads that are new in it.
        ts: Now, microseconds since 1970 UTC.
    """
    git = Git(repository.common_dir)
    blob = _write(git, "blob", encode_heads(heads.values()))
    tree = _write(git, "tree", b"100644 streams\x00" + bytes.fromhex(blob))
    parents = ([previous] if previous is not None else []) + sorted({head.seal for head in newer})
    person = f"{_PERSON} {ts // 1_000_000} +0000"
    lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
    lines += [f"author {person}", f"committer {person}", "", f"agentgov: {len(heads)} records", ""]
    return _write(git, "commit", "\n".join(lines).encode("ascii"))


def add_to_archive(
    repository: Repository, heads: Iterable[ListedHead], *, upstream: str | None, ts: int
) -> list[ListedHead]:
    """Add heads of ended records, which the caller has verified, to this repository's archive.

    Args:
        repository: The repository.
        heads: The heads.
        upstream: The remote's archive as it was fetched; ours is made upon it.
        ts: Now, microseconds since 1970 UTC.

    Returns:
        Those that were not in it yet.

    Raises:
        BrokenRecordError: AG0486 or AG0488, as `newer_heads` and `read_list`.
        AgentgovError: AG0008, when another process has changed the archive meanwhile.
    """
    git = Git(repository.common_dir)
    is_ancestor = ancestry(git)
    local = repository.ref(ARCHIVE_REF)
    previous = local
    wanted = list(heads)
    with CatFile(git) as objects:
        if upstream is not None and (local is None or not is_ancestor(upstream, local)):
            # Others were quicker: what only our list names is added to theirs again.
            ours = read_list(objects, local) if local is not None else {}
            wanted, previous = [*ours.values(), *wanted], upstream
        known = read_list(objects, previous) if previous is not None else {}
    newer = newer_heads(known, wanted, is_ancestor)
    commit = previous
    if newer:
        every = {**known, **{head.stream_id: head for head in newer}}
        commit = write_list(repository, every, previous=previous, newer=newer, ts=ts)
    if commit is not None and commit != local:
        git.run("update-ref", "--no-deref", ARCHIVE_REF, commit, local or "0" * len(commit))
    return newer


def ancestry(git: Git) -> Callable[[str, str], bool]:
    """Return a function that tells whether one commit is an ancestor of, or the same as, another.

    It raises AgentgovError AG0008 when one of them cannot be read.
    """

    def is_ancestor(old: str, new: str) -> bool:
        done = git.run("merge-base", "--is-ancestor", old, new, check=False)
        if done.returncode not in (0, 1):
            raise AgentgovError(f"git merge-base: {done.message}", id="AG0008", where=old)
        return done.ok

    return is_ancestor


def _write(git: Git, kind: str, data: bytes) -> str:
    name = git.text("hash-object", "-w", "-t", kind, "--stdin", "--no-filters", input=data)
    if name != hash_object(kind.encode(), data, "sha1" if len(name) == 40 else "sha256"):
        raise BrokenRecordError("git wrote an object under another name", id="AG0018", where=name)
    return name


def _no_list(where: str) -> BrokenRecordError:
    return BrokenRecordError("this is no list of records", id="AG0488", where=where)
