"""A record that says which one it continues, and that one with another end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentgov.errors import ExitCode
from agentgov.git import discover
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_report import Report
from agentgov.ledger.verify_source import RepositorySource, Trust, earlier_leaf
from tests.conftest import MakeRepo
from tests.e2e.conftest import Cli
from tests.support.record_places import stream_of


@pytest.fixture
def repo(make_repo: MakeRepo, agentgov: Cli) -> Path:
    """A repository whose record was begun anew after one run."""
    made = make_repo(files={"a.txt": "one\n"})
    agentgov.shell(made, "echo two >> a.txt")
    agentgov(made, "ledger", "restart", "--yes")
    return made


def _continued(agentgov: Cli, repo: Path) -> tuple[str, int]:
    said = agentgov(repo, "verify", "--json").json
    (check,) = [check for check in said["checks"] if check["name"] == "continues"]
    found = re.match(
        r"([0-9]+) entries of (agentgov/[0-9a-f]{32}), whose end is the one named", check["text"]
    )
    assert found is not None
    return found[2], int(found[1])


def _status(report: Report) -> str:
    return next(check.status for check in report.checks if check.name == "continues")


def test_an_earlier_record_with_another_end_breaks_the_one_that_continues_it(
    repo: Path, agentgov: Cli
) -> None:
    log, size = _continued(agentgov, repo)
    repository = discover(repo)
    leaf = earlier_leaf(repository, log, size)
    assert leaf is not None

    def verify(found: str | None) -> Report:
        asked: list[tuple[str, int]] = []

        def lookup(log: str, size: int) -> str | None:
            asked.append((log, size))
            return found

        report = verify_ledger(
            RepositorySource(repository),
            trust=Trust(stream_id=stream_of(repo)),
            earlier=lookup,
        )
        assert asked == [(log, size)]
        return report

    assert (_status(verify(leaf)), _status(verify(None))) == ("ok", "--")
    other = verify("0" * 64)
    assert _status(other) == "broken"
    assert ("earlier", "AG0445") in [(found.code, found.error_id) for found in other.findings]
    assert other.exit_code is ExitCode.BROKEN


def test_verify_names_an_earlier_record_whose_end_was_exchanged(repo: Path, agentgov: Cli) -> None:
    log, size = _continued(agentgov, repo)
    segment = sorted((repo / ".git/agentgov/wal").iterdir())[-1]
    number = re.search(r"[0-9]+", segment.name)
    assert number is not None
    aside = repo / ".git/agentgov/earlier" / log.removeprefix("agentgov/")
    aside.mkdir(parents=True, exist_ok=True)
    name = segment.name.replace(number[0], str(size - 1).zfill(len(number[0])))
    (aside / name).write_bytes(b'{"another":"end"}\tAAAA\n')
    said = agentgov(repo, "verify", code=12)
    assert "has another end there" in said.out
    report = agentgov(repo, "verify", "--json", code=12).json
    assert "earlier" in [found["code"] for found in report["findings"]]
