"""Witnesses, other copies and a new beginning, on the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agentgov.git import discover
from agentgov.harness.state import RunLock, RunState
from agentgov.ids import RunId
from agentgov.ledger import succession
from agentgov.ledger.keys import KeyFolder
from tests.conftest import GitRunner, MakeRepo
from tests.e2e.conftest import Cli
from tests.support.authority import Authority, make_authority


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


def push(repo: Path, git: GitRunner, *options: str) -> None:
    git(repo, "push", "-q", *options, "origin", "refs/agentgov/ledger/*:refs/agentgov/ledger/*")


@pytest.fixture
def ci(remote: Path, git: GitRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another machine's clone, as CI makes it."""
    clone = tmp_path / "ci"
    git(tmp_path, "clone", "-q", remote, clone)
    return clone


def stream_of(repo: Path) -> str:
    return (repo / ".git/agentgov/stream").read_text().strip()


def name_witness(repo: Path, git: GitRunner, line: str, quorum: str = "ci") -> None:
    """Put a witness on the protected branch."""
    folder = repo / ".agentgov"
    folder.mkdir(exist_ok=True)
    (folder / "witnesses").write_text(f"{line}\nquorum {quorum}\n")
    git(repo, "add", ".agentgov")
    git(repo, "commit", "-q", "-m", "name a witness")


def new_key(agentgov: Cli, folder: Path, name: str = "ci") -> tuple[Path, str]:
    said = agentgov(folder, "witness", "new-key", name, "-o", folder.parent / f"{name}.key")
    return folder.parent / f"{name}.key", said.out.splitlines()[0]


def test_a_witnessed_record_reaches_level_four(repo: Path, agentgov: Cli, git: GitRunner) -> None:
    key, line = new_key(agentgov, repo)
    name_witness(repo, git, line)
    agentgov(repo, "verify", "--require", "witnessed", code=3)
    said = agentgov(repo, "witness", "--key", key)
    assert "hold and grew only" in said.out
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
        (("--stream", "0" * 32), "AG0330"),
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


def test_verify_against_a_remote_that_has_the_same(repo: Path, remote: Path, agentgov: Cli) -> None:
    said = agentgov(repo, "verify", "--against", "origin")
    assert "as origin: the same" in said.out


def test_verify_against_a_remote_names_the_entry_at_which_two_copies_part(
    repo: Path, remote: Path, agentgov: Cli, git: GitRunner, tmp_path: Path
) -> None:
    # The whole machine was restored from an image: both go on with the same key.
    shutil.copytree(Path.home() / ".local", tmp_path / "image.local", symlinks=True)
    shutil.copytree(repo / ".git", tmp_path / "image.git", symlinks=True)
    size = agentgov(repo, "verify", "--json").json["entries"]
    agentgov.shell(repo, "echo one way >> a.txt")
    push(repo, git)
    restore(repo, tmp_path)
    agentgov.shell(repo, "echo another way >> a.txt")
    report = agentgov(repo, "verify", "--against", "origin", "--json", code=12).json
    (fork, *_) = [finding for finding in report["findings"] if finding["code"] == "fork"]
    assert fork["seq"] == size
    assert f"part at entry {size}" in fork["why"]


def test_verify_against_a_remote_that_has_more_names_what_is_missing_here(
    repo: Path, remote: Path, agentgov: Cli, git: GitRunner, tmp_path: Path
) -> None:
    shutil.copytree(Path.home() / ".local", tmp_path / "image.local", symlinks=True)
    shutil.copytree(repo / ".git", tmp_path / "image.git", symlinks=True)
    size = agentgov(repo, "verify", "--json").json["entries"]
    agentgov.shell(repo, "echo more >> a.txt")
    push(repo, git)
    restore(repo, tmp_path)
    report = agentgov(repo, "verify", "--against", "origin", "--json", code=12).json
    (short, *_) = [finding for finding in report["findings"] if finding["code"] == "shorter"]
    assert short["seq"] == size
    assert "seen by origin and missing here" in short["why"]


def restore(repo: Path, folder: Path) -> None:
    """Put an earlier image of the machine back, as a backup does: same places, earlier content."""
    for path in (repo / ".git").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(folder / "image.git", repo / ".git", symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(Path.home() / ".local")
    shutil.copytree(folder / "image.local", Path.home() / ".local", symlinks=True)


def test_a_restored_clone_that_sees_what_it_lost_begins_anew(
    repo: Path, remote: Path, agentgov: Cli, git: GitRunner, tmp_path: Path
) -> None:
    # The backup holds the repository, not the state folder: what was seen since is remembered there.
    shutil.copytree(repo / ".git", tmp_path / "image.git", symlinks=True)
    agentgov.shell(repo, "echo more >> a.txt")
    agentgov(repo, "verify")
    for path in (repo / ".git").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(tmp_path / "image.git", repo / ".git", symlinks=True, dirs_exist_ok=True)
    agentgov(repo, "verify", code=12)
    said = agentgov(repo, "ledger", "restart", "--yes", "--json").json
    assert (said["ended"], said["hindrance"]["id"]) == (False, "AG0230")
    agentgov(repo, "verify")
    agentgov.shell(repo, "echo on >> a.txt")
    # The old one stays what it is: shorter than it was seen.
    agentgov(repo, "verify", "--all", code=12)


def test_verify_against_a_remote_that_was_cut_back_says_so(
    repo: Path, remote: Path, agentgov: Cli, git: GitRunner
) -> None:
    agentgov(repo, "verify", "--against", "origin")
    stream = stream_of(repo)
    git(remote, "update-ref", f"refs/agentgov/ledger/{stream}", f"refs/agentgov/ledger/{stream}~1")
    assert "cut back" in agentgov(repo, "verify", "--against", "origin", code=12).err


def test_verify_against_a_head_seen_earlier(repo: Path, agentgov: Cli, git: GitRunner) -> None:
    ref = f"refs/agentgov/ledger/{stream_of(repo)}"
    head = repo.parent / "head.note"
    head.write_text(git(repo, "cat-file", "blob", f"{ref}:checkpoint") + "\n")
    agentgov(repo, "verify", "--against", head)
    head.write_text(head.read_text().replace("\n", "\n ", 1))
    assert "AG0462" in agentgov(repo, "verify", "--against", head, code=12).err


def test_verify_against_a_bundle(repo: Path, agentgov: Cli, git: GitRunner) -> None:
    ref = f"refs/agentgov/ledger/{stream_of(repo)}"
    git(repo, "bundle", "create", "-q", repo.parent / "record.bundle", ref)
    before = sorted((repo / ".git").rglob("*"))
    said = agentgov(repo, "verify", "--against", repo.parent / "record.bundle")
    assert "as record.bundle: the same" in said.out
    assert [path for path in sorted((repo / ".git").rglob("*")) if path not in before] == []


@pytest.mark.parametrize(
    "raw", [b"", b"# v2 git bundle\nnonsense", b"c2sp.org/tlog-proof@v1\n", b"\xff" * 99]
)
def test_verify_against_a_file_that_says_nothing_is_not_ok(repo: Path, agentgov: Cli, raw: bytes) -> None:
    (repo.parent / "file").write_bytes(raw)
    assert "AG0462" in agentgov(repo, "verify", "--against", repo.parent / "file", code=12).err


def test_verify_against_what_is_not_there(repo: Path, agentgov: Cli) -> None:
    assert "AG0479" in agentgov(repo, "verify", "--against", "nothing", code=2).err


def test_forgetting_is_entered_and_written_down(repo: Path, agentgov: Cli) -> None:
    agentgov(repo, "verify")
    agentgov(repo, "verify", "--forget")
    (line,) = (Path.home() / ".local/state/agentgov/pins/forgotten").read_text().splitlines()
    assert stream_of(repo) in line
    tail = b"".join(path.read_bytes() for path in (repo / ".git/agentgov/wal").iterdir())
    assert b'"kind":"pin.forgotten"' in tail
    assert line.split()[3].encode() in tail


def test_a_record_that_was_cut_passes_only_after_forgetting(
    repo: Path, agentgov: Cli, git: GitRunner
) -> None:
    stream = stream_of(repo)
    agentgov(repo, "verify")
    git(repo, "update-ref", f"refs/agentgov/ledger/{stream}", f"refs/agentgov/ledger/{stream}~1")
    for path in (repo / ".git/agentgov/wal").iterdir():
        path.unlink()
    size = int(git(repo, "cat-file", "blob", f"refs/agentgov/ledger/{stream}:checkpoint").split("\n")[1])
    (repo / f".git/agentgov/wal/{size:016d}").touch()
    agentgov(repo, "verify", code=12)
    said = agentgov(repo, "verify", "--forget", code=None)
    assert said.code != 12
    assert "is forgotten" in said.err


def test_forgetting_what_was_never_seen_is_an_error(repo: Path, agentgov: Cli) -> None:
    assert "AG0352" in agentgov(repo, "verify", "--forget", "--stream", "0" * 32, code=2).err


def test_restart_is_the_way_out_of_a_line_that_does_not_hold(repo: Path, agentgov: Cli) -> None:
    old = stream_of(repo)
    segment = sorted((repo / ".git/agentgov/wal").iterdir())[-1]
    segment.write_bytes(b"garbage\n")
    assert agentgov(repo, "verify", code=12)
    agentgov(repo, "ledger", "restart", code=2)
    said = agentgov(repo, "ledger", "restart", "--yes")
    assert f"continues  {old}" in said.out
    assert "could not be closed" in said.out
    agentgov(repo, "verify")
    assert (repo / ".git/agentgov/earlier" / old / segment.name).read_bytes() == b"garbage\n"
    agentgov.shell(repo, "echo on >> a.txt")
    assert len(agentgov(repo, "log", "--json").json["runs"]) == 2


def test_restart_ends_a_record_that_holds(repo: Path, agentgov: Cli) -> None:
    said = agentgov(repo, "ledger", "restart", "--yes", "--json").json
    assert (said["ended"], said["hindrance"], said["open_runs"]) == (True, None, [])
    report = agentgov(repo, "verify", "--all", "--json").json
    assert [record["broken_at"] for record in report["records"]] == [None, None]


@pytest.mark.parametrize("looking", [("log", "--json"), ("verify",), ("show",), ("status",)])
@pytest.mark.parametrize("step", ["bind", "_take_key"])
def test_a_restart_that_was_killed_is_finished_by_the_next_command(
    repo: Path, agentgov: Cli, monkeypatch: pytest.MonkeyPatch, looking: tuple[str, ...], step: str
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    old = stream_of(repo)
    with monkeypatch.context() as patch:
        patch.setattr(KeyFolder if step == "bind" else succession, step, die)
        agentgov(repo, "ledger", "restart", "--yes", code=130)
    agentgov(repo, *looking)
    assert stream_of(repo) != old
    assert not list((Path.home() / ".local/state/agentgov/keys").glob("*/successor"))


def test_restart_waits_for_a_run_to_end(repo: Path, agentgov: Cli) -> None:
    layout = discover(repo).layout
    run = RunId("7kq2f")
    with RunLock(layout, run) as lock:
        lock.publish(RunState(run, 4_194_305, "/nowhere", str(repo), "clone", "claude", 1))
        assert "AG0071" in agentgov(repo, "ledger", "restart", "--yes", code=15).err
    assert not (repo / ".git/agentgov/earlier").exists()


def test_an_agent_can_neither_restart_a_record_nor_witness_nor_forget(
    repo: Path, agentgov: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentgov.harness.state.run_above", lambda layout, pid: RunId("7kq2f"))
    key, _ = new_key(agentgov, repo)
    before = (repo / ".git/agentgov/stream").read_bytes()
    for command in (
        ("ledger", "restart", "--yes"),
        ("witness", "--key", str(key)),
        ("verify", "--forget"),
    ):
        assert "AG0314" in agentgov(repo, *command, code=10).err
    assert (repo / ".git/agentgov/stream").read_bytes() == before
    assert not (Path.home() / ".local/state/agentgov/pins/forgotten").exists()


def test_restart_where_nothing_was_recorded(make_repo: MakeRepo, agentgov: Cli) -> None:
    assert "AG0301" in agentgov(make_repo(), "ledger", "restart", "--yes", code=2).err


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
