"""What `git apply` and `patch` would write: the files that a patch names.

Rules kept here:
- A patch that can be read here (from a file, or written into the command) says itself what it changes.
- One that cannot may change anything below the folder, and counts as inferred.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from agentgov.gates.options import option_value
from agentgov.gates.scope import Feed, Scope, Word

MAX_PATCH_BYTES = 1024 * 1024
_NAMED = re.compile(
    r"^(?:---|\+\+\+|rename from|rename to|copy to) \"?([^\t\n\"]+)|^diff --git \"?(a/[^\n\"]+?)\"? \"?b/",
    re.MULTILINE,
)


def apply(files: list[Word], arguments: list[Word], scope: Scope, feed: Feed) -> None:
    """Adds what applying the patches in `files`, else the one on standard input, would write."""
    folder = option_value(arguments, "--directory", "-d") or (".",)
    given = [value for word in files for value in word] or list(feed.files)
    texts = [_read(value, scope) for value in given] or [feed.text]
    for text in texts:
        if text is None:
            scope.touch("fs.write", folder, recursive=True, exact=False)
            continue
        for match in _NAMED.finditer(text):
            path = (match[1] or match[2]).strip()
            # With -p1, the usual way, the first name is taken off; with another -p it may be the file's.
            for name in {path, path.partition("/")[2]} - {"", "/dev/null", "dev/null"}:
                scope.touch("fs.write", tuple(f"{start}/{name}" for start in folder))


def _read(value: str, scope: Scope) -> str | None:
    """The text of a patch; empty when there is no such file, None when it cannot be known."""
    for path, _ in scope.expand(value):
        if scope.places.names_of(path, scope.links)[0] in scope.made or value == "-":
            return None
        try:
            if os.path.getsize(path) > MAX_PATCH_BYTES or not os.path.isfile(path):  # noqa: PTH113, PTH202
                return None
            return Path(path).read_bytes().decode("utf-8", "surrogateescape")
        except (OSError, ValueError):
            continue
    return ""
