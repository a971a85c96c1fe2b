"""Whose approval counts: by trust file, by the operator's pin, and after a revocation by its place."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agentgov.errors import UntrustedSignerError
from agentgov.gates.adoption import pin_policy_ref, protected_commit
from agentgov.gates.review import Principal
from agentgov.gates.trust import TrustedPersons
from agentgov.git import Repository, discover
from agentgov.harness import people
from agentgov.layout import StateHome
from agentgov.ledger import sshsig
from agentgov.ledger.people import People
from agentgov.ledger.revocation import Revocation, revoked_text
from agentgov.ledger.signing import Envelope, EnvelopeSignature
from tests.conftest import GitRunner, MakeRepo
from tests.support.persons import LOG, OTHER_LOG, frozen

MESSAGE = b"message"


class Pen:
    """A person's key, and what they signed."""

    def __init__(self, path: Path) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        signed = sshsig.sign_ssh(sshsig.PersonKey(path, None, "test"), MESSAGE)
        self.key = signed.public_key
        self.signature = signed.blob

    def revoked(self, name: str = "bob", size: int = 40) -> Revocation:
        return Revocation(name, "person", (self.key.fingerprint,), {LOG: frozen(size)})


@pytest.fixture
def pen(tmp_path: Path) -> Pen:
    return Pen(tmp_path / "id")


def persons(pen: Pen, trust: str, *, own: bool = False) -> TrustedPersons:
    known = People.parse(trust, revoked_text([pen.revoked()]))
    return TrustedPersons(trust, pen.key.line if own else None, (), known)


@pytest.mark.parametrize("line", ["bob {}", "", 'bob valid-before="20200101" {}'])
@pytest.mark.parametrize("own", [True, False])
def test_the_place_decides_about_who_was_revoked_and_nothing_else(pen: Pen, line: str, own: bool) -> None:
    trusted = persons(pen, line.format(pen.key.line), own=own)
    for place, standing in (
        ((LOG, 39), "since left"),
        ((LOG, 40), "revoked"),
        ((OTHER_LOG, 0), "revoked"),
        (None, "revoked"),
    ):
        found = trusted.identify(MESSAGE, pen.signature, place)
        assert found == Principal("bob", own, standing)  # type: ignore[arg-type]


def test_whoever_is_not_revoked_must_still_pass_ssh_keygen(pen: Pen) -> None:
    past = f'bob valid-before="20200101" {pen.key.line}\n'
    assert TrustedPersons(past).identify(MESSAGE, pen.signature, (LOG, 1)) is None
    assert TrustedPersons(past, pen.key.line).identify(MESSAGE, pen.signature) == Principal("operator", True)


def commit_files(repo: Path, git: GitRunner, trust: str | None, revoked: str | None) -> str:
    folder = repo / ".agentgov"
    folder.mkdir(exist_ok=True)
    for name, text in (("allowed_signers", trust), ("revoked", revoked)):
        if text is None:
            (folder / name).unlink(missing_ok=True)
        else:
            (folder / name).write_text(text)
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "--allow-empty", "-m", "trust")
    return str(git(repo, "rev-parse", "HEAD")).strip()


@pytest.fixture
def repo(make_repo: MakeRepo) -> Repository:
    return discover(make_repo())


def test_a_branch_that_lags_behind_brings_nobody_back(
    repo: Repository, state: StateHome, git: GitRunner, pen: Pen
) -> None:
    root = repo.require_work_tree()
    before = commit_files(root, git, f"bob {pen.key.line}\n", None)
    git(root, "branch", "release")
    assert people.read_people(repo, state, before).standing(pen.key, LOG, 99) == "member"  # type: ignore[union-attr]
    commit_files(root, git, f"bob {pen.key.line}\n", revoked_text([pen.revoked()]))
    found = people.read_people(repo, state, before)
    assert found is not None
    assert found.principal(pen.key) == "bob"
    assert found.standing(pen.key, LOG, 99) == "revoked"
    envelope = Envelope("x", b"", (EnvelopeSignature("", pen.signature),))
    with pytest.raises(UntrustedSignerError) as caught:
        people.demand_standing(repo, state, before, envelope)
    assert caught.value.id == "AG0423"


def test_a_revocation_counts_without_a_trust_file(
    repo: Repository, state: StateHome, git: GitRunner, pen: Pen
) -> None:
    commit = commit_files(repo.require_work_tree(), git, None, None)
    assert people.read_people(repo, state, commit) is None
    commit = commit_files(repo.require_work_tree(), git, None, revoked_text([pen.revoked()]))
    found = people.read_people(repo, state, commit)
    assert found is not None
    assert found.standing(pen.key, LOG, 99) == "revoked"


def test_trust_is_taken_from_the_pinned_ref_first(repo: Repository, state: StateHome, git: GitRunner) -> None:
    root = repo.require_work_tree()
    commit = commit_files(root, git, "x", None)
    assert protected_commit(repo, state) == (commit, "main")
    git(root, "branch", "rules", "HEAD~1")
    pin_policy_ref(repo, state, "rules")
    pinned = protected_commit(repo, state)
    assert pinned is not None
    assert pinned[0] != commit
