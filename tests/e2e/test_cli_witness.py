"""Witnesses and time stamps on the command line: what is signed, what is refused, what counts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import GitRunner, MakeRepo
from tests.e2e.conftest import Cli
from tests.support.authority import Authority, make_authority
from tests.support.record_places import name_witness, new_key, push, stream_of


@pytest.fixture
def repo(make_repo: MakeRepo, agentgov: Cli) -> Path:
    """A repository with one finished run."""
    made = make_repo(files={"a.txt": "one\n"})
    agentgov.shell(made, "echo two >> a.txt")
    return made


@pytest.fixture
def remote(repo: Path, git: GitRunner, tmp_path: Path) -> Path:
    """A bare repository that `origin` names, with a branch and the record."""
    bare = tmp_path / "remote.git"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", bare)
    git(repo, "remote", "add", "origin", bare)
    git(repo, "push", "-q", "origin", "main")
    push(repo, git)
    return bare


@pytest.fixture
def ci(remote: Path, git: GitRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another machine's clone, as CI makes it."""
    clone = tmp_path / "ci"
    git(tmp_path, "clone", "-q", remote, clone)
    return clone


def test_a_witnessed_record_reaches_level_four(repo: Path, agentgov: Cli, git: GitRunner) -> None:
    key, line = new_key(agentgov, repo)
    name_witness(repo, git, line)
    agentgov(repo, "verify", "--require", "witnessed", code=3)
    said = agentgov(repo, "witness", "--key", key)
    assert "unchanged, and only grown" in said.out
    report = agentgov(repo, "verify", "--require", "witnessed", "--json").json
    assert report["level"] == {"n": 4, "name": "witnessed"}
    assert report["witnessed"] == report["entries"]


def test_what_follows_a_signed_head_is_said_to_be_unseen(repo: Path, agentgov: Cli, git: GitRunner) -> None:
    key, line = new_key(agentgov, repo)
    name_witness(repo, git, line)
    agentgov(repo, "witness", "--key", key)
    agentgov.shell(repo, "echo three >> a.txt")
    report = agentgov(repo, "verify", "--json").json
    assert 0 < report["witnessed"] < report["entries"]
    said = agentgov(repo, "verify").out.splitlines()
    assert said[0].endswith(f"Witnessed up to entry {report['witnessed'] - 1}.")
    assert max(map(len, said)) <= 100
    again = agentgov(repo, "witness", "--key", key, "--json").json["records"][0]
    assert again["signed"]["before"] == report["witnessed"]
    assert again["signed"]["size"] == report["entries"]


def test_a_witness_signs_nothing_twice(repo: Path, agentgov: Cli, git: GitRunner) -> None:
    key, _ = new_key(agentgov, repo)
    first = agentgov(repo, "witness", "--key", key, "--json").json["records"][0]["signed"]
    second = agentgov(repo, "witness", "--key", key, "--json").json["records"][0]["signed"]
    assert first["commit"] is not None
    assert second == {**first, "before": first["size"], "commit": None}


def test_ci_witnesses_over_a_remote_and_the_writer_sees_it(
    repo: Path, ci: Path, agentgov: Cli, git: GitRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, line = new_key(agentgov, ci)
    monkeypatch.setenv("AGENTGOV_HOME", str(ci.parent / "ci-state"))
    monkeypatch.setenv("AGENTGOV_WITNESS_KEY", key.read_text())
    said = agentgov(ci, "witness", "--all", "--remote", "origin", "--json").json
    assert (said["ok"], said["records"][0]["sent"]) == (True, True)
    monkeypatch.delenv("AGENTGOV_HOME")
    monkeypatch.delenv("AGENTGOV_WITNESS_KEY")
    name_witness(repo, git, line)
    # Trust is what the remote's default branch says.
    git(repo, "push", "-q", "origin", "main")
    git(repo, "fetch", "-q", "origin", "refs/agentgov/witness/*:refs/agentgov/remotes/origin/witness/*")
    assert agentgov(repo, "verify", "--json").json["level"]["n"] == 4


def test_two_runners_of_one_witness_go_on_from_each_other(
    repo: Path, ci: Path, agentgov: Cli, git: GitRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key, _ = new_key(agentgov, ci)
    home = Path.home() / ".local/state/agentgov"
    for number in (1, 2):
        runner = tmp_path / f"runner{number}"
        git(tmp_path, "clone", "-q", tmp_path / "remote.git", runner)
        monkeypatch.setenv("AGENTGOV_HOME", str(tmp_path / f"state{number}"))
        said = agentgov(runner, "witness", "--key", key, "--all", "--remote", "origin", "--json").json
        assert said["records"][0]["sent"] is True
        assert bool(said["records"][0]["signed"]["before"]) is (number == 2)
        monkeypatch.setenv("AGENTGOV_HOME", str(home))
        agentgov.shell(repo, "echo more >> a.txt")
        push(repo, git)


def test_a_witness_refuses_a_record_that_was_cut_and_keeps_both_heads(
    repo: Path, ci: Path, agentgov: Cli, git: GitRunner, tmp_path: Path
) -> None:
    key, _ = new_key(agentgov, ci)
    stream = stream_of(repo)
    agentgov(ci, "witness", "--key", key, "--all", "--remote", "origin")
    # Whoever controls the remote goes back to an earlier, genuine state.
    earlier = git(repo, "rev-parse", f"refs/agentgov/ledger/{stream}~1")
    git(ci, "update-ref", f"refs/agentgov/remotes/origin/ledger/{stream}", earlier)
    said = agentgov(ci, "witness", "--key", key, "--all", "--json", code=12).json["records"][0]
    assert said["error"]["id"] == "AG0475"
    assert "missing here" in said["error"]["message"]
    kept = [Path(fact.partition(": ")[2]) for fact in said["error"]["facts"]]
    assert len(kept) == 2
    assert all(path.is_file() and stream in path.read_text() for path in kept)


def test_a_remote_that_was_cut_back_is_evidence(
    repo: Path, ci: Path, remote: Path, agentgov: Cli, git: GitRunner
) -> None:
    key, _ = new_key(agentgov, ci)
    stream = stream_of(repo)
    agentgov(ci, "witness", "--key", key, "--all", "--remote", "origin")
    git(remote, "update-ref", f"refs/agentgov/ledger/{stream}", f"refs/agentgov/ledger/{stream}~1")
    said = agentgov(ci, "witness", "--key", key, "--all", "--remote", "origin", "--json", code=12).json
    assert "AG0462" in {record["error"]["id"] for record in said["records"] if record["error"]}
    assert "cut back" in str(said)


def test_a_witness_refuses_a_record_that_does_not_hold(
    repo: Path, ci: Path, agentgov: Cli, git: GitRunner
) -> None:
    key, _ = new_key(agentgov, ci)
    agentgov(ci, "witness", "--key", key, "--all", "--remote", "origin")
    stream = stream_of(repo)
    ref = f"refs/agentgov/remotes/origin/ledger/{stream}"
    listed = git(ci, "ls-tree", ref)
    entries = git(ci, "cat-file", "blob", f"{ref}:entries").replace('"took_us":', '"took_us":1')
    entries = entries.replace('"ts":1', '"ts":2', 1)
    blob = git(ci, "hash-object", "-w", "--stdin", input=entries.encode() + b"\n")
    old = git(ci, "rev-parse", f"{ref}:entries")
    tree = git(ci, "mktree", input=(listed.replace(old, blob) + "\n").encode())
    commit = git(ci, "commit-tree", tree, "-p", f"{ref}~1", "-m", "changed")
    git(ci, "update-ref", ref, commit)
    shutil.rmtree(Path.home() / ".local/state/agentgov/witness")
    git(ci, "for-each-ref", "--format=delete %(refname)", "refs/agentgov/witness/")
    said = agentgov(ci, "witness", "--key", key, "--all", "--json", code=12).json["records"][0]
    assert said["error"]["id"] == "AG0476"
    assert said["signed"] is None


def test_a_key_that_others_may_read_is_refused(repo: Path, agentgov: Cli) -> None:
    key, _ = new_key(agentgov, repo)
    key.chmod(0o640)
    assert "AG0472" in agentgov(repo, "witness", "--key", key, code=2).err


def test_a_key_file_is_never_replaced_nor_printed(repo: Path, agentgov: Cli) -> None:
    key, _ = new_key(agentgov, repo)
    before = key.read_bytes()
    said = agentgov(repo, "witness", "new-key", "ci", "-o", key, code=2)
    assert key.read_bytes() == before
    assert before.decode().strip() not in said.out + said.err
    told = agentgov(repo, "witness", "new-key", "two", "-o", repo.parent / "two.key", "--json")
    assert told.json["key"].startswith("two+")
    assert (repo.parent / "two.key").read_text().strip() not in told.out + told.err


@pytest.mark.parametrize("text", ["", "nonsense", "PRIVATE+KEY+ci+00000000+BAAA", "PRIVATE+KEY+ci", "\x00"])
def test_what_is_no_key_is_not_shown(repo: Path, agentgov: Cli, text: str) -> None:
    file = repo.parent / "secret"
    file.write_text(text)
    file.chmod(0o600)
    said = agentgov(repo, "witness", "--key", file, code=2)
    assert "AG0471" in said.err
    assert len(text) < 2 or text not in said.out + said.err


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ((), "AG0327"),
        (("--record", "0" * 32), "AG0330"),
        (("--timestamp", "http://x", "--timestamp-query", "q"), "AG0332"),
    ],
)
def test_a_command_that_cannot_work_says_so(
    repo: Path, agentgov: Cli, options: tuple[str, ...], error: str
) -> None:
    key, _ = new_key(agentgov, repo)
    more = ("--key", key) if error == "AG0330" else ()
    assert error in agentgov(repo, "witness", *more, *options, code=2).err


def test_a_witness_nobody_named_does_not_count(repo: Path, agentgov: Cli, git: GitRunner) -> None:
    key, _ = new_key(agentgov, repo)
    agentgov(repo, "witness", "--key", key)
    report = agentgov(repo, "verify", "--json").json
    assert (report["level"]["n"], report["witnessed"]) == (3, 0)
    assert any("nobody here is named as a witness" in note for note in report["notes"])


def test_a_quorum_that_is_not_met_is_not_witnessed(repo: Path, agentgov: Cli, git: GitRunner) -> None:
    one, first = new_key(agentgov, repo, "one")
    two, second = new_key(agentgov, repo, "two")
    name_witness(repo, git, f"{first}\n{second}\ngroup both all one two", "both")
    agentgov(repo, "witness", "--key", one)
    assert agentgov(repo, "verify", "--json").json["witnessed"] == 0
    agentgov(repo, "witness", "--key", two)
    assert agentgov(repo, "verify", "--json").json["level"]["n"] == 4


def test_a_record_that_was_cut_disagrees_with_its_witness(repo: Path, agentgov: Cli, git: GitRunner) -> None:
    key, line = new_key(agentgov, repo)
    name_witness(repo, git, line)
    agentgov(repo, "witness", "--key", key)
    stream = stream_of(repo)
    git(repo, "update-ref", f"refs/agentgov/ledger/{stream}", f"refs/agentgov/ledger/{stream}~1")
    for path in (Path.home() / ".local/state/agentgov/pins").glob("*.json"):
        path.unlink()
    shutil.rmtree(repo / ".git/agentgov/wal")
    report = agentgov(repo, "verify", "--json", code=12).json
    assert "shorter" in {finding["code"] for finding in report["findings"]}


@pytest.fixture
def authority(repo: Path, tmp_path: Path, git: GitRunner) -> Authority:
    """A time stamp authority that the protected branch names."""
    made = make_authority(tmp_path / "tsa")
    (repo / ".agentgov").mkdir()
    (repo / ".agentgov/timestamp-authorities.pem").write_bytes(made.root_pem)
    git(repo, "add", ".agentgov")
    git(repo, "commit", "-q", "-m", "name an authority")
    return made


def test_a_record_that_is_witnessed_and_stamped_reaches_level_five(
    repo: Path, authority: Authority, agentgov: Cli, git: GitRunner, tmp_path: Path
) -> None:
    key, line = new_key(agentgov, repo)
    name_witness(repo, git, line)
    agentgov(repo, "witness", "--key", key)
    agentgov(repo, "witness", "--timestamp-query", tmp_path / "q.tsq")
    (tmp_path / "r.tsr").write_bytes(authority.answer((tmp_path / "q.tsq").read_bytes()))
    said = agentgov(repo, "witness", "--timestamp-response", tmp_path / "r.tsr")
    assert "says Test Authority" in said.out
    report = agentgov(repo, "verify", "--require", "timestamped", "--json").json
    assert report["level"] == {"n": 5, "name": "timestamped"}


def test_an_answer_may_come_after_the_record_has_grown(
    repo: Path, authority: Authority, agentgov: Cli, tmp_path: Path
) -> None:
    agentgov(repo, "witness", "--timestamp-query", tmp_path / "q.tsq")
    before = agentgov(repo, "verify", "--json").json["entries"]
    agentgov.shell(repo, "echo three >> a.txt")
    (tmp_path / "r.tsr").write_bytes(authority.answer((tmp_path / "q.tsq").read_bytes()))
    agentgov(repo, "witness", "--timestamp-response", tmp_path / "r.tsr")
    assert agentgov(repo, "verify", "--json").json["timestamped"] == before


def test_an_authority_is_asked_over_the_network(
    repo: Path, authority: Authority, agentgov: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(url: str, query: bytes, **_: object) -> bytes:
        asked.append(url)
        return authority.answer(query)

    monkeypatch.setattr("agentgov.cli.stamping.request_timestamp", ask)
    agentgov(repo, "witness", "--timestamp", "https://tsa.example/tsr")
    report = agentgov(repo, "verify", "--json").json
    assert asked == ["https://tsa.example/tsr"]
    assert report["timestamped"] == report["entries"]
    # Stamped, and yet seen by no witness: each level needs those below.
    assert report["level"]["n"] == 3


def test_a_stamp_by_somebody_else_is_not_stored(
    repo: Path, authority: Authority, agentgov: Cli, git: GitRunner, tmp_path: Path
) -> None:
    agentgov(repo, "witness", "--timestamp-query", tmp_path / "q.tsq")
    stranger = make_authority(tmp_path / "stranger")
    (tmp_path / "r.tsr").write_bytes(stranger.answer((tmp_path / "q.tsq").read_bytes()))
    said = agentgov(repo, "witness", "--timestamp-response", tmp_path / "r.tsr", "--json", code=13).json
    assert said["records"][0]["error"]["id"] == "AG0469"
    assert git(repo, "for-each-ref", "refs/agentgov/timestamp") == ""


def test_stamps_that_nobody_can_check_reach_no_level(
    repo: Path, authority: Authority, agentgov: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agentgov(repo, "witness", "--timestamp-query", tmp_path / "q.tsq")
    (tmp_path / "r.tsr").write_bytes(authority.answer((tmp_path / "q.tsq").read_bytes()))
    agentgov(repo, "witness", "--timestamp-response", tmp_path / "r.tsr")
    monkeypatch.setattr("agentgov.ledger.anchor_store.is_available", lambda: False)
    report = agentgov(repo, "verify", "--json").json
    assert report["timestamped"] == 0
    assert any("agentgov[timestamp]" in note for note in report["notes"])


def test_without_an_authority_that_is_believed_nobody_is_asked(repo: Path, agentgov: Cli) -> None:
    said = agentgov(repo, "witness", "--timestamp", "https://tsa.example/tsr", code=2)
    assert "AG0332" in said.err
