"""The main job on the real Claude Code by the command line: run, verify, tamper, roll back, promote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.agents.test_claude import ALLOW, CLAUDE, POLICY, agent_env, bash
from tests.conftest import GitRunner, MakeRepo
from tests.model_server import Call, ModelServer, Turn

pytestmark = [
    pytest.mark.agents,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CLAUDE is None, reason="claude is not installed (make test-agents installs it)"),
]
BROKEN = 12
TASK = {
    "description": "d",
    "prompt": "KEYSUB do",
    "subagent_type": "general-purpose",
    "run_in_background": False,
}
TURNS = [
    Turn(calls=[bash("echo one > shell.txt")]),
    Turn(calls=[Call("Write", {"file_path": "written.txt", "content": "two\n"})]),
    Turn(calls=[Call("Read", {"file_path": "a.txt"})]),
    Turn(calls=[Call("Edit", {"file_path": "a.txt", "old_string": "one", "new_string": "three"})]),
    Turn(calls=[bash("echo left > left.txt"), bash("echo right > right.txt")]),
    Turn(calls=[Call("Agent", TASK)]),
    Turn(calls=[bash("rm -rf important/")]),
    Turn(calls=[bash("chmod +x shell.txt && rm written.txt")]),
    Turn("finished"),
]
SUB = [Turn(calls=[bash("mkdir deep && echo sub > deep/sub.txt")]), Turn("sub done")]


class Person:
    """Somebody at a shell in the repository."""

    def __init__(self, repo: Path, env: dict[str, str]) -> None:
        self.repo = repo
        self.env = env

    def says(self, *words: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "agentgov", *words]
        done = subprocess.run(
            command, cwd=self.repo, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout.decode()

    def json(self, *words: str) -> Any:
        return json.loads(self.says(*words, "--json"))

    def snapshot(self, tree: str) -> dict[str, tuple[str, bytes]]:
        """Mode and content of each file of a snapshot, by path."""
        store = ["git", f"--git-dir={self.repo}/.git/agentgov/store.git"]
        listed = subprocess.run([*store, "ls-tree", "-r", tree], capture_output=True, check=True, text=True)
        files = {}
        for row in listed.stdout.splitlines():
            meta, path = row.split("\t")
            blob = subprocess.run(
                [*store, "cat-file", "blob", meta.split()[2]], capture_output=True, check=True
            )
            files[path] = (meta.split()[0], blob.stdout)
        return files


def on_disk(root: Path) -> dict[str, tuple[str, bytes]]:
    files = {}
    for path in root.rglob("*"):
        name = path.relative_to(root)
        if name.parts[0] != ".git" and path.is_file():
            files[str(name)] = ("100755" if os.access(path, os.X_OK) else "100644", path.read_bytes())
    return files


def flip(repo: Path, git: GitRunner, ref: str, at: float) -> None:
    """Flip a bit in the last seal's entries, and make the git objects fit."""
    entries = bytearray(subprocess.check_output(["git", "cat-file", "blob", f"{ref}:entries"], cwd=repo))
    entries[int(len(entries) * at)] ^= 1
    blob = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"],
        cwd=repo,
        input=bytes(entries),
        capture_output=True,
        check=True,
    )
    rows = [row.split("\t") for row in git(repo, "ls-tree", ref).splitlines()]
    listed = "".join(
        f"100644 blob {blob.stdout.decode().strip() if name == 'entries' else meta.split()[2]}\t{name}\n"
        for meta, name in rows
    )
    tree = subprocess.run(["git", "mktree"], cwd=repo, input=listed.encode(), capture_output=True, check=True)
    commit = git(repo, "commit-tree", tree.stdout.decode().strip(), "-p", f"{ref}^", "-m", "seal")
    git(repo, "update-ref", ref, commit)


def test_a_real_run_is_recorded_verified_taken_back_and_promoted(
    make_repo: MakeRepo, git: GitRunner, home: Path, tmp_path: Path
) -> None:
    reviewer = tmp_path / "reviewer"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(reviewer)], check=True)
    repo = make_repo(
        files={
            "a.txt": "one\n",
            "important/x": "x\n",
            ".agentgov.toml": POLICY + "[review]\nrequired = 1\n",
            ".agentgov/allowed_signers": f"r@example.org {reviewer.with_suffix('.pub').read_text()}",
        }
    )
    with ModelServer({"KEYMAIN": TURNS, "KEYSUB": SUB}) as server:
        person = Person(repo, agent_env(home, server, AGENTGOV_HOME=str(tmp_path / "state")))
        claude = ["claude", "-p", "KEYMAIN go", "--settings", json.dumps(ALLOW)]
        person.says("run", "--workspace", "clone", "--", *claude)

    shown = person.json("show", "--all")
    run, calls = shown["run"]["run"], shown["calls"]
    by_what = {call["what"]: call for call in calls}
    assert [call["tool"] for call in calls if call["status"] == "denied"] == ["Bash"]
    assert by_what["rm -rf important/"]["status"] == "denied"
    assert {"echo left > left.txt", "echo right > right.txt"} <= by_what.keys()
    assert by_what["mkdir deep && echo sub > deep/sub.txt"]["actor"] == "general-purpose"
    assert git(repo, "status", "--porcelain") == ""
    person.says("verify")

    (ref,) = git(repo, "for-each-ref", "--format=%(refname)", "refs/agentgov/ledger").split()
    sealed = git(repo, "rev-parse", ref)
    for at in (0.01, 0.5, 0.99):
        flip(repo, git, ref, at)
        person.says("verify", code=BROKEN)
        git(repo, "update-ref", ref, sealed)
    git(repo, "update-ref", ref, f"{sealed}^")
    person.says("verify", code=BROKEN)
    git(repo, "update-ref", ref, sealed)
    person.says("verify")

    root = tmp_path / "state" / "workspaces" / run / repo.name
    for call in reversed(calls):
        person.says("rollback", f":{call['n']}", "--yes")
        tree = person.json("show", f":{call['n']}")["call"]["tree"]
        assert on_disk(root) == person.snapshot(tree), call
    person.says("rollback", f":{calls[-1]['n']}", "--yes")

    person.says("promote", run, "--into", "main", code=11)
    approved = person.json("approve", run, "-m", "read it", "--key", str(reviewer))["result"]
    person.says("promote", run, "--into", "main")
    assert git(repo, "rev-parse", "main^{tree}") == approved
    assert "written.txt" not in git(repo, "ls-tree", "-r", "--name-only", "main").split("\n")
    assert git(repo, "show", "main:deep/sub.txt") == "sub"
    person.says("verify", "--require", "pinned")
