"""The secrets that a work tree keeps in `.env` files, so that they can be taken out of what is stored.

Rules kept here:

- Nothing of these files is stored or printed: their values are only looked for.
- Looked at are the top of the work tree and every folder that holds a tracked file; ignored trees such as
  `node_modules` are not walked. Numbers and sizes are bounded.
- Templates (`.env.example` and its kind) hold no secrets.
- An agent can write such a file: a value with a space in it, or one that does not look like a literal secret,
  is not taken, or a later run's commands could be blotted out of its record.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agentgov.git import Repository
from agentgov.ledger.redaction_literals import parse_dotenv, secret_values
from agentgov.ledger.redaction_patterns import looks_secret

_MAX_FOLDERS: Final = 5000
_MAX_FILES: Final = 200
_MAX_BYTES: Final = 256 * 1024
# Each one is looked for in every value that is stored.
_MAX_VALUES: Final = 500
_TEMPLATES: Final = ("example", "sample", "template", "tmpl", "tpl", "dist", "defaults", "schema")


def dotenv_secrets(repo: Repository) -> Iterator[str]:
    """Return the secret values in the `.env` files of a work tree; what cannot be read is passed over."""
    if repo.work_tree is None:
        return
    files = values = 0
    for folder in _folders(repo, repo.work_tree):
        for path in _dotenv_files(folder):
            files += 1
            if files > _MAX_FILES:
                return
            for value in secret_values(parse_dotenv(_read(path)).items()):
                if looks_secret(value.encode("utf-8", "surrogateescape")):
                    values += 1
                    if values > _MAX_VALUES:
                        return
                    yield value


def _folders(repo: Repository, top: Path) -> list[Path]:
    listed = repo.git(with_work_tree=True).lines_z("ls-files", "-z")
    names = {os.path.dirname(path) for path in listed}  # noqa: PTH120 (a path in bytes)
    return [top, *(top / os.fsdecode(name) for name in sorted(names - {b""})[:_MAX_FOLDERS])]


def _dotenv_files(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as found:
            names = sorted(entry.name for entry in found)
    except OSError:
        return []
    return [folder / name for name in names if _is_dotenv(name)]


def _is_dotenv(name: str) -> bool:
    is_named = name.startswith(".env") or name.endswith(".env")
    return is_named and name.rpartition(".")[2].lower() not in _TEMPLATES


def _read(path: Path) -> bytes:
    try:
        # A FIFO would wait for a writer for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, _MAX_BYTES) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(fd)
