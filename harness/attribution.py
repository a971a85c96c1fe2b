"""Which open call a changed path belongs to. Pure.

Rules kept here:
- No open call: nobody's. One: that call's, whatever it said it would do.
- Several: the one that named the path as its target; else those that could have written it (a shell, not a
  read; not a call that only waits for its sub-agent); if that leaves nobody, all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agentgov.calls import CallKind, ToolCall

_READERS: frozenset[CallKind] = frozenset({"read", "search", "fetch"})
_NAMES_ITS_TARGETS: frozenset[CallKind] = frozenset({"write", "edit"})


@dataclass(frozen=True, slots=True)
class Writer:
    """An open call, as far as it matters here.

    Attributes:
        n: Its number in the run.
        kind: What the tool does.
        targets: Paths it said it would change, relative to the workspace.
    """

    n: int
    kind: CallKind
    targets: frozenset[bytes]


def writer_of(n: int, call: ToolCall, root: str | os.PathLike[str]) -> Writer:
    """Describe an open call, its targets made relative to the workspace `root`."""
    top = os.path.realpath(os.fsencode(root))
    targets = set()
    for raw_path in (*call.writes, *call.deletes):
        absolute = Path(call.cwd, raw_path)
        try:
            # The folder may be a link into the workspace; a link as the last name is itself replaced.
            path = os.fsencode(Path(os.path.realpath(absolute.parent), absolute.name))
        except ValueError:
            # A NUL or a lone surrogate: no file can have that name.
            continue
        if path.startswith(top + b"/"):
            targets.add(path[len(top) + 1 :])
    return Writer(n, call.kind, frozenset(targets))


def calls_by_path(paths: Iterable[bytes], open_calls: Iterable[Writer]) -> Mapping[bytes, list[int]]:
    """Return, for each changed path, the numbers of the calls it belongs to, in order."""
    writers = sorted(open_calls, key=lambda writer: writer.n)
    everyone = [writer.n for writer in writers]
    could = [writer.n for writer in writers if writer.kind not in _READERS | _NAMES_ITS_TARGETS | {"agent"}]
    owners: dict[bytes, list[int]] = {}
    for path in paths:
        named = [
            writer.n
            for writer in writers
            if any(path == target or path.startswith(target + b"/") for target in writer.targets)
        ]
        owners[path] = everyone if len(everyone) < 2 else named or could or everyone
    return owners
