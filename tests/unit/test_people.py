"""Whose key signs, and who stands behind this clone's record."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentgov.clock import Clock, Random
from agentgov.errors import AgentgovError
from agentgov.gates.adoption import operator_key
from agentgov.git import discover
from agentgov.harness import people
from agentgov.harness.settled import Workplace
from agentgov.layout import StateHome
from agentgov.ledger.payloads import PayloadStore
from agentgov.ledger.redaction import Redactor
from agentgov.ledger.sshsig import PersonKey
from agentgov.ledger.stream import Stream
from agentgov.rollback.objects import ObjectStore
from tests.conftest import GitRunner, MakeRepo


def make_key(path: Path) -> PersonKey:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return PersonKey(path, None, "test")


@pytest.fixture
def work(make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random) -> Iterator[Workplace]:
    repo = discover(make_repo())
    with Stream.open(repo, state, clock=clock, random=rng) as stream:
        payloads = PayloadStore(repo.layout, repo.layout.store, repo.object_format, Redactor(), rng)
        store = ObjectStore(repo.layout.store, repo.objects_dir, repo.object_format)
        store.ensure()
        yield Workplace(repo, stream, payloads, store, clock)
        store.close()


def test_a_key_given_by_path_comes_before_any_setting(
    make_repo: MakeRepo, git: GitRunner, tmp_path: Path
) -> None:
    repo = make_repo()
    git(repo, "config", "user.signingKey", "0xABCD")
    given = tmp_path / "given"
    assert people.find_key(discover(repo), None, given).file == given


def test_a_default_key_of_the_home_folder_is_found(make_repo: MakeRepo, tmp_path: Path) -> None:
    (tmp_path / "h" / ".ssh").mkdir(parents=True)
    made = make_key(tmp_path / "h" / ".ssh" / "id_ed25519")
    found = people.find_key(discover(make_repo()), tmp_path / "h", None)
    assert str(found.file).removesuffix(".pub") == str(made.file)


def test_without_any_key_the_error_names_the_commands(make_repo: MakeRepo, tmp_path: Path) -> None:
    repo = discover(make_repo())
    for home in (None, tmp_path):
        with pytest.raises(AgentgovError) as caught:
            people.find_key(repo, home, None)
        assert caught.value.id == "AG0213"
        assert any("agentgov keys new" in hint for hint in caught.value.hint)


def test_the_first_key_stands_behind_the_record_and_a_second_does_not_replace_it(
    work: Workplace, state: StateHome, tmp_path: Path
) -> None:
    first, second = make_key(tmp_path / "one"), make_key(tmp_path / "two")
    assert people.endorse(work, state, first) is True
    pinned = operator_key(work.repo, state)
    assert pinned is not None
    assert pinned.split()[1] in (tmp_path / "one.pub").read_text()
    assert people.endorse(work, state, second) is False
    assert operator_key(work.repo, state) == pinned
    kinds = [signed.entry.kind for signed in work.stream.entries()]
    assert kinds.count("stream.endorse") == 1


def test_trust_is_read_from_the_commit_and_never_from_the_tree(make_repo: MakeRepo, git: GitRunner) -> None:
    path = make_repo(files={people.TRUST_FILE: "committed\n"})
    (path / people.TRUST_FILE).write_text("edited\n")
    git(path, "add", ".")
    repo = discover(path)
    commit = repo.require_head_commit()
    assert people.read_trust(repo, commit) == "committed\n"
    git(path, "commit", "-q", "-am", "edited")
    git(path, "rm", "-q", people.TRUST_FILE)
    git(path, "commit", "-q", "-m", "gone")
    assert people.read_trust(repo, repo.require_head_commit()) is None
    assert people.read_trust(repo, commit) == "committed\n"
