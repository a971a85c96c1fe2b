"""What in the active environment imports from the user's tree although the agent works in a copy.

Rules kept here:

- Files are read, nothing is executed; what cannot be read is passed over: this only warns.
- Nothing is changed: an environment that silently differed from the user's would be worse than the warning.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

_MAX_BYTES = 256 * 1024


def find_imports_from(tree: Path, env: Mapping[str, str]) -> list[str]:
    """Say which parts of the environment import from `tree`, one warning each.

    Args:
        tree: The top of the user's work tree.
        env: The agent's environment: PATH, VIRTUAL_ENV and PYTHONPATH count.
    """
    tree = tree.resolve()
    warnings = []
    for prefix in _prefixes(env):
        names = sorted({name for site in _sites(prefix) for name in _editable(site, tree)})
        if names:
            what = ", ".join(names[:4])
            warnings.append(
                f"python in {prefix} imports {what} from the original, not from the copy (editable install)"
            )
        if prefix.resolve().is_relative_to(tree):
            warnings.append(f"the active python environment {prefix} lies in the original, not in the copy")
    paths = [entry for entry in env.get("PYTHONPATH", "").split(":") if entry]
    if any(Path(entry).is_absolute() and _is_in(Path(entry), tree) for entry in paths):
        warnings.append("PYTHONPATH names the original, not the copy")
    return warnings


def _prefixes(env: Mapping[str, str]) -> list[Path]:
    found = []
    if env.get("VIRTUAL_ENV"):
        found.append(Path(env["VIRTUAL_ENV"]))
    for name in ("python", "python3"):
        # Not resolved: a virtual environment's interpreter is a link out of it.
        program = shutil.which(name, path=env.get("PATH", ""))
        if program is not None:
            found.append(Path(program).absolute().parent.parent)
    return list(dict.fromkeys(found))


def _sites(prefix: Path) -> list[Path]:
    return [
        site for kind in ("site-packages", "dist-packages") for site in prefix.glob(f"lib/python3*/{kind}")
    ]


def _editable(site: Path, tree: Path) -> Iterator[str]:
    for path in site.glob("*.dist-info/direct_url.json"):
        try:
            said = json.loads(_read(path))
            url = urlsplit(said["url"])
            is_editable = said.get("dir_info", {}).get("editable") is True
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if is_editable and url.scheme == "file" and _is_in(Path(unquote(url.path)), tree):
            yield path.parent.name.partition("-")[0]
    for path in (*site.glob("*.pth"), *site.glob("*.egg-link")):
        lines = _read(path).splitlines()
        if any(line.startswith("/") and _is_in(Path(line.strip()), tree) for line in lines):
            yield path.stem.removeprefix("__editable__.").removeprefix("_").partition("-")[0]


def _read(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read(_MAX_BYTES))
    except OSError:
        return ""


def _is_in(path: Path, tree: Path) -> bool:
    try:
        return path.resolve().is_relative_to(tree)
    except (OSError, RuntimeError):
        return False
