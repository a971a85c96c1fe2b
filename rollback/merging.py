"""Three versions of one file made into one, by git's own three-way merge, or not at all.

Rules: the versions lie in a private temporary folder while git reads them; nothing is merged that is not
text on all sides; a merge that is not clean gives nothing, never a file with markers.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from agentgov.errors import AgentgovError
from agentgov.git import Git

_MOST_CONFLICTS = 127


def merge_bytes(ours: bytes, ancestor: bytes, theirs: bytes, scratch: Path) -> bytes | None:
    """Merge the changes from `ancestor` to `theirs` into `ours`.

    Args:
        ours: The version that is kept.
        ancestor: What `theirs` was made from.
        theirs: The version whose changes are taken over.
        scratch: An existing folder for temporary files.

    Returns:
        The merged content; None when the changes meet.

    Raises:
        AgentgovError: AG0180, when git cannot merge for another reason.
    """
    if ours in (ancestor, theirs):
        return theirs
    if theirs == ancestor:
        return ours
    # git-merge-file(1) refuses binary files with an error; they simply cannot be merged.
    if any(b"\0" in version for version in (ours, ancestor, theirs)):
        return None
    with tempfile.TemporaryDirectory(prefix="merge-", dir=scratch) as raw_folder:
        folder = Path(raw_folder)
        names = []
        for name, version in (("ours", ours), ("ancestor", ancestor), ("theirs", theirs)):
            (folder / name).write_bytes(version)
            names.append(folder / name)
        result = Git(None).run("merge-file", "-p", "-q", *names, check=False, cwd=folder)
    if result.returncode == 0:
        return result.stdout
    if result.returncode <= _MOST_CONFLICTS:
        return None
    raise AgentgovError(f"git merge-file: {result.message}", id="AG0180")
