"""The part of the record that is not sealed yet: segments of lines, and the writer's memory of their end.

Rules: a record is `line TAB base64(signature) LF`; a segment is named after its first entry, with 16 digits;
the newest one is appended to, under the append lock only, and one `fdatasync` covers one batch; a batch that
could not be written whole and synced is taken back. The written part ends at the first NUL; what stands
after its last LF is torn; a complete line that is wrong is tampering and is never cut. A live writer believes
its memory: if the file is shorter, replaced, or its last record is another one, somebody else has been at it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentgov.errors import BrokenRecordError
from agentgov.files import MAX_OWN_FILE_BYTES, fsync_dir
from agentgov.ledger import canonical
from agentgov.ledger.entry import SignedEntry, parse_entry

# A line, a TAB, 88 characters of base64 and the LF.
MAX_RECORD_BYTES: Final = canonical.MAX_BYTES + 90
# About the records of one seal's third: one change of size for each 75 of them or so.
RESERVE_BYTES: Final = 65_536
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FOLDER_SETTLES_NS: Final = 50_000_000
_is_segment = re.compile(r"[0-9]{16}").fullmatch


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """One file of the folder `wal`; `first` is the number of its first entry."""

    first: int
    path: Path


def list_segments(folder: Path) -> list[Segment]:
    """Return the segments in order; other names are passed over."""
    return sorted(Segment(int(path.name), path) for path in folder.iterdir() if _is_segment(path.name))


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
    pages of a batch and not others: what is torn reaches from the first to the last byte that is not NUL
    behind the last complete line.
    """
    written = data.find(b"\x00")
    end = data.rfind(b"\n", 0, len(data) if written < 0 else written) + 1
    return data[:end], data[end:].strip(b"\x00")


class Tail:
    """The newest segment, open for appending, and what this writer remembers of its end.

    Behind the written part a segment has room: NUL bytes, so that the sync of an append changes no size and
    needs no commit of the file system's journal. Whoever starts the next segment cuts the room off first:
    while there is room, this segment is the newest one, and no folder has to be listed. For the same reason
    an append never asks for the file's status: newer kernels then give the next write a time of its own,
    which has to be committed, too. That the name still means this file is known from the status of the
    folder.

    Args:
        segment: The file, which must be there.
    """

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.size = 0
        self.last = b""
        self._path = str(segment.path)
        self._folder = str(segment.path.parent)
        self._folder_seen: tuple[int, int, int] | None = None
        self._fd = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        mine = os.fstat(self._fd)
        self._identity = mine.st_dev, mine.st_ino
        # How far the file reaches, as far as this writer knows.
        self._reach = mine.st_size

    def is_up_to_date(self) -> bool:
        """Compare the file with memory; tell whether it is certain that nothing came behind it.

        Raises:
            BrokenRecordError: AG0221, when what this writer knows to be there is not there any more.
        """
        last = self.last
        there = os.pread(self._fd, len(last) + 1, self.size - len(last))
        if not there.startswith(last):
            short = len(there) < len(last)
            raise self._replaced("it is shorter than it was" if short else "its last entry is another one")
        return (
            there[len(last) :] == b"\x00"
            and os.lseek(self._fd, 0, os.SEEK_END) == self._reach
            and self._look_at_folder() == self._folder_seen
        )

    def check_place(self) -> None:
        """Check that the name in the folder still means this file.

        Raises:
            BrokenRecordError: AG0221, when it does not.
        """
        folder = self._look_at_folder()
        if folder == self._folder_seen:
            return
        try:
            there = os.lstat(self._path)
        except FileNotFoundError:
            raise self._replaced("the file is gone") from None
        if (there.st_dev, there.st_ino) != self._identity:
            raise self._replaced("the file is another one")
        # A folder that changes twice within a tick of the kernel's clock may show one time for both.
        settled = time.time_ns() - folder[2] > _FOLDER_SETTLES_NS
        self._folder_seen = folder if settled else None

    def read_new(self) -> bytes:
        """Return what stands behind memory, up to the file's end.

        Raises:
            BrokenRecordError: AG0221, when no writer can have written it.
        """
        self._reach = os.lseek(self._fd, 0, os.SEEK_END)
        wanted = self._reach - self.size
        if wanted > MAX_OWN_FILE_BYTES:
            raise self._replaced("it became far too large")
        out = b""
        while len(out) < wanted:
            part = os.pread(self._fd, wanted - len(out), self.size + len(out))
            if not part:
                raise self._replaced("it became shorter while it was read")
            out += part
        return out

    def remember(self, data: bytes) -> None:
        """Take complete records that stand right after memory into memory."""
        if data:
            self.size += len(data)
            self.last = data[data.rfind(b"\n", 0, -1) + 1 :]

    def write(self, data: bytes) -> None:
        """Append records and make them durable; memory does not change.

        Raises:
            OSError: When it could not be done; `take_back` then restores the file.
        """
        end = self.size + len(data)
        self._write_at(data, self.size)
        if end >= self._reach:
            self._reserve(end)
        os.fdatasync(self._fd)

    def take_back(self) -> None:
        """Cut the file to what memory holds, durably; only what was never acknowledged."""
        self.give_room_back()
        os.fsync(self._fd)

    def give_room_back(self) -> None:
        """Cut the file to what memory holds: every other writer looks for a newer segment from now on."""
        self._reach = self.size
        os.ftruncate(self._fd, self.size)

    def sync(self) -> None:
        """Make durable what others wrote here, too: one that was killed may not have come to it."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Give the descriptor back."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def _look_at_folder(self) -> tuple[int, int, int]:
        try:
            status = os.stat(self._folder)  # noqa: PTH116 - on each append: a Path's own is slow
        except FileNotFoundError:
            raise self._replaced("the folder is gone") from None
        # Not the time of its content, which anybody may set.
        return status.st_dev, status.st_ino, status.st_ctime_ns

    def _reserve(self, end: int) -> None:
        reach = (end // RESERVE_BYTES + 1) * RESERVE_BYTES
        try:
            self._write_at(bytes(reach - end), end)
            self._reach = reach
        except OSError as error:
            # Room is for speed only: where there is none for it, the records may still have found theirs.
            if error.errno not in _FULL:
                raise

    def _write_at(self, data: bytes, place: int) -> None:
        done = os.pwrite(self._fd, data, place)
        while done < len(data):
            done += os.pwrite(self._fd, data[done:], place + done)

    def _replaced(self, what: str) -> BrokenRecordError:
        return BrokenRecordError(
            f"the record was changed under its writer: {what}",
            id="AG0221",
            where=self._path,
            hint="agentgov verify",
        )
