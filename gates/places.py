"""Where things are: the folders that policy speaks about, and how a written path becomes real ones.

Rules kept here:
- A path is judged under every name it has: as written, with its parents' links resolved, and fully resolved.
- Nothing is created or changed; only names are looked up, and a lookup that fails leaves the written name
  standing.
- The home folder and the temporary folders come in as arguments; no environment is read.
"""

# Paths are text here: "..", links and a last slash must stay as they were written.
# ruff: noqa: PTH118, PTH121
from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

DEVICES = (
    "/dev/null",
    "/dev/stdout",
    "/dev/stderr",
    "/dev/stdin",
    "/dev/tty",
    "/dev/zero",
    "/dev/fd",
    "/dev/full",
)


def is_under(path: str, root: str) -> bool:
    """True when `path` is `root` or lies below it. Both are absolute and normalised."""
    return path == root or path.startswith(root.rstrip("/") + "/") or root == "/"


def is_case_insensitive(folder: Path) -> bool:
    """True when the file system that holds `folder` treats `a` and `A` as one name."""
    if sys.platform in ("darwin", "win32"):
        return True
    swapped = folder.with_name(folder.name.swapcase())
    if swapped.name == folder.name:
        return False
    try:
        return os.path.samefile(folder, swapped)
    except OSError:
        return False


@dataclass(frozen=True)
class Places:
    """The folders that rules are written against.

    Attributes:
        workspace: where the agent works; relative rule paths start here.
        home: the user's home folder, or None when unknown (`~` is then unreadable).
        repository: the user's own work tree when the workspace is a copy of it.
        git_dirs: git folders outside the workspace (a linked worktree's, the common one).
        state_home: agentgov's own folder outside the repository.
        temporary: folders whose contents anyone may delete.
    """

    workspace: str
    home: str | None = None
    repository: str | None = None
    git_dirs: tuple[str, ...] = ()
    state_home: str | None = None
    temporary: tuple[str, ...] = ("/tmp", "/var/tmp", "/private/tmp")  # noqa: S108
    fold_case: bool = False

    @staticmethod
    def of(
        workspace: Path,
        *,
        home: Path | None = None,
        repository: Path | None = None,
        git_dirs: Iterable[Path] = (),
        state_home: Path | None = None,
        temporary: Iterable[Path] = (),
    ) -> Places:
        """Builds the places, looking once at how the file system compares names."""
        extra = tuple(os.path.normpath(str(path)) for path in temporary)
        return Places(
            workspace=os.path.normpath(str(workspace)),
            home=None if home is None else os.path.normpath(str(home)),
            repository=None if repository is None else os.path.normpath(str(repository)),
            git_dirs=tuple(os.path.normpath(str(path)) for path in git_dirs),
            state_home=None if state_home is None else os.path.normpath(str(state_home)),
            temporary=("/tmp", "/var/tmp", "/private/tmp", *extra),  # noqa: S108
            fold_case=is_case_insensitive(workspace),
        )

    @property
    def roots(self) -> tuple[str, ...]:
        """The folders that relative rule paths apply to."""
        return (self.workspace,) if self.repository is None else (self.workspace, self.repository)

    def fold(self, text: str) -> str:
        """The form in which two names of one file compare equal."""
        return unicodedata.normalize("NFC", text).casefold() if self.fold_case else text

    def names_of(self, written: str, aliases: Mapping[str, str]) -> tuple[str, ...]:
        """All absolute names of a path: the one that removal would act on, the one written, then the others.

        Args:
            written: absolute, not normalised (`link/..` means different things to a shell and to the kernel).
            aliases: links that the same command made earlier and that do not exist yet.
        """
        lexical = os.path.normpath(written)
        head, tail = os.path.split(written.rstrip("/") or "/")
        if tail in ("", ".", ".."):
            parent_real = real_path(written)
        else:
            parent_real = os.path.join(real_path(head), tail)
        if written.endswith("/"):
            parent_real = real_path(written)
        found = [real_path(written)]
        for name in (lexical, parent_real):
            for link, target in aliases.items():
                if is_under(name, link):
                    moved = os.path.normpath(target + name[len(link) :])
                    found += [moved, real_path(moved)]
        others = dict.fromkeys(name for name in found if name not in (parent_real, lexical))
        return (parent_real, lexical, *others)

    def is_outside(self, own_name: str) -> bool:
        """True when deleting `own_name` would reach beyond the workspace and the temporary folders."""
        if any(is_under(own_name, device) for device in DEVICES):
            return False
        inside = {self.workspace, real_path(self.workspace)}
        if any(is_under(own_name, root) for root in inside):
            return False
        kept = [self.repository, self.home, self.state_home, *self.git_dirs]
        if any(place is not None and is_under(own_name, real_path(place)) for place in kept):
            return True
        if any(
            place is not None and is_under(real_path(place), own_name) for place in (*kept, self.workspace)
        ):
            return True
        temporary = {name for place in self.temporary for name in (place, real_path(place))}
        return not any(is_under(own_name, place) and own_name != place for place in temporary)


def real_path(path: str) -> str:
    """`os.path.realpath` that leaves an unreadable name (NUL, loops) as it stands."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return os.path.normpath(path)
