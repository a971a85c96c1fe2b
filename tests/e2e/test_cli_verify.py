"""`verify` with its options, on a clone's own record and on an auditor's mirror."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import GitRunner, MakeRepo
from tests.e2e.conftest import Cli


@pytest.fixture
def repo(agentgov: Cli, make_repo: MakeRepo) -> Path:
    repo = make_repo(files={"a.txt": "one\n"})
    agentgov(repo, "run", "--", "true")
    return repo


def _mirror(repo: Path, place: Path) -> Path:
    subprocess.run(["git", "clone", "-q", "--mirror", str(repo), str(place)], check=True)
    return place


def test_structure_alone_is_level_zero(agentgov: Cli, repo: Path) -> None:
    said = json.loads(agentgov(repo, "verify", "--structure", "--json").out)
    assert said["level"] == {"n": 0, "name": "chained"}
    assert "signatures" in said["not_checked"]
    agentgov(repo, "verify", "--structure", "--require", "signed", code=3)


def test_going_on_says_what_was_not_read_again(agentgov: Cli, repo: Path) -> None:
    first = json.loads(agentgov(repo, "verify", "--json").out)
    agentgov(repo, "run", "--", "true")
    again = json.loads(agentgov(repo, "verify", "--incremental", "--jobs", "1", "--json").out)
    assert first["read_from"] == 0
    assert again["read_from"] == first["sealed"]
    assert again["entries"] > first["entries"]
    assert "before" in again["not_checked"]
    assert "not read again" in agentgov(repo, "verify", "--incremental").out
    assert json.loads(agentgov(repo, "verify", "--json").out)["read_from"] == 0


def test_a_memory_that_was_spoilt_is_not_used(agentgov: Cli, repo: Path, home: Path) -> None:
    agentgov(repo, "verify")
    paths = list(home.rglob("*.verified"))
    assert paths
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b'"size":', b'"size":1'))
    assert json.loads(agentgov(repo, "verify", "--incremental", "--json").out)["read_from"] == 0


def test_an_auditor_sees_every_record_of_a_mirror_and_trusts_none_unasked(
    agentgov: Cli, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = _mirror(repo, tmp_path / "mirror.git")
    monkeypatch.setenv("AGENTGOV_HOME", str(tmp_path / "auditor"))
    said = json.loads(agentgov(mirror, "verify", "--all", "--json", code=13).out)
    assert [record["findings"][0]["code"] for record in said["records"]] == ["unknown-key"]
    stream = said["records"][0]["record"]
    agentgov(mirror, "verify", "--record", stream, code=13)
    assert "AG0352" in agentgov(mirror, "verify", "--record", "0" * 32, code=2).err


def test_content_that_stays_with_its_writer_is_not_missing_from_a_mirror(
    agentgov: Cli, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = _mirror(repo, tmp_path / "mirror.git")
    monkeypatch.setenv("AGENTGOV_HOME", str(tmp_path / "auditor"))
    said = json.loads(agentgov(mirror, "verify", "--json", code=13).out)
    assert {finding["code"] for finding in said["findings"]} == {"unknown-key"}


def test_a_clone_without_any_record_says_how_to_get_those_of_others(
    agentgov: Cli, repo: Path, git: GitRunner, tmp_path: Path
) -> None:
    clone = tmp_path / "plain"
    git(tmp_path, "clone", "-q", str(repo), str(clone))
    for words in (["verify"], ["verify", "--all"]):
        (line,) = [x for x in agentgov(clone, *words, code=2).err.splitlines() if "git fetch" in x]
    git(clone, "fetch", "-q", "origin", line.split("'")[1])
    assert agentgov(clone, "verify", "--all").out.startswith("1 of 1 record holds.")


def test_a_mirror_whose_record_lost_an_object_is_incomplete(
    agentgov: Cli, repo: Path, git: GitRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = git(repo, "for-each-ref", "--format=%(refname)", "refs/agentgov/ledger").splitlines()[0]
    fetched = tmp_path / "shallow"
    subprocess.run(["git", "init", "-q", "--bare", str(fetched)], check=True)
    git(fetched, "fetch", "-q", "--depth=1", repo.as_uri(), f"{ref}:{ref}")
    monkeypatch.setenv("AGENTGOV_HOME", str(tmp_path / "auditor"))
    agentgov(fetched, "verify", "--all", code=3)


@pytest.mark.parametrize(
    "words",
    [
        ("--all", "7kq2f"),
        ("--record", "0" * 32, "7kq2f"),
        ("--trust", "no-such-file"),
        ("--jobs", "0"),
        ("none.tlog-proof",),
        ("--require", "perfect"),
    ],
)
def test_what_cannot_be_meant_is_an_error_of_use(agentgov: Cli, repo: Path, words: tuple[str, ...]) -> None:
    agentgov(repo, "verify", *words, code=2)
