"""The files around a proof: what stands in the place of keys, and in the place where a proof is written."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from agentgov.cli import prove, witness
from agentgov.cli.verify_file import verify_proof_file
from agentgov.errors import AgentgovError, ExitCode
from agentgov.git import SECRETS, Git, clean_environment
from agentgov.harness.startup import agent_env
from agentgov.ids import RunId
from tests.tamper.test_proof_thief import STANDS, TRUSTED, Record


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    path = tmp_path / "call.tlog-proof"
    path.write_bytes(Record(STANDS).prove(3))
    return path


def check(proof: Path, keys: Path) -> ExitCode | str:
    try:
        return verify_proof_file(proof, keys, as_json=True, explain=False)
    except AgentgovError as error:
        return error.id


def folder(tmp_path: Path) -> Path:
    path = tmp_path / "agentgov"
    path.mkdir()
    (path / "allowed_signers").write_text(TRUSTED)
    return path


PLACES: dict[str, Callable[[Path], object]] = {
    "link to nowhere": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "fifo": os.mkfifo,
    "folder": Path.mkdir,
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "empty file": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("what", PLACES)
def test_a_file_of_revoked_keys_that_cannot_be_read_is_not_taken_for_none(
    proof: Path, tmp_path: Path, what: str
) -> None:
    keys = folder(tmp_path)
    assert check(proof, keys) is ExitCode.OK
    PLACES[what](keys / "revoked")
    assert check(proof, keys) == ("AG0421" if what == "empty file" else "AG0316")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TRUSTED, ExitCode.OK),
        (TRUSTED.replace("\n", "\r\n"), ExitCode.OK),
        ("", "AG0411"),
        ("# nobody\n", "AG0411"),
        ("\ufeff" + TRUSTED, "AG0411"),
        (TRUSTED.replace("\n", "\r") * 2, "AG0411"),
        (TRUSTED.replace("alice", "alice\u200b"), "AG0411"),
        (TRUSTED.replace("alice ", "alice\u00a0"), "AG0411"),
        (TRUSTED + "quorum ci\n", "AG0402"),
        (TRUSTED + "quorum\n", "AG0411"),
        (TRUSTED + "-----BEGIN CERTIFICATE-----\nquorum none\n", "AG0464"),
        (TRUSTED.replace("alice", "*"), ExitCode.UNTRUSTED),
    ],
)
def test_a_file_of_keys_says_exactly_whom_it_names(
    proof: Path, tmp_path: Path, text: str, expected: ExitCode | str
) -> None:
    keys = tmp_path / "keys"
    keys.write_bytes(text.encode())
    assert check(proof, keys) == expected


def test_files_of_any_size_are_read_in_bounded_time_and_memory(proof: Path, tmp_path: Path) -> None:
    keys, huge = tmp_path / "keys", tmp_path / "huge"
    keys.write_text(TRUSTED)
    with huge.open("wb") as file:
        file.truncate(10 * 2**30)
    assert check(proof, huge) == "AG0411"
    assert check(huge, keys) is ExitCode.BROKEN


@pytest.mark.parametrize("what", PLACES)
def test_a_proof_is_written_over_nothing_and_through_nothing(tmp_path: Path, what: str) -> None:
    place = tmp_path / "out"
    PLACES[what](place)
    before = os.lstat(place)
    with pytest.raises(AgentgovError) as error:
        prove._write(place, b"proof\n")
    assert error.value.id == "AG0318"
    assert os.lstat(place) == before
    assert not (tmp_path / "nowhere").exists()


def test_a_disk_that_is_full_leaves_no_file(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            prove._write(tmp_path / "out", b"x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []


def test_an_agent_does_not_see_the_key_of_a_witness(tmp_path: Path) -> None:
    env = {witness.KEY_VARIABLE: "PRIVATE+KEY+ci+00000000+BA==", "HOME": "/home/x"}
    for is_clone in (True, False):
        seen = agent_env(RunId("7kq2f"), env, tmp_path, is_clone=is_clone, changes=[])
        assert witness.KEY_VARIABLE not in seen
        assert seen["HOME"] == "/home/x"


def test_no_program_that_is_started_here_gets_the_key_of_a_witness(monkeypatch: pytest.MonkeyPatch) -> None:
    assert witness.KEY_VARIABLE in SECRETS
    monkeypatch.setenv(witness.KEY_VARIABLE, "PRIVATE+KEY+ci+00000000+BA==")
    assert witness.KEY_VARIABLE not in clean_environment()
    assert witness.KEY_VARIABLE not in Git(None).environment()
