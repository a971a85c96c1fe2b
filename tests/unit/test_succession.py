"""A record ends and another one continues it: by rotation, after damage, in a copied clone, over crashes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentgov.clock import FixedClock, Random
from agentgov.errors import AgentgovError, BrokenRecordError, ExitCode
from agentgov.git import Repository, discover
from agentgov.layout import StateHome
from agentgov.ledger import succession
from agentgov.ledger.keys import read_stream_id
from agentgov.ledger.reader import Reader, read_continued
from agentgov.ledger.stream import Stream
from agentgov.ledger.succession import Succession, begin_successor, is_pending
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_report import Report
from agentgov.ledger.verify_source import RepositorySource, earlier_leaf, local_trust
from tests.support.ledger import heartbeat, init, open_stream

Begin = Callable[..., Succession]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return init(tmp_path / "repo")


@pytest.fixture
def begin(repository: Repository, state: StateHome, clock: FixedClock, rng: Random) -> Begin:
    def call(reason: Any = "restarted", where: Repository = repository) -> Succession:
        return begin_successor(where, state, reason=reason, clock=clock, random=rng)

    return call


def record(repository: Repository, state: StateHome, *, sealed: int = 2, unsealed: int = 1) -> str:
    with open_stream(repository, state) as stream:
        for _ in range(sealed):
            stream.append([heartbeat()], stream.log_signer())
        if sealed:
            stream.seal()
        for _ in range(unsealed):
            stream.append([heartbeat()], stream.log_signer())
        return stream.stream_id


def entries(repository: Repository, stream_id: str) -> list[Any]:
    with Reader(repository, stream_id) as reader:
        return [signed.entry for signed in reader.entries()]


def verify(repository: Repository, state: StateHome, stream_id: str | None = None) -> Report:
    trust = local_trust(repository, state)
    source = RepositorySource(repository, stream_id=stream_id)
    if stream_id is not None:
        return verify_ledger(source, trust=type(trust)())
    return verify_ledger(source, trust=trust, earlier=lambda log, size: earlier_leaf(repository, log, size))


def segments(repository: Repository) -> list[Path]:
    return sorted(repository.layout.wal.iterdir())


def test_a_rotated_record_ends_with_its_successors_key_and_the_successor_continues_it(
    repository: Repository, state: StateHome, begin: Begin
) -> None:
    old = record(repository, state)
    done = begin("rotated")
    assert (done.old, done.ended, done.hindrance) == (old, True, None)
    *_, last = entries(repository, old)
    assert last.kind == "log.end"
    assert last.body == {
        "next": {"log": f"agentgov/{done.new}", "public_key": done.public_key.hex()},
        "reason": "rotated",
    }
    (genesis,) = entries(repository, done.new)
    assert genesis.body["public_key"] == done.public_key.hex()
    assert genesis.body["continues"]["log"] == f"agentgov/{old}"
    assert genesis.body["continues"]["size"] == last.seq + 1 == done.size
    with open_stream(repository, state, create=False) as stream:
        assert (stream.stream_id, stream.public_key) == (done.new, done.public_key)
        stream.append([heartbeat()], stream.log_signer())
    assert verify(repository, state).exit_code is ExitCode.OK
    # Nobody but the trust file vouches for the old one now; it is whole all the same.
    assert verify(repository, state, old).broken_at is None


def test_the_key_of_a_record_that_ended_is_gone_and_no_plan_is_left(
    repository: Repository, state: StateHome, begin: Begin
) -> None:
    record(repository, state)
    (folder,) = [path for path in state.keys.iterdir() if path.is_dir()]
    seed = (folder / "log.key").read_bytes()
    begin("rotated")
    assert not any(seed in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert not (folder / "successor").exists()
    assert (folder / "log.key").stat().st_mode & 0o777 == 0o600


def test_a_record_can_be_succeeded_many_times(repository: Repository, state: StateHome, begin: Begin) -> None:
    first = record(repository, state)
    chain = [begin("rotated") for _ in range(3)]
    assert [done.old for done in chain] == [first, chain[0].new, chain[1].new]
    assert all(done.ended for done in chain)
    assert verify(repository, state).exit_code is ExitCode.OK


def test_an_ended_record_refuses_what_a_writer_of_it_still_has_to_say(
    repository: Repository, state: StateHome, begin: Begin
) -> None:
    record(repository, state)
    with open_stream(repository, state) as stale:
        begin("rotated")
        with pytest.raises(AgentgovError):
            stale.append([heartbeat()], stale.log_signer())


def test_a_line_that_does_not_hold_is_set_aside_and_what_precedes_it_is_continued(
    repository: Repository, state: StateHome, begin: Begin
) -> None:
    old = record(repository, state, sealed=2, unsealed=2)
    newest = segments(repository)[-1]
    with newest.open("r+b") as file:
        file.seek(len(newest.read_bytes().rstrip(b"\0")))
        file.write(b"garbage\tAAAA\n")
    kept = newest.read_bytes()
    with pytest.raises(BrokenRecordError):
        open_stream(repository, state)
    done = begin()
    assert (done.old, done.size, done.ended) == (old, 5, False)
    assert isinstance(done.hindrance, BrokenRecordError)
    aside = repository.layout.root / "earlier" / old / newest.name
    assert aside.read_bytes() == kept
    assert verify(repository, state).exit_code is ExitCode.OK


def test_the_key_of_a_record_that_could_not_be_ended_is_kept_aside(
    repository: Repository, state: StateHome, begin: Begin
) -> None:
    old = record(repository, state)
    segments(repository)[-1].unlink()
    (folder,) = [path for path in state.keys.iterdir() if path.is_dir()]
    seed = (folder / "log.key").read_bytes()
    done = begin()
    assert (done.ended, done.size) == (False, 3)
    assert (folder / "earlier" / f"{old}.key").read_bytes() == seed
    assert (folder / "log.key").read_bytes() != seed


def test_rotation_refuses_a_damaged_record_and_changes_nothing(
    repository: Repository, state: StateHome, begin: Begin
) -> None:
    old = record(repository, state)
    newest = segments(repository)[-1]
    newest.unlink()
    with pytest.raises(BrokenRecordError):
        begin("rotated")
    assert read_stream_id(repository.layout.stream_file) == old
    assert not (repository.layout.root / "earlier").exists()


def test_a_removed_record_can_be_succeeded(repository: Repository, state: StateHome, begin: Begin) -> None:
    old = record(repository, state)
    shutil.rmtree(repository.layout.root)
    with pytest.raises(BrokenRecordError):
        open_stream(repository, state)
    done = begin()
    # Its seals are in git still: what they hold is continued.
    assert (done.old, done.size, done.ended) == (old, 3, False)
    assert verify(repository, state).exit_code is ExitCode.OK


def test_a_record_whose_seals_are_gone_is_succeeded_without_a_claim_to_continue_it(
    repository: Repository, state: StateHome, begin: Begin
) -> None:
    record(repository, state)
    for path in repository.objects_dir.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            path.unlink()
    done = begin()
    assert (done.size, done.ended) == (0, False)
    assert entries(repository, done.new)[0].body["continues"] is None


def test_a_file_that_names_no_record_is_no_hindrance(
    repository: Repository, state: StateHome, begin: Begin
) -> None:
    old = record(repository, state)
    repository.layout.stream_file.write_bytes(b"nonsense")
    done = begin()
    assert (done.old, done.size) == (old, 4)
    assert read_stream_id(repository.layout.stream_file) == done.new


def test_a_copied_clone_begins_its_own_and_leaves_the_original_alone(
    repository: Repository, state: StateHome, begin: Begin, tmp_path: Path
) -> None:
    old = record(repository, state)
    copy = tmp_path / "copy"
    shutil.copytree(repository.common_dir.parent, copy, symlinks=True)
    there = discover(copy)
    done = begin(where=there)
    assert (done.old, done.size, done.ended, done.hindrance) == (old, 4, False, None)
    assert verify(there, state).exit_code is ExitCode.OK
    with open_stream(repository, state) as stream:
        assert stream.stream_id == old
        stream.append([heartbeat()], stream.log_signer())


def test_nothing_is_begun_where_nothing_was_recorded(repository: Repository, begin: Begin) -> None:
    with pytest.raises(AgentgovError) as error:
        begin()
    assert error.value.id == "AG0460"


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xff", b"{}\n", b'{"v":1}\n', b"[" * 5000],
    ids=["empty", "not-ascii", "no-fields", "one-field", "deep"],
)
def test_a_plan_that_cannot_be_read_is_an_error_and_never_no_plan(
    repository: Repository, state: StateHome, begin: Begin, raw: bytes
) -> None:
    record(repository, state)
    (folder,) = [path for path in state.keys.iterdir() if path.is_dir()]
    (folder / "successor").write_bytes(raw)
    with pytest.raises(AgentgovError) as error:
        begin()
    assert error.value.id == "AG0461"


class Crash(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("reason", ["rotated", "restarted"])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_crash_at_any_step_ends_in_the_old_or_the_new_record(
    reason: Any, damaged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if damaged and reason == "rotated":
        pytest.skip("a damaged record is not rotated")
    steps = 0
    for fatal in range(1, 200):
        repository = init(tmp_path / f"r{fatal}")
        state = StateHome(tmp_path / f"s{fatal}")
        old = record(repository, state)
        if damaged:
            segments(repository)[-1].write_bytes(b"garbage\n")
        steps, finished = 0, False

        def after(original: Callable[..., Any], fatal: int = fatal) -> Callable[..., Any]:
            def call(*args: Any, **more: Any) -> Any:
                nonlocal steps
                steps += 1
                if steps == fatal:
                    raise Crash
                return original(*args, **more)

            return call

        with monkeypatch.context() as patch:
            for name in ("write_atomic", "fsync_dir", "open_private_dir"):
                patch.setattr(succession, name, after(getattr(succession, name)))
            for name in ("rename", "unlink"):
                patch.setattr(Path, name, after(getattr(Path, name)))
            try:
                begin_successor(repository, state, reason=reason, clock=FixedClock(10**15), random=os.urandom)
                finished = True
            except Crash:
                pass
        # Whoever comes next finishes what was begun, or begins again.
        pending = is_pending(repository, state)
        try:
            with open_stream(repository, state, create=False) as stream:
                now = stream.stream_id
                if not stream.has_ended:
                    stream.append([heartbeat()], stream.log_signer())
        except BrokenRecordError:
            assert damaged
            now = old
        if now == old:
            assert pending or fatal == 1 or not finished
            begin_successor(repository, state, reason=reason, clock=FixedClock(10**15), random=os.urandom)
        report = verify(repository, state)
        assert report.exit_code is ExitCode.OK, (fatal, report.findings)
        assert report.head is not None
        assert report.head.log != f"agentgov/{old}"
        assert not is_pending(repository, state)
        (first, *_) = entries(repository, report.head.log.removeprefix("agentgov/"))
        assert first.body["continues"]["log"] == f"agentgov/{old}"
        if damaged:
            assert (repository.layout.root / "earlier" / old).is_dir()
        else:
            assert sum(entry.kind == "log.end" for entry in entries(repository, old)) == 1
        if finished:
            break
    assert fatal > 10, steps


def test_a_stream_that_is_opened_after_a_crash_goes_on_with_the_new_record(
    repository: Repository, state: StateHome, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = record(repository, state)
    with monkeypatch.context() as patch:
        patch.setattr(succession, "_switch", lambda *_: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            begin()
    with Stream.open(repository, state, clock=FixedClock(10**15), random=os.urandom, create=False) as stream:
        assert stream.stream_id != old


def test_what_was_not_saved_in_the_old_record_is_still_read_up_to_the_first_broken_line(
    repository: Repository, state: StateHome, begin: Begin
) -> None:
    record(repository, state, sealed=2, unsealed=2)
    newest = segments(repository)[-1]
    newest.write_bytes(newest.read_bytes().rstrip(b"\0") + b"garbage\tAAAA\n")
    done = begin()
    read = [(signed.entry.log, signed.entry.seq) for signed in read_continued(repository)]
    assert read == [(f"agentgov/{done.old}", seq) for seq in range(5)] + [(f"agentgov/{done.new}", 0)]


def test_a_record_in_a_sha256_repository_is_succeeded(tmp_path: Path, state: StateHome, begin: Begin) -> None:
    there = init(tmp_path / "sha256", "sha256")
    record(there, state)
    done = begin("rotated", where=there)
    assert done.ended
    assert verify(there, state).exit_code is ExitCode.OK
