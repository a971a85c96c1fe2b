"""A hostile remote, and people who may push to it: what they put there, take away, or show to one only."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentgov.git import discover
from agentgov.ledger import sync_fetch
from agentgov.ledger.remote import find_remote
from agentgov.ledger.sync_fetch import fetch_records
from tests.conftest import GitRunner
from tests.e2e.conftest import Cli, write
from tests.support.record_places import new_key
from tests.support.syncing import other, remote, remote_refs, repo, stream_of

__all__ = ["other", "remote", "repo"]


def seal(where: Path, git: GitRunner, stream: str, size: int, *parents: str) -> str:
    """A commit in the form of a seal, whose head nobody signed."""
    head = f"agentgov/{stream}\n{size}\n{'A' * 43}=\n\n\u2014 agentgov/{stream} {'A' * 92}\n"
    lines = ""
    for name, text in (("checkpoint", head), ("entries", "{}\n"), ("proof", ""), ("signatures", "x\n")):
        oid = git(where, "hash-object", "-w", "--stdin", input=text.encode())
        lines += f"100644 blob {oid}\t{name}\n"
    tree = git(where, "mktree", input=lines.encode())
    return git(where, "commit-tree", tree, *(o for p in parents for o in ("-p", p)), "-m", "x")


@pytest.mark.parametrize("size", [0, 10**16, 2**64 - 1])
def test_a_head_of_an_impossible_size_does_not_spoil_the_mirror(
    agentgov: Cli, repo: Path, remote: Path, git: GitRunner, size: int
) -> None:
    agentgov(repo, "sync", "--yes", "--mirror", "records")
    git(remote, "update-ref", f"refs/agentgov/ledger/{'0' * 32}", seal(remote, git, "0" * 32, size))
    agentgov.play(repo, [write("b.txt", "two\n")], "--workspace", "in-place")
    for _ in range(2):
        said = agentgov(repo, "sync", "--all", "--mirror", "records", "--json").json
        assert [item["record"] for item in said["skipped"]] == ["0" * 32]
    lines = git(remote, "show", "refs/heads/records:streams").splitlines()
    assert [line.split()[0] for line in lines] == [stream_of(repo)]
    assert lines[0].split()[3] == git(repo, "rev-parse", f"refs/agentgov/ledger/{stream_of(repo)}")


def test_a_fetched_record_that_leads_to_files_is_not_carried_into_the_mirror(
    agentgov: Cli, repo: Path, remote: Path, git: GitRunner
) -> None:
    agentgov(repo, "sync", "--yes", "--mirror", "records")
    (repo / "unpublished.txt").write_text("not for others\n")
    git(repo, "add", "unpublished.txt")
    git(repo, "commit", "-q", "-m", "wip")
    secret = git(repo, "rev-parse", "HEAD")
    forged = f"refs/agentgov/remotes/origin/ledger/{'0' * 32}"
    git(repo, "update-ref", forged, seal(repo, git, "0" * 32, 1, secret))
    said = agentgov(repo, "sync", "--mirror", "records", "--json", code=12).json
    assert [(item["code"], item["kept"]) for item in said["findings"]] == [("gone", forged)]
    assert secret not in git(remote, "rev-list", "--all").split()


@pytest.mark.parametrize("kind", ["witness", "timestamp", "archive"])
def test_signatures_that_were_seen_and_are_gone_are_told(
    agentgov: Cli, repo: Path, other: Path, remote: Path, git: GitRunner, kind: str
) -> None:
    rest = {"witness": f"/{stream_of(other)}/0123abcd", "timestamp": f"/{stream_of(other)}", "archive": ""}
    ref = f"refs/agentgov/{kind}{rest[kind]}"
    blob = git(remote, "hash-object", "-w", "--stdin", input=b"")
    name = "streams" if kind == "archive" else "checkpoint"
    tree = git(remote, "mktree", input=f"100644 blob {blob}\t{name}\n".encode())
    git(remote, "update-ref", ref, git(remote, "commit-tree", tree, "-m", "x"))
    agentgov(repo, "sync", "--all", code=None)
    git(remote, "update-ref", "-d", ref)
    said = agentgov(repo, "sync", "--all", "--json", code=12).json
    assert [(item["code"], item["ref"]) for item in said["findings"]] == [("gone", ref)]


def test_a_witness_signs_nothing_of_a_record_that_the_remote_shows_in_two_forms(
    agentgov: Cli, repo: Path, other: Path, remote: Path, git: GitRunner
) -> None:
    """The copy that was seen first, and was never signed, is no better known than the one shown now."""
    stream = stream_of(other)
    ref = f"refs/agentgov/ledger/{stream}"
    key, _ = new_key(agentgov, repo)
    agentgov(repo, "sync", "--all")
    git(remote, "update-ref", ref, f"{ref}^")
    said = agentgov(repo, "witness", "--key", key, "--all", "--remote", "origin", "--json", code=12).json
    mine = [item for item in said["records"] if item["record"] == stream]
    assert mine
    assert all(item["signed"] is None for item in mine)
    assert not [name for name in remote_refs(remote, git) if f"/witness/{stream}/" in name]


def test_a_copy_kept_as_evidence_is_never_signed(
    agentgov: Cli, repo: Path, other: Path, remote: Path, git: GitRunner
) -> None:
    stream = stream_of(other)
    ref = f"refs/agentgov/ledger/{stream}"
    agentgov(repo, "sync", "--all")
    whole = git(remote, "rev-parse", ref)
    git(remote, "update-ref", ref, seal(remote, git, stream, 3))
    agentgov(repo, "sync", "--all", code=12)
    git(remote, "update-ref", ref, whole)
    key, _ = new_key(agentgov, repo)
    said = agentgov(repo, "witness", "--key", key, "--all", "--json").json
    assert not [item for item in said["records"] if "conflicts" in item["where"]]


def test_two_syncs_at_once_do_not_stand_in_each_others_way(
    agentgov: Cli, repo: Path, other: Path, git: GitRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one has moved the refs between the reading of them and their writing."""
    there = find_remote(discover(repo), "origin")
    offer, take = there.offer(), sync_fetch._Fetching.take
    raced: list[str] = []

    def take_late(self: sync_fetch._Fetching, ref: str, old: str | None, new: str) -> None:
        if not raced:
            raced.append(ref)
            fetch_records(there, offer, None)
        take(self, ref, old, new)

    monkeypatch.setattr(sync_fetch._Fetching, "take", take_late)
    received = fetch_records(there, offer, None)
    assert raced
    assert received.findings == ()
    kept = f"refs/agentgov/remotes/origin/ledger/{stream_of(other)}"
    assert git(repo, "rev-parse", kept) == offer.refs[f"refs/agentgov/ledger/{stream_of(other)}"]


def test_a_partial_clone_gets_records_whole(
    agentgov: Cli, repo: Path, other: Path, remote: Path, git: GitRunner, tmp_path: Path
) -> None:
    """The mirror branch brings the commits of every record, and git leaves their files at the remote."""
    agentgov(other, "sync", "--yes", "--mirror", "records")
    git(remote, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--filter=blob:none", f"file://{remote}", "partial")
    agentgov(tmp_path / "partial", "sync", "--all", "--yes")
    found = agentgov(tmp_path / "partial", "verify", "--all", "--json", code=None).json["records"]
    assert len(found) == 2
    assert all(item["exit_code"] in (0, 13) for item in found)


def test_what_a_partial_clone_lacks_is_incomplete_and_not_broken(
    agentgov: Cli, repo: Path, other: Path, remote: Path, git: GitRunner, tmp_path: Path
) -> None:
    git(remote, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--mirror", "--filter=blob:none", f"file://{remote}", "partial.git")
    found = agentgov(tmp_path / "partial.git", "verify", "--all", "--json", code=3).json["records"]
    assert [item["exit_code"] for item in found] == [3, 3]


def test_what_another_sync_sent_meanwhile_is_no_rewriting(
    agentgov: Cli, repo: Path, other: Path, git: GitRunner
) -> None:
    there = find_remote(discover(other), "origin")
    offer = there.offer()
    agentgov.play(other, [write("d.txt", "four\n")], "--workspace", "in-place")
    agentgov(other, "sync")
    assert fetch_records(there, offer, None, own=stream_of(other)).findings == ()


def test_nothing_goes_out_under_the_name_of_a_record_whose_copies_part(
    agentgov: Cli, repo: Path, remote: Path, git: GitRunner
) -> None:
    """A backup was restored: the remote has content of later runs, which nobody is told to remove."""
    agentgov(repo, "sync", "--yes")
    stream = stream_of(repo)
    ref = f"refs/agentgov/ledger/{stream}"
    git(remote, "update-ref", ref, seal(remote, git, stream, 40, git(remote, "rev-parse", ref)))
    late = f"refs/agentgov/payloads/{stream}/zzzzz/changes"
    before = {name: oid for name, oid in remote_refs(remote, git).items() if "/payloads/" in name}
    git(remote, "update-ref", late, next(iter(before.values())))
    agentgov.play(repo, [write("b.txt", "two\n")], "--workspace", "in-place")
    said = agentgov(repo, "sync", "--json", code=12).json
    assert [item["code"] for item in said["findings"]] == ["forked"]
    assert (said["sent"], said["outlived"]) == ([], [])
    after = {name: oid for name, oid in remote_refs(remote, git).items() if "/payloads/" in name}
    assert after == {**before, late: after[late]}
