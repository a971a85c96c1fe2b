"""Which records lie in a repository, and the end of one that another continues."""

from __future__ import annotations

import pytest

from agentgov.clock import Clock, Random
from agentgov.errors import BrokenRecordError
from agentgov.git import Git, discover
from agentgov.layout import StateHome
from agentgov.ledger.chain import leaf_hash
from agentgov.ledger.merkle import Frontier
from agentgov.ledger.records import find_records, read_streams
from agentgov.ledger.seal import ledger_ref
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_source import RepositorySource, Trust, earlier_leaf
from tests.conftest import GitRunner, MakeRepo
from tests.support.forger import lines_of
from tests.support.ledgers import Prepared, prepare


@pytest.fixture
def prepared(make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random) -> Prepared:
    return prepare(make_repo(), state, clock, rng)


def _archive(prepared: Prepared, content: bytes) -> str:
    git = Git(prepared.repo / ".git")
    blob = git.text("hash-object", "-w", "--stdin", input=content)
    tree = git.text("mktree", input=f"100644 blob {blob}\tstreams\n".encode())
    who = {f"GIT_{role}_{part}": "a@b" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    return git.text("commit-tree", tree, "-m", "x", env=who)


def test_a_copy_that_is_older_adds_nothing_and_one_that_is_newer_is_read(
    prepared: Prepared, git: GitRunner
) -> None:
    ref = ledger_ref(prepared.stream_id)
    newest, older = git(prepared.repo, "rev-parse", ref), git(prepared.repo, "rev-parse", f"{ref}^")
    there = f"refs/agentgov/remotes/origin/ledger/{prepared.stream_id}"
    git(prepared.repo, "update-ref", there, older)
    repository = discover(prepared.repo)
    assert [(place.tip, place.where) for place in find_records(repository)] == [(newest, "here")]
    git(prepared.repo, "update-ref", there, newest)
    git(prepared.repo, "update-ref", ref, older)
    assert [(place.tip, place.where) for place in find_records(repository)] == [(newest, "origin")]
    source = RepositorySource(repository, stream_id=prepared.stream_id, tip=newest)
    assert verify_ledger(source, trust=Trust(public_key=prepared.trust.public_key)).entries == 19


def test_archived_records_are_found_and_a_damaged_archive_is_an_error(
    prepared: Prepared, git: GitRunner
) -> None:
    ref, root = ledger_ref(prepared.stream_id), "A" * 43 + "="
    newest = git(prepared.repo, "rev-parse", ref)
    commit = _archive(prepared, f"{prepared.stream_id} 19 {root} {newest}\n".encode())
    git(prepared.repo, "update-ref", "-d", ref)
    git(prepared.repo, "update-ref", "refs/agentgov/remotes/origin/archive", commit)
    (place,) = find_records(discover(prepared.repo))
    assert (place.tip, place.where) == (newest, "origin's archive")
    for content in (b"x", b"x\n", f"{prepared.stream_id} 019 {root} {newest}\n".encode()):
        with pytest.raises(BrokenRecordError) as caught:
            read_streams(Git(prepared.repo / ".git"), _archive(prepared, content))
        assert caught.value.id == "AG0446"
    with pytest.raises(BrokenRecordError):
        read_streams(Git(prepared.repo / ".git"), newest)


def test_mirrored_records_are_found_where_they_were_fetched_and_on_the_branch_named(
    prepared: Prepared, git: GitRunner
) -> None:
    ref = ledger_ref(prepared.stream_id)
    newest, root = git(prepared.repo, "rev-parse", ref), "A" * 43 + "="
    git(prepared.repo, "update-ref", "-d", ref)
    commit = _archive(prepared, f"{prepared.stream_id} 19 {root} {newest}\n".encode())
    assert find_records(discover(prepared.repo)) == []
    git(prepared.repo, "update-ref", "refs/heads/records", commit)
    (place,) = find_records(discover(prepared.repo), branches=["refs/heads/records"])
    assert (place.tip, place.where) == (newest, "records")
    git(prepared.repo, "update-ref", "refs/agentgov/remotes/origin/mirror/records", commit)
    (place,) = find_records(discover(prepared.repo))
    assert (place.tip, place.where) == (newest, "origin's records")


def test_the_end_of_an_earlier_record_is_found_at_any_size_that_is_saved(prepared: Prepared) -> None:
    repository, log = discover(prepared.repo), f"agentgov/{prepared.stream_id}"
    lines = lines_of(prepared.memory())
    for size in (1, 5, 14, 19):
        assert earlier_leaf(repository, log, size) == leaf_hash(lines[size - 1]).hex()
    assert earlier_leaf(repository, log, 20) is None
    assert earlier_leaf(repository, "agentgov/" + "0" * 32, 3) is None


@pytest.mark.parametrize("first", range(9))
@pytest.mark.parametrize("more", range(9))
def test_many_leaves_at_once_make_the_same_tree(first: int, more: int) -> None:
    leaves = [bytes([n]) * 32 for n in range(first + more)]
    one, many = Frontier(), Frontier()
    for leaf in leaves:
        one.append(leaf)
    many.extend(leaves[:first])
    many.extend(leaves[first:])
    assert (many.size, many.root(), many.last_proof()) == (one.size, one.root(), one.last_proof())
