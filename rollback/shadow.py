"""The shadow history: a commit per changing step of a run, so that git's own tools work over calls.

Rules: the same steps always give the same commits (fixed identity, times from the ledger); the history lives
in the private store only, on `refs/agentgov/snapshots/<run>`; it is derived, and can be made again from the
trees in the ledger. The ref also keeps the snapshots' objects from being pruned.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from agentgov.ids import RunId
from agentgov.rollback.objects import ObjectStore

_AUTHOR = "agentgov"
_EMAIL = "agentgov@localhost"


class ShadowStep(NamedTuple):
    """One step as the ledger tells it."""

    tree: str
    message: str
    ts_us: int


class ShadowHistory:
    """Appends to the shadow history of one run.

    Args:
        store: The private store.
        run: The run.
    """

    def __init__(self, store: ObjectStore, run: RunId) -> None:
        self._store = store
        self.ref = shadow_ref(run)
        self.head = store.ref(self.ref)
        self._tree = _tree_of(store, self.head) if self.head else None

    def commit(self, tree: str, message: str, ts_us: int) -> str:
        """Add a step and return its commit; a step that changed nothing is not added.

        Args:
            tree: The snapshot after the step.
            message: One line, such as "call 14: edit".
            ts_us: The entry's time in microseconds.
        """
        if self.head is not None and tree == self._tree:
            return self.head
        self.head = self._add(self.head, ShadowStep(tree, message, ts_us))
        self._tree = tree
        self._store.set_ref(self.ref, self.head)
        return self.head

    def rebuild(self, steps: Iterable[ShadowStep]) -> str | None:
        """Make the history again from all steps and return its head; None without steps."""
        head: str | None = None
        last: str | None = None
        with self._store.batch():
            for step in steps:
                if head is None or step.tree != last:
                    head = self._add(head, step)
                    last = step.tree
        if head is not None and head != self.head:
            self._store.set_ref(self.ref, head)
            self.head, self._tree = head, last
        return head

    def _add(self, parent: str | None, step: ShadowStep) -> str:
        return self._store.write_commit(
            step.tree,
            (parent,) if parent else (),
            step.message,
            author=_AUTHOR,
            email=_EMAIL,
            ts_us=step.ts_us,
        )


def shadow_ref(run: RunId) -> str:
    """Return the ref of a run's shadow history, in the private store."""
    return f"refs/agentgov/snapshots/{run}"


def _tree_of(store: ObjectStore, commit: str) -> str | None:
    kind, data = store.read(commit)
    return data[5 : data.index(b"\n")].decode("ascii") if kind == "commit" and data[:5] == b"tree " else None
