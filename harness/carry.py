"""Files that git does not have, brought from the user's tree into a workspace.

Rules kept here:

- Copied, with a reflink where the file system has them, never hard-linked: the agent must not write into the
  user's files. A link into the user's tree is made to point into the workspace.
- Patterns are gitignore(5) patterns, and git itself matches them. One without a slash does not look inside
  an ignored folder (an `.env` deep in node_modules is not meant).
- What is ignored and not carried is named, so that a run that lacks node_modules says so before it fails.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agentgov.errors import AgentgovError
from agentgov.git import Git, Repository

INCLUDE_FILE = ".worktreeinclude"
_FICLONE = 0x40049409
# No download, and no failure where git-lfs is missing: pointer files stay pointer files.
NO_LFS = {
    "filter.lfs.process": "",
    "filter.lfs.smudge": "",
    "filter.lfs.clean": "",
    "filter.lfs.required": "false",
}
_NOISE = frozenset(
    (
        "__pycache__",
        ".pytest_cache",
        ".mypy_cache",
        ".ruff_cache",
        ".hypothesis",
        ".DS_Store",
        ".idea",
        ".vscode",
    )
)
_NOISE_ENDS = (".pyc", ".pyo", ".log", ".swp", ".swo", ".tmp", "~", ".egg-info")
_GLOB = frozenset("*?[\\")


@dataclass(slots=True)
class Carried:
    """What was brought over.

    Attributes:
        paths: What was carried, folders with "/" at the end, from the top of the tree.
        missing: What is ignored in the user's tree and not in the workspace.
        warnings: What could not be copied, one line each.
    """

    paths: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def carry_files(repo: Repository, root: Path, patterns: Sequence[str]) -> Carried:
    """Copy what `patterns` and the tree's `.worktreeinclude` name into the workspace `root`."""
    result = Carried()
    top = repo.require_work_tree()
    git = repo.git(with_work_tree=True)
    listed = _names(git, "--ignored", "--exclude-standard", "--directory")
    # Git also lists a folder that is not ignored itself, when all in it is.
    folders = {f"{parent}/" for name in listed for parent in Path(name).parents}
    ignored = [name for name in listed if name not in folders]
    all_patterns = [*patterns, *_include_file(top)]
    if all_patterns:
        candidates = ignored + _names(git, "--exclude-standard")
        chosen = _match(all_patterns, [*candidates, *_inside(top, ignored, all_patterns)])
        for name in _outermost(chosen):
            copy_path(top, root, name, result.warnings)
            result.paths.append(name)
    result.missing = [
        name
        for name in ignored
        if name not in result.paths and not _is_noise(name) and not _is_there(root, name)
    ]
    for name in result.paths:
        if (root / name / "pyvenv.cfg").is_file():
            result.warnings.append(f"{name} was copied, but its scripts name the original folder")
    return result


def missing_warning(missing: Sequence[str], *, shown: int = 6) -> str | None:
    """Say what is not in the workspace, and the line that changes it."""
    if not missing:
        return None
    names = ", ".join(missing[:shown]) + (f" and {len(missing) - shown} more" if len(missing) > shown else "")
    wanted = ", ".join(f'"{name}"' for name in missing[:shown])
    return f"not in the copy (ignored by git): {names}; to carry: [workspace] carry = [{wanted}]"


def carry_dirty(repo: Repository, root: Path) -> tuple[int, list[str]]:
    """Copy uncommitted work: the content of changed, staged and new files, and deletions; not the index.

    Returns:
        How many files, and warnings.
    """
    top = repo.require_work_tree()
    warnings: list[str] = []
    names = dirty_names(repo)
    # Deletions first: a folder may stand now where a file was.
    for name in names:
        if not os.path.lexists(top / name) or (_is_folder(top / name) and not _is_folder(root / name)):
            remove_path(root / name.rstrip("/"))
    for name in names:
        if _is_folder(top / name) and (top / name / ".git").exists():
            warnings.append(f"{name} is a repository of its own: its uncommitted work is left out")
        elif os.path.lexists(top / name) and not _is_folder(top / name):
            copy_path(top, root, name, warnings)
    return len(names), warnings


def dirty_names(repo: Repository) -> list[str]:
    """The files with uncommitted work: staged, changed, deleted, new and not ignored. Writes nothing."""
    git = repo.git(with_work_tree=True)
    command = ("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all")
    done = git.run(*command, check=False)
    if not done.ok:
        # A file's content may have to be looked at, and git-lfs may be missing.
        done = git.run(*command, config=NO_LFS)
    return [os.fsdecode(line[3:]) for line in done.stdout.split(b"\x00")[:-1]]


def _names(git: Git, *options: str) -> list[str]:
    return [os.fsdecode(name) for name in git.lines_z("ls-files", "-z", "--others", *options)]


def _include_file(top: Path) -> list[str]:
    path = top / INCLUDE_FILE
    if path.is_symlink() or not path.is_file():
        return []
    return path.read_text("utf-8", "surrogateescape").splitlines()


def _match(patterns: Sequence[str], names: Iterable[str]) -> list[str]:
    """Which of `names` the patterns mean, decided by git in an empty repository with these patterns only."""
    # "./" because a name that starts with ":" would be read as a pathspec.
    asked = b"".join(b"./" + os.fsencode(name) + b"\x00" for name in dict.fromkeys(names))
    with tempfile.TemporaryDirectory(prefix="agentgov-") as raw_folder:
        folder = Path(raw_folder)
        Git(None).run("init", "-q", "--template=", ".", cwd=folder)
        (folder / ".git" / "info").mkdir(exist_ok=True)
        text = "".join(f"{pattern}\n" for pattern in patterns)
        (folder / ".git" / "info" / "exclude").write_text(text, "utf-8", "surrogateescape")
        git = Git(folder / ".git", work_tree=folder)
        done = git.run(
            *("check-ignore", "--no-index", "--verbose", "--non-matching", "-z", "--stdin"),
            input=asked,
            config={"core.excludesFile": "/dev/null"},
            env={"GIT_LITERAL_PATHSPECS": "0"},
            check=False,
        )
    # Exit code 1 means that none matched.
    if done.returncode > 1:
        raise AgentgovError(f"git check-ignore: {done.message}", id="AG0008", where="[workspace] carry")
    found = done.stdout.split(b"\x00")[:-1]
    # Four fields each: file, line, pattern, name; no pattern or one with "!" means no.
    pairs = zip(found[2::4], found[3::4], strict=True)
    return [os.fsdecode(name[2:]) for pattern, name in pairs if pattern and not pattern.startswith(b"!")]


def _inside(top: Path, ignored: Sequence[str], patterns: Sequence[str]) -> Iterator[str]:
    """Files inside ignored folders that a pattern with a slash may mean, such as `build/keep.json`."""
    starts = []
    for pattern in patterns:
        body = pattern.strip().lstrip("!").removeprefix("/").rstrip("/")
        if "/" in body:
            plain = next((at for at, char in enumerate(body) if char in _GLOB), len(body))
            starts.append(body[:plain])
    for name in ignored:
        if name.endswith("/") and any(start.startswith(name) or name.startswith(start) for start in starts):
            for folder, _, files in os.walk(top / name):
                for file in files:
                    path = os.path.relpath(Path(folder) / file, top)
                    if any(path.startswith(start) for start in starts):
                        yield path


def _outermost(names: Iterable[str]) -> list[str]:
    chosen: list[str] = []
    for name in sorted(set(names)):
        if not any(name.startswith(folder) for folder in chosen if folder.endswith("/")):
            chosen.append(name)
    return chosen


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_noise(name: str) -> bool:
    last = name.rstrip("/").rpartition("/")[2]
    return last in _NOISE or last.endswith(_NOISE_ENDS)


def _is_there(root: Path, name: str) -> bool:
    return os.path.lexists(root / name.rstrip("/"))


def copy_path(top: Path, root: Path, name: str, warnings: list[str]) -> None:
    """Copy one file, link or folder from `top` to the same place under `root`; what is there is replaced."""
    name = name.rstrip("/")
    target = root / name
    # A link in the workspace could lead the copy out of it.
    if not target.parent.resolve().is_relative_to(root.resolve()):
        warnings.append(f"{name} was not copied: a link in the copy leads out of it")
        return
    for folder in reversed([target.parent, *target.parent.parents]):
        if folder.is_relative_to(root) and folder.is_file():
            folder.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _copy(top / name, target, top, root, warnings)
    except OSError as error:
        warnings.append(f"{name} was not copied: {error.strerror}")


def _copy(source: Path, target: Path, top: Path, root: Path, warnings: list[str]) -> None:
    status = source.lstat()
    if stat.S_ISDIR(status.st_mode):
        if not target.is_dir() or target.is_symlink():
            remove_path(target)
            target.mkdir()
        with os.scandir(source) as entries:
            for entry in entries:
                _copy(Path(entry.path), target / entry.name, top, root, warnings)
        shutil.copystat(source, target, follow_symlinks=False)
        return
    remove_path(target)
    if stat.S_ISLNK(status.st_mode):
        target.symlink_to(_relocated(source.readlink(), top, root))
    elif stat.S_ISREG(status.st_mode):
        _copy_content(source, target)
        shutil.copystat(source, target)
    else:
        warnings.append(f"{source.relative_to(top)} is no regular file and was not copied")


def _relocated(link: Path, top: Path, root: Path) -> Path:
    return root / link.relative_to(top) if link.is_absolute() and link.is_relative_to(top) else link


def _copy_content(source: Path, target: Path) -> None:
    with open(source, "rb") as reader, open(target, "xb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError:
            shutil.copyfileobj(reader, writer, 1 << 20)


def remove_path(path: Path) -> None:
    """Remove a file, link or folder, if it is there, following nothing."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        # A file may stand where a parent folder is meant: then it is not there either.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


def remove_tree(path: Path) -> None:
    """Remove a folder with all in it, also what was made read-only (Go's module cache)."""
    for folder, _, _ in os.walk(path):
        mode = stat.S_IMODE(os.lstat(folder).st_mode)
        if mode & 0o700 != 0o700:
            os.chmod(folder, mode | 0o700)  # noqa: PTH101 - os.walk gives strings
    shutil.rmtree(path)
