"""`agentgov sync`, what comes back: honest and hostile remotes, mirrors and archives."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agentgov.git import discover
from tests.conftest import GitRunner
from tests.e2e.conftest import Cli, write
from tests.support.syncing import other, remote, remote_refs, repo, run_of, stream_of

__all__ = ["other", "remote", "repo"]


def test_records_are_fetched_by_name_into_the_remotes_namespace_only(
    agentgov: Cli, repo: Path, other: Path, git: GitRunner
) -> None:
    theirs, own = stream_of(repo), stream_of(other)
    refs = remote_refs(other, git)
    assert f"refs/agentgov/remotes/origin/ledger/{theirs}" not in refs
    said = agentgov(other, "sync", "--record", theirs, "--json").json
    assert said["fetched"]["new"] == [f"refs/agentgov/ledger/{theirs}"]
    refs = remote_refs(other, git)
    assert refs[f"refs/agentgov/remotes/origin/ledger/{theirs}"]
    assert f"refs/agentgov/ledger/{theirs}" not in refs
    assert refs[f"refs/agentgov/ledger/{own}"]
    agentgov(other, "verify", "--record", theirs, code=None)


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


@pytest.mark.parametrize("how", ["erased", "written anew"])
def test_content_that_is_no_longer_the_same_here_is_not_forced_on_the_remote(
    agentgov: Cli, repo: Path, remote: Path, git: GitRunner, how: str
) -> None:
    agentgov(repo, "sync", "--yes")
    run, stream = run_of(repo, agentgov), stream_of(repo)
    ref = f"refs/agentgov/payloads/{stream}/{run}/changes"
    before = remote_refs(remote, git)[ref]
    if how == "erased":
        said = agentgov(repo, "redact", f"{run}:1", "--field", "changes", "--reason", "a name in it", "--yes")
        assert str(remote) in said.out + said.err
    else:
        store, local = discover(repo).layout.store, f"refs/agentgov/payloads/{run}/changes"
        git(store, "update-ref", local, git(store, "commit-tree", f"{local}^{{tree}}", "-m", "anew"))
    said = agentgov(repo, "sync")
    assert "outlived" in said.out
    assert f"git push origin :{ref}" in said.err
    assert remote_refs(remote, git)[ref] == before
    git(repo, "push", "-q", "origin", f":{ref}")
    said = agentgov(repo, "sync", "--json").json
    assert said["outlived"] == []
    assert said["refused"] == []


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
