"""What the policy says to whole command lines: wanted denials, every bypass tried so far, an ordinary day."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from agentgov.calls import ToolCall, Verdict
from agentgov.gates.places import Places
from agentgov.gates.policy import Judge, Policy

FIXTURES = Path(__file__).parent.parent / "fixtures" / "gates"
KEEP_IMPORTANT = b"""
[paths]
important = ["important/**"]

[[policy.rule]]
id = "keep-important"
effect = "deny"
action = ["fs.delete"]
paths = ["@important"]
reason = "made by hand"
match = ["rm -rf important/", "cd important && rm -rf *"]
not_match = ["ls important/"]
"""

Ask = Callable[[str], Verdict]


def commands(name: str) -> list[str]:
    lines = (FIXTURES / name).read_text().splitlines()
    return [line.replace("\\n", "\n") for line in lines if line]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path / "ws"
    files = (
        "important/a",
        "important/b",
        "important/c",
        "src/x.py",
        "README.md",
        ".env",
        ".env.example",
        ".agentgov.toml",
        ".git/config",
        ".git/hooks/x.sample",
        ".claude/settings.json",
        "docs/CODEOWNERS",
        "node_modules/a/i.js",
        "build/o",
        "scripts/run.sh",
        "package.json",
        "a.log",
        "key.pem",
    )
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    (root / "link").symlink_to("important")
    for name in ("home/.ssh/id_rsa", "home/x", "state/keys/x/log.key"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    return root


def judge(workspace: Path, policy: Policy) -> Ask:
    places = Places.of(workspace, home=workspace.parent / "home", state_home=workspace.parent / "state")
    ready = Judge([policy], places)

    def ask(command: str) -> Verdict:
        return ready.decide(ToolCall("Bash", "shell", "1", None, None, None, workspace, {}, command=command))

    return ask


@pytest.fixture
def important(workspace: Path) -> Ask:
    return judge(workspace, Policy.parse(KEEP_IMPORTANT, label=" on main", source="default-branch"))


@pytest.fixture
def guarded(workspace: Path) -> Ask:
    """The rule of docs/policy.md: neither deleted nor written."""
    raw = KEEP_IMPORTANT.replace(b'["fs.delete"]', b'["fs.delete", "fs.write"]')
    return judge(workspace, Policy.parse(raw, source="default-branch"))


@pytest.fixture
def builtin(workspace: Path) -> Ask:
    return judge(workspace, Policy.builtin())


def test_every_known_way_to_remove_a_protected_folder_is_denied(important: Ask) -> None:
    passed = [line for line in commands("bypasses_important.txt") if important(line).decision != "deny"]
    assert passed == []


def test_every_known_way_around_the_builtin_rules_is_denied(builtin: Ask, workspace: Path) -> None:
    state = str(workspace.parent / "state")
    tried = [line.replace("STATE", state) for line in commands("bypasses_builtin.txt")]
    assert [line for line in tried if builtin(line).decision != "deny"] == []


def test_every_known_way_to_overwrite_a_protected_folder_is_denied(guarded: Ask) -> None:
    passed = [line for line in commands("overwrites_important.txt") if guarded(line).decision != "deny"]
    assert passed == []


def test_a_rule_against_writing_does_not_stop_an_ordinary_day(guarded: Ask, workspace: Path) -> None:
    (workspace / "x.patch").write_text("--- a/src/x.py\n+++ b/src/x.py\n@@ -1 +1 @@\n-x\n+y\n")
    day = commands("ordinary_commands.txt")
    # Throwing away whatever is in the tree throws away what the rule keeps, too.
    throws_away = re.compile(r"git (?:reset --hard|clean -f|checkout (?:-- )?\.|restore \.)")
    stopped = [line for line in day if guarded(line).decision != "allow"]
    assert [line for line in stopped if not throws_away.search(line)] == []


def test_an_ordinary_day_of_commands_is_neither_asked_about_nor_denied(builtin: Ask) -> None:
    day = commands("ordinary_commands.txt")
    assert len(day) >= 200
    assert [(line, builtin(line).rules) for line in day if builtin(line).decision != "allow"] == []


def test_a_denial_names_rule_line_reason_and_effect(important: Ask) -> None:
    verdict = important("rm -rf important/")
    assert verdict.decision == "deny"
    assert verdict.rules == ("keep-important",)
    assert verdict.where == ".agentgov.toml:5 on main"
    assert verdict.effects == ("delete 3 files under important/",)
    assert "would delete 3 files under important/" in verdict.reason
    assert "made by hand" in verdict.reason
    assert len(verdict.policy) == 64


def test_reading_a_protected_folder_is_not_deleting_it(important: Ask) -> None:
    for command in (
        "ls -la important",
        "cat important/a",
        "grep -r x important",
        "cp -r important /tmp/copy",
        "git add important",
    ):
        assert important(command).decision == "allow", command


def test_words_in_a_message_are_not_effects(important: Ask) -> None:
    for command in (
        "git commit -m 'rm -rf important'",
        "echo 'rm -rf important'",
        "gh pr create --body 'rm -rf important'",
    ):
        assert important(command).decision == "allow", command


def test_what_cannot_be_read_is_allowed_but_marked(builtin: Ask) -> None:
    verdict = builtin("echo ez -es k | tr a-z n-za-m | sh")
    assert verdict.decision == "allow"
    assert "run something that cannot be read" in verdict.effects


def test_a_text_that_does_not_parse_is_judged_by_what_it_mentions(important: Ask) -> None:
    assert important("if then ((( rm -rf important").decision == "deny"


def test_a_script_of_the_workspace_is_read(important: Ask, workspace: Path) -> None:
    (workspace / "clean.sh").write_text('#!/bin/sh\ncd "$1" 2>/dev/null\nrm -rf important\n')
    (workspace / "clean.sh").chmod(0o755)
    for command in ("sh clean.sh", "./clean.sh", ". ./clean.sh", "bash -x ./clean.sh"):
        assert important(command).decision == "deny", command


def test_a_link_made_before_the_call_leads_to_its_target(important: Ask, workspace: Path) -> None:
    (workspace / "src" / "deep").symlink_to("../important")
    for command in ("rm -rf src/deep/", "rm src/deep/a", "cd src/deep && rm -rf *", "cd src/deep && rm a"):
        assert important(command).decision == "deny", command


@pytest.mark.parametrize("field", ["deletes", "writes", "reads"])
def test_other_tools_are_judged_by_the_paths_they_name(workspace: Path, field: str) -> None:
    action = {"deletes": "fs.delete", "writes": "fs.write", "reads": "fs.read"}[field]
    body = f'id = "r"\neffect = "deny"\naction = ["{action}"]\npaths = ["important/**"]\n'
    raw = f"[[policy.rule]]\n{body}".encode()
    ready = Judge([Policy.parse(raw, source="base")], Places.of(workspace))
    for path in ("important/a", "./src/../important/a", "link/a", str(workspace / "important" / "a")):
        call = ToolCall("T", "other", "1", None, None, None, workspace, {}, **{field: (path,)})  # type: ignore[arg-type]
        assert ready.decide(call).decision == "deny", path
    call = ToolCall("T", "other", "1", None, None, None, workspace, {}, **{field: ("src/x.py",)})  # type: ignore[arg-type]
    assert ready.decide(call).decision == "allow"


def test_a_call_without_effects_is_allowed(builtin: Ask, workspace: Path) -> None:
    ready = Judge([Policy.builtin()], Places.of(workspace))
    assert ready.decide(ToolCall("Agent", "agent", "1", None, None, None, workspace, {})).decision == "allow"


def test_a_copy_is_judged_as_its_repository(workspace: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repo"
    (repository / "important").mkdir(parents=True)
    places = Places.of(workspace, repository=repository)
    ready = Judge([Policy.parse(KEEP_IMPORTANT, source="base")], places)
    command = f"rm -rf {repository}/important"
    verdict = ready.decide(ToolCall("Bash", "shell", "1", None, None, None, workspace, {}, command=command))
    assert set(verdict.rules) == {"keep-important", "builtin-outside"}
