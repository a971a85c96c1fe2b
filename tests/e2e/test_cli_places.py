"""`agentgov run` wherever a person may stand, and what it leaves of theirs."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import GitRunner, MakeRepo
from tests.e2e.conftest import Cli

COMMANDS = [
    ["run", "--", "true"],
    ["log"],
    ["show"],
    ["diff"],
    ["status"],
    ["verify"],
    ["pending"],
    ["answer", "7kq2f:1", "yes"],
    ["rollback", ":1"],
    ["apply"],
    ["drop"],
    ["approve", "7kq2f", "-m", "why"],
    ["promote"],
]


def failure(args: list[str]) -> int:
    """`run` passes the agent's codes on, so that its own failures have one that agents do not use."""
    return 125 if args[0] == "run" else 2


@pytest.mark.parametrize("args", COMMANDS, ids=lambda args: str(args[0]))
def test_without_a_repository_the_error_says_how_to_make_one(
    agentgov: Cli, tmp_path: Path, args: list[str]
) -> None:
    said = agentgov(tmp_path, *args, code=failure(args))
    assert said.err.startswith("error[AG0010]: ")
    assert "help: git init" in said.err
    assert said.out == ""


@pytest.mark.parametrize("args", COMMANDS, ids=lambda args: str(args[0]))
def test_a_bare_repository_is_refused_and_stays_as_it_is(
    agentgov: Cli, tmp_path: Path, git: GitRunner, args: list[str]
) -> None:
    git(tmp_path, "init", "-q", "--bare", "bare")
    before = sorted((tmp_path / "bare").iterdir())
    said = agentgov(tmp_path / "bare", *args, code=failure(args))
    # An auditor's mirror is a bare repository: it can be verified, if there is a record in it.
    refused = "AG0301" if args[0] == "verify" else "AG0011"
    assert said.err.startswith(f"error[{refused}]: ")
    assert sorted((tmp_path / "bare").iterdir()) == before


def test_a_repository_without_a_commit_is_refused_with_the_command_that_makes_one(
    agentgov: Cli, tmp_path: Path, git: GitRunner
) -> None:
    git(tmp_path, "init", "-q")
    said = agentgov(tmp_path, "run", "--", "true", code=125)
    assert said.err.startswith("error[AG0012]: ")
    assert "git commit --allow-empty" in said.err
    assert not (tmp_path / ".git" / "agentgov").exists()


@pytest.mark.parametrize(
    ("args", "code"),
    [(args, 0 if args[0] in ("log", "status", "pending") else 2) for args in COMMANDS[1:]],
    ids=lambda value: str(value[0]) if isinstance(value, list) else "",
)
def test_looking_where_nothing_was_recorded_makes_no_record(
    agentgov: Cli, make_repo: MakeRepo, home: Path, args: list[str], code: int
) -> None:
    repo = make_repo()
    said = agentgov(repo, *args, code=code)
    assert "agentgov" in said.out + said.err or "nothing" in said.out + said.err
    assert not (repo / ".git" / "agentgov").exists()
    assert not (home / ".local").exists()


def test_a_subfolder_is_where_the_agent_starts(agentgov: Cli, make_repo: MakeRepo) -> None:
    repo = make_repo(files={"a/b/f": "x\n", "top": "t\n"})
    said = agentgov(repo / "a" / "b", "run", "--", "sh", "-c", "basename $PWD; cat ../../top")
    assert said.out == "b\nt\n"
    assert "in a copy of main" in said.err
    assert agentgov(repo, "log", "--json").json["runs"][0]["state"] == "finished"


def test_a_linked_worktree_works_on_its_own_branch_and_shares_the_record(
    agentgov: Cli, make_repo: MakeRepo, git: GitRunner, tmp_path: Path
) -> None:
    repo = make_repo(files={"a": "one\n"})
    git(repo, "worktree", "add", "-q", str(tmp_path / "side"), "-b", "side")
    first = agentgov.shell(repo, "echo main >> a")
    second = agentgov.shell(tmp_path / "side", "git branch --show-current > branch; echo side >> a")
    runs = agentgov(repo, "log", "--json").json["runs"]
    assert [(run["run"], run["base_branch"]) for run in runs] == [
        (second, "refs/heads/side"),
        (first, "refs/heads/main"),
    ]
    # "The last run" is the last one of the tree one stands in.
    assert agentgov(repo, "show", "--json").json["run"]["run"] == first
    assert agentgov(tmp_path / "side", "show", "--json").json["run"]["run"] == second
    agentgov(tmp_path / "side", "apply")
    assert (tmp_path / "side" / "branch").read_text() == "side\n"
    assert (tmp_path / "side" / "a").read_text() == "one\nside\n"
    assert git(repo, "status", "--porcelain") == ""


def test_uncommitted_work_is_left_out_and_counted_or_copied_on_request(
    agentgov: Cli, make_repo: MakeRepo
) -> None:
    repo = make_repo(files={"a": "one\n"})
    (repo / "a").write_text("mine\n")
    (repo / "new").write_text("n\n")
    left_out = agentgov(repo, "run", "--", "sh", "-c", "cat a; ls")
    assert left_out.out == "one\na\n"
    assert "2 uncommitted files left out" in left_out.err.splitlines()[2]
    copied = agentgov(repo, "run", "--include-dirty", "--", "sh", "-c", "cat a; ls; echo more >> new")
    assert copied.out == "mine\na\nnew\n"
    assert "2 uncommitted files copied" in copied.err.splitlines()[0]
    assert agentgov(repo, "diff", "--json").json["files"][0]["path"] == "new"
    assert (repo / "new").read_text() == "n\n"


def test_a_detached_head_is_a_place_like_any_other(
    agentgov: Cli, make_repo: MakeRepo, git: GitRunner
) -> None:
    repo = make_repo()
    git(repo, "checkout", "-q", "--detach")
    said = agentgov(repo, "run", "--", "sh", "-c", "git symbolic-ref -q HEAD || echo detached; echo > new")
    assert said.out == "detached\n"
    assert "in a copy of commit " in said.err
    assert agentgov(repo, "log", "--json").json["runs"][0]["base_branch"] is None
    agentgov(repo, "apply")
    assert (repo / "new").exists()


def test_a_shallow_clone_is_recorded_and_verifies(
    agentgov: Cli, make_repo: MakeRepo, git: GitRunner, tmp_path: Path
) -> None:
    full = make_repo(commits=3)
    git(tmp_path, "clone", "-q", "--depth", "1", full.as_uri(), "shallow")
    shallow = tmp_path / "shallow"
    agentgov.shell(shallow, "git log --format=%s > seen; git status --short > status")
    agentgov(shallow, "apply")
    assert (shallow / "seen").read_text() == "commit 3\n"
    agentgov(shallow, "verify", "--require", "pinned")


def test_the_agents_exit_code_and_signal_pass_through(agentgov: Cli, make_repo: MakeRepo) -> None:
    repo = make_repo()
    assert agentgov(repo, "run", "--", "sh", "-c", "exit 42", code=None).code == 42
    said = agentgov(repo, "run", "--json", "--", "sh", "-c", "kill -TERM $$", code=None)
    assert (said.code, said.summary["exit"]) == (128 + 15, 143)


def test_a_command_that_is_not_there_or_is_none_gets_the_codes_of_the_shell(
    agentgov: Cli, make_repo: MakeRepo
) -> None:
    repo = make_repo(files={"plain": "text\n"})
    missing = agentgov(repo, "run", "--", "no-such-agent", code=127)
    assert missing.err.startswith("error[AG0032]: no-such-agent: command not found")
    assert not (repo / ".git" / "agentgov").exists()
    refused = agentgov(repo, "run", "--", "./plain", code=126)
    assert "error[AG0033]: " in refused.err
    agentgov(repo, "run", code=2)
    agentgov(repo, "run", "--workspace", "elsewhere", "--", "true", code=2)


def test_an_argument_of_the_agent_is_not_an_option_of_ours(agentgov: Cli, make_repo: MakeRepo) -> None:
    said = agentgov(make_repo(), "run", "echo", "--json", "--help", "-i")
    assert said.out == "--json --help -i\n"


def test_what_is_the_users_is_byte_identical_after_a_run_in_a_copy(
    agentgov: Cli, make_repo: MakeRepo, git: GitRunner
) -> None:
    repo = make_repo(files={"a": "one\n", "b": "two\n", ".gitignore": "*.o\n"})
    (repo / "b").write_text("stashed\n")
    git(repo, "stash", "-q")
    git(repo, "branch", "other")
    (repo / "a").write_text("staged\n")
    git(repo, "add", "a")
    (repo / "a").write_text("staged and edited\n")
    (repo / "x.o").write_bytes(b"\0ignored")
    (repo / "untracked").write_text("u\n")
    git(repo, "update-index", "--refresh", check=False)
    before = fingerprint(repo)
    agentgov.shell(
        repo,
        "echo x > a; rm b; git add -A; git commit -qm agent; git checkout -q -b theirs; git stash list;"
        "git config user.name Mallory; git branch -D other; git tag t; echo >> .gitignore",
    )
    assert fingerprint(repo) == before
    agentgov(repo, "show")
    agentgov(repo, "verify")
    agentgov(repo, "drop", "--yes")
    assert fingerprint(repo) == before


def fingerprint(repo: Path) -> dict[str, str]:
    """Everything of a repository but agentgov's own folder, refs and the objects they need."""
    found = {}
    for folder, names, files in os.walk(repo):
        relative = Path(folder).relative_to(repo)
        if relative == Path(".git"):
            names[:] = [name for name in names if name not in ("agentgov", "objects")]
        if relative == Path(".git/refs"):
            names[:] = [name for name in names if name != "agentgov"]
        for name in files:
            path = Path(folder) / name
            meta = path.lstat()
            found[str(relative / name)] = (
                f"{meta.st_mode:o} {meta.st_mtime_ns} {hashlib.sha256(path.read_bytes()).hexdigest()}"
            )
    refs = subprocess.run(
        ["git", "for-each-ref", "--exclude=refs/agentgov"],
        cwd=repo,
        capture_output=True,
        text=True,
        check=False,
    )
    listed = refs.stdout if refs.returncode == 0 else ""
    return found | {"refs": listed}
