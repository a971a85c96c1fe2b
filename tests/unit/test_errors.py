"""Each error has a stable id and its class an exit code; an id stands for one kind of failure."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from agentgov import errors
from agentgov.errors import AgentgovError, BrokenRecordError, ExitCode, UsageError

ROOT = Path(__file__).parents[2]
FOLDERS = ("agentgov", "ledger", "rollback", "gates", "report", "harness", "cli")
RANGES = {
    "agentgov": [(1, 29)],
    "harness": [(30, 99)],
    "gates": [(100, 149)],
    "rollback": [(150, 199)],
    "ledger": [(200, 299), (400, 499)],
    "report": [(345, 349)],
    "cli": [(300, 399)],
}


def raised_ids() -> list[tuple[str, str]]:
    found = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if (
                    (
                        isinstance(node, ast.keyword)
                        and node.arg == "id"
                        and isinstance(node.value, ast.Constant)
                    )
                    and isinstance(node.value.value, str)
                    and node.value.value.startswith("AG")
                ):
                    found.append((folder, node.value.value))
    return found


def test_exit_codes_are_the_documented_ones() -> None:
    expected = {
        "UsageError": 2,
        "ConfigError": 2,
        "IncompleteError": 3,
        "PolicyDeniedError": 10,
        "ApprovalMissingError": 11,
        "BrokenRecordError": 12,
        "UntrustedSignerError": 13,
        "DivergedError": 14,
        "ConflictError": 15,
        "RunFailedError": 125,
    }
    for name, code in expected.items():
        assert getattr(errors, name).exit_code == code
    assert AgentgovError.exit_code == 1
    assert sorted(int(code) for code in ExitCode) == [0, 1, 2, 3, 10, 11, 12, 13, 14, 15, 125, 126, 127, 130]


def test_an_error_says_what_where_and_what_helps() -> None:
    error = UsageError("it went wrong", id="AG0001", where="a/b:3", hint="do this")
    assert (error.id, error.message, error.where, error.hint) == (
        "AG0001",
        "it went wrong",
        "a/b:3",
        ("do this",),
    )
    assert str(error) == "a/b:3: it went wrong"
    assert str(UsageError("alone", id="AG0001")) == "alone"
    assert UsageError("x", id="AG0001", hint=["a", "b"]).hint == ("a", "b")
    assert isinstance(BrokenRecordError("x", id="AG0200"), AgentgovError)


@pytest.mark.parametrize("bad", ["", "AG1", "AG00001", "ag0001", "AG0001\n"])
def test_an_id_has_one_form(bad: str) -> None:
    with pytest.raises(ValueError, match="four digits"):
        UsageError("x", id=bad)


def test_an_id_is_of_the_layers_own_range_or_of_one_below() -> None:
    below = {
        "agentgov": {"agentgov"},
        "ledger": {"agentgov"},
        "rollback": {"agentgov", "ledger"},
        "gates": {"agentgov", "ledger"},
        "report": {"agentgov", "ledger"},
        "harness": {"agentgov", "ledger", "rollback", "gates"},
        "cli": set(RANGES),
    }
    wrong = []
    for folder, id in raised_ids():
        ranges = [span for layer in {folder, *below[folder]} for span in RANGES[layer]]
        if not any(low <= int(id[2:]) <= high for low, high in ranges):
            wrong.append((folder, id))
    assert wrong == []
