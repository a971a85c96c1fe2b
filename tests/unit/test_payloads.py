"""The payload store: what goes in comes out redacted and checked, whatever happened in between."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentgov.clock import Random
from agentgov.errors import BrokenRecordError, UsageError
from agentgov.files import fsync_dir
from agentgov.git import Git, discover
from agentgov.ids import RunId
from agentgov.layout import Layout
from agentgov.ledger import payload_fold, payload_records
from agentgov.ledger.payloads import PayloadStore, commitment
from agentgov.ledger.redaction import Redactor
from tests.conftest import GitRunner, MakeRepo

RUN = RunId("7kq2f")
OTHER = RunId("5bd0a")


@pytest.fixture
def layout(make_repo: MakeRepo) -> Layout:
    layout = discover(make_repo()).layout
    layout.create()
    return layout


def _store(layout: Layout, random: Random = os.urandom, redactor: Redactor | None = None) -> PayloadStore:
    return PayloadStore(layout, layout.store, "sha1", redactor or Redactor(), random)


def test_the_commitment_is_the_documented_hash() -> None:
    salt, value = bytes(range(32)), b"value"
    expected = hashlib.sha256(
        b"agentgov/commit/v1\x00" + salt + b"\x00\x04" + b"args" + (5).to_bytes(8, "big") + value
    ).hexdigest()
    assert commitment(salt, "args", value) == expected


def test_a_payload_is_readable_before_and_after_sync_and_fold_and_in_another_process(layout: Layout) -> None:
    store = _store(layout)
    digest = store.put(RUN, "args", "args", b'{"command": "ls"}')
    for step in ("nothing", "sync", "fold"):
        if step == "sync":
            store.sync()
        elif step == "fold":
            store.fold(RUN)
        found = store.get(RUN, digest)
        assert found is not None
        assert (found.value, found.cls, found.field) == (b'{"command": "ls"}', "args", "args")
    assert _store(layout).get(RUN, digest) == found
    assert _store(layout).get(OTHER, digest) is None


def test_equal_values_have_different_commitments(layout: Layout) -> None:
    store = _store(layout)
    assert store.put(RUN, "output", "output", b"x") != store.put(RUN, "output", "output", b"x")


def test_secrets_are_redacted_before_the_commitment_is_made(layout: Layout) -> None:
    secret = b"tr0ub4dor-and-3"
    store = _store(layout, redactor=Redactor({"DB_PASSWORD": secret.decode()}))
    digest = store.put(RUN, "output", "output", b"it is " + secret)
    store.sync()
    found = store.get(RUN, digest)
    assert found is not None
    assert found.value == b"it is [REDACTED:env:#1]"
    assert all(secret not in path.read_bytes() for path in layout.payloads.rglob("*") if path.is_file())


def test_a_store_without_the_payload_says_none(layout: Layout) -> None:
    store = _store(layout)
    assert store.get(RUN, "0" * 64) is None
    with pytest.raises(UsageError) as caught:
        store.get(RUN, "nonsense")
    assert caught.value.id == "AG0262"


def test_a_field_outside_its_class_is_refused(layout: Layout) -> None:
    with pytest.raises(UsageError) as caught:
        _store(layout).put(RUN, "changes", "output", b"")
    assert caught.value.id == "AG0261"


def _loose(layout: Layout) -> list[Path]:
    return sorted((layout.payloads / RUN).glob(f"*{payload_records.SUFFIX}"))


def test_a_torn_last_line_is_passed_over(layout: Layout) -> None:
    store = _store(layout)
    whole = store.put(RUN, "output", "output", b"whole")
    store.sync()
    torn = store.put(RUN, "output", "output", b"torn" * 100)
    store.close()
    path = _loose(layout)[0]
    path.write_bytes(path.read_bytes()[:-30])
    for _ in range(2):
        again = _store(layout)
        assert again.get(RUN, whole) is not None
        assert again.get(RUN, torn) is None
        again.fold(RUN)


def test_an_altered_payload_is_broken_evidence_loose_and_folded(layout: Layout) -> None:
    store = _store(layout)
    digest = store.put(RUN, "output", "output", b"original value")
    store.close()
    path = _loose(layout)[0]
    data = path.read_bytes()
    path.write_bytes(data[:-8] + (b"AAAA" if data[-8:-4] != b"AAAA" else b"BBBB") + data[-4:])
    store = _store(layout)
    with pytest.raises(BrokenRecordError) as caught:
        store.get(RUN, digest)
    assert caught.value.id == "AG0260"
    store.fold(RUN)
    with pytest.raises(BrokenRecordError):
        store.get(RUN, digest)


def test_folding_keeps_one_chain_of_commits_per_class_and_removes_the_files(
    layout: Layout, git: GitRunner
) -> None:
    store = _store(layout)
    digests = []
    for number in range(3):
        digests.append(store.put(RUN, "output", "output", b"out%d" % number))
        digests.append(store.put(RUN, "changes", "changes", b"{}"))
        store.fold(RUN)
    assert _loose(layout) == []
    refs = git(layout.store, "for-each-ref", "--format=%(refname)").splitlines()
    assert refs == [f"refs/agentgov/payloads/{RUN}/changes", f"refs/agentgov/payloads/{RUN}/output"]
    for ref in refs:
        assert git(layout.store, "rev-list", "--count", ref) == "3"
        assert git(layout.store, "ls-tree", "-r", "--name-only", ref) == "payloads"
    git(layout.store, "fsck", "--strict")
    assert all(_store(layout).get(RUN, digest) for digest in digests)
    store.fold(RUN)
    assert git(layout.store, "rev-list", "--count", refs[0]) == "3"


def test_a_file_that_another_process_writes_to_is_not_folded(layout: Layout) -> None:
    writer, other = _store(layout), _store(layout)
    digest = writer.put(RUN, "output", "output", b"one")
    writer.sync()
    other.fold(RUN)
    assert len(_loose(layout)) == 1
    later = writer.put(RUN, "output", "output", b"two")
    writer.close()
    other.fold(RUN)
    assert _loose(layout) == []
    assert other.get(RUN, digest)
    assert other.get(RUN, later)


def test_a_reader_finds_what_was_folded_behind_its_back(layout: Layout) -> None:
    writer, reader = _store(layout), _store(layout)
    digest = writer.put(RUN, "output", "output", b"one")
    writer.sync()
    assert reader.get(RUN, digest)
    writer.fold(RUN)
    assert reader.get(RUN, digest)


def test_a_crash_at_any_step_of_a_fold_loses_nothing_and_adds_nothing_twice(
    layout: Layout,
    git: GitRunner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class CrashError(Exception):
        pass

    folds = 0
    for steps in range(1, 30):
        store = _store(layout)
        digests = [store.put(RUN, cls, cls, b"v%d" % steps) for cls in ("output", "changes")]
        left = steps

        def step(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    raise CrashError
                return original(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(Git, "run", step(Git.run))
            patch.setattr(Path, "unlink", step(Path.unlink))
            patch.setattr(payload_fold, "fsync_dir", step(fsync_dir))
            try:
                store.fold(RUN)
                crashed = False
            except CrashError:
                crashed = True
        store.close()
        again = _store(layout)
        assert all(again.get(RUN, digest) for digest in digests)
        again.fold(RUN)
        folds += 1
        assert all(again.get(RUN, digest) for digest in digests)
        assert _loose(layout) == []
        assert git(layout.store, "rev-list", "--count", f"refs/agentgov/payloads/{RUN}/output") == str(folds)
        again.close()
        if not crashed:
            break
    assert not crashed
    assert folds > 8


def test_a_full_disk_keeps_what_waits_and_leaves_no_half_line(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _store(layout)
    first = store.put(RUN, "output", "output", b"first")
    store.sync()
    second = store.put(RUN, "output", "output", b"second")
    real_write = os.write

    def write(fd: int, data: bytes) -> int:
        real_write(fd, data[:20])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(OSError, match="No space"):
            store.sync()
    store.close()
    assert _store(layout).get(RUN, first)
    assert _store(layout).get(RUN, second)


def test_any_bytes_survive(layout: Layout, rng: Random) -> None:
    store = _store(layout, random=rng)
    values = [b"", b"\n\t\x00", bytes(range(256)), b"x" * 200_000]
    digests = [store.put(RUN, "patch", "patch", value) for value in values]
    store.fold(RUN)
    found = [store.get(RUN, digest) for digest in digests]
    assert [payload.value for payload in found if payload] == values


def test_sha256_repositories_work(tmp_path: Path, git: GitRunner) -> None:
    git(tmp_path, "init", "-q", "--object-format=sha256", "r")
    layout = Layout(tmp_path / "r" / ".git")
    layout.create()
    store = PayloadStore(layout, layout.store, "sha256", Redactor(), os.urandom)
    digest = store.put(RUN, "patch", "patch", b"x")
    store.fold(RUN)
    assert store.get(RUN, digest)


def test_more_runs_than_are_remembered_at_once_are_all_found(layout: Layout) -> None:
    store = _store(layout)
    runs = [RunId(f"a{number:04d}") for number in range(40)]
    digests = [store.put(run, "output", "output", run.encode()) for run in runs]
    store.sync()
    for run in runs[::2]:
        store.fold(run)
    reader = _store(layout)
    for _ in range(2):
        for run, digest in zip(runs, digests, strict=True):
            for one in (store, reader):
                found = one.get(run, digest)
                assert found is not None
                assert found.value == run.encode()
