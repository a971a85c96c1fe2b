"""Keys: the log key on disk, outside the repository, and session keys, in memory only.

Rules: the log key lies in a folder bound to the repository's common git folder, its device, its inode and the
machine: a moved or copied clone finds none and starts a new stream. The folder also names the stream, so that
a removed record is seen. A session key is never written anywhere; once it has rotated, the old one is
dropped.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Final

from agentgov.clock import Random
from agentgov.errors import AgentgovError
from agentgov.files import open_private_dir, read_own_file, write_atomic
from agentgov.ids import RunId
from agentgov.ledger.keyring import LOG_KEY
from agentgov.ledger.signing import PrivateKey
from agentgov.memory import guard_memory

SEED_BYTES: Final = 32
_is_stream = re.compile(r"[0-9a-f]{32}").fullmatch


class Signer:
    """A key with its place in the record; appending uses it, and replaces a session's key after a seal.

    Attributes:
        key_seq: The place of the entry that introduced the key; 0 for the log key.
        run: The run it signs for; None for the log key.
        ended: Whether its life is over.
    """

    __slots__ = ("_private", "ended", "key_seq", "run")

    def __init__(self, private: PrivateKey, key_seq: int = LOG_KEY, run: RunId | None = None) -> None:
        self._private = private
        self.key_seq = key_seq
        self.run = run
        self.ended = False

    @property
    def is_log(self) -> bool:
        """Whether this is the log key."""
        return self.key_seq == LOG_KEY

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of the public key in use now."""
        return self._private.public_key

    def sign(self, message: bytes) -> bytes:
        """Return the signature over exactly these bytes."""
        return self._private.sign(message)

    def memento(self) -> tuple[PrivateKey, int, bool]:
        """Return what `restore` needs to take a rotation back that was not recorded."""
        return self._private, self.key_seq, self.ended

    def restore(self, memento: tuple[PrivateKey, int, bool]) -> None:
        """Go back to an earlier key; only when the entry that introduced the later one was not recorded."""
        self._private, self.key_seq, self.ended = memento

    def replace(self, private: PrivateKey, key_seq: int) -> None:
        """Sign with another key from now on; the old one is dropped."""
        self._private, self.key_seq = private, key_seq


class KeyFolder:
    """Where one clone's log key lies.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, keys: Path, common_dir: Path, machine: str) -> KeyFolder:
        """Return the folder bound to a repository's common git folder on this machine."""
        place = common_dir.resolve()
        status = place.stat()
        parts = (os.fsencode(place), b"%d" % status.st_dev, b"%d" % status.st_ino, machine.encode())
        return cls(keys / hashlib.sha256(b"\x00".join(parts)).hexdigest())

    @property
    def key_file(self) -> Path:
        """The file with the seed, readable by its owner only."""
        return self.path / "log.key"

    @property
    def stream_file(self) -> Path:
        """The file that names the stream; its presence says that the stream was begun completely."""
        return self.path / "stream"

    def stream(self) -> str | None:
        """Return the id of the stream that this key began; None when it has not begun one.

        Raises:
            AgentgovError: AG0225, when the file says something else.
        """
        return read_stream_id(self.stream_file)

    def bind(self, stream_id: str) -> None:
        """Name the stream, durably."""
        write_atomic(self.stream_file, f"{stream_id}\n".encode())

    def has_key(self) -> bool:
        """Whether there is a key file."""
        return os.path.lexists(self.key_file)

    def create_key(self, random: Random) -> PrivateKey:
        """Make the log key, durably, and return it."""
        guard_memory()
        open_private_dir(self.path)
        seed = random(SEED_BYTES)
        write_atomic(self.key_file, seed)
        return PrivateKey(seed)

    def load_key(self) -> PrivateKey:
        """Return the log key.

        Raises:
            AgentgovError: AG0225, when it is not there, damaged, or open to others.
        """
        guard_memory()
        try:
            fd = os.open(self.key_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._unusable("this clone's signing key cannot be read") from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
                raise self._unusable("this clone's signing key may be read by others", chmod=True)
            seed = os.read(fd, SEED_BYTES + 1)
        finally:
            os.close(fd)
        if len(seed) != SEED_BYTES:
            raise self._unusable("this clone's signing key is damaged")
        return PrivateKey(seed)

    def _unusable(self, what: str, *, chmod: bool = False) -> AgentgovError:
        hint = f"chmod 600 {self.key_file}" if chmod else "restore it from a backup of the state folder"
        return AgentgovError(what, id="AG0225", where=str(self.key_file), hint=hint)


def read_stream_id(path: Path) -> str | None:
    """Return the stream id in a file, None when there is no such file.

    Raises:
        AgentgovError: AG0225, when the file holds anything else.
    """
    try:
        raw = read_own_file(path)
    except FileNotFoundError:
        return None
    text = raw.decode("ascii", "replace")
    if not text.endswith("\n") or _is_stream(text[:-1]) is None:
        raise AgentgovError("this file must name a record and does not", id="AG0225", where=str(path))
    return text[:-1]
