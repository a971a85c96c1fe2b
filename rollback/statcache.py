"""What the last run knew about the files, so that a start need not hash them all again.

Rules: a record counts only for the same root (device and inode), object format and file of rules of this
module; racy records are not saved; a cache that does not parse is no cache.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

from agentgov.errors import BrokenRecordError
from agentgov.files import read_own_file, write_atomic
from agentgov.rollback.nodes import SIGNATURE_SIZE, DirNode, is_racy
from agentgov.rollback.treeform import digest_size

Seed = dict[bytes, dict[bytes, bytes]]

_MAGIC = b"agentgov stat cache 1\n"
_FOLDER = struct.Struct("<HI")
_CHECK_BYTES = 32


def load(path: Path, root: os.stat_result, object_format: str) -> Seed:
    """Return folder -> name -> record, empty when there is no usable cache."""
    head = _head(root, object_format)
    try:
        raw = read_own_file(path)
    except (OSError, BrokenRecordError):
        return {}
    body = raw[_CHECK_BYTES:]
    if not body.startswith(head) or hashlib.sha256(body).digest() != raw[:_CHECK_BYTES]:
        return {}
    try:
        return _parse(body, len(head), SIGNATURE_SIZE + 1 + digest_size(object_format))
    except (struct.error, IndexError):
        return {}


def _parse(body: bytes, at: int, record_size: int) -> Seed:
    seed: Seed = {}
    end = len(body)
    while at < end:
        length, count = _FOLDER.unpack_from(body, at)
        at += _FOLDER.size
        files = seed[body[at : at + length]] = {}
        at += length
        for _ in range(count):
            length = body[at]
            middle = at + 1 + length
            files[body[at + 1 : middle]] = body[middle : middle + record_size]
            at = middle + record_size
    if at != end:
        raise IndexError("cut off")
    return seed


def save(path: Path, tree: DirNode, root: os.stat_result, object_format: str) -> None:
    """Write the cache, all of it or nothing.

    Raises:
        OSError: It cannot be written.
    """
    parts = [_head(root, object_format)]
    for folder, node in tree.walk():
        files = [(name, record) for name, record in node.files.items() if not is_racy(record)]
        if files and len(folder) <= 0xFFFF:
            parts.append(_FOLDER.pack(len(folder), len(files)) + folder)
            parts.extend([b"%c%s%s" % (len(name), name, record) for name, record in files])
    body = b"".join(parts)
    write_atomic(path, hashlib.sha256(body).digest() + body)


def _head(root: os.stat_result, object_format: str) -> bytes:
    return _MAGIC + struct.pack("<QQ", root.st_dev, root.st_ino) + object_format.encode() + b"\n"
