"""gitignore rules, pinned when a run starts.

Rules:
- Same answers as `git check-ignore` for paths that are not tracked: nested files, negation, `info/exclude`,
  the user's global file; a path below an ignored folder is ignored, whatever a pattern says.
- Once frozen, nothing is read again: an agent that writes a `.gitignore` hides nothing by it.
- Files are read without following links (as git does inside a work tree) and never block.

Source: gitignore(5), dir.c and wildmatch.c of git 2.39.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agentgov.rollback.wildmatch import translate

if TYPE_CHECKING:
    from agentgov.git import Repository

_SPECIAL = re.compile(rb"[*?\[\\]")
_MAX_FILE_BYTES = 100 << 20


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line of an ignore file.

    Attributes:
        negative: The line began with `!`.
        folder_only: It ended in a slash.
        by_name: It has no other slash and is compared with the last component.
        matcher: What the name, or the path relative to the file's folder, must fully match.
    """

    negative: bool
    folder_only: bool
    by_name: bool
    matcher: re.Pattern[bytes]


class PatternList:
    """The patterns of one file; the last that matches decides."""

    def __init__(self, raw: bytes, *, ignore_case: bool = False) -> None:
        self.patterns = parse_patterns(raw, ignore_case=ignore_case)
        # Most names match nothing: one search over all patterns answers that.
        flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
        self._any = re.compile(
            b"|".join(
                b"(?:.*/)?(?:%s)" % p.matcher.pattern if p.by_name else p.matcher.pattern
                for p in self.patterns
            )
            or rb"(?!)",
            flags,
        )

    def decide(self, path: bytes, name: bytes, is_dir: bool) -> bool | None:
        """Return True (ignored), False (included again) or None (says nothing).

        Args:
            path: Relative to the folder of the file.
            name: Its last component.
            is_dir: Whether it is a folder.
        """
        if self._any.fullmatch(path) is None:
            return None
        for pattern in reversed(self.patterns):
            if pattern.folder_only and not is_dir:
                continue
            if pattern.matcher.fullmatch(name if pattern.by_name else path):
                return not pattern.negative
        return None


def parse_patterns(raw: bytes, *, ignore_case: bool = False) -> list[Pattern]:
    """Return the patterns of an ignore file's bytes, in order."""
    if raw.startswith(b"\xef\xbb\xbf"):
        raw = raw[3:]
    patterns = []
    lines = raw.split(b"\n")
    for number, line in enumerate(lines):
        # A carriage return belongs to the line ending only where there is a line feed.
        if number < len(lines) - 1 and line.endswith(b"\r"):
            line = line[:-1]
        pattern = _parse_line(line, ignore_case)
        if pattern is not None:
            patterns.append(pattern)
    return patterns


def _parse_line(line: bytes, ignore_case: bool) -> Pattern | None:
    if line.startswith(b"#"):
        return None
    text = _trim(line.split(b"\0", 1)[0])
    negative = text.startswith(b"!")
    text = text[negative:]
    folder_only = text.endswith(b"/")
    if folder_only:
        text = text[:-1]
    if not text:
        return None
    by_name = b"/" not in text
    if text.startswith(b"/"):
        text = text[1:]
    # git compares the part before the first special character literally and matches the rest on its own,
    # which is why `a**/b` spans folders although its stars do not stand between slashes.
    special = _SPECIAL.search(text)
    cut = special.start() if special and not by_name else 0
    if special is None:
        body = re.escape(text)
    else:
        body = re.escape(text[:cut]) + translate(text[cut:])
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    return Pattern(negative, folder_only, by_name, re.compile(body, flags))


def _trim(line: bytes) -> bytes:
    """Drop trailing spaces that are not escaped."""
    at, keep = 0, 0
    while at < len(line):
        if line[at] == 0x5C:
            at += 2
            keep = min(at, len(line))
        else:
            at += 1
            if line[at - 1] != 0x20:
                keep = at
    return line[:keep]


class IgnoreRules:
    """The rules of one work tree. Folders' files are read on first use until `freeze`."""

    def __init__(self, root: Path, base: list[PatternList], *, ignore_case: bool = False) -> None:
        self._root = root
        self._base = base
        self._ignore_case = ignore_case
        self._frozen = False
        self._lists: dict[bytes, PatternList | None] = {}

    @classmethod
    def pin(cls, work_tree: Path, repo: Repository, *, global_file: Path | None = None) -> IgnoreRules:
        """Return the rules of a work tree as they are now.

        Args:
            work_tree: The root of the files.
            repo: Whose `info/exclude` and `core.excludesFile` count.
            global_file: The user's global ignore file when `core.excludesFile` is not set; None means
                `~/.config/git/ignore`, as git expands it.
        """
        ignore_case = repo.config_bool("core.ignorecase")
        files = [repo.common_dir / "info" / "exclude"]
        if global_file is not None and repo.config("core.excludesFile") is None:
            files.append(global_file)
        else:
            # git expands "~", so that nothing here reads the home folder.
            named = repo.git().run(
                "config",
                "--type=path",
                "--default",
                "~/.config/git/ignore",
                "--get",
                "core.excludesFile",
                check=False,
            )
            if named.ok:
                files.append(work_tree / os.fsdecode(named.stdout.removesuffix(b"\n")))
        base = [
            PatternList(raw, ignore_case=ignore_case)
            for raw in (_read(os.fsencode(file), follow=True) for file in files)
            if raw is not None
        ]
        return cls(work_tree, base, ignore_case=ignore_case)

    def freeze(self) -> None:
        """Read no further file: folders seen from now on bring no rules of their own."""
        self._frozen = True

    def is_ignored(self, path: bytes, is_dir: bool) -> bool:
        """Return whether an untracked path is ignored, by itself or by a folder above it."""
        parts = path.split(b"/")
        folder = b""
        for number, name in enumerate(parts):
            last = number == len(parts) - 1
            if self.matches(folder, name, is_dir or not last):
                return True
            folder = folder + b"/" + name if folder else name
        return False

    def matches(self, folder: bytes, name: bytes, is_dir: bool) -> bool:
        """Return whether a name in a folder that is itself not ignored is ignored."""
        path = folder + b"/" + name if folder else name
        at = folder
        while True:
            patterns = self._lists[at] if at in self._lists else self._load(at)
            if patterns is not None:
                decision = patterns.decide(path[len(at) + 1 :] if at else path, name, is_dir)
                if decision is not None:
                    return decision
            if not at:
                break
            at = at.rpartition(b"/")[0]
        for patterns in self._base:
            decision = patterns.decide(path, name, is_dir)
            if decision is not None:
                return decision
        return False

    def _load(self, folder: bytes) -> PatternList | None:
        if self._frozen:
            return None
        path = b"/".join(part for part in (os.fsencode(self._root), folder, b".gitignore") if part)
        raw = _read(path, follow=False)
        patterns = PatternList(raw, ignore_case=self._ignore_case) if raw is not None else None
        self._lists[folder] = patterns if patterns is not None and patterns.patterns else None
        return self._lists[folder]


def _read(path: bytes, *, follow: bool) -> bytes | None:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        fd = os.open(path, flags)
    except OSError:
        # git, too, goes on without an ignore file that it cannot open.
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        with os.fdopen(os.dup(fd), "rb") as file:
            return file.read(_MAX_FILE_BYTES)
    finally:
        os.close(fd)
