"""Refs of the private store, by git's own protocol but without spawning git.

Rules: only below `refs/agentgov/`; a value is complete before it has its name (lock file, then rename); a ref
whose lock another process holds is left alone.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from agentgov.errors import ConflictError, UsageError


def set_ref(store_dir: Path, name: str, oid: str, *, durable: bool) -> None:
    """Point a ref at an object.

    Args:
        store_dir: The bare repository.
        name: A full name below `refs/agentgov/`.
        oid: The object.
        durable: Flush it before it gets its name.

    Raises:
        UsageError: AG0154, when the name is not a plain ref below refs/agentgov/.
        ConflictError: AG0155, when another process holds the ref's lock.
    """
    path = ref_path(store_dir, name)
    lock = path.with_name(path.name + ".lock")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        try:
            fd = os.open(lock, flags, 0o600)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(lock, flags, 0o600)
    except FileExistsError:
        raise ConflictError(
            "a ref of the snapshot store is locked",
            id="AG0155",
            where=name,
            hint=f"when no git command is running on it: rm {lock}",
        ) from None
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(oid.encode("ascii") + b"\n")
            file.flush()
            if durable:
                os.fsync(fd)
        lock.replace(path)
    except BaseException:
        lock.unlink(missing_ok=True)
        raise


def read_ref(store_dir: Path, name: str) -> str | None:
    """Return the object a ref points at, loose or packed; None when there is none.

    Raises:
        UsageError: AG0154, when the name is not a plain ref below refs/agentgov/.
    """
    with suppress(FileNotFoundError):
        return ref_path(store_dir, name).read_text("ascii").strip() or None
    with suppress(FileNotFoundError):
        for line in (store_dir / "packed-refs").read_text("utf-8", "replace").splitlines():
            oid, _, packed = line.partition(" ")
            if packed == name:
                return oid
    return None


def ref_path(store_dir: Path, name: str) -> Path:
    """Return the file of a loose ref.

    Raises:
        UsageError: AG0154, when the name is not a plain ref below refs/agentgov/.
    """
    parts = name.split("/")
    if parts[:2] != ["refs", "agentgov"] or not all(_is_plain(part) for part in parts):
        raise UsageError(f"not a ref of the snapshot store: {name!r}", id="AG0154")
    return store_dir.joinpath(*parts)


def _is_plain(part: str) -> bool:
    allowed = part.replace("-", "").replace("_", "")
    return allowed.isascii() and allowed.isalnum() and not part.endswith(".lock")
