"""Objects written as one pack that no clean-up takes away before a ref names them.

Rules this module keeps:
    * A pack is written whole or not at all, is indexed and hashed by git, and is on disk with its names when
      the function returns.
    * It carries a `.keep` until `release`: `git gc --prune=now` beside us, which has looked at the refs
      before ours moves, would otherwise remove objects that nobody names yet, between our writing and our
      ref. Loose objects cannot be held like that.
    * A `.keep` of ours that a crash left is removed by the next writer; anybody else's is not touched.

The form of a pack is git's: gitformat-pack(5), version 2, without deltas.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from agentgov.errors import AgentgovError
from agentgov.files import fsync_dir
from agentgov.git import Git, GitResult, ObjectFormat

Kind = Literal["commit", "tree", "blob"]
DURABLE: Final = {"core.fsync": "objects,reference,pack-metadata"}
_TYPES: Final[dict[Kind, int]] = {"commit": 1, "tree": 2, "blob": 3}
_KEEP_NOTE: Final = "agentgov"
_ATTEMPTS: Final = 4
# "pack" where the `.keep` is there already, from an attempt that did not come to its end.
_is_written = re.compile(rb"(?:keep|pack)\t([0-9a-f]{40}|[0-9a-f]{64})\n").fullmatch


def pack_folder(git: Git) -> Path:
    """Return the folder of a repository's packs.

    Raises:
        ValueError: When `git` stands for no repository.
    """
    if git.git_dir is None:
        raise ValueError("packs lie in a repository")
    return git.git_dir / "objects" / "pack"


def encode_pack(objects: Sequence[tuple[Kind, bytes]], object_format: ObjectFormat) -> bytes:
    """Return a pack of whole objects.

    Args:
        objects: (kind, content) of each.
        object_format: How the repository names objects.
    """
    parts = [b"PACK", (2).to_bytes(4, "big"), len(objects).to_bytes(4, "big")]
    for kind, data in objects:
        parts.append(_entry_header(_TYPES[kind], len(data)))
        parts.append(zlib.compress(data))
    body = b"".join(parts)
    return body + hashlib.new(object_format, body, usedforsecurity=False).digest()


def write_kept(git: Git, objects: Sequence[tuple[Kind, bytes]], object_format: ObjectFormat) -> str:
    """Write objects as one pack, durably and held back from any clean-up; the caller releases it.

    Only one process may write at a time, because what an earlier one left held is released here.

    Returns:
        The pack's name, hex.

    Raises:
        AgentgovError: AG0008, when git cannot write; AG0491, when it does not say what it wrote.
        OSError: The disk refuses.
    """
    folder = pack_folder(git)
    for keep in folder.glob("pack-*.keep"):
        if keep.read_bytes() == f"{_KEEP_NOTE}\n".encode():
            keep.unlink(missing_ok=True)
    pack = encode_pack(objects, object_format)
    for _ in range(_ATTEMPTS):
        match = _is_written(_index(git, pack).stdout)
        # A clean-up of another program's may have taken the `.keep`: written again, it is there again.
        if match is not None and (folder / f"pack-{match[1].decode('ascii')}.keep").exists():
            fsync_dir(folder)
            return match[1].decode("ascii")
    raise AgentgovError(
        "git did not say which pack it wrote", id="AG0491", where=str(folder), hint="git fsck --full"
    )


def _index(git: Git, pack: bytes) -> GitResult:
    # `git prune --expire=now` beside us takes unfinished packs away, too: git says so, and nothing is lost.
    left = _ATTEMPTS
    while True:
        left -= 1
        config = {**DURABLE, "pack.threads": "1"}
        done = git.run(
            "index-pack", "--stdin", f"--keep={_KEEP_NOTE}", input=pack, config=config, check=left == 0
        )
        if done.ok:
            return done


def release(git: Git, name: str) -> None:
    """Let a pack be cleaned up again as any other: a ref names its objects now."""
    (pack_folder(git) / f"pack-{name}.keep").unlink(missing_ok=True)


def _entry_header(kind: int, size: int) -> bytes:
    # Four bits of the size beside the kind, then seven a byte, the lowest first.
    byte, size = (kind << 4) | (size & 0x0F), size >> 4
    out = bytearray()
    while size:
        out.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    out.append(byte)
    return bytes(out)
