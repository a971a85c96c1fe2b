"""What comes from an agent or a repository is never a control on a screen; secrets are never kept."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import GitRunner, MakeRepo
from tests.e2e.conftest import Cli, Said, bash, demo, write

LINK = "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\"
EVIL = f"{LINK} \x1b[31mred\x1b[2J \x9b1m \u202egnp\u2066 zero\u200bw \x07bell\rover \x1bPdcs\x1b\\ \u2028"
READING = [
    ["log"],
    ["show"],
    ["show", "--all"],
    ["show", ":1"],
    ["show", ":2"],
    ["show", ":3", "--all"],
    ["show", ":4"],
    ["diff"],
    ["diff", "--stat"],
    ["diff", ":1..3"],
    ["status"],
    ["verify"],
    ["verify", "--explain"],
    ["apply", "--dry-run"],
    ["rollback", ":1", "--dry-run"],
    ["promote"],
    ["log", "--json"],
    ["show", "--all", "--json"],
    ["show", ":1", "--json"],
    ["show", ":3", "--json"],
    ["diff", "--json"],
    ["status", "--json"],
    ["verify", "--json"],
    ["apply", "--dry-run", "--json"],
    ["rollback", ":1", "--dry-run", "--json"],
    ["apply"],
    ["rollback", ":2", "--yes"],
    ["rollback", ":1", "--yes", "--json"],
    ["drop", "--yes"],
]


def assert_harmless(said: Said) -> None:
    """No control, bidi or invisible character on either screen; JSON is ASCII."""
    for text in (said.out, said.err):
        raw = {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs")}
        assert raw <= {"\n", "\t"}, ascii(text)
    if said.out.startswith("{"):
        assert said.out.isascii()


def test_no_screen_passes_on_a_control(agentgov: Cli, make_repo: MakeRepo, git: GitRunner) -> None:
    repo = make_repo(files={"a.txt": "one\n"})
    git(repo, "config", "user.name", f"Ann\u202e\x1b[1m {LINK}")
    git(repo, "checkout", "-q", "-b", "br\u202eanch\u200b")
    steps: list[dict[str, Any]] = [
        bash(f"echo '{EVIL}'; printf '\\033[31mred\\033]0;title\\007\\n'"),
        write(f"na\u202eme{chr(27)}[31m\n\ud800.txt".encode("utf-8", "replace").decode(), f"{EVIL}\n"),
        bash(f"ls {EVIL}", agent=f"sub{EVIL}"),
        bash(f"rm -rf /etc/{EVIL}"),
    ]
    run = agentgov(repo, "run", "--intent", f"in{EVIL}tent\nsecond", *demo(repo, steps))
    # The agent's own output is its own; it stands between our lines, on stdout.
    assert_harmless(Said(0, "", run.err))
    for args in READING:
        said = agentgov(repo, *args, code=None)
        assert said.code in (0, 11), (args, said)
        assert_harmless(said)
    for args in (["show", EVIL], ["log", EVIL], [EVIL], ["promote", "--into", EVIL], ["answer", EVIL, "yes"]):
        said = agentgov(repo, *args, code=2)
        assert_harmless(said)


def test_what_a_shell_would_run_is_not_hidden_in_an_escape_sequence(
    agentgov: Cli, make_repo: MakeRepo
) -> None:
    repo = make_repo()
    hidden = "true \x1b]0;rm -rf src;\x07"
    agentgov.play(repo, [bash(hidden), bash("true\nrm -f nothing"), write("x.sh", f"{hidden}\n")])
    assert "rm -rf src" in agentgov(repo, "show").out
    assert "rm -rf src" in agentgov(repo, "show", ":1").out
    assert "true\\nrm -f nothing" in agentgov(repo, "show").out
    assert "rm -rf src" in agentgov(repo, "diff").out


def test_a_long_command_can_be_read_whole(agentgov: Cli, make_repo: MakeRepo) -> None:
    repo = make_repo()
    agentgov.play(repo, [bash("true " + "x" * 300 + "; true the end")])
    assert "the end" not in agentgov(repo, "show").out
    assert "the end" in agentgov(repo, "show", ":1").out


def test_the_table_keeps_its_columns_under_wide_and_long_text(agentgov: Cli, make_repo: MakeRepo) -> None:
    repo = make_repo()
    agentgov.play(repo, [bash("true # " + "日本" * 60), bash("true")], "--intent", "日本" * 80)
    for args in (["log"], ["show"]):
        for line in agentgov(repo, *args).out.splitlines():
            if not line.startswith("intent"):
                assert sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line) <= 100, line


SECRETS = {
    "argument": "ghp_1a2B3c4D5e6F7g8H9i0JkLmNoPqRsTuVwXyZ",
    "command": "AKIAQ3EGRWCN7XQZ5TML",
    "env": "tok-Zx81kQpLw02mVbN4",
    "intent": "sk-ant-api03-" + "Ab1-" * 23 + "xyz_AA",
    "output": "xoxb-123456789012-1234567890123-a1B2c3D4e5F6g7H8i9J0k1L2",
    "path": "glpat-A1b2C3d4E5f6G7h8I9j0",
}


def test_secrets_are_nowhere_in_what_is_kept(
    agentgov: Cli, make_repo: MakeRepo, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = make_repo(files={"a": "1\n"})
    monkeypatch.setenv("MY_API_TOKEN", SECRETS["env"])
    # Printed from parts, so that the output alone holds it.
    halves = SECRETS["output"][:20], SECRETS["output"][20:]
    steps = [
        bash(f"true --token {SECRETS['command']}"),
        bash(f"printf %s%s {halves[0]} {halves[1]}"),
        bash('echo "$MY_API_TOKEN"'),
        bash(f"ls {SECRETS['path']} || true"),
    ]
    agentgov.play(repo, steps, "--intent", f"use {SECRETS['intent']} for it")
    agentgov(repo, "run", "--", "sh", "-c", "true", SECRETS["argument"])
    agentgov(repo, "verify")
    assert [run["calls"] for run in agentgov(repo, "log", "--json").json["runs"]] == [0, 4]
    kept = b"".join(everything(repo / ".git")) + b"".join(everything(home))
    # Everything was really opened: what stood around the secrets is there.
    for text in (b"[REDACTED:", b"true --token ", b'"argv":["sh","-c","true"', b"MY_API_TOKEN", b"for it"):
        assert text in kept, text
    for name, secret in SECRETS.items():
        assert secret.encode() not in kept, name
    run = agentgov(repo, "log", "--json").json["runs"][1]["run"]
    for args in (["log"], ["show", run], *(["show", f"{run}:{n}"] for n in range(1, 5)), ["show", "--json"]):
        said = agentgov(repo, *args)
        assert not any(secret in said.out + said.err for secret in SECRETS.values())


def everything(folder: Path) -> Iterator[bytes]:
    """Every file and every git object below a folder, with what stands in it as base64."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            if path.is_symlink() or not path.is_file():
                continue
            raw = path.read_bytes()
            if re.fullmatch(r"[0-9a-f]{38}|[0-9a-f]{62}", name) and len(Path(place).name) == 2:
                raw = zlib.decompress(raw)
            elif name.endswith(".pack"):
                raw = packed(path)
            yield raw
            for field in re.findall(rb"[\t\"]([A-Za-z0-9+/]{8,}={0,2})(?=[\n\t\"])", raw):
                if len(field) % 4 == 0:
                    yield base64.b64decode(field)


def packed(pack: Path) -> bytes:
    return subprocess.run(
        ["git", "--git-dir", str(pack.parents[2]), "cat-file", "--batch", "--batch-all-objects"],
        capture_output=True,
        check=True,
    ).stdout


FORMAT_WORDS = re.compile(
    r"\b(stream|seal(s|ed|ing)?|checkpoints?|leaf|leaves|WAL|DSSE|envelope)\b", re.IGNORECASE
)


def test_no_screen_uses_the_words_of_the_format(
    agentgov: Cli, make_repo: MakeRepo, git: GitRunner, tmp_path: Path
) -> None:
    repo = make_repo()
    said = [agentgov(repo, "run", "--", "sh", "-c", "echo x > x")]
    agentgov.play(repo, [bash("rm -rf /etc"), bash("echo y > y"), bash("true")])
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    git(repo, "config", "agentgov.signingKey", str(tmp_path / "key"))
    run = agentgov(repo, "log", "--json").json["runs"][0]["run"]
    sequence = [
        *([command, "--help"] for command in COMMANDS),
        *READING[:12],
        *(["verify"], ["promote", run], ["approve", run, "-m", "why"], ["promote", run], ["promote", run]),
        *(["rollback", ":2", "--yes"], ["apply", run], ["rollback", ":99"], ["approve", "zzzzz", "-m", "x"]),
        *(["drop", "--yes"], ["rollback", ":1"], ["diff", ":99"], ["pending"], ["answer", ":1", "no"]),
    ]
    said += [agentgov(repo, *args, code=None) for args in sequence if "--explain" not in args]
    ref = git(repo, "for-each-ref", "--format=%(refname)", "refs/agentgov/ledger")
    git(repo, "update-ref", "-d", ref)
    said += [
        agentgov(repo, *args, code=None) for args in (["verify"], ["log"], ["show"], ["run", "--", "true"])
    ]
    assert said[-4].code == 12
    for one in said:
        lines = [line for line in (one.out + one.err).splitlines() if not line.startswith("  at ")]
        assert not FORMAT_WORDS.search("\n".join(lines)), one


COMMANDS = [
    "run", "status", "pending", "answer", "demo", "log", "show", "diff", "verify", "apply", "rollback",
    "drop", "approve", "promote",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_text_has_an_example_that_stands_on_a_line_of_its_own(
    agentgov: Cli, tmp_path: Path, command: str
) -> None:
    said = agentgov(tmp_path, command, "--help")
    lines = [line.strip() for line in said.out.splitlines()]
    assert any(line in ("Example:", "Examples:") for line in lines)
    assert any(line.startswith(f"agentgov {command}") for line in lines)
    assert said.err == ""


def test_the_first_help_lists_every_command_and_needs_no_repository(agentgov: Cli, tmp_path: Path) -> None:
    said = agentgov(tmp_path, "--help")
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\S", said.out, re.MULTILINE)
    assert agentgov(tmp_path, code=2).err == said.out
    assert agentgov(tmp_path, "-h").out == said.out
    assert re.fullmatch(r"agentgov \d+\.\d+\.\d+\S*\n", agentgov(tmp_path, "--version").out)


def test_a_wrong_command_line_is_one_error_with_the_help_to_read(agentgov: Cli, tmp_path: Path) -> None:
    for args, hint in (
        (["nosuch"], "agentgov --help"),
        (["log", "--nosuch"], "agentgov log --help"),
        (["answer", "7kq2f:1", "maybe"], "agentgov answer --help"),
        (["approve", "7kq2f"], "agentgov approve --help"),
    ):
        said = agentgov(tmp_path, *args, code=2)
        assert said.err.startswith("error[AG0308]: ")
        assert f"help: {hint}" in said.err
        assert "Value error" not in said.err


@pytest.mark.parametrize("group", [[], ["ledger"], ["keys"]])
def test_a_group_without_a_subcommand_shows_what_it_offers(
    agentgov: Cli, tmp_path: Path, group: list[str]
) -> None:
    said = agentgov(tmp_path, *group, code=2)
    assert said.err.startswith(f"Usage: {' '.join(['agentgov', *group])} ")
    assert "error" not in said.err.splitlines()[0]
    assert said.err.rstrip() == agentgov(tmp_path, *group, "--help").out.rstrip()
