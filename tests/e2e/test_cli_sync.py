"""`agentgov sync` as a person uses it, against bare repositories, honest and hostile ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agentgov.git import discover
from agentgov.ids import RunId
from agentgov.layout import StateHome
from agentgov.ledger.sync import pushed
from tests.conftest import GitRunner, MakeRepo
from tests.e2e.conftest import Cli, write


@pytest.fixture
def remote(tmp_path: Path, git: GitRunner) -> Path:
    """An empty bare repository."""
    path = tmp_path / "remote.git"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", path)
    return path


@pytest.fixture
def repo(make_repo: MakeRepo, remote: Path, git: GitRunner, agentgov: Cli) -> Path:
    """A clone with one run, whose branch the remote has."""
    path = make_repo()
    git(path, "remote", "add", "origin", remote)
    git(path, "push", "-q", "origin", "main")
    git(path, "fetch", "-q", "origin")
    git(path, "remote", "set-head", "origin", "main")
    agentgov.play(path, [write("a.txt", "one\n")], "--workspace", "in-place")
    return path


def stream_of(repo: Path) -> str:
    return discover(repo).layout.stream_file.read_text().strip()


def home_state(home: Path) -> StateHome:
    return StateHome(home / ".local" / "state" / "agentgov")


def remote_refs(remote: Path, git: GitRunner) -> dict[str, str]:
    lines = git(remote, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return dict(line.split() for line in lines)


def run_of(repo: Path, agentgov: Cli) -> RunId:
    return RunId(agentgov(repo, "log", "--json").json["runs"][0]["run"])


def test_the_first_sync_shows_what_leaves_and_sends_nothing_without_a_yes(
    agentgov: Cli, repo: Path, remote: Path, git: GitRunner, home: Path
) -> None:
    before = remote_refs(remote, git)
    said = agentgov(repo, "sync", code=2)
    assert "What leaves this machine, and where to:" in said.err
    assert str(remote) in said.err
    assert "no path, argument or text" in said.err
    assert "AG0303" in said.err
    assert remote_refs(remote, git) == before
    run = run_of(repo, agentgov)
    assert pushed(home_state(home), run, "changes") == []


def test_a_dry_run_changes_nothing_anywhere(agentgov: Cli, repo: Path, remote: Path, git: GitRunner) -> None:
    before = remote_refs(remote, git), remote_refs(repo, git)
    said = agentgov(repo, "sync", "--dry-run", "--json").json
    assert said["dry_run"] is True
    assert said["agreed"] is False
    assert said["plan"]["entries"] > 3
    assert list(said["plan"]["classes"]) == ["changes"]
    assert set(said["plan"]["stays"]) == {"args", "output"}
    assert (remote_refs(remote, git), remote_refs(repo, git)) == before


def test_the_chain_and_the_changes_leave_and_nothing_else(
    agentgov: Cli, repo: Path, remote: Path, git: GitRunner, home: Path
) -> None:
    stream, run = stream_of(repo), run_of(repo, agentgov)
    agentgov(repo, "sync", "--yes")
    refs = remote_refs(remote, git)
    assert set(refs) == {
        "refs/heads/main",
        f"refs/agentgov/ledger/{stream}",
        f"refs/agentgov/payloads/{stream}/{run}/changes",
    }
    assert refs[f"refs/agentgov/ledger/{stream}"] == git(repo, "rev-parse", f"refs/agentgov/ledger/{stream}")
    git(remote, "fsck", "--full", "--strict")
    ((place, ts),) = pushed(home_state(home), run, "changes")
    assert place == str(remote)
    assert ts > 0
    assert pushed(home_state(home), run, "args") == []
    assert git(remote, "symbolic-ref", "HEAD") == "refs/heads/main"


def test_a_persons_key_stands_behind_the_record_from_the_first_sync_on(
    agentgov: Cli, repo: Path, remote: Path, git: GitRunner, home: Path
) -> None:
    key = home / ".ssh" / "id_ed25519"
    key.parent.mkdir(mode=0o700)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    said = agentgov(repo, "sync", "--yes")
    assert "your key now stands behind this clone's record" in said.err
    entries = git(remote, "cat-file", "-p", f"refs/agentgov/ledger/{stream_of(repo)}:entries")
    assert '"kind":"stream.endorse"' in entries
    assert "stands behind" not in agentgov(repo, "sync").err


def test_it_is_asked_once_and_a_second_sync_sends_only_what_is_new(
    agentgov: Cli, repo: Path, remote: Path, git: GitRunner
) -> None:
    agentgov(repo, "sync", "--yes")
    first = remote_refs(remote, git)
    said = agentgov(repo, "sync", "--json").json
    assert said["sent"] == []
    assert remote_refs(remote, git) == first
    agentgov.play(repo, [write("b.txt", "two\n")], "--workspace", "in-place")
    said = agentgov(repo, "sync", "--json").json
    assert 3 < said["plan"]["entries"] < 20
    assert len(said["sent"]) == 2
    ref = f"refs/agentgov/ledger/{stream_of(repo)}"
    old, new = first[ref], remote_refs(remote, git)[ref]
    git(remote, "merge-base", "--is-ancestor", old, new)


def test_another_address_or_a_mirror_is_asked_for_again(
    agentgov: Cli, repo: Path, tmp_path: Path, remote: Path, git: GitRunner
) -> None:
    agentgov(repo, "sync", "--yes")
    agentgov.play(repo, [write("b.txt", "two\n")], "--workspace", "in-place")
    agentgov(repo, "sync", "--mirror", "records", code=2)
    git(tmp_path, "clone", "-q", "--bare", remote, "elsewhere.git")
    git(repo, "remote", "set-url", "origin", tmp_path / "elsewhere.git")
    said = agentgov(repo, "sync", code=2)
    assert "elsewhere.git" in said.err
    git(repo, "remote", "set-url", "origin", remote)
    agentgov(repo, "sync")


def test_more_classes_leave_only_when_the_protected_branch_names_them(
    agentgov: Cli, repo: Path, remote: Path, git: GitRunner, home: Path
) -> None:
    run, stream = run_of(repo, agentgov), stream_of(repo)
    (repo / ".agentgov.toml").write_text('[sync]\nclasses = ["changes", "args", "output"]\n')
    git(repo, "add", ".agentgov.toml")
    git(repo, "commit", "-q", "-m", "local only")
    assert set(agentgov(repo, "sync", "--dry-run", "--json").json["plan"]["classes"]) == {"changes"}
    git(repo, "push", "-q", "origin", "main")
    agentgov(repo, "sync", "--yes")
    classes = {ref.rpartition("/")[2] for ref in remote_refs(remote, git) if f"/{run}/" in ref}
    assert classes == {"changes", "args", "output"}
    assert pushed(home_state(home), run, "output", stream_id=stream)[0][0] == str(remote)


def test_a_remote_without_branches_is_refused(
    agentgov: Cli, repo: Path, tmp_path: Path, git: GitRunner
) -> None:
    git(tmp_path, "init", "-q", "--bare", tmp_path / "empty.git")
    git(repo, "remote", "set-url", "origin", tmp_path / "empty.git")
    said = agentgov(repo, "sync", "--yes", code=2)
    assert "AG0483" in said.err
    assert remote_refs(tmp_path / "empty.git", git) == {}


@pytest.mark.parametrize(
    ("url", "error", "code"),
    [
        ("ext::sh -c 'touch owned'", "AG0481", 2),
        ("fd::17", "AG0481", 2),
        ("gopher://x/y", "AG0481", 2),
        ("/no/such/place.git", "AG0482", 1),
        ("--upload-pack=touch owned", "AG0481", 2),
    ],
)
def test_an_address_that_cannot_be_used_is_a_clear_error(
    agentgov: Cli, repo: Path, git: GitRunner, url: str, error: str, code: int
) -> None:
    git(repo, "config", "remote.origin.url", url)
    said = agentgov(repo, "sync", "--yes", code=code)
    assert error in said.err
    assert not list(repo.rglob("owned"))


def test_a_remote_that_is_not_there_is_named_with_those_that_are(agentgov: Cli, repo: Path) -> None:
    said = agentgov(repo, "sync", "upstream", code=2)
    assert "AG0480" in said.err
    assert "origin" in said.err


def test_a_password_in_an_address_is_never_shown(
    agentgov: Cli, repo: Path, git: GitRunner, home: Path
) -> None:
    git(repo, "config", "remote.origin.url", "https://user:hunter2secret@127.0.0.1:1/x.git?token=s3cr3t")
    said = agentgov(repo, "sync", "--yes", code=1)
    assert "AG0482" in said.err
    assert "hunter2secret" not in said.out + said.err
    assert "s3cr3t" not in said.out + said.err


def test_settings_of_the_repository_name_no_program_and_push_nothing_else(
    agentgov: Cli, repo: Path, remote: Path, git: GitRunner, tmp_path: Path
) -> None:
    git(repo, "tag", "-a", "v1", "-m", "mine")
    git(repo, "branch", "private")
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {tmp_path}/owned\nexit 1\n")
    evil.chmod(0o755)
    hooks = discover(repo).git_dir / "hooks"
    (hooks / "pre-push").write_text(evil.read_text())
    (hooks / "pre-push").chmod(0o755)
    (hooks / "reference-transaction").write_text(evil.read_text())
    (hooks / "reference-transaction").chmod(0o755)
    for key in ("uploadpack", "receivepack"):
        git(repo, "config", f"remote.origin.{key}", str(evil))
        git(repo, "config", f"remote.{remote}.{key}", str(evil))
    git(repo, "config", "remote.origin.vcs", "evil")
    git(repo, "config", "remote.origin.push", "+refs/heads/*:refs/heads/*")
    git(repo, "config", "push.followTags", "true")
    git(repo, "config", "core.gitProxy", str(evil))
    agentgov(repo, "sync", "--yes")
    refs = remote_refs(remote, git)
    assert not any(ref.startswith("refs/tags/") or "private" in ref for ref in refs)
    assert not (tmp_path / "owned").exists()


def test_the_users_own_is_not_touched(agentgov: Cli, repo: Path, git: GitRunner) -> None:
    (repo / "dirty.txt").write_text("mine")
    git(repo, "add", "dirty.txt")

    def mine() -> list[str]:
        shown = [git(repo, "status", "--porcelain=v2"), git(repo, "config", "--list", "--local")]
        return [*shown, git(repo, "for-each-ref", "refs/heads", "refs/remotes", "refs/tags", "refs/stash")]

    before = mine()
    agentgov(repo, "sync", "--yes", "--mirror", "records")
    assert mine() == before


# -- what comes back ---------------------------------------------------------------------------------------


@pytest.fixture
def other(repo: Path, remote: Path, tmp_path: Path, git: GitRunner, agentgov: Cli) -> Path:
    """A second clone, with a run of its own, both synchronised."""
    agentgov(repo, "sync", "--yes")
    path = tmp_path / "other"
    git(tmp_path, "clone", "-q", remote, path)
    agentgov.play(path, [write("c.txt", "three\n")], "--workspace", "in-place")
    agentgov(path, "sync", "--yes")
    return path


def test_records_are_fetched_by_name_into_the_remotes_namespace_only(
    agentgov: Cli, repo: Path, other: Path, git: GitRunner
) -> None:
    theirs, own = stream_of(repo), stream_of(other)
    refs = remote_refs(other, git)
    assert f"refs/agentgov/remotes/origin/ledger/{theirs}" not in refs
    said = agentgov(other, "sync", "--stream", theirs, "--json").json
    assert said["fetched"]["new"] == [f"refs/agentgov/ledger/{theirs}"]
    refs = remote_refs(other, git)
    assert refs[f"refs/agentgov/remotes/origin/ledger/{theirs}"]
    assert f"refs/agentgov/ledger/{theirs}" not in refs
    assert refs[f"refs/agentgov/ledger/{own}"]
    agentgov(other, "verify", "--stream", theirs, code=None)


def test_what_was_fetched_once_is_followed(agentgov: Cli, repo: Path, other: Path, git: GitRunner) -> None:
    theirs = stream_of(repo)
    agentgov(other, "sync", "--all")
    before = remote_refs(other, git)[f"refs/agentgov/remotes/origin/ledger/{theirs}"]
    agentgov.play(repo, [write("d.txt", "four\n")], "--workspace", "in-place")
    agentgov(repo, "sync")
    said = agentgov(other, "sync", "--json").json
    assert said["fetched"]["advanced"] == [f"refs/agentgov/ledger/{theirs}"]
    after = remote_refs(other, git)[f"refs/agentgov/remotes/origin/ledger/{theirs}"]
    git(other, "merge-base", "--is-ancestor", before, after)


@pytest.mark.parametrize("how", ["shorter", "forked", "gone"])
def test_a_rewritten_copy_is_told_and_kept_and_never_taken(
    agentgov: Cli, repo: Path, other: Path, remote: Path, git: GitRunner, how: str
) -> None:
    theirs = stream_of(repo)
    ref = f"refs/agentgov/ledger/{theirs}"
    agentgov(other, "sync", "--all")
    seen = remote_refs(remote, git)[ref]
    if how == "gone":
        git(remote, "update-ref", "-d", ref)
    elif how == "shorter":
        git(remote, "update-ref", ref, git(remote, "rev-parse", f"{seen}^"))
    else:
        forged = git(remote, "commit-tree", f"{seen}^{{tree}}", "-m", "forged")
        git(remote, "update-ref", ref, forged)
    said = agentgov(other, "sync", "--json", code=12).json
    (finding,) = said["findings"]
    assert (finding["code"], finding["ref"]) == (how, ref)
    refs = remote_refs(other, git)
    assert refs[f"refs/agentgov/remotes/origin/ledger/{theirs}"] == seen
    if how != "gone":
        assert refs[finding["kept"]] == remote_refs(remote, git)[ref]
    text = agentgov(other, "sync", code=12)
    assert text.out.startswith("REWRITTEN")


def test_a_copy_of_this_clone_that_went_on_is_told_and_nothing_is_sent(
    agentgov: Cli, repo: Path, remote: Path, git: GitRunner, tmp_path: Path
) -> None:
    agentgov(repo, "sync", "--yes")
    ref = f"refs/agentgov/ledger/{stream_of(repo)}"
    seen = remote_refs(remote, git)[ref]
    ahead = git(remote, "commit-tree", f"{seen}^{{tree}}", "-p", seen, "-m", "somebody else's")
    git(remote, "update-ref", ref, ahead)
    said = agentgov(repo, "sync", "--json", code=12).json
    assert [finding["code"] for finding in said["findings"]] == ["ahead"]
    agentgov.play(repo, [write("e.txt", "five\n")], "--workspace", "in-place")
    said = agentgov(repo, "sync", "--json", code=12).json
    assert {finding["code"] for finding in said["findings"]} == {"forked"}
    assert ref not in said["sent"]
    assert remote_refs(remote, git)[ref] == ahead


def test_odd_names_symbolic_refs_and_other_objects_harm_nothing(
    agentgov: Cli, repo: Path, other: Path, remote: Path, git: GitRunner
) -> None:
    theirs = stream_of(repo)
    blob = git(remote, "hash-object", "-w", "--stdin", input=b"no record")
    head = git(remote, "rev-parse", "refs/heads/main")
    git(remote, "update-ref", f"refs/agentgov/ledger/{'a' * 32}", blob)
    git(remote, "update-ref", f"refs/agentgov/ledger/{'b' * 32}", head)
    git(remote, "update-ref", "refs/agentgov/ledger/evil/deep/name", head)
    git(remote, "update-ref", f"refs/agentgov/ledger/{theirs.upper()}x", head)
    git(remote, "update-ref", "refs/agentgov/remotes/origin/ledger/x", head)
    git(remote, "update-ref", "refs/agentgov/archive", head)
    git(remote, "symbolic-ref", f"refs/agentgov/ledger/{'c' * 32}", "refs/heads/main")
    git(remote, "symbolic-ref", f"refs/agentgov/ledger/{'d' * 32}", "refs/heads/nowhere")
    said = agentgov(other, "sync", "--all", "--json", code=12).json
    assert [(found["code"], found["ref"]) for found in said["findings"]] == [
        ("damaged", f"refs/agentgov/ledger/{'a' * 32}")
    ]
    assert said["odd"] == 2
    refs = remote_refs(other, git)
    assert not any("evil" in ref or ref.endswith("/ledger/x") for ref in refs)
    assert agentgov(other, "verify", "--all", "--json", code=None).code in (3, 12, 13)


def test_malformed_objects_are_not_let_in(
    agentgov: Cli, repo: Path, other: Path, remote: Path, git: GitRunner
) -> None:
    tree = git(remote, "mktree", input=b"")
    raw = f"tree {tree}\nauthor a <a> 1 +0000\ncommitter x\n\nbad\n".encode()
    bad = git(remote, "hash-object", "-w", "-t", "commit", "--literally", "--stdin", input=raw)
    (remote / "refs/agentgov/ledger").mkdir(parents=True, exist_ok=True)
    (remote / "refs/agentgov/ledger" / ("e" * 32)).write_text(f"{bad}\n")
    said = agentgov(other, "sync", "--all", code=1)
    assert "AG0482" in said.err
    assert f"refs/agentgov/remotes/origin/ledger/{'e' * 32}" not in remote_refs(other, git)


def test_a_remote_that_says_no_end_of_refs_is_not_heard_out(
    agentgov: Cli, repo: Path, git: GitRunner, monkeypatch: pytest.MonkeyPatch, remote: Path
) -> None:
    monkeypatch.setattr("agentgov.ledger.remote.MAX_ADVERTISED_BYTES", 2000)
    head = git(remote, "rev-parse", "refs/heads/main")
    lines = "".join(f"create refs/heads/x{number} {head}\n" for number in range(200))
    git(remote, "update-ref", "--stdin", input=lines.encode())
    said = agentgov(repo, "sync", "--yes", code=1)
    assert "AG0484" in said.err


def test_what_the_remote_refuses_is_told_with_its_reason(
    agentgov: Cli, repo: Path, remote: Path, git: GitRunner
) -> None:
    hook = remote / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ncase $1 in refs/agentgov/ledger/*) echo no records here; exit 1;; esac\n")
    hook.chmod(0o755)
    said = agentgov(repo, "sync", "--yes", "--json", code=1).json
    (refused,) = said["refused"]
    assert refused["ref"] == f"refs/agentgov/ledger/{stream_of(repo)}"
    assert "no records here" in refused["why"]
    assert len(said["sent"]) == 1
    hook.unlink()
    agentgov(repo, "sync")


def test_content_that_was_written_anew_here_is_not_forced_on_the_remote(
    agentgov: Cli, repo: Path, remote: Path, git: GitRunner
) -> None:
    agentgov(repo, "sync", "--yes")
    run, stream = run_of(repo, agentgov), stream_of(repo)
    ref = f"refs/agentgov/payloads/{stream}/{run}/changes"
    before = remote_refs(remote, git)[ref]
    store = discover(repo).layout.store
    local = f"refs/agentgov/payloads/{run}/changes"
    fresh = git(store, "commit-tree", f"{local}^{{tree}}", "-m", "agentgov payloads")
    git(store, "update-ref", local, fresh)
    said = agentgov(repo, "sync", code=1)
    assert "refused" in said.out
    assert f"git push origin :{ref}" in said.err
    assert remote_refs(remote, git)[ref] == before


def test_an_agent_may_not_send_the_record(agentgov: Cli, repo: Path, remote: Path, git: GitRunner) -> None:
    before = remote_refs(remote, git)
    script = f"{sys.executable} -m agentgov sync --yes"
    agentgov.shell(repo, script, "--workspace", "in-place", code=10)
    assert remote_refs(remote, git) == before


# -- mirror and archive ------------------------------------------------------------------------------------


def test_the_mirror_branch_holds_the_records_and_only_grows(
    agentgov: Cli, repo: Path, other: Path, remote: Path, git: GitRunner, tmp_path: Path
) -> None:
    agentgov(repo, "sync", "--yes", "--mirror", "records")
    first = remote_refs(remote, git)["refs/heads/records"]
    assert git(remote, "ls-tree", "--name-only", first) == "streams"
    agentgov(other, "sync", "--yes", "--mirror", "records")
    second = remote_refs(remote, git)["refs/heads/records"]
    git(remote, "merge-base", "--is-ancestor", first, second)
    lines = git(remote, "show", f"{second}:streams").splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted([stream_of(repo), stream_of(other)])
    for line in lines:
        git(remote, "merge-base", "--is-ancestor", line.split()[3], second)
    said = agentgov(other, "sync", "--mirror", "records", "--json").json
    assert said["mirror"]["newer"] == []
    git(remote, "fsck", "--full", "--strict")
    # Whoever clones the branch alone has the records.
    git(tmp_path, "clone", "-q", "--single-branch", "-b", "records", f"file://{remote}", "audit")
    assert git(tmp_path / "audit", "cat-file", "-t", lines[0].split()[3]) == "commit"


def test_a_branch_that_people_work_on_is_never_mirrored_to(
    agentgov: Cli, repo: Path, remote: Path, git: GitRunner
) -> None:
    git(repo, "push", "-q", "origin", "main:work")
    before = remote_refs(remote, git)
    for branch in ("work", "main"):
        said = agentgov(repo, "sync", "--yes", "--mirror", branch, code=2)
        assert "AG0487" in said.err
    assert {ref: oid for ref, oid in remote_refs(remote, git).items() if "heads" in ref} == {
        ref: oid for ref, oid in before.items() if "heads" in ref
    }


@pytest.mark.parametrize("how", ["rewritten", "removed"])
def test_a_mirror_that_was_rewritten_is_told(
    agentgov: Cli, repo: Path, remote: Path, git: GitRunner, how: str
) -> None:
    agentgov(repo, "sync", "--yes", "--mirror", "records")
    tip = remote_refs(remote, git)["refs/heads/records"]
    if how == "removed":
        git(remote, "update-ref", "-d", "refs/heads/records")
    else:
        git(
            remote,
            "update-ref",
            "refs/heads/records",
            git(remote, "commit-tree", f"{tip}^{{tree}}", "-m", "new"),
        )
    said = agentgov(repo, "sync", "--mirror", "records", code=12)
    assert "AG0486" in said.err


def test_a_record_that_has_not_ended_or_is_not_witnessed_is_not_archived(
    agentgov: Cli, repo: Path, other: Path, remote: Path, git: GitRunner
) -> None:
    said = agentgov(other, "sync", "--all", "--archive", "--yes", "--json").json
    assert said["archived"] == []
    assert "refs/agentgov/archive" not in remote_refs(remote, git)


def test_the_commands_help_names_codes_and_examples(agentgov: Cli, repo: Path) -> None:
    said = agentgov(repo, "sync", "--help")
    assert "Examples:" in said.out
    assert "Exit codes" in said.out
