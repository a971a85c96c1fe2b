"""The record that was written with version 1 of the format verifies, today and with every later version.

Nothing in tests/golden is ever made anew for a test to pass: a change that breaks these breaks every record
that users have.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agentgov.errors import ExitCode
from agentgov.git import discover
from agentgov.ledger.anchor_store import read_anchors
from agentgov.ledger.bodies import KINDS
from agentgov.ledger.people import People
from agentgov.ledger.proof_trust import parse_trust
from agentgov.ledger.proof_verify import verify_proof
from agentgov.ledger.seal import ledger_ref
from agentgov.ledger.tlog_policy import Policy
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_report import Level, Report
from agentgov.ledger.verify_source import RepositorySource, Trust
from tests.conftest import GitRunner
from tests.reference import record, repository

FOLDER = Path(__file__).resolve().parents[1] / "golden"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FOLDER / "v1.json").read_text())
STREAMS = list(EXPECTED)
SCRIPT = FOLDER.parents[1] / "docs" / "verify-with-stock-tools.sh"


@pytest.fixture
def golden(tmp_path: Path, git: GitRunner) -> Path:
    repo = tmp_path / "golden"
    git(tmp_path, "init", "-q", "-b", "empty", repo)
    git(repo, "fetch", "-q", FOLDER / "v1.bundle", "refs/*:refs/*")
    return repo


def _report(golden: Path, stream: str) -> Report:
    found = discover(golden)
    policy = Policy.parse((FOLDER / "v1.witnesses").read_bytes())
    anchors, problems = read_anchors(found, stream, policy, None)
    assert problems == []
    return verify_ledger(
        RepositorySource(found, stream_id=stream),
        trust=Trust(None, EXPECTED[stream]["key"]),
        anchors=anchors,
        quorum=policy.is_met,
        people=People.parse((FOLDER / "v1.allowed_signers").read_text()),
    )


@pytest.mark.parametrize("stream", STREAMS)
def test_the_golden_record_verifies(golden: Path, stream: str) -> None:
    report, expected = _report(golden, stream), EXPECTED[stream]
    assert (report.exit_code, report.level) == (ExitCode.OK, Level.WITNESSED), report.headline()
    assert report.findings == []
    assert report.head is not None
    assert {name: getattr(report.head, name) for name in report.head.__slots__} == expected["head"]
    assert (report.entries, report.sealed, report.witnessed) == (expected["entries"],) * 3


@pytest.mark.parametrize("stream", STREAMS)
def test_the_reference_reads_the_golden_record(golden: Path, stream: str) -> None:
    read = record.read(f"agentgov/{stream}", repository.read_seals(golden, stream))
    assert (len(read.leaves), read.leaves[-1].hex()) == (
        EXPECTED[stream]["entries"],
        EXPECTED[stream]["head"]["leaf"],
    )


def test_the_golden_record_holds_every_kind_of_entry(golden: Path) -> None:
    kinds = set[str]()
    for stream in STREAMS:
        read = record.read(f"agentgov/{stream}", repository.read_seals(golden, stream))
        kinds |= {entry["kind"] for entry in read.entries}
    assert kinds == KINDS.keys()


def test_the_golden_proof_verifies_alone() -> None:
    names = ("v1.allowed_signers", "v1.witnesses")
    trust = parse_trust(b"".join((FOLDER / name).read_bytes() for name in names))
    verify_proof((FOLDER / "v1.tlog-proof").read_bytes(), trust)


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
@pytest.mark.parametrize("stream", STREAMS)
def test_the_golden_record_verifies_with_stock_tools(golden: Path, stream: str) -> None:
    known = [
        "--record",
        stream,
        "--witnesses",
        str(FOLDER / "v1.witnesses"),
        "--payloads",
        str(golden / ".git"),
    ]
    known += ["--trust", str(FOLDER / "v1.allowed_signers")]
    done = subprocess.run(
        ["bash", str(SCRIPT), *known, str(golden)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"witness.example.org: {EXPECTED[stream]['entries']}" in done.stdout


def test_a_golden_record_that_is_cut_is_found(golden: Path, git: GitRunner) -> None:
    ref = ledger_ref(STREAMS[0])
    git(golden, "update-ref", ref, f"{ref}^")
    report = _report(golden, STREAMS[0])
    assert report.findings[0].code == "shorter"
    assert report.exit_code is ExitCode.BROKEN


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_stock_tools_find_a_cut_by_the_witness_and_a_stranger_by_the_trust_file(
    golden: Path, tmp_path: Path, git: GitRunner
) -> None:
    def run(*args: str | Path) -> int:
        known = ["bash", SCRIPT, "--record", STREAMS[0], *args, golden]
        return subprocess.run([*map(str, known)], capture_output=True, check=False).returncode

    trusted, witnesses = FOLDER / "v1.allowed_signers", FOLDER / "v1.witnesses"
    stranger = tmp_path / "strangers"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    stranger.write_text(f"mallory {(tmp_path / 'key.pub').read_text()}")
    assert run("--trust", stranger) == ExitCode.UNTRUSTED
    assert run("--trust", trusted) == ExitCode.OK
    git(golden, "update-ref", ledger_ref(STREAMS[0]), f"{ledger_ref(STREAMS[0])}^")
    assert run("--trust", trusted) == ExitCode.OK
    assert run("--trust", trusted, "--witnesses", witnesses) == ExitCode.BROKEN
