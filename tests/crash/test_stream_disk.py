"""Disks as they are: full, read-only, limited. What was acknowledged is there, and the rest never counted."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from agentgov.errors import AgentgovError
from agentgov.git import Repository, discover
from agentgov.layout import StateHome
from agentgov.ledger.entry import SignedEntry
from agentgov.ledger.reader import Reader
from agentgov.ledger.stream import Stream
from tests.support.faults import in_child
from tests.support.ledger import RUN, heartbeat, init, open_stream, request, verify_all

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.crash import test_stream_disk
getattr(test_stream_disk, sys.argv[2])(*map(Path, sys.argv[3:]))
"""


def mounted(options: str, work: str, *paths: Path) -> None:
    """Run one of the functions here with something mounted on the first path, in a namespace of its own."""
    shell = f'mount {options} "$1" && shift && exec "$@"'
    child = [sys.executable, "-c", CHILD, str(ROOT), work, *map(str, paths)]
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", shell, "-", str(paths[0])]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    done = subprocess.run([*command, *child], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def append_until_refused(stream: Stream, most: int = 5000) -> tuple[list[SignedEntry], AgentgovError]:
    """Append until the disk refuses; seal now and then, as far as that goes."""
    acknowledged: list[SignedEntry] = []
    signer = stream.delegate(RUN)
    for n in range(1, most):
        try:
            acknowledged += stream.append([request(n)], signer)
            if n % 40 == 0:
                stream.seal()
        except AgentgovError as error:
            return acknowledged, error
    raise AssertionError("the disk took everything")


def check(repository: Repository, state: StateHome, acknowledged: list[SignedEntry]) -> None:
    with open_stream(repository, state) as stream:
        stream.append([heartbeat()], stream.log_signer())
        stream.seal()
        entries = list(stream.entries())
    verify_all(entries)
    assert {s.line for s in acknowledged} <= {s.line for s in entries}


def fill_a_small_disk(repo: Path, state_folder: Path) -> None:
    """In the namespace: `repo` is a disk of 2 MB."""
    state = StateHome(state_folder)
    repository = init(repo)
    ballast = repo / "ballast"
    ballast.write_bytes(os.urandom(1_000_000))
    with open_stream(repository, state) as stream:
        acknowledged, error = append_until_refused(stream)
        assert error.id in ("AG0226", "AG0008"), error
        assert len(acknowledged) > 10
        with Reader(repository, stream.stream_id) as reader:
            verify_all(list(reader.entries()))
        # Fuller still: not a byte is left.
        with pytest.raises(OSError), (repo / "rest").open("wb", buffering=0) as rest:  # noqa: PT011, PT012
            while True:
                rest.write(b"x" * 100)
        for _ in range(70):
            try:
                acknowledged += stream.append([heartbeat()], stream.log_signer())
            except AgentgovError as again:
                assert again.id == "AG0226"  # noqa: PT017 - some still find room in what is there
        for path in (ballast, repo / "rest"):
            path.unlink()
        acknowledged += stream.append([heartbeat()], stream.log_signer())
        assert stream.seal() is not None
    check(repository, state, acknowledged)


def be_refused_by_a_read_only_folder(git_folder: Path, state_folder: Path) -> None:
    """In the namespace: `.git` is read-only."""
    repository, state = discover(git_folder.parent), StateHome(state_folder)
    with pytest.raises(AgentgovError) as error:
        open_stream(repository, state)
    assert error.value.id == "AG0226"
    assert "Read-only file system" in error.value.message
    reader = Reader.of_clone(repository)
    assert reader is not None
    with reader:
        assert len(list(reader.entries())) == 3


def test_a_full_disk_is_told_and_loses_nothing_acknowledged(tmp_path: Path, state: StateHome) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted("-t tmpfs -o size=2m none", "fill_a_small_disk", small, state.root)


def test_a_read_only_repository_is_read_and_not_written(tmp_path: Path, state: StateHome) -> None:
    repository = init(tmp_path / "r")
    with open_stream(repository, state) as stream:
        stream.append([heartbeat()], stream.log_signer())
        stream.seal()
        stream.append([heartbeat()], stream.log_signer())
    folder = repository.git_dir
    mounted(f'--bind -o ro "{folder}"', "be_refused_by_a_read_only_folder", folder, state.root)


@pytest.mark.parametrize("more", [0, 700, 5_000, 70_000])
def test_a_limit_on_the_size_of_files_loses_nothing_acknowledged(
    tmp_path: Path, state: StateHome, more: int
) -> None:
    repository = init(tmp_path / "r")

    def work() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        with open_stream(repository, state) as stream:
            size = max(path.stat().st_size for path in repository.layout.wal.iterdir())
            acknowledged: list[SignedEntry] = []
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + more, hard))
            with pytest.raises(AgentgovError) as error:  # noqa: PT012
                for _ in range(1000):
                    acknowledged += stream.append([heartbeat()], stream.log_signer())
            assert error.value.id == "AG0226"
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert (len(acknowledged) > 0) == (more > 0)
            acknowledged += stream.append([heartbeat()], stream.log_signer())
        check(repository, state, acknowledged)

    assert in_child(work) == 0
