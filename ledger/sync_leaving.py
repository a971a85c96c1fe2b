"""What a ref leads to, looked at before it leaves: a record's files and stored content, and nothing else.

Rules this module keeps:
    * Whoever can write the repository can point a ref of ours at anything: a snapshot, an unpublished branch,
      content of a class that nobody agreed to send. So each ref leads to commits with flat trees of the files
      that belong there; each line of a payload branch is of its own class.
    * One ref that leads elsewhere stops everything: nothing of it is sent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from agentgov.errors import BrokenRecordError
from agentgov.git import CatFile, Git
from agentgov.text import printable

RECORD_FILES: Final = frozenset({"checkpoint", "entries", "proof", "signatures", "streams", "timestamp"})
PAYLOAD_FILE: Final = "payloads"


def check_records(git: Git, targets: Mapping[str, str]) -> None:
    """Check that refs lead to records, signatures and lists only.

    Args:
        git: Where they lie.
        targets: Commit by ref.

    Raises:
        BrokenRecordError: AG0496, when one leads to something else.
    """
    _names(git, targets, RECORD_FILES, ())


def check_payloads(git: Git, targets: Mapping[str, str], cls: str, there: Collection[str]) -> None:
    """Check that refs lead to stored content of one class only.

    Args:
        git: The private store.
        targets: Commit by the ref that it would have at the remote.
        cls: The class.
        there: What the remote says it has already; its content is not read again.

    Raises:
        BrokenRecordError: AG0496, when one leads to something else, or has content of another class.
        IncompleteError: AG0017, when a part of it is missing.
    """
    _names(git, targets, {PAYLOAD_FILE}, ())
    prefix = f"{cls}\t".encode()
    with CatFile(git) as objects:
        for ref, tip in targets.items():
            for oid in _names(git, {ref: tip}, {PAYLOAD_FILE}, there):
                lines = objects.read(oid)[1].split(b"\n")
                if lines.pop() or not all(line.startswith(prefix) for line in lines):
                    raise _leads_elsewhere(ref, "content of another kind")


def _names(
    git: Git, targets: Mapping[str, str], allowed: Collection[str], there: Collection[str]
) -> list[str]:
    """Return the files that refs lead to, by their ids."""
    asked = "".join(f"{oid}\n" for oid in targets.values()).encode()
    kinds = git.text("cat-file", "--batch-check=%(objecttype)", input=asked).splitlines()
    for ref, kind in zip(targets, kinds, strict=True):
        if kind != "commit":
            raise _leads_elsewhere(ref, "something that is no commit")
    asked += "".join(f"^{oid}\n" for oid in there).encode()
    listed = git.run("rev-list", "--objects", "--ignore-missing", "--stdin", input=asked).stdout
    found = []
    for raw_line in listed.splitlines():
        oid, _, name = raw_line.decode("utf-8", "replace").partition(" ")
        if name and name not in allowed:
            guilty = next(iter(targets)) if len(targets) == 1 else _find(git, targets, allowed)
            raise _leads_elsewhere(guilty, f"the file {printable(name, limit=100)!r}")
        if name:
            found.append(oid)
    return found


def _find(git: Git, targets: Mapping[str, str], allowed: Collection[str]) -> str:
    """Return the first ref that leads to a file of another name."""
    for ref, oid in targets.items():
        try:
            _names(git, {ref: oid}, allowed, ())
        except BrokenRecordError:
            return ref
    return ", ".join(targets)


def _leads_elsewhere(ref: str, what: str) -> BrokenRecordError:
    return BrokenRecordError(
        f"nothing was sent: a ref of the record leads to {what}, which is no part of one",
        id="AG0496",
        where=ref,
        hint=(f"git log --stat {ref}", "agentgov verify --all"),
    )
