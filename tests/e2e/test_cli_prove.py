"""`agentgov prove` and `agentgov verify FILE`, as a person and an auditor use them."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from agentgov.cli.session import state_home
from agentgov.cli.verify_file import verify_proof_file
from agentgov.clock import SystemClock
from agentgov.errors import ConfigError, ExitCode, UsageError
from agentgov.git import discover
from agentgov.ledger.entry import Draft
from agentgov.ledger.keys import read_stream_id
from agentgov.ledger.proving import SealedTree, log_key
from agentgov.ledger.stream import Stream
from tests.conftest import MakeRepo
from tests.e2e.conftest import Cli, bash, write


@pytest.fixture
def repo(make_repo: MakeRepo) -> Path:
    return make_repo()


@pytest.fixture
def run(agentgov: Cli, repo: Path) -> str:
    return agentgov.play(repo, [bash("echo hello"), write("a.txt", "one\n"), bash("echo bye")])


@pytest.fixture
def keys(repo: Path, run: str, tmp_path: Path) -> Path:
    """The record's own key, as somebody handed it to the auditor."""
    repository = discover(repo)
    stream_id = read_stream_id(repository.layout.stream_file)
    assert stream_id is not None
    file = tmp_path / "keys"
    with SealedTree(repository, stream_id) as tree:
        file.write_text(log_key(tree).text() + "\n")
    return file


def check(capfd: pytest.CaptureFixture[str], proof: Path, keys: Path, *, explain: bool = False) -> str:
    capfd.readouterr()
    assert verify_proof_file(proof, keys, as_json=False, explain=explain) is ExitCode.OK
    return capfd.readouterr().out


def test_a_call_is_proven_and_checked_where_there_is_no_repository(
    agentgov: Cli,
    repo: Path,
    run: str,
    keys: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = agentgov(repo, "prove", f"{run}:2")
    proof = repo / f"{run}-2.tlog-proof"
    assert f"agentgov verify {proof.name} --trust KEYS" in said.err
    assert proof.stat().st_mode & 0o777 == 0o600
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = proof.rename(elsewhere / "call.proof")
    monkeypatch.chdir(elsewhere)
    out = check(capfd, moved, keys)
    assert out.startswith(f"Holds: call 2 of run {run} stands in this record as it was signed.\n")
    assert "Write asked for: allow" in out
    assert "not shown by one file:" in out
    assert "whether other entries are missing" in out
    assert "one\n" not in out


def test_content_goes_along_only_when_it_is_asked_for(
    agentgov: Cli, repo: Path, run: str, keys: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain, whole, args = (tmp_path / name for name in ("plain", "whole", "args"))
    agentgov(repo, "prove", f"{run}:1", "-o", plain)
    agentgov(repo, "prove", f"{run}:1", "-o", whole, "--payloads")
    agentgov(repo, "prove", f"{run}:1", "-o", args, "--field", "args")
    assert b"echo hello" not in base64.b64decode(plain.read_bytes().split()[2])
    assert "echo hello" in check(capfd, whole, keys, explain=True)
    assert "content      args" in check(capfd, args, keys)
    assert "output" not in check(capfd, args, keys)


def test_the_last_run_is_meant_when_none_is_named_and_json_says_what_was_written(
    agentgov: Cli, repo: Path, run: str, tmp_path: Path
) -> None:
    said = agentgov(repo, "prove", ":1", "-o", tmp_path / "p", "--json")
    assert said.json["content"] == []
    assert len(said.json["entries"]) == 2
    assert said.json["bytes"] == (tmp_path / "p").stat().st_size


def test_any_entry_is_proven_by_its_number_and_to_stdout(
    agentgov: Cli, repo: Path, run: str, keys: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in (0, 1, 2):
        said = agentgov(repo, "prove", "--entry", str(number), "-o", "-")
        file = tmp_path / f"entry{number}"
        file.write_text(said.out)
        assert said.out.startswith("c2sp.org/tlog-proof@v1\nextra ")
        assert f"entry {number}" in check(capfd, file, keys)


def test_what_is_not_saved_yet_is_saved_first(
    agentgov: Cli, repo: Path, run: str, keys: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    repository = discover(repo)
    with Stream.open(repository, state_home(os.environ), clock=SystemClock(), random=os.urandom) as stream:
        (added,) = stream.append([Draft("log.heartbeat", None, {})], stream.log_signer())
        assert stream.sealed_size == added.entry.seq
    agentgov(repo, "prove", "--entry", str(added.entry.seq), "-o", tmp_path / "p")
    assert "log.heartbeat" in check(capfd, tmp_path / "p", keys)


def test_no_file_is_left_after_a_failure_and_none_is_written_over(
    agentgov: Cli, repo: Path, run: str, tmp_path: Path
) -> None:
    agentgov(repo, "prove", ":9", "-o", tmp_path / "p", code=2)
    agentgov(repo, "prove", "--entry", "99999", "-o", tmp_path / "p", code=2)
    agentgov(repo, "prove", ":1", "-o", tmp_path / "p", "--field", "patch", code=2)
    agentgov(repo, "prove", ":1", "--entry", "1", "-o", tmp_path / "p", code=2)
    agentgov(repo, "prove", "-o", tmp_path / "p", code=2)
    agentgov(repo, "prove", run, "-o", tmp_path / "p", code=2)
    agentgov(repo, "prove", "--entry", "1", "--record", "x", "-o", tmp_path / "p", code=2)
    agentgov(repo, "prove", "--entry", "1", "--record", "f" * 32, "-o", tmp_path / "p", code=3)
    assert not (tmp_path / "p").exists()
    (tmp_path / "p").write_text("mine")
    assert "AG0318" in agentgov(repo, "prove", ":1", "-o", tmp_path / "p", code=2).err
    assert (tmp_path / "p").read_text() == "mine"
    agentgov(repo, "prove", ":1", "-o", tmp_path / "no" / "folder", code=1)


def test_content_that_is_gone_is_said_and_the_call_is_still_proven(
    agentgov: Cli, repo: Path, run: str, keys: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    agentgov(repo, "redact", f"{run}:1", "--field", "output", "--reason", "a secret", "--yes")
    said = agentgov(repo, "prove", f"{run}:1", "-o", tmp_path / "p", "--payloads", code=3)
    assert "was erased on purpose" in said.err
    assert not (tmp_path / "p").exists()
    agentgov(repo, "prove", f"{run}:1", "-o", tmp_path / "p", "--field", "args")
    check(capfd, tmp_path / "p", keys)


def test_a_changed_proof_is_broken_and_another_key_is_not_trusted(
    agentgov: Cli, repo: Path, run: str, keys: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    proof = tmp_path / "p"
    agentgov(repo, "prove", f"{run}:1", "-o", proof)
    other = tmp_path / "other"
    other.write_text("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n")
    capfd.readouterr()
    assert verify_proof_file(proof, other, as_json=False, explain=False) is ExitCode.UNTRUSTED
    assert capfd.readouterr().out.startswith("NOT TRUSTED: ")
    raw = proof.read_bytes()
    proof.write_bytes(raw.replace(b"\nindex ", b"\nindex 1"))
    assert verify_proof_file(proof, keys, as_json=False, explain=False) is ExitCode.BROKEN
    assert capfd.readouterr().out.startswith("BROKEN: ")
    assert verify_proof_file(proof, keys, as_json=True, explain=False) is ExitCode.BROKEN
    assert '"ok": false' in capfd.readouterr().out
    proof.write_bytes(raw)
    assert verify_proof_file(proof, keys, as_json=True, explain=False) is ExitCode.OK
    assert '"ok": true' in capfd.readouterr().out


def test_a_quorum_that_is_asked_for_and_not_met_is_incomplete(
    agentgov: Cli, repo: Path, run: str, keys: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    proof = tmp_path / "p"
    agentgov(repo, "prove", f"{run}:1", "-o", proof)
    remora = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
    keys.write_text(f"log {keys.read_text()}witness R {remora}\nquorum R\n")
    capfd.readouterr()
    assert verify_proof_file(proof, keys, as_json=False, explain=False) is ExitCode.INCOMPLETE
    assert capfd.readouterr().out.startswith("NOT COMPLETE: ")


def test_the_command_takes_a_file_where_it_takes_a_run_and_needs_no_repository(
    agentgov: Cli, repo: Path, run: str, keys: Path, tmp_path: Path
) -> None:
    agentgov(repo, "prove", f"{run}:1", "-o", tmp_path / "call.proof")
    outside = tmp_path / "outside"
    outside.mkdir()
    assert agentgov(outside, "verify", "../call.proof", "--trust", keys).out.startswith("Holds: ")
    assert agentgov(outside, "verify", "../call.proof", "--trust", keys, "--json").json["ok"] is True
    assert "--trust KEYS" in agentgov(outside, "verify", "../call.proof", code=2).err
    (outside / "none.tlog-proof").write_bytes(b"nothing")
    assert agentgov(outside, "verify", "none.tlog-proof", "--trust", keys, code=12).out.startswith("BROKEN: ")


def test_a_proof_needs_somebody_to_believe(tmp_path: Path) -> None:
    proof, keys = tmp_path / "p", tmp_path / "keys"
    proof.write_bytes(b"")
    with pytest.raises(UsageError) as error:
        verify_proof_file(proof, None, as_json=False, explain=False)
    assert error.value.id == "AG0315"
    with pytest.raises(UsageError) as error:
        verify_proof_file(proof, keys, as_json=False, explain=False)
    assert error.value.id == "AG0316"
    for content in ("", "# nobody\n", "quorum none\n", "nonsense\n", "witness\n"):
        keys.write_text(content)
        with pytest.raises(ConfigError):
            verify_proof_file(proof, keys, as_json=False, explain=False)
