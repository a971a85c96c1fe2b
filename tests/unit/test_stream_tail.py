"""The end of a record that is being written: what is torn, what is tampering, room, refusals and the end."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from agentgov.errors import AgentgovError, BrokenRecordError
from agentgov.layout import StateHome
from agentgov.ledger.entry import Draft
from agentgov.ledger.stream import Stream
from tests.support.ledger import (
    OTHER_RUN,
    RUN,
    heartbeat,
    init,
    open_stream,
    request,
    verify_all,
)


def wal_file(stream: Stream, repo: Path) -> Path:
    return sorted((repo / ".git" / "agentgov" / "wal").iterdir())[-1]


def rewrite(path: Path, data: bytes) -> None:
    """Change a file in place, as an editor with the same inode would."""
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(data)


def test_drafts_that_do_not_fit_are_refused_and_leave_nothing(tmp_path: Path, state: StateHome) -> None:
    with open_stream(init(tmp_path / "r"), state) as stream:
        log, signer = stream.log_signer(), stream.delegate(RUN)
        before = stream.head()
        for drafts, key in (
            ([request(1)], log),
            ([request(1, OTHER_RUN)], signer),
            ([Draft("key.lost", RUN, {"lost": 1})], signer),
            ([Draft("key.rotate", RUN, {"public_key": "a" * 64})], signer),
            ([Draft("log.genesis", None, {})], log),
            ([Draft("call.request", RUN, {})], signer),
            ([Draft("key.end", RUN, {}), request(1)], signer),
        ):
            with pytest.raises(AgentgovError) as error:
                stream.append(drafts, key)
            assert error.value.id == "AG0204"
        signatures = [{"keyid": "", "sig": "AAAA"}]
        huge = {"envelope": {"payload": "A" * 70_000, "payload_type": "x", "signatures": signatures}}
        with pytest.raises(AgentgovError) as error:
            stream.append([Draft("stream.endorse", None, huge)], log)
        assert error.value.id == "AG0201"
        assert stream.head() == before
        assert stream.append([], signer) == []
        stream.end_key(signer)
        with pytest.raises(AgentgovError):
            stream.append([request(1)], signer)


@pytest.mark.parametrize("how", ["shorter", "changed", "replaced", "removed", "folder"])
def test_a_live_writer_sees_that_its_record_was_changed_under_it(
    tmp_path: Path, state: StateHome, how: str
) -> None:
    repository = init(tmp_path / "r")
    with open_stream(repository, state) as stream:
        signer = stream.delegate(RUN)
        stream.append([request(1)], signer)
        path = wal_file(stream, tmp_path / "r")
        data = path.read_bytes().rstrip(b"\x00")
        if how == "shorter":
            rewrite(path, data[: data.rfind(b"\n", 0, -1) + 1])
        elif how == "changed":
            rewrite(path, data.replace(b'"tool":"Bash"', b'"tool":"Bush"'))
        elif how == "replaced":
            copy = path.with_name("copy")
            shutil.copyfile(path, copy)
            copy.replace(path)
        elif how == "removed":
            path.unlink()
        else:
            path.rename(path.with_name(f"{0:016d}.bak"))
        for _ in range(2):
            with pytest.raises(BrokenRecordError) as error:
                stream.append([request(2)], signer)
            assert error.value.id == "AG0221"


HOLE = b"\x00" * 4096


@pytest.mark.parametrize("place", ["written end", "file end"])
@pytest.mark.parametrize(
    "torn", [b"{", b'{"body":{},"k', b'{"bo' + HOLE + b'","v":1}\tAAAA\n{"bo', HOLE + b"}\n"]
)
def test_what_a_crash_left_behind_the_last_line_is_torn_and_kept(
    tmp_path: Path, state: StateHome, torn: bytes, place: str
) -> None:
    repository = init(tmp_path / "r")
    with open_stream(repository, state) as stream:
        stream.append([heartbeat()], stream.log_signer())
        path = wal_file(stream, tmp_path / "r")
        written = path.read_bytes()
        with path.open("r+b") as file:
            file.seek(len(written.rstrip(b"\x00")) if place == "written end" else len(written))
            file.write(torn + b"\x00" * 99_000)
        # Seen by a live writer at its next append; by a new one when it opens.
        stream.append([heartbeat()], stream.log_signer())
        entries = list(stream.entries())
    assert [s.entry.kind for s in entries[1:]] == ["log.heartbeat", "log.recovered", "log.heartbeat"]
    (kept,) = (repository.layout.root / "torn").iterdir()
    assert kept.read_bytes() == torn.strip(b"\x00")
    assert entries[2].entry.body["torn_bytes"] == kept.stat().st_size
    assert kept.name == f"{2:016d}-{entries[2].entry.body['sha256']}"
    verify_all(entries)


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b'{"a":1}\tAAAA\n'])
def test_a_complete_line_that_is_wrong_is_tampering_and_stays(
    tmp_path: Path, state: StateHome, line: bytes
) -> None:
    repository = init(tmp_path / "r")
    with open_stream(repository, state) as stream:
        path = wal_file(stream, tmp_path / "r")
        data = path.read_bytes().rstrip(b"\x00") + line
        rewrite(path, data)
        with pytest.raises(BrokenRecordError):
            stream.append([heartbeat()], stream.log_signer())
    with pytest.raises(BrokenRecordError):
        open_stream(repository, state)
    assert path.read_bytes() == data


def test_a_full_disk_leaves_nothing_of_the_batch(
    tmp_path: Path, state: StateHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = init(tmp_path / "r")
    with open_stream(repository, state) as stream:
        signer = stream.delegate(RUN)
        stream.append([request(1)], signer)
        path = wal_file(stream, tmp_path / "r")
        data, head = path.read_bytes().rstrip(b"\x00"), stream.head()
        real = os.pwrite

        def short(fd: int, piece: bytes, place: int) -> int:
            if len(piece) < 300:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(fd, bytes(piece)[: len(piece) // 2], place)

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", short)
            with pytest.raises(AgentgovError) as error:
                stream.append([request(2), request(3)], signer)
        assert error.value.id == "AG0226"
        assert path.read_bytes() == data
        assert stream.head() == head
        (signed,) = stream.append([request(2)], signer)
        assert signed.entry.seq == head.size


def test_where_there_is_room_for_the_entry_only_it_is_recorded(
    tmp_path: Path, state: StateHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = init(tmp_path / "r")
    with open_stream(repository, state) as stream, open_stream(repository, state) as other:
        stream.seal()
        path, real = wal_file(stream, tmp_path / "r"), os.pwrite

        def full(fd: int, piece: bytes, place: int) -> int:
            if place + len(piece) > 4_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(fd, piece, place)

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            for writer in (stream, other, stream):
                writer.append([heartbeat()], writer.log_signer())
        assert b"\x00" not in path.read_bytes()
        other.append([heartbeat()], other.log_signer())
        assert path.read_bytes().endswith(b"\x00")
        stream.append([heartbeat()], stream.log_signer())
        verify_all(list(stream.entries()), [1])


def test_a_segment_that_was_sealed_is_left_although_its_room_is_there_again(
    tmp_path: Path, state: StateHome
) -> None:
    """A closer was killed between cutting the room off and starting the next segment."""
    repository = init(tmp_path / "r")
    with open_stream(repository, state) as stream, open_stream(repository, state) as other:
        for writer in (stream, other, stream):
            writer.append([heartbeat()], writer.log_signer())
        path = wal_file(stream, tmp_path / "r")
        with path.open("r+b") as file:
            file.truncate(len(path.read_bytes().rstrip(b"\x00")))
        other.append([heartbeat()], other.log_signer())
        assert other.seal() is not None
        stream.append([heartbeat()], stream.log_signer())
        assert [entry.entry.seq for entry in stream.entries()] == list(range(6))


def test_nothing_is_appended_behind_the_end_of_a_record(tmp_path: Path, state: StateHome) -> None:
    end = Draft("log.end", None, {"next": None, "reason": "retired"})
    repository = init(tmp_path / "r")
    with open_stream(repository, state) as stream, open_stream(repository, state) as other:
        signer = other.delegate(RUN)
        with pytest.raises(AgentgovError) as error:
            stream.append([end, heartbeat()], stream.log_signer())
        assert error.value.id == "AG0204"
        stream.append([end], stream.log_signer())
        size = stream.head().size
        for refused in (
            lambda: stream.append([heartbeat()], stream.log_signer()),
            lambda: other.append([request(1)], signer),
            lambda: other.end_key(signer),
        ):
            with pytest.raises(AgentgovError) as error:
                refused()
            assert error.value.id == "AG0231"
        assert other.seal() is not None
        for _ in range(2):
            with pytest.raises(AgentgovError) as error:
                stream.append([heartbeat()], stream.log_signer())
            assert error.value.id == "AG0231"
    for torn in (b"", b"{torn"):
        with wal_file(stream, tmp_path / "r").open("ab") as file:
            file.write(torn)
        with open_stream(repository, state) as stream:
            assert stream.head().size == size
            with pytest.raises(AgentgovError) as error:
                stream.append([heartbeat()], stream.log_signer())
            assert error.value.id == "AG0231"
    assert [path.read_bytes() for path in (repository.layout.root / "torn").iterdir()] == [b"{torn"]


def test_a_rotation_that_was_not_recorded_did_not_happen(
    tmp_path: Path, state: StateHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_stream(init(tmp_path / "r"), state) as stream:
        signer = stream.delegate(RUN)
        stream.seal()

        def fail(_: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        before = signer.public_key
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            with pytest.raises(AgentgovError):
                stream.append([request(1)], signer)
        assert signer.public_key == before
        stream.append([request(1)], signer)
        assert signer.public_key != before
        verify_all(list(stream.entries()), [2])
