"""Which policy a run gets, and that an agent's commit alone never loosens it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentgov.calls import ToolCall
from agentgov.errors import ConfigError
from agentgov.gates.adoption import (
    find_policy,
    operator_key,
    pin_operator_key,
    pin_policy_ref,
    protected_targets,
    remember_policy,
)
from agentgov.gates.places import Places
from agentgov.gates.policy import Policy
from agentgov.git import discover
from agentgov.layout import StateHome
from tests.conftest import GitRunner, MakeRepo

LOOSE = "[policy]\ndefault_rules = false\n"
STRICT = '[[policy.rule]]\nid = "no-x"\neffect = "deny"\nprograms = ["x"]\n'


def head(repo: Path, git: GitRunner) -> str:
    return git(repo, "rev-parse", "HEAD")


def commit_file(repo: Path, git: GitRunner, text: str, name: str = ".agentgov.toml") -> str:
    (repo / name).write_text(text)
    git(repo, "add", name)
    git(repo, "commit", "-q", "-m", "rules")
    return head(repo, git)


def test_without_a_file_the_builtin_rules_hold_and_nobody_protects_them(
    make_repo: MakeRepo, git: GitRunner, state: StateHome
) -> None:
    repo = make_repo()
    adopted = find_policy(discover(repo), state, head(repo, git))
    assert (adopted.source, adopted.protected, adopted.is_first_use) == ("built-in", False, True)
    assert adopted.review is None


def test_the_default_branch_decides_and_a_looser_base_changes_nothing(
    make_repo: MakeRepo, git: GitRunner, state: StateHome
) -> None:
    repo = make_repo(files={".agentgov.toml": STRICT})
    git(repo, "checkout", "-q", "-b", "agent")
    base = commit_file(repo, git, LOOSE)
    adopted = find_policy(discover(repo), state, base)
    assert (adopted.source, adopted.protected, len(adopted.policies)) == ("default-branch", True, 2)
    judge = adopted.judge(Places.of(repo))
    for command, rule in (("x", "no-x"), ("git push -f", "builtin-force-push")):
        verdict = judge.decide(ToolCall("Bash", "shell", "1", None, None, None, repo, {}, command=command))
        assert (verdict.decision, verdict.rules, verdict.policy) == ("deny", (rule,), adopted.digest)


def test_a_base_without_the_builtin_rules_does_not_switch_them_off(
    make_repo: MakeRepo, git: GitRunner, state: StateHome
) -> None:
    repo = make_repo()
    git(repo, "checkout", "-q", "-b", "agent")
    base = commit_file(repo, git, LOOSE)
    adopted = find_policy(discover(repo), state, base)
    call = ToolCall("Bash", "shell", "1", None, None, None, repo, {}, command="git push -f")
    assert adopted.judge(Places.of(repo)).decide(call).decision == "deny"


def test_the_work_tree_is_never_asked(make_repo: MakeRepo, git: GitRunner, state: StateHome) -> None:
    repo = make_repo(files={".agentgov.toml": STRICT})
    before = find_policy(discover(repo), state, head(repo, git)).digest
    (repo / ".agentgov.toml").write_text(LOOSE)
    assert find_policy(discover(repo), state, head(repo, git)).digest == before


def test_the_remotes_default_branch_comes_before_the_local_one(
    make_repo: MakeRepo, git: GitRunner, state: StateHome, tmp_path: Path
) -> None:
    origin = make_repo(files={".agentgov.toml": STRICT})
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", origin, clone)
    base = commit_file(clone, git, LOOSE)
    adopted = find_policy(discover(clone), state, base)
    assert (adopted.source, adopted.policies[0].where) == ("remote-default", ".agentgov.toml on origin/main")
    assert protected_targets(discover(clone), adopted, "refs/heads/other") == ("refs/heads/main",)


def test_sources_come_in_order(make_repo: MakeRepo, git: GitRunner, state: StateHome, tmp_path: Path) -> None:
    repo = make_repo(files={".agentgov.toml": STRICT})
    git(repo, "checkout", "-q", "-b", "rules")
    commit_file(repo, git, LOOSE)
    git(repo, "checkout", "-q", "main")
    found = discover(repo)
    pin_policy_ref(found, state, "rules")
    assert find_policy(found, state, head(repo, git)).source == "pinned"
    assert find_policy(found, state, head(repo, git), "main").source == "policy-ref"
    organisation = tmp_path / "org.toml"
    organisation.write_text(STRICT)
    assert (
        find_policy(found, state, head(repo, git), "main", organisation=organisation).source == "organisation"
    )
    pin_policy_ref(found, state, None)
    assert find_policy(found, state, head(repo, git)).source == "default-branch"


def test_a_named_source_without_a_policy_is_an_error(
    make_repo: MakeRepo, git: GitRunner, state: StateHome, tmp_path: Path
) -> None:
    repo = make_repo()
    found = discover(repo)
    for ref in ("main", "nowhere"):
        with pytest.raises(ConfigError) as caught:
            find_policy(found, state, head(repo, git), ref)
        assert caught.value.id == "AG0103"
    with pytest.raises(ConfigError):
        find_policy(found, state, head(repo, git), organisation=tmp_path / "none.toml")
    pin_policy_ref(found, state, "main")
    with pytest.raises(ConfigError):
        find_policy(found, state, head(repo, git))


def test_a_link_instead_of_the_file_is_an_error(
    make_repo: MakeRepo, git: GitRunner, state: StateHome
) -> None:
    repo = make_repo()
    (repo / ".agentgov.toml").symlink_to("README.md")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "link")
    with pytest.raises(ConfigError) as caught:
        find_policy(discover(repo), state, head(repo, git))
    assert caught.value.id == "AG0103"


def test_first_use_and_every_change_are_seen(make_repo: MakeRepo, git: GitRunner, state: StateHome) -> None:
    repo = make_repo(files={".agentgov.toml": STRICT})
    found = discover(repo)
    adopted = find_policy(found, state, head(repo, git))
    assert (adopted.is_first_use, adopted.is_changed) == (True, False)
    remember_policy(found, state, adopted)
    again = find_policy(found, state, head(repo, git))
    assert (again.is_first_use, again.is_changed) == (False, False)
    changed = find_policy(found, state, commit_file(repo, git, LOOSE))
    assert (changed.is_first_use, changed.is_changed) == (False, True)


def test_unreadable_memory_is_an_error_and_not_a_first_use(
    make_repo: MakeRepo, git: GitRunner, state: StateHome
) -> None:
    repo = make_repo()
    found = discover(repo)
    pin_operator_key(found, state, "ssh-ed25519 AAAA")
    assert operator_key(found, state) == "ssh-ed25519 AAAA"
    (file,) = (state.root / "policies").iterdir()
    file.write_text("{")
    with pytest.raises(ConfigError) as caught:
        find_policy(found, state, head(repo, git))
    assert caught.value.id == "AG0104"


def test_the_strictest_review_of_both_files_holds(
    make_repo: MakeRepo, git: GitRunner, state: StateHome
) -> None:
    repo = make_repo(
        files={".agentgov.toml": "[review]\nrequired = 1\n[protect]\nbranches = ['main', 'release/*']\n"}
    )
    git(repo, "checkout", "-q", "-b", "agent")
    base = commit_file(repo, git, "[review]\nrequired = 2\nsolo = true\n")
    adopted = find_policy(discover(repo), state, base)
    assert adopted.review is not None
    assert (adopted.review.required, adopted.review.solo) == (2, False)
    assert protected_targets(discover(repo), adopted, None) == ("refs/heads/main", "refs/heads/release/*")


def test_what_a_file_says_of_approvals_is_a_part_of_the_digest() -> None:
    said = (
        b"",
        b"[review]\n",
        b"[review]\nrequired = 2\n",
        b"[review]\nsolo = true\n",
        b'[protect]\nbranches = ["x"]\n',
    )
    digests = [Policy.parse(raw, source="base").digest for raw in said]
    assert len(set(digests)) == len(said)
    assert Policy.parse(b"[review]\nrequired = 1\nsolo = false\n", source="base").digest == digests[1]
