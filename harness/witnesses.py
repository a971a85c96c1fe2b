"""Who is believed as a witness or a time stamp authority: what the protected branch says, or a named file.

Rules kept here:
- The protected branch is asked, never the work tree; a file or folder that was named counts alone.
- A file that is there and not understood is an error, never "no witness".
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from agentgov.errors import ConfigError
from agentgov.gates.adoption import protected_commit, read_at
from agentgov.git import Repository
from agentgov.layout import StateHome
from agentgov.ledger.timestamps import AUTHORITIES_FILE, Authorities
from agentgov.ledger.tlog_policy import Policy

WITNESSES_FILE: Final = ".agentgov/witnesses"
MAX_BYTES: Final = 1_000_000
_is_policy_line = re.compile(rb"[ \t]*(?:log|witness|group|quorum)[ \t]").match


def read_witnesses(repo: Repository, state: StateHome, named: Path | None = None) -> Policy | None:
    """Return who is a witness, and how many are enough; None when nobody says.

    Args:
        repo: The repository.
        state: The user's state folder.
        named: A file of trust, whose lines about witnesses count, or a folder like `.agentgov`.

    Raises:
        ConfigError: AG0402, when it is no policy; AG0478, when a file cannot be read; AG0103, when it is a
            link, a folder or too large on the protected branch.
    """
    if named is None:
        raw, where = _read_protected(repo, state, WITNESSES_FILE), WITNESSES_FILE
    elif named.is_dir():
        raw, where = _read_file(named / "witnesses"), str(named / "witnesses")
    else:
        lines = (_read_file(named) or b"").replace(b"\r\n", b"\n").split(b"\n")
        raw, where = b"".join(line + b"\n" for line in lines if _is_policy_line(line)) or None, str(named)
    if raw is None:
        return None
    if re.search(rb"^[ \t]*quorum[ \t]", raw, re.MULTILINE) is None and b"witness" not in raw:
        raw += b"quorum none\n"
    return Policy.parse(raw, where=where)


def read_authorities(repo: Repository, state: StateHome, named: Path | None = None) -> Authorities | None:
    """Return whose time stamps are believed; None when nobody says.

    Args:
        repo: The repository.
        state: The user's state folder.
        named: A PEM file, or a folder like `.agentgov`.

    Raises:
        ConfigError: AG0464, when it holds no certificates; AG0478 and AG0103 as above.
    """
    if named is None:
        raw, where = _read_protected(repo, state, AUTHORITIES_FILE), AUTHORITIES_FILE
    else:
        path = named / Path(AUTHORITIES_FILE).name if named.is_dir() else named
        raw, where = _read_file(path), str(path)
    return None if raw is None else Authorities.parse(raw, where=where)


def _read_protected(repo: Repository, state: StateHome, name: str) -> bytes | None:
    found = protected_commit(repo, state)
    return None if found is None else read_at(repo, found[0], name, MAX_BYTES)


def _read_file(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(
            f"this file cannot be read: {error.strerror}", id="AG0478", where=str(path)
        ) from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"this file is longer than {MAX_BYTES} bytes", id="AG0478", where=str(path))
    return raw
