"""Where a remote really leads: a workspace must have none that reaches the repository it was made from.

Rules kept here:

- What counts is the address after `url.<base>.insteadOf` and `pushInsteadOf`, and the raw one: an agent may
  undo a rewriting.
- A path is followed to the git folder it means: links, `.git` files, linked work trees, relative paths,
  `file://`, and ssh to this very machine.
- An address that starts a program (`ext::`) may lead anywhere: it is never carried over.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

_SCHEME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]*://")
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]*::")
_SCP = re.compile(r"(?:[^@/:]*@)?(\[[^\]]*\]|[^/:]+):(.*)", re.DOTALL)


def is_program(url: str) -> bool:
    """Whether git would start a remote helper for this address, such as `ext::sh -c ...`."""
    return _HELPER.match(url) is not None


def local_path(url: str, base: Path) -> Path | None:
    """Return the path on this machine that an address means; None when it leads elsewhere.

    Args:
        url: As git would use it, after rewriting.
        base: What a relative path is relative to: the top of the work tree.
    """
    scheme = _SCHEME.match(url)
    if scheme:
        name, rest = scheme[0][:-3].lower(), unquote(url[scheme.end() :])
        host, slash, path = rest.partition("/")
        host = host.rpartition("@")[2]
        if name == "file":
            return Path(slash + path)
        if name in ("ssh", "git", "git+ssh", "ssh+git") and _is_here(re.sub(r":[0-9]*\Z", "", host)):
            return Path(path).expanduser() if path.startswith("~") else Path(slash + path)
        return None
    scp = _SCP.fullmatch(url)
    if scp and not url.startswith(("/", ".", "~")):
        return Path.home() / scp[2] if _is_here(scp[1]) else None
    return base / (os.path.expanduser(url) if url.startswith("~") else url)  # noqa: PTH111 - bytes as git sees them


def _is_here(host: str) -> bool:
    name = host.strip("[]").lower().rstrip(".")
    return name in ("localhost", "::1", "", socket.gethostname().lower()) or name.startswith("127.")


@dataclass(frozen=True, slots=True)
class Rewriting:
    """The `url.<base>.insteadOf` and `pushInsteadOf` settings, each as (prefix, base)."""

    fetch: tuple[tuple[str, str], ...] = ()
    push: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, settings: Iterable[tuple[str, str]]) -> Rewriting:
        """Read them from (key, value) pairs; git writes the last part of a key in lower case."""
        fetch, push = [], []
        for key, value in settings:
            if key.startswith("url.") and key.endswith(".insteadof"):
                fetch.append((value, key[4 : -len(".insteadof")]))
            elif key.startswith("url.") and key.endswith(".pushinsteadof"):
                push.append((value, key[4 : -len(".pushinsteadof")]))
        return cls(tuple(fetch), tuple(push))

    def all_forms(self, url: str) -> set[str]:
        """Every address that git could use for `url`: as it is, to fetch, to push."""
        return {url, _rewrite(url, self.fetch), _rewrite(url, self.push)}


def _rewrite(url: str, rules: Sequence[tuple[str, str]]) -> str:
    # git-config(1): the longest matching prefix is used.
    matching = [(prefix, base) for prefix, base in rules if prefix and url.startswith(prefix)]
    if not matching:
        return url
    prefix, base = max(matching, key=lambda rule: len(rule[0]))
    return base + url[len(prefix) :]


@dataclass(frozen=True, slots=True)
class Original:
    """The repository that no address in a workspace may reach.

    Attributes:
        base: What its relative addresses are relative to.
        places: Its common git folder, the tops of its work trees, and, for a submodule, those of its
            superproject; with links resolved.
        rewriting: Its address rewriting.
    """

    base: Path
    places: frozenset[Path]
    rewriting: Rewriting = field(default_factory=Rewriting)

    def is_reached_by(self, url: str) -> bool:
        """Whether an address leads here, or may lead anywhere."""
        for form in self.rewriting.all_forms(url):
            if is_program(form):
                return True
            path = local_path(form, self.base)
            if path is not None and self._contains(path):
                return True
        return False

    def _contains(self, path: Path) -> bool:
        for raw_candidate in (path, path / ".git", Path(f"{path}.git"), Path(f"{path}.git") / ".git"):
            for real in _meant(raw_candidate):
                if any(real == place or place in real.parents for place in self.places):
                    return True
        return False


def _meant(path: Path) -> list[Path]:
    """The folders a path leads to: itself without links, and what a `.git` file or `commondir` names."""
    try:
        real = path.resolve(strict=True)
        found = [real]
        if real.is_file():
            raw = real.read_bytes()[:4096]
            if raw.startswith(b"gitdir:"):
                named = real.parent / os.fsdecode(raw[7:].strip())
                found += _meant(named)
        elif (real / "commondir").is_file():
            found.append((real / os.fsdecode((real / "commondir").read_bytes().strip())).resolve())
    except (OSError, RuntimeError):
        # It is not there or a loop of links: git could not use it either.
        return []
    return found


@dataclass(frozen=True, slots=True)
class CarriedRemotes:
    """What a workspace gets of the remotes.

    Attributes:
        names: The remotes that are carried over.
        left_out: Those that are not.
        settings: Their settings, with absolute paths, and those of branches and rewriting that go with them.
    """

    names: tuple[str, ...]
    left_out: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]


def carry_remotes(
    local: Sequence[tuple[str, str]], everything: Sequence[tuple[str, str]], original: Original
) -> CarriedRemotes:
    """Choose what of `remote.*`, `branch.*` and `url.*` may stand in a workspace.

    Args:
        local: The repository's own settings, (key, value) as `git config --list` gives them.
        everything: All settings in force, the user's global ones too.
        original: What must not be reached.
    """
    by_remote: dict[str, list[tuple[str, str]]] = {}
    urls: dict[str, list[str]] = {}
    for key, value in everything:
        section, _, variable = key.rpartition(".")
        if section.startswith("remote.") and variable in ("url", "pushurl"):
            urls.setdefault(section[7:], []).append(value)
    for key, value in local:
        section, _, variable = key.rpartition(".")
        if section.startswith("remote."):
            value = _absolute(value, original.base) if variable in ("url", "pushurl") else value
            by_remote.setdefault(section[7:], []).append((key, value))
    reaching = {name for name, found in urls.items() if any(map(original.is_reached_by, found))}
    # A remote without an address is one git makes from its name: a path.
    reaching |= {name for name in by_remote if name not in urls and original.is_reached_by(name)}
    names = tuple(name for name in by_remote if name not in reaching)
    settings = [pair for name in names for pair in by_remote[name]]
    settings += _branches(local, names, original)
    for key, value in local:
        if key.startswith("url.") and not original.is_reached_by(key[4:].rpartition(".")[0]):
            settings.append((key, value))
    return CarriedRemotes(names, tuple(sorted(reaching)), tuple(settings))


def _branches(
    local: Sequence[tuple[str, str]], names: Sequence[str], original: Original
) -> list[tuple[str, str]]:
    remote_of: Mapping[str, str] = {key[7:-7]: value for key, value in local if _is_branch(key, "remote")}
    kept = []
    for key, value in local:
        if key == "remote.pushdefault" or _is_branch(key, "remote") or _is_branch(key, "pushremote"):
            if value in (*names, "."):
                kept.append((key, value))
        elif key.startswith("branch."):
            remote = remote_of.get(key[7:].rpartition(".")[0])
            if not key.endswith(".merge") or remote in (*names, "."):
                kept.append((key, value))
    return kept


def _is_branch(key: str, variable: str) -> bool:
    return key.startswith("branch.") and key.endswith(f".{variable}")


def _absolute(url: str, base: Path) -> str:
    if is_program(url) or _SCHEME.match(url) or url.startswith(("/", "~")) or _SCP.fullmatch(url):
        return url
    return os.path.normpath(base / url)
