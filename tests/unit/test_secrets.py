"""Which values of `.env` files are looked for, and where such files are looked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentgov.git import discover
from agentgov.harness.secrets import dotenv_secrets
from tests.conftest import GitRunner, MakeRepo

VALUE = "tr0ub4dor-and-3"


@pytest.fixture
def repo(make_repo: MakeRepo) -> Path:
    return make_repo(files={"app/main.py": "x\n", ".gitignore": ".env*\nnode_modules\n"})


def _found(repo: Path) -> list[str]:
    return sorted(dotenv_secrets(discover(repo)))


@pytest.mark.parametrize(
    "name", [".env", ".env.local", ".env.production", ".envrc", "prod.env", "app/.env", "app/.env.test"]
)
def test_values_of_dotenv_files_beside_tracked_files_are_found(repo: Path, name: str) -> None:
    (repo / name).write_text(f"PORT=3000\nexport API_TOKEN='{VALUE}'\nDATABASE=postgres://u:db-{VALUE}@h/x\n")
    assert _found(repo) == sorted([VALUE, f"db-{VALUE}"])


@pytest.mark.parametrize(
    "name",
    [".env.example", ".env.sample", ".env.template", ".env.dist", "node_modules/x/.env", "environment"],
)
def test_templates_and_ignored_trees_are_not_read(repo: Path, name: str) -> None:
    (repo / name).parent.mkdir(parents=True, exist_ok=True)
    (repo / name).write_text(f"API_TOKEN={VALUE}\n")
    assert _found(repo) == []


@pytest.mark.parametrize(
    "value",
    ["rm -rf important/", "curl https://x.example", "delete_everything", "src/payments/main.py", "${TOKEN}"],
)
def test_an_agent_cannot_blot_out_commands_through_such_a_file(repo: Path, value: str) -> None:
    (repo / ".env").write_text(f"API_TOKEN={value}\n")
    assert _found(repo) == []


def test_what_cannot_be_read_is_passed_over(repo: Path) -> None:
    os.mkfifo(repo / ".env")
    (repo / ".env.local").mkdir()
    (repo / ".env.loop").symlink_to(".env.loop")
    (repo / ".env.binary").write_bytes(bytes(range(256)) + f"\nA_TOKEN={VALUE}\n".encode())
    assert _found(repo) == [VALUE]


def test_a_repository_without_files_is_fine(tmp_path: Path, git: GitRunner) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / ".env").write_text(f"API_TOKEN={VALUE}\n")
    assert _found(tmp_path) == [VALUE]


def test_an_agent_cannot_make_the_next_run_look_for_ever(repo: Path) -> None:
    many = "".join(f"T{number}_TOKEN=Xk9-vQ2m7{number:06d}\n" for number in range(5000))
    (repo / ".env").write_text(many)
    (repo / ".env.local").write_text("A=" + "B1_TOKEN=x1 " * 20_000)
    assert len(list(dotenv_secrets(discover(repo)))) == 500
