"""`log`, `show`, `diff`, `status`, `verify`: one recorded repository, read in every way."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentgov.cli.screen import WIDTH
from agentgov.ids import RUN_ALPHABET
from tests.conftest import GIT_CONFIG, GitRunner, MakeRepo
from tests.e2e.conftest import Cli, bash, demo, write

STEPS: list[dict[str, Any]] = [
    {"tool": "Read", "input": {"file_path": "a.txt"}},
    bash("echo two >> a.txt; printf 'l1\\nl2\\n'; echo oops >&2"),
    write("new/b.txt", "b\n"),
    bash("rm -rf /etc"),
    bash("chmod +x a.txt; ln -s a.txt link; mkdir empty; rm gone", "helper"),
    bash("printf '\\000\\001' > bin; exit 3"),
    {"tool": "Edit", "input": {"file_path": "nowhere", "old_string": "a", "new_string": "b"}},
]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a run of the demonstration agent, and an older run without hooks."""
    place = tmp_path_factory.mktemp("recorded")
    repo = place / "repo"
    repo.mkdir()
    (place / ".gitconfig").write_text(GIT_CONFIG)
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "GIT_CONFIG_NOSYSTEM": "1",
        "AGENTGOV_HOME": str(place / "state"),
        "HOME": str(place),
    }
    (repo / "a.txt").write_text("one\n")
    (repo / "gone").write_text("g\n")
    script = demo(repo, STEPS)
    for words in (
        ["git", "init", "-q", "-b", "main"],
        ["git", "add", "."],
        ["git", "commit", "-q", "-m", "start"],
        [sys.executable, "-m", "agentgov", "run", "--", "sh", "-c", "echo x > plain"],
        [sys.executable, "-m", "agentgov", "run", "--intent", "try everything", *script],
    ):
        subprocess.run(words, cwd=repo, env=env, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return repo


@pytest.fixture
def repo(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AGENTGOV_HOME", str(recorded.parent / "state"))
    return recorded


def test_log_is_newest_first_and_fits_the_screen(agentgov: Cli, repo: Path) -> None:
    said = agentgov(repo, "log")
    header, newest, older = said.out.splitlines()
    assert header.split() == ["RUN", "WHEN", "WHO", "AGENT", "INTENT", "CALLS", "DENIED", "FILES", "STATE"]
    assert "try everything" in newest
    assert newest.split()[-1] == "finished"
    assert "Alice Example" in newest
    assert older.endswith("files only")
    assert '"files only"' in said.err
    assert max(map(len, said.out.splitlines())) <= WIDTH
    runs = agentgov(repo, "log", "--json").json["runs"]
    assert [run["run"] for run in runs] == [newest[:5], older[:5]]
    assert runs[0]["started_us"] > runs[1]["started_us"]
    assert (runs[0]["calls"], runs[0]["denied"], runs[0]["hooks"], runs[0]["exit"]) == (7, 1, True, 0)
    assert (runs[1]["calls"], runs[1]["hooks"]) == (0, False)


def test_log_shows_as_many_runs_as_asked_for(agentgov: Cli, repo: Path) -> None:
    said = agentgov(repo, "log", "-n", "1")
    assert len(said.out.splitlines()) == 2
    assert "1 older run: agentgov log --all" in said.err
    assert len(agentgov(repo, "log", "-n", "1", "--json").json["runs"]) == 1
    agentgov(repo, "log", "-n", "0", code=2)


def test_show_lists_the_calls_and_hides_plain_reads(agentgov: Cli, repo: Path) -> None:
    said = agentgov(repo, "show")
    rows = [line for line in said.out.splitlines() if re.match(r" +\d+ +\+", line)]
    assert [row.split()[0] for row in rows] == ["2", "3", "4", "5", "6", "7"]
    assert "DENIED" in rows[2]
    assert "builtin-outside" in rows[2]
    assert "helper" in rows[3]
    assert "error" in rows[5]
    assert "(1 read hidden: --all)" in said.out
    assert max(map(len, said.out.splitlines())) <= WIDTH
    everything = agentgov(repo, "show", "--all").out
    assert "Read" in everything
    assert "hidden" not in everything
    assert said.out.startswith(run_of(agentgov, repo) + "  finished, exit 0")


def test_show_of_a_run_without_hooks_says_so(agentgov: Cli, repo: Path) -> None:
    older = agentgov(repo, "log", "--json").json["runs"][1]["run"]
    said = agentgov(repo, "show", older)
    assert "files only: no hooks for this agent" in said.out
    assert "plain" in said.out
    assert "show :N" not in said.out
    value = agentgov(repo, "show", older, "--json").json
    assert value["calls"] == []
    assert [file["path"] for step in value["unattributed"] for file in step["files"]] == ["plain"]


def test_show_of_a_call_has_its_arguments_output_verdict_and_changes(agentgov: Cli, repo: Path) -> None:
    said = agentgov(repo, "show", ":2").out
    for line in (
        "  what      echo two >> a.txt; printf 'l1\\nl2\\n'; echo oops >&2",
        "  would     write a.txt",
        "  changed   M a.txt +1",
        "  output    l1",
        "            l2",
        "  stderr    oops",
    ):
        assert line in said.splitlines()
    assert "  exit_code 3" in agentgov(repo, "show", ":6").out
    assert "  content   b" in agentgov(repo, "show", ":3").out.splitlines()
    detail = agentgov(repo, "show", ":2", "--json").json["call"]
    assert detail["input"]["command"].startswith("echo two")
    assert json.loads(detail["output"])["stdout"] == "l1\nl2\n"
    assert (detail["status"], detail["decision"], detail["actor"]) == ("ok", "allow", "main")


def test_show_of_a_denied_call_says_what_would_have_been_and_that_it_did_not_run(
    agentgov: Cli, repo: Path
) -> None:
    said = agentgov(repo, "show", ":4").out
    assert said.splitlines()[0].endswith("Bash   DENIED by builtin-outside")
    assert "  what      rm -rf /etc" in said
    assert "would     delete" in said
    assert "verdict   deny: would delete" in said
    assert "  changed   nothing" in said
    assert "  output    none: it did not run" in said
    detail = agentgov(repo, "show", ":4", "--json").json["call"]
    assert (detail["status"], detail["denied_by"], detail["rules"]) == (
        "denied",
        "policy",
        ["builtin-outside"],
    )
    assert detail["output"] is None
    assert detail["files"] == []


def test_links_folders_bits_and_binaries_are_called_what_they_are(agentgov: Cli, repo: Path) -> None:
    said = agentgov(repo, "show", ":5").out
    for line in ("M a.txt executable", "A empty folder", "A link link", "D gone -1"):
        assert f"  changed   {line}" in said.splitlines()
    assert "  changed   A bin binary" in agentgov(repo, "show", ":6").out
    files = agentgov(repo, "show", ":5", "--json").json["call"]["files"]
    assert {file["path"]: (file["status"], file["kind"]) for file in files} == {
        "a.txt": ("M", "file"),
        "empty": ("A", "folder"),
        "gone": ("D", "file"),
        "link": ("A", "link"),
    }


def test_diff_is_of_the_run_a_call_or_a_range(agentgov: Cli, repo: Path) -> None:
    whole = paths(agentgov(repo, "diff", "--json").json)
    assert whole == {"a.txt", "new/b.txt", "link", "empty", "gone", "bin"}
    assert paths(agentgov(repo, "diff", ":3", "--json").json) == {"new/b.txt"}
    assert paths(agentgov(repo, "diff", ":2..3", "--json").json) == {"a.txt", "new/b.txt"}
    denied = agentgov(repo, "diff", ":4")
    assert (denied.out, denied.err) == ("", "nothing changed\n")
    text = agentgov(repo, "diff", ":2").out
    assert "+two" in text.splitlines()
    assert "new/b.txt |   1 +" in agentgov(repo, "diff", "--stat").out
    one = agentgov(repo, "diff", ":2", "--json").json
    detail = agentgov(repo, "show", ":2", "--json").json["call"]
    assert (one["from"], one["tree"]) == (detail["from"], detail["tree"])
    agentgov(repo, "diff", ":start", code=2)
    agentgov(repo, "diff", ":3..99", code=2)


def test_the_patch_of_a_run_applies_to_its_base(
    agentgov: Cli, repo: Path, git: GitRunner, tmp_path: Path
) -> None:
    text = agentgov(repo, "diff", ":2..3").out
    git(tmp_path, "clone", "-q", str(repo), "copy")
    git(tmp_path / "copy", "apply", "-", input=text.encode())
    assert (tmp_path / "copy" / "a.txt").read_text() == "one\ntwo\n"


def test_a_prefix_names_a_run_unless_two_have_it(agentgov: Cli, repo: Path) -> None:
    runs = [run["run"] for run in agentgov(repo, "log", "--json").json["runs"]]
    for run in runs:
        prefix = next(run[:n] for n in range(1, 6) if sum(other.startswith(run[:n]) for other in runs) == 1)
        assert agentgov(repo, "show", prefix, "--json").json["run"]["run"] == run
        assert agentgov(repo, "show", f"{runs[0]}:2", "--json").json["call"]["n"] == 2
    unknown = next(char for char in RUN_ALPHABET if not any(run.startswith(char) for run in runs))
    for ref in (unknown, "not a run", "UPPER", ":", ":0x1", ":01", f"{runs[0]}:99", f"{runs[0]}:3..1"):
        said = agentgov(repo, "show", ref, code=2)
        assert said.err.startswith("error[AG0")
        assert "help: " in said.err


def test_an_ambiguous_prefix_is_refused_and_the_runs_are_named(
    agentgov: Cli, make_repo: MakeRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter([b"\x07\x01\x01\x01\x01", b"\x07\x02\x02\x02\x02"])
    real = os.urandom
    monkeypatch.setattr(os, "urandom", lambda size: next(ids, b"\x09" * 5) if size == 5 else real(size))
    repo = make_repo()
    first, second = agentgov.shell(repo, "true"), agentgov.shell(repo, "true")
    assert (first, second) == ("71111", "72222")
    said = agentgov(repo, "show", "7", code=2)
    assert first in said.err
    assert second in said.err
    assert agentgov(repo, "show", "72", "--json").json["run"]["run"] == second


def test_status_and_pending_of_a_quiet_repository(agentgov: Cli, repo: Path) -> None:
    said = agentgov(repo, "status")
    assert said.out.splitlines()[0] == "nothing is running"
    value = agentgov(repo, "status", "--json").json
    assert value["live"] == []
    assert value["record"]["runs"] == 2
    assert value["record"]["entries"] == value["record"]["saved"]
    assert agentgov(repo, "pending", "--json").json == {"v": 1, "pending": []}
    assert agentgov(repo, "pending").err == "nothing waits for you here\n"


def test_verify_passes_and_says_what_it_does_not_prove(agentgov: Cli, repo: Path) -> None:
    said = agentgov(repo, "verify")
    assert said.out.startswith("Unchanged, signed and complete as far as this machine can tell.")
    assert "witness" in said.out
    value = agentgov(repo, "verify", "--json").json
    assert value["ok"] is True
    for run in (run_of(agentgov, repo), run_of(agentgov, repo)[:5]):
        agentgov(repo, "verify", run)
    agentgov(repo, "verify", "--require", "pinned")
    missing = agentgov(repo, "verify", "--require", "witnessed", code=3)
    assert "witnessed" in missing.out + missing.err
    agentgov(repo, "verify", "--require", "nonsense", code=2)
    agentgov(repo, "verify", "00000", code=2)


def test_one_changed_byte_is_named_with_exit_code_12(
    agentgov: Cli, make_repo: MakeRepo, git: GitRunner
) -> None:
    repo = make_repo()
    agentgov.play(repo, [bash("echo x > x")])
    ref = git(repo, "for-each-ref", "--format=%(refname)", "refs/agentgov/ledger")
    entries = git(repo, "cat-file", "blob", f"{ref}:entries") + "\n"
    forged = git(repo, "hash-object", "-w", "--stdin", input=entries.replace("allow", "allot").encode())
    rows = [
        row if not row.endswith("\tentries") else f"100644 blob {forged}\tentries"
        for row in git(repo, "ls-tree", ref).splitlines()
    ]
    tree = git(repo, "mktree", input="\n".join([*rows, ""]).encode())
    git(repo, "update-ref", ref, git(repo, "commit-tree", tree, "-m", "forged"))
    said = agentgov(repo, "verify", code=12)
    assert said.out.startswith("BROKEN at entry ")
    assert "help: " in said.out
    value = agentgov(repo, "verify", "--json", code=12).json
    assert value["ok"] is False
    assert f"BROKEN at entry {value['broken_at']['seq']} " in said.out


def test_a_run_may_be_left_out_everywhere(agentgov: Cli, repo: Path) -> None:
    last = run_of(agentgov, repo)
    for args in (["show"], ["diff", "--stat"], ["diff", ":2"], ["show", ":2"]):
        implied = agentgov(repo, *args).out
        named = [args[0], last + (args[1] if args[1:] and args[1].startswith(":") else ""), *args[1:][-1:]]
        named = named[:2] if args[1:] and args[1].startswith(":") else named
        assert agentgov(repo, *named).out == implied


def run_of(agentgov: Cli, repo: Path) -> str:
    return str(agentgov(repo, "log", "--json").json["runs"][0]["run"])


def paths(value: Any) -> set[str]:
    return {file["path"] for file in value["files"]}
