"""Landing on real repositories: what lands, what is never touched, and what a crash leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agentgov.errors import ConflictError
from agentgov.gates.checked_out import update_work_trees
from agentgov.gates.landed import landed_commit, recover_landing
from agentgov.gates.landing import (
    Landing,
    LandingRequest,
    Person,
    changed_paths,
    delta_digest,
    land,
    prepare_landing,
)
from agentgov.git import Repository, discover
from agentgov.ids import RunId
from agentgov.ledger.checkpoint import Checkpoint
from tests.conftest import GitRunner, MakeRepo

RUN = RunId("7kq2f")
MAIN = "refs/heads/main"
FILES = {"a.txt": "a\n" * 30, "b.txt": "b\n", ".gitignore": "ignored\n"}


@dataclass
class Notes:
    """A journal that remembers, and can break at a step."""

    steps: list[str] = field(default_factory=list)
    breaks_at: str = ""
    meanwhile: Callable[[], object] | None = None

    def _note(self, step: str) -> None:
        self.steps.append(step)
        if step.split()[0] == self.breaks_at:
            raise KeyboardInterrupt

    def intent(self, landing: Landing) -> None:
        self._note("intent")

    def seal(self) -> Checkpoint:
        self._note("seal")
        if self.meanwhile is not None:
            self.meanwhile()
        return Checkpoint("agentgov/" + "5" * 32, 12, b"\x06" * 32)

    def done(self, commit: str) -> None:
        self._note(f"done {commit}")

    def failed(self, reason: str) -> None:
        self._note(f"failed {reason}")


@dataclass
class Case:
    repo: Path
    found: Repository
    base: str
    tree: str
    scratch: Path

    def request(self, **changes: object) -> LandingRequest:
        fields: dict[str, object] = {
            "run": RUN,
            "target": MAIN,
            "base": self.base,
            "result_tree": self.tree,
            "subject": "fix\x1b[31m it\nnow",
            "person": Person("Alice <x> Example", "alice@example.org"),
            "now_us": 1_767_323_045_000_000,
            **changes,
        }
        return LandingRequest(**fields)  # type: ignore[arg-type]

    def prepare(self, **changes: object) -> Landing:
        return prepare_landing(self.found, self.request(**changes), self.scratch, lambda oids: None)


def make_tree(repo: Path, git: GitRunner, base: str, files: dict[str, str | None]) -> str:
    index = {"GIT_INDEX_FILE": str(repo / ".git" / "test-index")}
    import os
    import subprocess

    def run(*args: str, data: bytes | None = None) -> str:
        done = subprocess.run(
            ["git", *args], cwd=repo, env={**os.environ, **index}, input=data, capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    run("read-tree", base)
    for name, text in files.items():
        if text is None:
            run("update-index", "--force-remove", name)
        else:
            oid = run("hash-object", "-w", "--stdin", data=text.encode())
            run("update-index", "--add", "--cacheinfo", f"100644,{oid},{name}")
    return run("write-tree")


@pytest.fixture
def case(make_repo: MakeRepo, git: GitRunner, tmp_path: Path) -> Case:
    repo = make_repo(files=FILES)
    base = git(repo, "rev-parse", "HEAD")
    tree = make_tree(repo, git, base, {"a.txt": "a\n" * 29 + "A\n", "new/n.txt": "n\n"})
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Case(repo, discover(repo), base, tree, scratch)


def advance(case: Case, git: GitRunner, files: dict[str, str | None]) -> str:
    old = git(case.repo, "rev-parse", MAIN)
    commit = git(case.repo, "commit-tree", make_tree(case.repo, git, old, files), "-p", old, "-m", "other")
    git(case.repo, "update-ref", MAIN, commit)
    return commit


def test_exactly_the_result_tree_lands_with_trailers_and_both_parents(case: Case, git: GitRunner) -> None:
    landing, notes = case.prepare(), Notes()
    assert landing.base_is_head
    assert (landing.tree, landing.delta) == (case.tree, landing.result_delta)
    commit = land(case.found, landing, case.request(), notes, self_approved=True)
    assert git(case.repo, "rev-parse", MAIN) == commit
    assert git(case.repo, "rev-parse", f"{commit}^{{tree}}") == case.tree
    assert git(case.repo, "rev-parse", f"{commit}^1", f"{commit}^2").split() == [
        case.base,
        landing.result_commit,
    ]
    trailers = git(case.repo, "log", "-1", "--format=%(trailers)", commit).splitlines()
    assert trailers[:3] == [
        f"Agent-Run: {RUN}",
        f"Agent-Ledger: agentgov/{'5' * 32} 12 {'06' * 32}",
        "Agent-Approval: self-approved",
    ]
    assert (
        git(case.repo, "log", "-1", "--format=%an %ae %cn", commit)
        == "Alice x Example alice@example.org Alice x Example"
    )
    assert "\x1b" not in git(case.repo, "log", "-1", "--format=%B", commit)
    assert notes.steps == ["intent", "seal", f"done {commit}"]
    assert git(case.repo, "fsck", "--strict") == ""


def test_preparing_twice_gives_the_same_and_moves_nothing(case: Case, git: GitRunner) -> None:
    assert case.prepare() == case.prepare()
    assert git(case.repo, "rev-parse", MAIN) == case.base
    assert list(case.scratch.iterdir()) == []


def test_an_unrelated_move_merges_and_keeps_the_delta(case: Case, git: GitRunner) -> None:
    first = case.prepare()
    new = advance(case, git, {"b.txt": "B\n"})
    landing = case.prepare()
    assert (landing.old, landing.base_is_head, landing.delta) == (new, False, first.delta)
    commit = land(case.found, landing, case.request(), Notes())
    assert git(case.repo, "show", f"{commit}:b.txt") == "B"
    assert git(case.repo, "show", f"{commit}:new/n.txt") == "n"


def test_a_move_in_the_same_file_changes_the_delta(case: Case, git: GitRunner) -> None:
    first = case.prepare()
    advance(case, git, {"a.txt": "0\n" + "a\n" * 29})
    assert case.prepare().delta != first.delta


def test_a_conflict_is_named_and_nothing_moves(case: Case, git: GitRunner) -> None:
    new = advance(case, git, {"a.txt": "a\n" * 29 + "other\n"})
    with pytest.raises(ConflictError, match=r"a\.txt") as caught:
        case.prepare()
    assert caught.value.id == "AG0115"
    assert git(case.repo, "rev-parse", MAIN) == new


def test_merge_drivers_and_hooks_of_the_repository_do_not_run(
    case: Case, git: GitRunner, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    git(case.repo, "config", "merge.evil.driver", f"touch {mark}")
    git(case.repo, "config", "merge.default", "evil")
    (case.repo / ".git" / "info").mkdir(exist_ok=True)
    (case.repo / ".git" / "info" / "attributes").write_text("* merge=evil\n")
    hook = case.repo / ".git" / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
    hook.chmod(0o755)
    advance_tree: dict[str, str | None] = {"a.txt": "0\n" + "a\n" * 29}
    hook.unlink()
    advance(case, git, advance_tree)
    hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
    hook.chmod(0o755)
    land(case.found, case.prepare(), case.request(), Notes())
    assert not mark.exists()


def test_a_branch_that_moved_meanwhile_is_not_overwritten(case: Case, git: GitRunner) -> None:
    landing = case.prepare()
    notes = Notes(meanwhile=lambda: advance(case, git, {"b.txt": "B\n"}))
    with pytest.raises(ConflictError) as caught:
        land(case.found, landing, case.request(), notes)
    assert caught.value.id == "AG0114"
    assert notes.steps[-1] == "failed target-moved"
    assert git(case.repo, "show", f"{MAIN}:b.txt") == "B"


def test_a_missing_branch_is_an_error(case: Case) -> None:
    with pytest.raises(ConflictError) as caught:
        case.prepare(target="refs/heads/none")
    assert caught.value.id == "AG0114"


@pytest.mark.parametrize("step", ["intent", "seal", "done"])
def test_after_a_crash_the_branch_says_what_happened(case: Case, git: GitRunner, step: str) -> None:
    landing = case.prepare()
    with pytest.raises(KeyboardInterrupt):
        land(case.found, landing, case.request(), Notes(breaks_at=step))
    after = Notes()
    if step == "done":
        commit = git(case.repo, "rev-parse", MAIN)
        advance(case, git, {"b.txt": "later\n"})
        assert recover_landing(case.found, MAIN, landing.old, landing.result_commit, after) == commit
        assert after.steps == [f"done {commit}"]
    else:
        assert recover_landing(case.found, MAIN, landing.old, landing.result_commit, after) is None
        assert after.steps == ["failed interrupted"]
        assert git(case.repo, "rev-parse", MAIN) == case.base


def test_another_merge_of_the_same_commit_is_not_taken_for_ours(case: Case, git: GitRunner) -> None:
    landing = case.prepare()
    new = advance(case, git, {"b.txt": "B\n"})
    merge = git(case.repo, "commit-tree", case.tree, "-p", new, "-p", landing.result_commit, "-m", "theirs")
    git(case.repo, "update-ref", MAIN, merge)
    assert landed_commit(case.found, MAIN, landing.old, landing.result_commit) is None


@pytest.mark.parametrize("moved", [False, True])
def test_a_merge_that_holds_other_bytes_is_not_entered_as_landed(
    case: Case, git: GitRunner, moved: bool
) -> None:
    if moved:
        advance(case, git, {"b.txt": "B\n"})
    landing, after = case.prepare(), Notes()
    other = make_tree(case.repo, git, landing.tree, {"evil.txt": "e\n"})
    for tree, step in ((other, "failed other-tree"), (landing.tree, "done")):
        merge = git(
            case.repo, "commit-tree", tree, "-p", landing.old, "-p", landing.result_commit, "-m", "Merge"
        )
        git(case.repo, "update-ref", MAIN, merge)
        recover_landing(case.found, MAIN, landing.old, landing.result_commit, after)
        assert after.steps[-1].startswith(step)


def test_the_tier_is_computed_from_what_lands(case: Case) -> None:
    paths = changed_paths(case.found.git(), case.base, case.tree)
    assert [(path.path, path.old_mode, path.new_mode, path.lines) for path in paths] == [
        (b"a.txt", "100644", "100644", 2),
        (b"new/n.txt", "000000", "100644", 1),
    ]


# -- the checked-out tree --------------------------------------------------------------------------------


def landed(case: Case) -> tuple[str, str]:
    landing = case.prepare()
    return landing.old, land(case.found, landing, case.request(), Notes())


def test_a_clean_tree_on_the_branch_follows_it(case: Case, git: GitRunner) -> None:
    (case.repo / "untracked").write_text("u")
    (case.repo / "ignored").write_text("i")
    old, new = landed(case)
    (update,) = update_work_trees(case.found, MAIN, old, new)
    assert update.updated, update.reason
    assert git(case.repo, "status", "--porcelain") == "?? untracked"
    assert (case.repo / "new" / "n.txt").read_text() == "n\n"
    assert (case.repo / "ignored").read_text() == "i"


@pytest.mark.parametrize(
    "how",
    [
        "edited",
        "staged",
        "deleted",
        "untracked in the way",
        "ignored in the way",
        "file for a folder",
        "merge going on",
    ],
)
def test_a_tree_that_is_not_clean_is_left_as_it_is(case: Case, git: GitRunner, how: str) -> None:
    if how == "edited":
        (case.repo / "b.txt").write_text("mine\n")
    elif how == "staged":
        (case.repo / "b.txt").write_text("mine\n")
        git(case.repo, "add", "b.txt")
    elif how == "deleted":
        (case.repo / "b.txt").unlink()
    elif how == "file for a folder":
        (case.repo / "new").write_text("mine\n")
    elif how == "merge going on":
        (case.repo / ".git" / "MERGE_HEAD").write_text(case.base + "\n")
    else:
        (case.repo / "new").mkdir()
        (case.repo / "new" / "n.txt").write_text("mine\n")
        if how == "ignored in the way":
            (case.repo / ".git" / "info").mkdir(exist_ok=True)
            (case.repo / ".git" / "info" / "exclude").write_text("new/\n")
    before = {
        path: path.read_bytes()
        for path in case.repo.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }
    old, new = landed(case)
    (update,) = update_work_trees(case.found, MAIN, old, new)
    assert not update.updated
    assert update.reason
    assert f"read-tree -m -u {old} {new}" in update.help
    assert {
        path: path.read_bytes()
        for path in case.repo.rglob("*")
        if path.is_file() and ".git" not in path.parts
    } == before


def test_a_tree_on_another_branch_is_not_looked_at(case: Case, git: GitRunner) -> None:
    git(case.repo, "checkout", "-q", "-b", "topic")
    old, new = landed(case)
    assert update_work_trees(case.found, MAIN, old, new) == []
    assert git(case.repo, "status", "--porcelain") == ""


def test_another_work_tree_on_the_branch_is_left_and_named(
    case: Case, git: GitRunner, tmp_path: Path
) -> None:
    git(case.repo, "checkout", "-q", "-b", "topic")
    git(case.repo, "worktree", "add", "-q", tmp_path / "second", "main")
    old, new = landed(case)
    (update,) = update_work_trees(case.found, MAIN, old, new)
    assert (update.updated, update.place.name) == (False, "second")


def test_no_filter_runs_and_a_filtered_path_leaves_the_tree(
    case: Case, git: GitRunner, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    git(case.repo, "config", "filter.evil.smudge", f"touch {mark}; cat")
    git(case.repo, "config", "filter.evil.clean", f"touch {mark}; cat")
    (case.repo / ".git" / "info").mkdir(exist_ok=True)
    (case.repo / ".git" / "info" / "attributes").write_text("a.txt filter=evil\n")
    old, new = landed(case)
    (update,) = update_work_trees(case.found, MAIN, old, new)
    assert not update.updated
    assert not mark.exists()


def test_a_changed_submodule_is_seen_whatever_gitmodules_says(case: Case, git: GitRunner) -> None:
    modules = '[submodule "s"]\n\tpath = s\n\turl = ../s\n\tignore = all\n'
    old = advance(case, git, {".gitmodules": modules})
    git(case.repo, "config", "submodule.s.ignore", "all")
    trees = []
    for commit in (case.base, old):
        rows = [*git(case.repo, "ls-tree", old).splitlines(), f"160000 commit {commit}\ts"]
        trees.append(git(case.repo, "mktree", "--missing", input="\n".join([*rows, ""]).encode()))
    head = git(case.repo, "commit-tree", trees[0], "-p", old, "-m", "with it")
    git(case.repo, "update-ref", MAIN, head)
    seen = changed_paths(case.found.git(), trees[0], trees[1])
    assert [(path.path, path.new_mode) for path in seen] == [(b"s", "160000")]
    nothing = delta_digest(case.found.git(), trees[0], trees[0])
    assert delta_digest(case.found.git(), trees[0], trees[1]) != nothing
