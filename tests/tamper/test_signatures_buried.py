"""Whoever may push hides what witnesses signed: behind other refs, behind commits, behind a merge."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentgov.clock import Clock, Random
from agentgov.errors import IncompleteError
from agentgov.git import Git, Repository
from agentgov.ledger import cosigned
from agentgov.ledger.anchor_store import own_cosigned, read_anchors, witness_ref, write_cosigned
from agentgov.ledger.checkpoint import Checkpoint, sign_checkpoint
from agentgov.ledger.cosignature import cosign
from agentgov.ledger.note import Note
from agentgov.ledger.signing import PrivateKey
from agentgov.ledger.tlog_policy import Policy
from agentgov.ledger.witness import WitnessKey
from tests.support.ledger import init

STREAM = "a" * 32
LOG_KEY = PrivateKey(b"l" * 32)
PERSON = {f"GIT_{role}_{key}": "x" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
LATER = {**PERSON, "GIT_AUTHOR_DATE": "@4000000000 +0000", "GIT_COMMITTER_DATE": "@4000000000 +0000"}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return init(tmp_path / "repo")


@pytest.fixture
def key(repository: Repository, rng: Random, clock: Clock) -> WitnessKey:
    """A witness that has signed the record once."""
    key = WitnessKey.generate("ci", rng)
    checkpoint = Checkpoint(f"agentgov/{STREAM}", 3, b"r" * 32)
    head = sign_checkpoint(checkpoint, LOG_KEY.public_key, LOG_KEY.sign)
    seen: Note = head.with_signature(cosign(head, key.public, key.private.sign, seconds=1_767_323_045))
    write_cosigned(repository, STREAM, key.public, seen, seconds=1_767_323_045)
    return key


def known(repository: Repository, key: WitnessKey) -> list[int]:
    policy = Policy.parse(f"witness ci {key.public.text()}\nquorum ci\n".encode())
    return [anchor.size for anchor in read_anchors(repository, STREAM, policy, None)[0]]


def junk(repository: Repository, *parents: str, message: str = "x") -> str:
    git = Git(repository.common_dir)
    blob = git.text("hash-object", "-w", "--stdin", input=message.encode())
    tree = git.text("mktree", input=f"100644 blob {blob}\tcheckpoint\n".encode())
    options = [option for parent in parents for option in ("-p", parent)]
    return git.text("commit-tree", tree, *options, "-m", message, env=LATER)


def test_other_refs_do_not_hide_a_witness(repository: Repository, key: WitnessKey) -> None:
    commit = junk(repository)
    lines = [f"create refs/agentgov/witness/{STREAM}/{number:08x} {commit}\n" for number in range(300)]
    lines += [
        f"create refs/agentgov/remotes/o/witness/{STREAM}/{number:08x} {commit}\n" for number in range(300)
    ]
    Git(repository.common_dir).run("update-ref", "--stdin", input="".join(lines).encode())
    assert known(repository, key) == [3]
    assert len(own_cosigned(repository, STREAM, key.public)) == 1


def test_commits_on_top_do_not_hide_a_witness(repository: Repository, key: WitnessKey) -> None:
    ref = witness_ref(STREAM, key.public)
    tip = repository.ref(ref)
    assert tip is not None
    for number in range(70):
        tip = junk(repository, tip, message=str(number))
    Git(repository.common_dir).run("update-ref", ref, tip)
    assert known(repository, key) == [3]
    assert len(own_cosigned(repository, STREAM, key.public)) == 1


def test_a_merge_does_not_hide_a_witness(repository: Repository, key: WitnessKey) -> None:
    ref = witness_ref(STREAM, key.public)
    tip = repository.ref(ref)
    assert tip is not None
    Git(repository.common_dir).run("update-ref", ref, junk(repository, junk(repository), tip))
    assert known(repository, key) == [3]
    assert len(own_cosigned(repository, STREAM, key.public)) == 1


def test_more_than_is_read_is_said_and_a_witness_does_not_sign_then(
    repository: Repository, key: WitnessKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = witness_ref(STREAM, key.public)
    tip = repository.ref(ref)
    assert tip is not None
    for number in range(5):
        tip = junk(repository, tip, message=str(number))
    Git(repository.common_dir).run("update-ref", ref, tip)
    monkeypatch.setattr(cosigned, "MAX_COMMITS", 5)
    policy = Policy.parse(f"witness ci {key.public.text()}\nquorum ci\n".encode())
    anchors, problems = read_anchors(repository, STREAM, policy, None)
    assert (anchors, len([what for what in problems if "not every signature" in what])) == ([], 1)
    with pytest.raises(IncompleteError, match="cannot all be read"):
        own_cosigned(repository, STREAM, key.public)
