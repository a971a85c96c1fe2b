"""The state in which a shell command is read (folders, variables, links), and the effects found so far.

Rules kept here:
- What may be one of several things is kept as all of them: a folder after `cd a || cd b`, a loop's variable.
- Bounds are small and fixed; what exceeds one becomes unknown, and unknown is opaque, never nothing.
"""

# Paths are text here: "..", links and a last slash must stay as they were written.
# ruff: noqa: PTH208, PTH119, PTH120
from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from agentgov.gates.effect import Action, Effect
from agentgov.gates.patterns import UNKNOWN
from agentgov.gates.places import Places

Word = tuple[str, ...]
"""The values one word of a command may have; UNKNOWN stands in them for what cannot be read."""

STAR, QUERY, BRACKET = "\ue010", "\ue011", "\ue012"
"""Unquoted `*`, `?` and `[`: only these are globs; a quoted `*` is a star."""

MAX_VALUES = 64
MAX_FOLDERS = 8
MAX_EXPANSION = 400
MAX_VALUE_CHARS = 8192
MAX_COMMANDS = 2_000
MAX_LISTED = 20_000
MAX_LOOKS = 60_000
MAX_DEPTH = 12
MAX_OPAQUE = 100
MAX_EFFECTS = 3_000
_PROCESS = re.compile(r"/proc/(?:self|thread-self|[0-9]+)/(cwd|root)(?:/+|$)")
_ACTIVE = re.compile(f"[{STAR}{QUERY}{BRACKET}]")


def plain(value: str) -> str:
    """A value as a person wrote it: active globs shown as their characters."""
    return value.replace(STAR, "*").replace(QUERY, "?").replace(BRACKET, "[")


def is_known(value: str) -> bool:
    """True when every part of the value could be read."""
    return UNKNOWN not in value


@dataclass(frozen=True)
class Feed:
    """What reaches a command's standard input: its text when it can be read, and the words it may hold.

    With `is_listing` the words are names of files that were looked up, not guesses; `files` is what it was
    redirected from.
    """

    text: str | None = None
    words: tuple[str, ...] = ()
    is_opaque: bool = False
    is_listing: bool = False
    files: tuple[str, ...] = ()


@dataclass
class Scope:
    """A shell's state; `fork` gives a subshell its own, sharing the list of effects."""

    places: Places
    folders: tuple[str, ...]
    variables: dict[str, Word]
    effects: list[Effect] = field(default_factory=list)
    functions: dict[str, object] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)
    steps: list[int] = field(default_factory=lambda: [0])
    looks: list[int] = field(default_factory=lambda: [MAX_LOOKS])
    depth: int = 0
    exact: bool = True
    stack: tuple[tuple[str, ...], ...] = ()

    @staticmethod
    def start(places: Places, cwd: str, variables: Mapping[str, str] | None = None) -> Scope:
        """The state at the beginning of a call."""
        known: dict[str, Word] = {"PWD": (cwd,), "TMPDIR": ("/tmp",)}  # noqa: S108
        if places.home is not None:
            known["HOME"] = (places.home,)
        known |= {name: (value,) for name, value in (variables or {}).items()}
        return Scope(places, (cwd,), known)

    def fork(self, *, exact: bool | None = None, deeper: bool = False) -> Scope:
        """A copy whose changes stay in it, while effects, links and files made go to the same lists."""
        return replace(
            self,
            variables=dict(self.variables),
            functions=dict(self.functions),
            exact=self.exact if exact is None else exact and self.exact,
            depth=self.depth + deeper,
        )

    def join(self, other: Scope) -> None:
        """Takes in what another path through the command may have left: folders and variables."""
        self.enter(dict.fromkeys((*self.folders, *other.folders)))
        for name, values in other.variables.items():
            mine = self.variables.get(name, ())
            self.assign(name, tuple(dict.fromkeys((*mine, *values))))

    def enter(self, folders: Iterable[str]) -> None:
        """Sets the folders the shell may be in."""
        kept = tuple(folders)
        self.folders = kept if 0 < len(kept) <= MAX_FOLDERS else (*kept[: MAX_FOLDERS - 1], UNKNOWN)
        self.variables["PWD"] = self.folders

    def assign(self, name: str, values: Word) -> None:
        """Sets the values a variable may have."""
        values = tuple(value if len(value) <= MAX_VALUE_CHARS else UNKNOWN for value in values)
        self.variables[name] = values if len(values) <= MAX_VALUES else (*values[: MAX_VALUES - 1], UNKNOWN)

    def is_spent(self) -> bool:
        """Counts one command; True when the line runs more of them than are worth reading."""
        self.steps[0] += 1
        return self.steps[0] > MAX_COMMANDS

    # -- paths ---------------------------------------------------------------------------------------

    def absolute(self, value: str) -> list[str]:
        """The absolute paths a value may mean, not normalised, globs still active."""
        if value.startswith("/"):
            process = _PROCESS.match(value)
            if process is None:
                return [value]
            # Seen from the process that asks, not from this one.
            rest = value[process.end() :]
            return [f"{start}/{rest}" for start in (self.folders if process[1] == "cwd" else ("",))]
        # Joined by hand: a trailing slash means "follow the link", and must stay.
        return [f"{folder.rstrip('/')}/{value}" for folder in self.folders]

    def expand(self, value: str) -> Iterator[tuple[str, bool]]:
        """Absolute paths with globs expanded against what is there: (path, exact).

        A glob that matches nothing stands for itself, as in a shell; one that also could match what an
        earlier part of the command makes is given once more, inexact.
        """
        for written in self.absolute(value):
            if not _ACTIVE.search(written):
                # With its last name known, a path says what it is even where it is not known.
                yield written, UNKNOWN not in os.path.basename(written.rstrip("/"))
                continue
            found = _matching(written, self.looks)
            if found is None:
                yield os.path.dirname(_ACTIVE.split(written)[0]) + "/", True
                found = []
            for path in found:
                yield path, True
            yield _ACTIVE.sub(UNKNOWN, written.replace(BRACKET, STAR)), False

    def touch(self, action: Action, word: Word, *, recursive: bool = False, exact: bool = True) -> None:
        """Adds an effect for each path the word may mean."""
        for value in word:
            if not is_known(value) and not value.split(UNKNOWN)[0].strip("./"):
                # Nothing of the path is known: the text of the whole call is judged instead.
                self.opaque(plain(value.replace(UNKNOWN, "$")))
                if value.startswith(UNKNOWN):
                    continue
            if value in ("", "-"):
                continue
            if len(self.effects) >= MAX_EFFECTS:
                self.opaque(plain(value))
                return
            for path, is_exact in self.expand(value):
                names = self.places.names_of(path, self.links)
                self.effects.append(
                    Effect(action, names, recursive, exact and is_exact and self.exact, opaque=False)
                )
                if action == "fs.write":
                    self.made.add(names[0])

    # -- other effects -------------------------------------------------------------------------------

    def run(self, argv: Iterable[str], facts: Iterable[str] = ()) -> None:
        """Adds the effect of running a program."""
        self.effects.append(
            Effect("exec", argv=tuple(map(plain, argv)), facts=frozenset(facts), exact=self.exact)
        )

    def connect(self, host: str, port: int) -> None:
        """Adds the effect of reaching a host."""
        self.effects.append(Effect("net.connect", host=host.lower().rstrip("."), port=port, exact=self.exact))

    def opaque(self, text: str) -> None:
        """Adds the effect of something that cannot be read."""
        # Beyond so many, they say nothing that the text of the whole call does not say.
        if text in self.unread or len(self.unread) >= MAX_OPAQUE:
            return
        self.unread.add(text)
        self.effects.append(Effect("exec", argv=("<opaque>",), opaque=True, text=text, exact=self.exact))


def _matching(written: str, looks: list[int]) -> list[str] | None:
    """The existing paths that a glob names; None when there are too many to look at.

    Every name that is listed costs from a small budget, and from the one of the whole call: globs over the
    disk must not hold up the call that is waiting for an answer.
    """
    if UNKNOWN in written:
        return []
    budget = MAX_LISTED
    paths = [""]
    for segment in written.rstrip("/").split("/")[1:]:
        if not _ACTIVE.search(segment):
            paths = [f"{path}/{segment}" for path in paths if os.path.lexists(f"{path}/{segment}")]
            continue
        pattern = re.compile(fnmatch.translate("".join(map(_glob_escape, segment))), re.DOTALL)
        after: list[str] = []
        for path in paths:
            for name in _listing(path or "/"):
                budget -= 1
                looks[0] -= 1
                if budget < 0 or looks[0] < 0 or len(after) > MAX_EXPANSION:
                    return None
                if pattern.match(name) and (segment.startswith(".") or not name.startswith(".")):
                    after.append(f"{path}/{name}")
        paths = after
    return sorted(f"{path}/" for path in paths) if written.endswith("/") else sorted(paths)


def _listing(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (OSError, ValueError):
        return []


def _glob_escape(char: str) -> str:
    if char in (STAR, QUERY, BRACKET):
        return plain(char)
    return f"[{char}]" if char in "*?[" else char
