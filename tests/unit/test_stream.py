"""The stream in real repositories: append, seal, rotate, move, and what is refused."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from agentgov.clock import FixedClock, SystemClock
from agentgov.errors import AgentgovError, BrokenRecordError
from agentgov.git import Git, discover
from agentgov.layout import StateHome
from agentgov.ledger.entry import Draft
from agentgov.ledger.keys import KeyFolder
from agentgov.ledger.pins import pin_path, read_pin
from agentgov.ledger.reader import Reader
from agentgov.ledger.seal import SealStore, ledger_ref
from agentgov.ledger.stream import Stream
from agentgov.ledger.succession import begin_successor
from tests.support.ledger import (
    OTHER_RUN,
    RUN,
    GitRunner,
    MakeRepo,
    heartbeat,
    init,
    numbers,
    open_stream,
    request,
    result,
    slow_root,
    verify_all,
)


def wal_file(stream: Stream, repo: Path) -> Path:
    return sorted((repo / ".git" / "agentgov" / "wal").iterdir())[-1]


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_a_stream_is_begun_appended_to_sealed_and_read_back(
    tmp_path: Path, state: StateHome, object_format: str, clock: FixedClock
) -> None:
    repository = init(tmp_path / "r", object_format)
    assert not Stream.exists(repository)
    with open_stream(repository, state, clock) as stream:
        assert Stream.exists(repository)
        signer = stream.delegate(RUN)
        appended = stream.append([request(1), result(1)], signer)
        assert [s.entry.kind for s in appended] == ["call.request", "call.result"]
        assert stream.head().size == 4
        checkpoint = stream.seal()
        assert checkpoint is not None
        assert (checkpoint.size, stream.sealed_size) == (4, 4)
        assert stream.seal() is None
        (after,) = stream.append([request(2)], signer)
        assert (after.entry.seq, after.entry.key) == (5, 4)
        stream.end_key(signer)
        entries = list(stream.entries())
    assert [s.entry.kind for s in entries[4:]] == ["key.rotate", "call.request", "key.end"]
    assert verify_all(entries, [4]).live() == []
    assert checkpoint.root == slow_root([s.leaf() for s in entries[:4]])
    assert entries[0].entry.body["object_format"] == object_format
    assert Git(repository.git_dir).run("fsck", "--strict").ok


def test_a_seal_holds_only_its_own_entries_and_names_the_one_before(tmp_path: Path, state: StateHome) -> None:
    repository = init(tmp_path / "r")
    with open_stream(repository, state) as stream:
        for _ in range(3):
            stream.append([heartbeat(), heartbeat()], stream.log_signer())
            stream.seal()
        with Reader(repository, stream.stream_id) as reader:
            seals = list(reader.seals(reader.snapshot().seal))
            assert [(s.first(), s.count(), s.size()) for s in seals] == [(0, 3, 3), (3, 2, 5), (5, 2, 7)]
            assert [s.parent for s in seals] == [None, seals[0].commit, seals[1].commit]
            assert [s.entry.seq for s in reader.entries(4)] == [4, 5, 6]
        author = Git(repository.git_dir).text("log", "-1", "--format=%an <%ae> %cn", seals[-1].commit)
        assert author == "agentgov <agentgov@localhost> agentgov"
        assert [p.name for p in (repository.git_dir / "agentgov" / "wal").iterdir()] == [f"{7:016d}"]


def test_one_stream_is_shared_by_linked_worktrees_and_by_objects(
    make_repo: MakeRepo, git: GitRunner, state: StateHome, tmp_path: Path
) -> None:
    repo = make_repo()
    git(repo, "worktree", "add", "-q", str(tmp_path / "linked"))
    with (
        open_stream(discover(repo), state) as one,
        open_stream(discover(tmp_path / "linked"), state) as two,
    ):
        assert one.stream_id == two.stream_id
        first, second = one.delegate(RUN), two.delegate(OTHER_RUN)
        for n in range(1, 6):
            one.append([request(n)], first)
            two.append([request(n, OTHER_RUN)], second)
            if n % 2:
                two.seal()
        entries = list(one.entries())
        assert one.head() == two.head()
        assert (numbers(entries), numbers(entries, OTHER_RUN)) == ([1, 2, 3, 4, 5],) * 2
        verify_all(entries)
        assert [k.run for k in one.live_keys()] == [RUN, OTHER_RUN]
        assert [k.run for k in one.live_keys(RUN)] == [RUN]


def test_a_writer_that_slept_through_several_seals_goes_on(tmp_path: Path, state: StateHome) -> None:
    repository = init(tmp_path / "r")
    with open_stream(repository, state) as sleeper, open_stream(repository, state) as other:
        signer = sleeper.delegate(RUN)
        for _ in range(3):
            other.append([heartbeat()], other.log_signer())
            other.seal()
        (signed,) = sleeper.append([request(1)], signer)
        assert signed.entry.key == signed.entry.seq - 1
        assert sleeper.seal() is not None
        verify_all(list(sleeper.entries()), [3, 4, 5])


def test_a_lost_key_is_closed_by_the_log_key(tmp_path: Path, state: StateHome) -> None:
    with open_stream(init(tmp_path / "r"), state) as stream:
        signer = stream.delegate(RUN)
        stream.append([request(1)], signer)
        stream.seal()
        (lost,) = stream.live_keys(RUN)
        stream.append([Draft("key.lost", RUN, {"lost": lost.seq})], stream.log_signer())
        assert stream.live_keys() == []
        assert stream.seal() is not None
        # The writer was taken for dead and was not: it must not go on.
        with pytest.raises(AgentgovError) as error:
            stream.append([request(2)], signer)
        assert error.value.id == "AG0204"
        verify_all(list(stream.entries()), [3])


@pytest.mark.parametrize("sealed", [False, True])
def test_a_writer_declared_lost_by_another_process_must_stop(
    tmp_path: Path, state: StateHome, sealed: bool
) -> None:
    repository = init(tmp_path / "r")
    with open_stream(repository, state) as alive, open_stream(repository, state) as other:
        signer = alive.delegate(RUN)
        for _ in range(1 + sealed):
            other.append([heartbeat()], other.log_signer())
            other.seal()
        other.append([Draft("key.lost", RUN, {"lost": signer.key_seq})], other.log_signer())
        if sealed:
            other.seal()
            other.append([heartbeat()], other.log_signer())
            other.seal()
        with pytest.raises(AgentgovError) as error:
            alive.append([request(1)], signer)
        assert error.value.id == "AG0204"


def test_what_a_lost_key_signs_is_never_sealed(tmp_path: Path, state: StateHome) -> None:
    repository = init(tmp_path / "r")
    with open_stream(repository, state) as stream:
        signer = stream.delegate(RUN)
        stream.append([Draft("key.lost", RUN, {"lost": signer.key_seq})], stream.log_signer())
        stream.seal()
    with open_stream(repository, state) as stream:
        stream.append([request(1)], signer)
        with pytest.raises(BrokenRecordError) as error:
            stream.seal()
        assert error.value.id == "AG0227"


def test_a_deleted_or_rewound_seal_ref_is_seen(tmp_path: Path, state: StateHome) -> None:
    repository = init(tmp_path / "r")
    git = Git(repository.git_dir)
    with open_stream(repository, state) as stream:
        stream.append([heartbeat()], stream.log_signer())
        stream.seal()
        first = git.text("rev-parse", ledger_ref(stream.stream_id))
        stream.append([heartbeat()], stream.log_signer())
        stream.seal()
        git.run("update-ref", ledger_ref(stream.stream_id), first)
        stream.append([heartbeat()], stream.log_signer())
        with pytest.raises(BrokenRecordError) as error:
            stream.seal()
        assert error.value.id == "AG0221"
        git.run("update-ref", "-d", ledger_ref(stream.stream_id))
        with pytest.raises(BrokenRecordError):
            open_stream(repository, state)


def test_a_record_cut_behind_its_pin_is_seen(tmp_path: Path, state: StateHome) -> None:
    repository = init(tmp_path / "r")
    git = Git(repository.git_dir)
    with open_stream(repository, state) as stream:
        stream.append([heartbeat()], stream.log_signer())
        stream.seal()
        ref, stream_id = ledger_ref(stream.stream_id), stream.stream_id
        first = git.text("rev-parse", ref)
        stream.append([heartbeat(), heartbeat()], stream.log_signer())
        stream.seal()
    pin = read_pin(pin_path(state.pins, stream_id))
    assert pin is not None
    assert pin.size == 4
    git.run("update-ref", ref, first)
    wal = repository.layout.wal
    next(wal.iterdir()).rename(wal / f"{2:016d}")
    with pytest.raises(BrokenRecordError) as error:
        open_stream(repository, state)
    assert error.value.id == "AG0230"


def test_a_symbolic_seal_ref_is_neither_read_nor_followed(
    make_repo: MakeRepo, git: GitRunner, state: StateHome
) -> None:
    repo = make_repo()
    repository = discover(repo)
    with open_stream(repository, state) as stream:
        head = git(repo, "rev-parse", "main")
        git(repo, "symbolic-ref", ledger_ref(stream.stream_id), "refs/heads/main")
        stream.append([heartbeat()], stream.log_signer())
        with pytest.raises(BrokenRecordError):
            stream.seal()
        assert git(repo, "rev-parse", "main") == head


def test_a_wrong_signature_is_never_sealed(tmp_path: Path, state: StateHome) -> None:
    repository = init(tmp_path / "r")
    with open_stream(repository, state) as stream:
        stream.append([heartbeat()], stream.log_signer())
        path = wal_file(stream, tmp_path / "r")
    data = path.read_bytes()
    at = data.find(b"\t") + 5
    path.write_bytes(data[:at] + (b"A" if data[at : at + 1] != b"A" else b"B") + data[at + 1 :])
    with open_stream(repository, state) as stream, pytest.raises(BrokenRecordError) as error:
        stream.seal()
    assert error.value.id == "AG0211"


def test_a_copied_clone_begins_its_own_stream_that_continues_the_old_one(
    tmp_path: Path, state: StateHome
) -> None:
    with open_stream(init(tmp_path / "r"), state) as stream:
        stream.append([heartbeat()], stream.log_signer())
        stream.seal()
        stream.append([heartbeat()], stream.log_signer())
        head, origin, stream_id = stream.head(), stream.origin, stream.stream_id
    shutil.copytree(tmp_path / "r", tmp_path / "copy")
    copied = discover(tmp_path / "copy")
    with pytest.raises(AgentgovError) as error:
        open_stream(copied, state, create=False)
    assert error.value.id == "AG0224"
    with open_stream(copied, state) as moved:
        (first,) = moved.entries()
        assert first.entry.body["continues"] == {"leaf": head.leaf.hex(), "log": origin, "size": head.size}
        assert moved.origin != origin
        moved.seal()
    with open_stream(copied, state) as again:
        assert again.origin == moved.origin
    with Reader(copied, stream_id) as reader:
        assert len(list(reader.entries())) == 2
    assert (copied.layout.root / "earlier" / stream_id / f"{2:016d}").exists()
    with open_stream(discover(tmp_path / "r"), state) as original:
        assert (original.origin, original.head()) == (origin, head)


def test_another_machine_begins_its_own_stream(tmp_path: Path, state: StateHome) -> None:
    repository = init(tmp_path / "r")
    with open_stream(repository, state, machine="one") as one:
        pass
    with open_stream(repository, state, machine="two") as two:
        assert two.stream_id != one.stream_id


def test_a_removed_record_is_not_begun_anew_silently(tmp_path: Path, state: StateHome) -> None:
    repository = init(tmp_path / "r")
    with open_stream(repository, state):
        pass
    shutil.rmtree(repository.layout.root)
    with pytest.raises(BrokenRecordError) as error:
        open_stream(repository, state)
    assert error.value.id == "AG0222"
    assert error.value.hint[-1].endswith("agentgov ledger restart")
    begin_successor(repository, state, reason="restarted", clock=SystemClock(), random=os.urandom)
    with open_stream(repository, state) as stream:
        assert stream.head().size == 1


def test_a_record_swapped_for_another_is_refused(tmp_path: Path, state: StateHome) -> None:
    one, two = init(tmp_path / "one"), init(tmp_path / "two")
    for repository in (one, two):
        open_stream(repository, state).close()
    shutil.copyfile(two.layout.stream_file, one.layout.stream_file)
    with pytest.raises(BrokenRecordError) as error:
        open_stream(one, state)
    assert error.value.id == "AG0223"


def test_there_is_nothing_to_read_before_the_first_run(tmp_path: Path, state: StateHome) -> None:
    repository = init(tmp_path / "r")
    with pytest.raises(AgentgovError) as error:
        open_stream(repository, state, create=False)
    assert error.value.id == "AG0224"
    assert not repository.layout.root.exists()
    assert Reader.of_clone(repository) is None


def test_the_log_key_is_private_and_outside_the_repository(tmp_path: Path, state: StateHome) -> None:
    repository = init(tmp_path / "r")
    open_stream(repository, state, machine="m").close()
    keys = KeyFolder.of(state.keys, repository.common_dir, "m")
    assert keys.key_file.stat().st_mode & 0o777 == 0o600
    assert keys.path.stat().st_mode & 0o777 == 0o700
    seed = keys.key_file.read_bytes()
    for path in (tmp_path / "r").rglob("*"):
        assert not path.is_file() or seed not in path.read_bytes()
    for damage in ("open", "short", "gone"):
        if damage == "open":
            keys.key_file.chmod(0o644)
        elif damage == "short":
            keys.key_file.chmod(0o600)
            keys.key_file.write_bytes(seed[:-1])
        else:
            keys.key_file.unlink()
        with pytest.raises(AgentgovError) as error:
            open_stream(repository, state, machine="m")
        assert error.value.id == "AG0225"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_repository_is_a_clear_error(tmp_path: Path, state: StateHome) -> None:
    repository = init(tmp_path / "r")
    repository.git_dir.chmod(0o500)
    try:
        with pytest.raises(AgentgovError) as error:
            open_stream(repository, state)
    finally:
        repository.git_dir.chmod(0o700)
    assert error.value.id == "AG0226"


def test_a_commit_that_is_no_seal_is_refused(make_repo: MakeRepo, git: GitRunner, state: StateHome) -> None:
    repo = make_repo()
    repository = discover(repo)
    with open_stream(repository, state) as stream:
        store = SealStore(Git(repository.git_dir), stream.stream_id, "sha1")
        with pytest.raises(BrokenRecordError) as error:
            store.read(git(repo, "rev-parse", "HEAD"))
        store.close()
    assert error.value.id == "AG0228"


@pytest.mark.parametrize("age_seconds", [3600, -3600])
def test_a_lock_that_a_killed_git_left_on_the_ref_does_not_stop_the_record(
    tmp_path: Path, state: StateHome, age_seconds: int
) -> None:
    repository = init(tmp_path / "r")
    with open_stream(repository, state) as stream:
        lock = repository.git_dir / f"{ledger_ref(stream.stream_id)}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
        moment = lock.stat().st_mtime - age_seconds
        os.utime(lock, (moment, moment))
        checkpoint = stream.seal()
        assert checkpoint is not None
        assert not lock.exists()
        assert stream.sealed_size == checkpoint.size


def test_a_lock_that_somebody_still_holds_is_waited_for_and_not_taken(
    tmp_path: Path, state: StateHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = init(tmp_path / "r")
    waits: list[float] = []
    with open_stream(repository, state) as stream:
        lock = repository.git_dir / f"{ledger_ref(stream.stream_id)}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()

        class Clock:
            """The module's own clock: other modules sleep as they like."""

            time = staticmethod(time.time)

            @staticmethod
            def sleep(seconds: float) -> None:
                waits.append(seconds)
                if len(waits) == 3:
                    lock.rename(lock.with_suffix(".gone"))

        monkeypatch.setattr("agentgov.ledger.seal.time", Clock)
        assert stream.seal() is not None
    assert len(waits) == 3
