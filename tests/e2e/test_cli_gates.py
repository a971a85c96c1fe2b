"""`approve` and `promote`: what lands on a branch, and what has to be there first."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentgov.gates import landing
from tests.conftest import GitRunner, MakeRepo
from tests.e2e.conftest import Cli, bash, write

REVIEW = "[review]\nrequired = 1\n"
STEPS = [bash("echo two >> a.txt"), write("new.txt", "n\n")]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys of the operator, a reviewer and a stranger."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("operator", "reviewer", "stranger"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)], check=True
        )
    return folder


@pytest.fixture
def shop(make_repo: MakeRepo, keys: Path, git: GitRunner) -> Callable[..., Path]:
    """Makes a repository with some rules, a trust file, and the operator's key in its settings."""

    def make(rules: str = "", **files: str) -> Path:
        signers = "".join(
            f"{name}@example.org {(keys / f'{name}.pub').read_text()}" for name in ("operator", "reviewer")
        )
        repo = make_repo(
            files={
                "a.txt": "one\n",
                "other.txt": "o\n",
                ".agentgov/allowed_signers": signers,
                **({".agentgov.toml": rules} if rules else {}),
                **files,
            }
        )
        git(repo, "config", "agentgov.signingKey", str(keys / "operator"))
        git(repo, "config", "user.email", "operator@example.org")
        return repo

    return make


def result_tree(agentgov: Cli, repo: Path) -> str:
    return str(agentgov(repo, "show", "--json").json["run"]["result"])


def test_an_unprotected_branch_needs_no_approval(
    agentgov: Cli, shop: Callable[..., Path], git: GitRunner
) -> None:
    repo = shop(REVIEW)
    git(repo, "branch", "feature")
    run = agentgov.play(repo, STEPS, "--intent", "add a line")
    said = agentgov(repo, "promote", "--into", "feature")
    assert f"agentgov {run}: feature is now " in said.err
    assert git(repo, "rev-parse", "feature^{tree}") == result_tree(agentgov, repo)
    assert git(repo, "rev-parse", "main") == git(repo, "rev-parse", "feature^1")
    message = git(repo, "log", "-1", "--format=%B", "feature")
    assert message.startswith(f"Merge add a line (run {run})\n")
    trailers = git(repo, "log", "-1", "--format=%(trailers:only,unfold)", "feature").splitlines()
    assert trailers[0] == f"Agent-Run: {run}"
    assert trailers[1].startswith("Agent-Ledger: agentgov/")
    assert not any(line.startswith("Agent-Approval") for line in trailers)
    assert f"landed {git(repo, 'rev-parse', '--short=7', 'feature')}" in agentgov(repo, "log").out
    agentgov(repo, "verify", "--require", "pinned")


def test_a_protected_branch_needs_an_approval_and_says_which_command_gives_it(
    agentgov: Cli, shop: Callable[..., Path], git: GitRunner
) -> None:
    repo = shop(REVIEW)
    run = agentgov.play(repo, STEPS)
    head = git(repo, "rev-parse", "main")
    said = agentgov(repo, "promote", "--json", code=11)
    assert said.out == ""
    assert said.err.startswith("error[AG0110]: main was not moved: 1 of 1 approval missing")
    assert f"help: agentgov approve {run} --into main" in said.err
    assert "solo = true" in said.err
    assert git(repo, "rev-parse", "main") == head


def test_without_a_review_table_the_operators_own_approval_counts_and_is_marked(
    agentgov: Cli, shop: Callable[..., Path], git: GitRunner
) -> None:
    repo = shop()
    run = agentgov.play(repo, STEPS)
    refused = agentgov(repo, "promote", code=11)
    assert "yours counts, marked self-approved" in refused.err
    given = agentgov(repo, "approve", run, "-m", "read it")
    assert "approved for main" in given.err
    assert f"next      agentgov promote {run} --into main" in given.err
    done = agentgov(repo, "promote", run, "--json").json
    assert (done["self_approved"], done["tier"], done["target"]) == (True, "low", "refs/heads/main")
    assert "Agent-Approval: self-approved" in git(repo, "log", "-1", "--format=%B", "main")
    # The clean tree of the user followed.
    assert done["work_trees"] == [{"path": str(repo), "updated": True, "reason": ""}]
    assert (repo / "new.txt").read_text() == "n\n"
    assert git(repo, "status", "--porcelain") == ""


def test_the_operators_own_approval_does_not_count_where_a_review_is_required(
    agentgov: Cli, shop: Callable[..., Path]
) -> None:
    repo = shop(REVIEW)
    run = agentgov.play(repo, STEPS)
    agentgov(repo, "approve", run, "-m", "mine")
    said = agentgov(repo, "promote", run, code=11)
    assert "you started this run, so yours cannot count" in said.err


def test_a_reviewers_approval_counts_and_a_strangers_does_not(
    agentgov: Cli, shop: Callable[..., Path], keys: Path, git: GitRunner
) -> None:
    repo = shop(REVIEW)
    run = agentgov.play(repo, STEPS)
    agentgov(repo, "approve", run, "-m", "nobody knows me", "--key", keys / "stranger")
    agentgov(repo, "promote", run, code=11)
    given = agentgov(repo, "approve", run, "-m", "fine", "--key", keys / "reviewer", "--json").json
    assert given["needed"] is True
    assert given["result"] == result_tree(agentgov, repo)
    done = agentgov(repo, "promote", run, "--json").json
    assert done["approved_by"] == ["reviewer@example.org"]
    assert done["self_approved"] is False
    assert "self-approved" not in git(repo, "log", "-1", "--format=%B", "main")


def test_solo_lets_the_operators_own_count(agentgov: Cli, shop: Callable[..., Path]) -> None:
    repo = shop("[review]\nrequired = 1\nsolo = true\n")
    run = agentgov.play(repo, STEPS)
    agentgov(repo, "approve", run, "-m", "alone here")
    assert agentgov(repo, "promote", run, "--json").json["self_approved"] is True


def test_one_person_with_two_approvals_is_one_person(
    agentgov: Cli, shop: Callable[..., Path], keys: Path
) -> None:
    repo = shop("[review]\nrequired = 2\n")
    run = agentgov.play(repo, STEPS)
    for _ in range(2):
        agentgov(repo, "approve", run, "-m", "again", "--key", keys / "reviewer")
    said = agentgov(repo, "promote", run, code=11)
    assert "1 of 2 approvals missing" in said.err


def test_approve_without_a_key_names_the_commands_that_make_one(
    agentgov: Cli, make_repo: MakeRepo, git: GitRunner, tmp_path: Path
) -> None:
    repo = make_repo()
    run = agentgov.play(repo, STEPS[1:])
    none = agentgov(repo, "approve", run, "-m", "x", code=1)
    assert none.err.startswith("error[AG0213]: ")
    assert "help: agentgov keys new" in none.err
    git(repo, "config", "user.signingKey", "0xDEADBEEFDEADBEEF")
    gpg = agentgov(repo, "approve", run, "-m", "x", code=1)
    assert gpg.err.startswith("error[AG0214]: git signs with GPG here")
    assert "help: agentgov keys new" in gpg.err
    assert "help: git config --global agentgov.signingKey" in gpg.err
    missing = agentgov(repo, "approve", run, "-m", "x", "--key", tmp_path / "nowhere", code=1)
    assert missing.err.startswith("error[AG0215]: ")
    assert agentgov(repo, "show", run, "--json").json["run"]["landed"] is None


def test_an_approval_dies_with_the_result_it_was_given_for(
    agentgov: Cli, shop: Callable[..., Path], keys: Path, git: GitRunner
) -> None:
    repo = shop(REVIEW)
    run = agentgov.play(repo, STEPS)
    agentgov(repo, "approve", run, "-m", "fine", "--key", keys / "reviewer")
    agentgov(repo, "rollback", ":1", "--yes")
    said = agentgov(repo, "promote", run, code=11)
    assert "the result is not what was approved" in said.err
    agentgov(repo, "approve", run, "-m", "fine again", "--key", keys / "reviewer")
    agentgov(repo, "promote", run)
    assert git(repo, "show", "main:a.txt") == "one\ntwo"
    assert git(repo, "ls-tree", "--name-only", "main", "new.txt") == ""


def test_an_approval_for_one_branch_is_none_for_another(
    agentgov: Cli, shop: Callable[..., Path], keys: Path, git: GitRunner
) -> None:
    repo = shop('[protect]\nbranches = ["main", "release"]\n' + REVIEW)
    git(repo, "branch", "release")
    run = agentgov.play(repo, STEPS)
    agentgov(repo, "approve", run, "-m", "fine", "--into", "release", "--key", keys / "reviewer")
    said = agentgov(repo, "promote", run, "--into", "main", code=11)
    assert "it is for another branch" in said.err
    agentgov(repo, "promote", run, "--into", "release")


def test_an_unrelated_move_of_the_branch_keeps_the_approval(
    agentgov: Cli, shop: Callable[..., Path], keys: Path, git: GitRunner
) -> None:
    repo = shop(REVIEW)
    run = agentgov.play(repo, STEPS)
    agentgov(repo, "approve", run, "-m", "fine", "--key", keys / "reviewer")
    (repo / "other.txt").write_text("moved\n")
    git(repo, "commit", "-q", "-am", "elsewhere")
    moved = git(repo, "rev-parse", "main")
    agentgov(repo, "promote", run)
    assert git(repo, "rev-parse", "main^1") == moved
    assert git(repo, "show", "main:other.txt") == "moved"
    assert git(repo, "show", "main:a.txt") == "one\ntwo"


def test_a_conflicting_move_of_the_branch_is_refused(
    agentgov: Cli, shop: Callable[..., Path], keys: Path, git: GitRunner
) -> None:
    repo = shop(REVIEW)
    run = agentgov.play(repo, STEPS)
    agentgov(repo, "approve", run, "-m", "fine", "--key", keys / "reviewer")
    (repo / "a.txt").write_text("one\nmine\n")
    git(repo, "commit", "-q", "-am", "the same place")
    moved = git(repo, "rev-parse", "main")
    said = agentgov(repo, "promote", run, code=15)
    assert said.err.startswith("error[AG0115]: ")
    assert "a.txt" in said.err
    assert git(repo, "rev-parse", "main") == moved


def test_a_branch_that_moves_at_the_last_moment_is_not_overwritten(
    agentgov: Cli, shop: Callable[..., Path], git: GitRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = shop()
    git(repo, "branch", "feature")
    run = agentgov.play(repo, STEPS)
    real = landing.merge_message

    def race(*args: Any, **more: Any) -> str:
        git(repo, "commit", "-q", "--allow-empty", "-m", "race")
        git(repo, "branch", "-f", "feature", "main")
        return real(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(landing, "merge_message", race)
        said = agentgov(repo, "promote", run, "--into", "feature", code=15)
    assert said.err.startswith("error[AG0114]: ")
    assert git(repo, "rev-parse", "feature") == git(repo, "rev-parse", "main")
    assert agentgov(repo, "log", "--json").json["runs"][0]["landed"] is None
    agentgov(repo, "promote", run, "--into", "feature")
    agentgov(repo, "verify")


def test_a_dirty_checked_out_tree_is_left_and_that_is_said(
    agentgov: Cli, shop: Callable[..., Path], git: GitRunner
) -> None:
    repo = shop()
    run = agentgov.play(repo, STEPS)
    agentgov(repo, "approve", run, "-m", "ok")
    (repo / "other.txt").write_text("unsaved\n")
    said = agentgov(repo, "promote", run)
    assert f"  left      {repo}: " in said.err
    assert "git -C" in said.err
    assert (repo / "other.txt").read_text() == "unsaved\n"
    assert not (repo / "new.txt").exists()
    assert git(repo, "show", "main:new.txt") == "n"


def test_rules_deny_a_governed_path_at_promotion_too(
    agentgov: Cli, shop: Callable[..., Path], git: GitRunner
) -> None:
    repo = shop()
    git(repo, "branch", "feature")
    # No hooks: the write was not seen before it happened.
    run = agentgov.shell(repo, "echo '[protect]' > .agentgov.toml; echo x > x")
    said = agentgov(repo, "promote", run, "--into", "feature", code=10)
    assert said.err.startswith("error[AG0081]: ")
    assert "builtin-governance" in said.err
    assert git(repo, "rev-parse", "feature") == git(repo, "rev-parse", "main")


def test_a_broken_record_refuses_promotion(agentgov: Cli, shop: Callable[..., Path], git: GitRunner) -> None:
    repo = shop()
    git(repo, "branch", "feature")
    run = agentgov.play(repo, STEPS)
    ref = git(repo, "for-each-ref", "--format=%(refname)", "refs/agentgov/ledger")
    signatures = git(repo, "cat-file", "blob", f"{ref}:signatures").splitlines()
    signatures[3], signatures[4] = signatures[4], signatures[3]
    swapped = git(repo, "hash-object", "-w", "--stdin", input="\n".join([*signatures, ""]).encode())
    rows = [
        row if not row.endswith("\tsignatures") else f"100644 blob {swapped}\tsignatures"
        for row in git(repo, "ls-tree", ref).splitlines()
    ]
    tree = git(repo, "mktree", input="\n".join([*rows, ""]).encode())
    git(repo, "update-ref", ref, git(repo, "commit-tree", tree, "-m", "forged"))
    said = agentgov(repo, "promote", run, "--into", "feature", code=12)
    assert "error[AG0" in said.err
    assert git(repo, "rev-parse", "feature") == git(repo, "rev-parse", "main")


class CutError(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("moment", ["before the branch moves", "after it moved"])
def test_a_promotion_cut_short_is_closed_by_the_next_one(
    agentgov: Cli, shop: Callable[..., Path], git: GitRunner, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    from agentgov.gates.journal import StreamJournal

    repo = shop('[protect]\nbranches = ["main"]\n')
    git(repo, "branch", "old")
    git(repo, "checkout", "-q", "-b", "feature")
    run = agentgov.play(repo, STEPS)

    def cut(*_: object, **__: object) -> Any:
        raise CutError

    with monkeypatch.context() as patch:
        if moment == "after it moved":
            patch.setattr(StreamJournal, "done", cut)
        else:
            patch.setattr(landing, "merge_message", cut)
        with pytest.raises(CutError):
            agentgov(repo, "promote", run, "--into", "feature")
    landed = git(repo, "rev-parse", "feature") != git(repo, "rev-parse", "old")
    assert landed == (moment == "after it moved")
    assert agentgov(repo, "verify", code=None).code in (0, 3)
    said = agentgov(repo, "promote", run, "--into", "feature", code=2 if landed else 0)
    if landed:
        assert "has all of this result already" in said.err
    commit = agentgov(repo, "log", "--json").json["runs"][0]["landed"]
    assert commit == git(repo, "rev-parse", "feature")
    assert git(repo, "status", "--porcelain") == ""
    assert (repo / "new.txt").read_text() == "n\n"
    agentgov(repo, "verify", "--require", "pinned")


def test_a_run_with_nothing_to_land_is_said_so(
    agentgov: Cli, shop: Callable[..., Path], git: GitRunner
) -> None:
    repo = shop()
    git(repo, "branch", "feature")
    agentgov.play(repo, [bash("true")])
    said = agentgov(repo, "promote", "--into", "feature", code=2)
    assert said.err.startswith("error[AG0085]: nothing to land")
    agentgov(repo, "promote", "--into", "no-such-branch", code=2)
    run = agentgov(repo, "log", "--json").json["runs"][0]["run"]
    agentgov(repo, "approve", run, "-m", "x", "--into", "no-such-branch", code=2)


def test_a_result_that_is_edited_in_the_copy_afterwards_does_not_change_what_lands(
    agentgov: Cli, shop: Callable[..., Path], git: GitRunner
) -> None:
    repo = shop()
    git(repo, "branch", "feature")
    said = agentgov(repo, "run", "--json", "--", "sh", "-c", "echo two >> a.txt")
    (Path(said.summary["workspace"]) / "a.txt").write_text("evil\n")
    agentgov(repo, "promote", "--into", "feature")
    assert git(repo, "show", "feature:a.txt") == "one\ntwo"


def test_hooks_and_settings_of_the_repository_start_nothing(
    agentgov: Cli, shop: Callable[..., Path], git: GitRunner, tmp_path: Path
) -> None:
    repo = shop()
    git(repo, "branch", "feature")
    hook = repo / ".git" / "hooks" / "reference-transaction"
    for name in ("reference-transaction", "post-checkout", "pre-commit", "post-index-change"):
        hook = repo / ".git" / "hooks" / name
        hook.write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/ran\n")
        hook.chmod(0o755)
    git(repo, "config", "core.fsmonitor", f"touch {tmp_path}/fsmonitor; false")
    git(repo, "config", "gpg.program", f"{tmp_path}/gpg")
    git(repo, "config", "commit.gpgsign", "true")
    (tmp_path / "ran").unlink(missing_ok=True)
    (tmp_path / "fsmonitor").unlink(missing_ok=True)
    agentgov.play(repo, STEPS)
    agentgov(repo, "promote", "--into", "feature")
    agentgov(repo, "apply")
    agentgov(repo, "status")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "fsmonitor").exists()
    assert os.path.lexists(repo / "new.txt")
