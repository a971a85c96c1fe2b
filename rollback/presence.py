"""Whether snapshots are all there: their trees, and every object those reach.

Rules kept here:

- An id counts as present only when everything below it is: a tree without its blobs cannot be rolled back to.
- Commits count by their tree; their history is the user's.
"""

from __future__ import annotations

from collections.abc import Iterable

from agentgov.errors import AgentgovError
from agentgov.git import Git, check_oid


def missing_objects(store: Git, oids: Iterable[str]) -> set[str]:
    """Return those of `oids` (trees or commits) that are missing, or reach something that is.

    Args:
        store: The private store, with the user's repository as its alternate.
        oids: Full object ids.

    Raises:
        AgentgovError: git cannot read the store.
    """
    asked = [check_oid(oid) for oid in dict.fromkeys(oids)]
    if not asked:
        return set()
    answers = store.run(
        "cat-file",
        "--batch-check=%(objectname)",
        input="".join(f"{oid}^{{tree}}\n" for oid in asked).encode(),
    ).stdout.decode("ascii", "replace")
    trees = {
        oid: answer
        for oid, answer in zip(asked, answers.splitlines(), strict=True)
        if not answer.endswith(("missing", "ambiguous"))
    }
    missing = set(asked) - trees.keys()
    if not _is_whole(store, set(trees.values())):
        missing |= {oid for oid, tree in trees.items() if not _is_whole(store, {tree})}
    return missing


def _is_whole(store: Git, trees: set[str]) -> bool:
    if not trees:
        return True
    asked = "".join(f"{tree}\n" for tree in sorted(trees)).encode()
    try:
        found = store.run("rev-list", "--objects", "--missing=print", "--stdin", input=asked).stdout
    except AgentgovError:
        # git gives up on a tree that cannot be parsed: that is not whole either.
        return False
    return not found.startswith(b"?") and b"\n?" not in found
