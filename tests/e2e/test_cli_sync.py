"""`agentgov sync` as a person uses it: what leaves, and only after a yes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agentgov.git import discover
from agentgov.ledger.sync import pushed
from tests.conftest import GitRunner
from tests.e2e.conftest import Cli, write
from tests.support.syncing import home_state, remote, remote_refs, repo, run_of, stream_of

__all__ = ["remote", "repo"]


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
    agentgov(repo, "keys", "rotate")
    assert "your key now stands behind this clone's record" in agentgov(repo, "sync").err
    entries = git(remote, "cat-file", "-p", f"refs/agentgov/ledger/{stream_of(repo)}:entries")
    assert '"kind":"stream.endorse"' in entries


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
