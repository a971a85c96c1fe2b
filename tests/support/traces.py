"""Where a string lies: every file below some folders, every object of every object database unpacked."""

from __future__ import annotations

import base64
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Trace:
    """A file that holds the string, or an object of a repository and its kind."""

    where: Path
    oid: str = ""
    kind: str = ""


def traces(needle: str, *places: Path) -> list[Trace]:
    """Return every place that holds `needle`, plain or in base64 at any offset."""
    spellings = _spellings(needle.encode())
    found: set[Trace] = set()
    for place in places:
        for path in place.rglob("*"):
            if path.is_symlink() and needle in str(path.readlink()):
                found.add(Trace(path, kind="link"))
            if needle in path.name:
                found.add(Trace(path, kind="name"))
            if (
                path.is_file()
                and not path.is_symlink()
                and any(s in data for data in _data(path) for s in spellings)
            ):
                found.add(Trace(path))
            if path.name == "objects" and path.is_dir():
                found.update(
                    Trace(path.parent, oid, kind)
                    for oid, kind, data in _objects(path.parent)
                    if any(s in data for s in spellings)
                )
    # A loose object is told by its name; its file says the same.
    return sorted(
        trace for trace in found if trace.oid or "objects" not in trace.where.parts or _is_stray(trace)
    )


def _is_stray(trace: Trace) -> bool:
    return trace.where.parent.name in ("objects", "pack", "info") or trace.where.name.startswith("tmp_")


def _spellings(raw: bytes) -> list[bytes]:
    found = [raw]
    for shift in range(3):
        encoded = base64.b64encode(b"x" * shift + raw)
        found.append(encoded[4 if shift else 0 : len(encoded) - 4])
    return found


def _data(path: Path) -> Iterator[bytes]:
    raw = path.read_bytes()
    yield raw
    try:
        yield zlib.decompressobj().decompress(raw)
    except zlib.error:
        return


def _objects(git_dir: Path) -> Iterator[tuple[str, str, bytes]]:
    batch = ["git", "--git-dir", str(git_dir), "cat-file", "--batch", "--batch-all-objects"]
    data = subprocess.run(batch, capture_output=True, check=False).stdout
    at = 0
    while at < len(data):
        end = data.index(b"\n", at)
        oid, kind, size = data[at:end].decode().split()
        yield oid, kind, data[end + 1 : end + 1 + int(size)]
        at = end + int(size) + 2
