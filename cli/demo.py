"""`agentgov demo`: the whole product at work, in a throwaway repository.

Rules kept here:

- Nothing is staged: the bundled agent's calls go through the real hook path, and every command that is shown
  is run as it is shown.
- Nothing of the user's is touched: repository, state folder, keys and git settings lie in a temporary folder.
- It fails loudly when a step does not end as told.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tomli_w
import typer

from agentgov.cli.screen import Screen, results
from agentgov.errors import AgentgovError, ExitCode
from agentgov.git import clean_environment
from agentgov.harness import demo_agent

PYTHON = Path(sys.executable).name
CUSTOMERS = "id,name\n1,Ada\n2,Grace\n3,Edsger\n"
PRICES = "def total(items):\n    return sum(items) / len(items)\n"
FIXED = "def total(items):\n    return sum(items) / max(1, len(items))\n"
TEST = "from prices import total\n\n\ndef test_empty():\n    assert total([]) == 0\n"
RULES = {
    "paths": {"important": ["important/**"]},
    "policy": {
        "rule": [
            {
                "id": "keep-important",
                "effect": "deny",
                "action": ["fs.delete"],
                "paths": ["@important"],
                "reason": "customers' data",
                "match": ["rm -rf important/"],
                "not_match": ["ls important/"],
            }
        ]
    },
    "protect": {"branches": ["main"]},
    "review": {"required": 1},
}
SCRIPT = [
    {"say": "agent: looking at the failing test"},
    {"tool": "Read", "input": {"file_path": "prices.py"}},
    {
        "tool": "Edit",
        "input": {"file_path": "prices.py", "old_string": "len(items)", "new_string": "max(1, len(items))"},
    },
    {"tool": "Write", "input": {"file_path": "test_prices.py", "content": TEST}, "agent": "test-writer"},
    {"tool": "Bash", "input": {"command": f"{PYTHON} -c 'from prices import total; print(total([]))'"}},
    {"say": "agent: cleaning up, with a command that nobody wants to run"},
    {"tool": "Bash", "input": {"command": "rm -rf important/"}},
    {"say": "agent: and one more idea that was not asked for"},
    {"tool": "Bash", "input": {"command": "sed -i 's/max(1/max(2/' prices.py"}},
]  # fmt: skip
LAST_WANTED = 4
UNWANTED = 6


def command(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the throwaway repository, and say where it is.")
    ] = False,
) -> None:
    """See the whole product work in a throwaway repository: no network, no model, nothing of yours touched.

    An agent is recorded and one of its calls refused; the record is verified, tampered with and caught; one
    call is rolled back; a reviewer approves, and the rest is merged.

    Example:

      agentgov demo
    """
    for program in ("git", "ssh-keygen"):
        if shutil.which(program) is None:
            raise AgentgovError(f"the demo needs {program}", id="AG0311", hint=f"install {program}")
    folder = Path(tempfile.mkdtemp(prefix="agentgov-demo-"))
    try:
        _Demo(folder, results()).play()
    finally:
        if keep:
            results().line(f"kept: {folder}")
        else:
            shutil.rmtree(folder)


class _Demo:
    """One showing."""

    def __init__(self, folder: Path, out: Screen) -> None:
        self._out = out
        self._folder = folder
        self._repo = folder / "shop"
        self._home = folder / "home"
        self._scene = 0
        self._env = {
            **clean_environment(),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "HOME": str(self._home),
            "AGENTGOV_HOME": str(folder / "state"),
            "GIT_CONFIG_GLOBAL": str(self._home / ".gitconfig"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def play(self) -> None:
        """Show everything, in order."""
        self._prepare()
        self._record()
        self._read()
        self._tamper()
        self._roll_back()
        self._promote()
        self._out.line()
        self._out.line("That was all of it. In a repository of yours:  agentgov run -- claude", "bold")

    def _prepare(self) -> None:
        (self._home / ".ssh").mkdir(parents=True)
        important = self._repo / "important"
        important.mkdir(parents=True)
        (important / "customers.csv").write_text(CUSTOMERS)
        (self._repo / "prices.py").write_text(PRICES)
        (self._repo / ".agentgov.toml").write_text(tomli_w.dumps(RULES))
        for name in ("you", "reviewer"):
            self._quiet(
                "ssh-keygen",
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                name,
                "-f",
                str(self._home / ".ssh" / name),
            )
        trust = self._repo / ".agentgov"
        trust.mkdir()
        key = (self._home / ".ssh" / "reviewer.pub").read_text()
        (trust / "allowed_signers").write_text(f"reviewer@example.org {key}")
        (self._folder / "script.json").write_text(json.dumps(SCRIPT))
        for arguments in (
            ("init", "-q", "-b", "main"),
            ("config", "user.name", "You"),
            ("config", "user.email", "you@example.org"),
            ("config", "agentgov.signingKey", str(self._home / ".ssh" / "you")),
            ("add", "."),
            ("commit", "-q", "-m", "A shop with a bug"),
        ):
            self._quiet("git", *arguments)

    def _record(self) -> None:
        self._title("An agent works, and every call is judged and signed before it runs")
        self._say("A repository with a bug, customers' data, and a rule that nobody deletes that data.")
        self._say("The agent here is a script; its calls take the same path as a real agent's.")
        agent = Path(demo_agent.__file__)
        self._run(
            "run", "--agent", "demo", "--intent", "fix the crash on an empty list", "--",
            sys.executable, "-I", str(agent), str(self._folder / "script.json"),
            shown="run --intent 'fix the crash on an empty list' -- demo-agent",
        )  # fmt: skip
        self._expect((self._repo / "prices.py").read_text() == PRICES, "your own tree was touched")
        self._say("It worked in a copy: your files are as they were. One call was refused; it never ran.")

    def _read(self) -> None:
        self._title("What happened, call by call, and is the record whole?")
        self._run("show")
        self._run("verify")

    def _tamper(self) -> None:
        self._title("Somebody edits a copy of the record, to make the refused call look allowed")
        ref = self._git("for-each-ref", "--format=%(refname)", "refs/agentgov/ledger").split()[0]
        copy = self._folder / "tampered"
        shutil.copytree(self._repo, copy, symlinks=True)
        # In the copy's place the record would count as a new clone's; so the original steps aside.
        aside = self._folder / "aside"
        self._repo.rename(aside)
        copy.rename(self._repo)
        try:
            self._forge(ref)
            self._say(
                "One word of one entry, `deny`, is now `allow`; the git objects were made to fit again."
            )
            self._run("verify", expect=ExitCode.BROKEN)
        finally:
            self._repo.rename(copy)
            aside.rename(self._repo)
        self._say("Caught: the signature is over the exact bytes. The real record still holds.")

    def _forge(self, ref: str) -> None:
        """Rewrite the seal that holds the refusal, and all that came after it."""
        commits = self._git("rev-list", "--reverse", ref).split()
        parent: list[str] = []
        for commit in commits:
            rows = []
            for row in self._git("ls-tree", commit).splitlines():
                meta, name = row.split("\t")
                oid = meta.split()[2]
                if name == "entries":
                    text = self._git("cat-file", "blob", oid)
                    forged = text.replace('"decision":"deny"', '"decision":"allow"')
                    oid = self._git("hash-object", "-w", "--stdin", stdin=forged).strip()
                rows.append(f"{meta.split()[0]} blob {oid}\t{name}")
            tree = self._git("mktree", stdin="\n".join(rows) + "\n").strip()
            parent = ["-p", self._git("commit-tree", tree, *parent, "-m", "seal").strip()]
        self._git("update-ref", ref, parent[1])

    def _roll_back(self) -> None:
        self._title("The last call was not wanted: everything back to the state before it")
        self._run("diff", f":{UNWANTED}")
        self._run("rollback", f":{LAST_WANTED}", "--yes")
        self._run("diff", "--stat")

    def _promote(self) -> None:
        self._title("Into main: not without somebody who is not the one who started the run")
        run = json.loads(self._capture("log", "--json"))["runs"][0]["run"]
        self._run("promote", run, "--into", "main", expect=ExitCode.APPROVAL_MISSING)
        self._say("A reviewer reads it and signs, with their own SSH key, which main's trust file names.")
        self._run("approve", run, "-m", "read it, ran it", "--key", str(self._home / ".ssh" / "reviewer"),
                  shown=f"approve {run} -m 'read it, ran it'        (the reviewer)")  # fmt: skip
        self._run("promote", run, "--into", "main")
        self._say("What landed, with its trail:")
        self._command(["git", "log", "-1", "--format=%h %an: %s%n%n%b", "main"], "git log -1 main")
        self._expect((self._repo / "prices.py").read_text() == FIXED, "main is not what was approved")
        self._expect(
            (self._repo / "important" / "customers.csv").read_text() == CUSTOMERS, "customers are gone"
        )
        self._run("verify", "--require", "pinned")

    # How it is shown.

    def _title(self, text: str) -> None:
        self._scene += 1
        self._out.line()
        self._out.line(f"== {self._scene}. {text} ", "bold cyan")

    def _say(self, text: str) -> None:
        self._out.line(f"# {text}", "dim")

    def _run(self, *arguments: str, expect: ExitCode = ExitCode.OK, shown: str | None = None) -> None:
        words = [sys.executable, "-m", "agentgov", *arguments]
        self._command(words, f"agentgov {shown or shlex.join(arguments)}", expect)

    def _command(self, words: Sequence[str], shown: str, expect: ExitCode = ExitCode.OK) -> None:
        self._out.line(f"$ {shown}", "bold")
        # One pipe for both, so that they stand in the order in which they were written.
        done = subprocess.run(
            words, cwd=self._repo, env=self._env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        self._out.block(done.stdout.decode("utf-8", "replace").rstrip("\n"))
        if expect is not ExitCode.OK:
            self._say(f"exit code {done.returncode}")
        self._expect(done.returncode == expect, f"{shown} ended with {done.returncode}, not {int(expect)}")

    def _capture(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "agentgov", *arguments],
            cwd=self._repo, env=self._env, capture_output=True, check=True,
        )  # fmt: skip
        return done.stdout.decode()

    def _quiet(self, *words: str) -> None:
        done = subprocess.run(words, cwd=self._repo, env=self._env, capture_output=True, check=False)
        self._expect(done.returncode == 0, f"{words[0]}: {done.stderr.decode('utf-8', 'replace').strip()}")

    def _git(self, *arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self._repo,
            env=self._env,
            input=stdin.encode(),
            capture_output=True,
            check=True,
        )
        return done.stdout.decode()

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise AgentgovError(
                f"the demo did not go as it should: {otherwise}", id="AG0312", where=os.fspath(self._repo)
            )
