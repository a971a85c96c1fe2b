"""The part of the record that is not sealed yet: segments of lines, and the writer's memory of their end.

Rules: a record is `line TAB base64(signature) LF`; a segment is named after its first entry, with 16 digits;
the newest one is appended to, under the append lock only, and one `fdatasync` covers one batch; a batch that
could not be written whole and synced is taken back. The written part ends at the first NUL; what stands
after its last LF is torn; a complete line that is wrong is tampering and is never cut. A live writer believes its memory: if the file is shorter,
replaced, or its last record is another one, somebody else has been at it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentgov.errors import BrokenRecordError
from agentgov.files import MAX_OWN_FILE_BYTES, fsync_dir
from agentgov.ledger import canonical
from agentgov.ledger.entry import SignedEntry, parse_entry

# A line, a TAB, 88 characters of base64 and the LF.
MAX_RECORD_BYTES: Final = canonical.MAX_BYTES + 90
_SIGNATURE_CHARS: Final = 88
_is_segment = re.compile(r"[0-9]{16}").fullmatch


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """One file of the folder `wal`; `first` is the number of its first entry."""

    first: int
    path: Path


def list_segments(folder: Path) -> list[Segment]:
    """Return the segments in order; other names are passed over."""
    return sorted(Segment(int(path.name), path) for path in folder.iterdir() if _is_segment(path.name))


def newest_segment(folder: str) -> int:
    """Return the number that names the newest segment, -1 when there is none; cheap, for each append."""
    names = os.listdir(folder)  # noqa: PTH208 - on each append: a Path for each name is slow
    return max((int(name) for name in names if _is_segment(name)), default=-1)


def create_segment(folder: Path, first: int) -> Segment:
    """Start an empty segment, durably; nothing happens when it is there and empty."""
    segment = Segment(first, folder / f"{first:016d}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(segment.path, flags, 0o600)
    os.close(fd)
    fsync_dir(folder)
    return segment


def encode_record(line: bytes, signature: bytes) -> bytes:
    """Return what is appended for one entry."""
    return b"%b\t%b\n" % (line, base64.b64encode(signature))


def parse_record(raw_record: bytes, *, seq: int) -> SignedEntry:
    """Parse a record without its LF.

    Args:
        raw_record: The bytes.
        seq: Where it stands, for the error.

    Raises:
        BrokenRecordError: AG0220, when it is not a record; AG0200, AG0202 or AG0203, when its line is no
            entry.
    """
    line, tab, raw_signature = raw_record.rpartition(b"\t")
    if not tab:
        raise BrokenRecordError("this line has no signature", id="AG0220", where=f"entry {seq}")
    signature = parse_signature(raw_signature, seq=seq)
    try:
        return SignedEntry(parse_entry(line), line, signature)
    except BrokenRecordError as error:
        raise BrokenRecordError(error.message, id=error.id, where=error.where or f"entry {seq}") from None


def parse_signature(raw_signature: bytes, *, seq: int) -> bytes:
    """Parse the base64 of a signature.

    Raises:
        BrokenRecordError: AG0220, when it is not 64 bytes in their only spelling.
    """
    try:
        signature = base64.b64decode(raw_signature, validate=True)
    except (binascii.Error, ValueError):
        signature = b""
    if len(signature) != 64 or base64.b64encode(signature) != raw_signature:
        raise BrokenRecordError("this line's signature cannot be read", id="AG0220", where=f"entry {seq}")
    return signature


def split_torn(data: bytes) -> tuple[bytes, bytes]:
    """Split a segment into its complete lines and what a crash left behind them.

    The written part ends at the first NUL: behind it lies space that was reserved. A power cut may leave some
    pages of a batch and not others; whatever is not NUL behind the last complete line is torn.
    """
    written = data.find(b"\x00")
    end = data.rfind(b"\n", 0, len(data) if written < 0 else written) + 1
    return data[:end], data[end:].rstrip(b"\x00")


class Tail:
    """The newest segment, open for appending, and what this writer remembers of its end.

    Args:
        segment: The file, which must be there.
        size: Where this writer's memory ends, in bytes; all before it has been checked.
        last: The last record in it, with its LF; empty when there is none.
    """

    def __init__(self, segment: Segment, size: int = 0, last: bytes = b"") -> None:
        self.segment = segment
        self.size = size
        self.last = last
        self._fd = os.open(segment.path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)

    def check(self) -> int:
        """Compare the file with memory; return its size in bytes.

        Raises:
            BrokenRecordError: AG0221, when what this writer knows to be there is not there any more.
        """
        size = os.fstat(self._fd).st_size
        if size < self.size:
            raise self._replaced("it is shorter than it was")
        if self.last and os.pread(self._fd, len(self.last), self.size - len(self.last)) != self.last:
            raise self._replaced("its last entry is another one")
        return size

    def check_place(self) -> None:
        """Check that the name in the folder still means this file.

        Raises:
            BrokenRecordError: AG0221, when it does not.
        """
        mine = os.fstat(self._fd)
        try:
            there = self.segment.path.lstat()
        except FileNotFoundError:
            raise self._replaced("the file is gone") from None
        if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
            raise self._replaced("the file is another one")

    def read_new(self, size: int) -> bytes:
        """Return what stands between memory and `size`.

        Raises:
            BrokenRecordError: AG0221, when no writer can have written it.
        """
        if size - self.size > MAX_OWN_FILE_BYTES:
            raise self._replaced("it became far too large")
        out = b""
        while len(out) < size - self.size:
            part = os.pread(self._fd, size - self.size - len(out), self.size + len(out))
            if not part:
                raise self._replaced("it became shorter while it was read")
            out += part
        return out

    def remember(self, data: bytes) -> None:
        """Take complete records that stand right after memory into memory."""
        self.size += len(data)
        self.last = data[data.rfind(b"\n", 0, len(data) - 1) + 1 :]

    def write(self, data: bytes) -> None:
        """Append records and make them durable; memory does not change.

        Raises:
            OSError: When it could not be done; `take_back` then restores the file.
        """
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        os.fdatasync(self._fd)

    def take_back(self) -> None:
        """Cut the file to what memory holds, durably; only what was never acknowledged."""
        os.ftruncate(self._fd, self.size)
        os.fsync(self._fd)

    def close(self) -> None:
        """Give the descriptor back."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def _replaced(self, what: str) -> BrokenRecordError:
        return BrokenRecordError(
            f"the record was changed under its writer: {what}",
            id="AG0221",
            where=str(self.segment.path),
            hint="agentgov verify",
        )
