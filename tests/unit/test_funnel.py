"""There is one way into what is stored, and it passes the redactor.

Text of an agent or a person reaches the disk as a payload, through `PayloadStore.put`, or not at all. These
tests read the source: what a reviewer would have to see in every change, they see.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentgov.ids import is_token
from agentgov.ledger.bodies import KINDS

ROOT = Path(__file__).parents[2]
FOLDERS = ("agentgov", "ledger", "gates", "rollback", "harness", "report", "cli")

# Modules that an agent's text passes and that write files or objects of their own, and what they write. The
# ledger has no text of an agent's but through `put`; rollback writes files of the workspace and snapshots; a
# command writes what a person asked for.
WRITERS = {
    "gates/adoption.py": "which policy was seen, by digest and ref",
    "gates/landing.py": "a merge commit, from the redacted intent and the approved message",
    "harness/capture/claude.py": "the agent's own settings, in a folder that goes with the run",
    "harness/carry.py": "the user's files and exclude patterns, in the agent's copy",
    "harness/cloning.py": "git's configuration of the agent's copy",
    "harness/demo_agent.py": "the agent itself, in its own workspace",
    "harness/holds.py": "refs that hold objects: names and ids",
    "harness/state.py": "state.json: ids, folders, the agent's name",
    "harness/trusting.py": "the trust files, from what a person named",
    "harness/workspace.py": "which workspaces exist: names and ids",
    "report/search_index.py": "the index: what the payload store gave out",
    "report/search_tables.py": "the index: what the payload store gave out",
}
_FILE_WRITES = {"write_atomic", "write_bytes", "write_text", "pwrite", "executemany"}
_GIT_WRITES = {"hash-object", "commit-tree", "mktree", "fast-import"}


def _modules(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_bytes())


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            yield (
                function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", ""),
                node,
            )


def _writes(tree: ast.AST) -> bool:
    for name, call in _calls(tree):
        texts = {
            arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
        }
        is_open = name in ("open", "fdopen") and any(
            set(text) <= set("rwaxbt+") and set(text) & set("wax+") for text in texts
        )
        if name in _FILE_WRITES or is_open or texts & _GIT_WRITES:
            return True
    return False


def _function(name: str) -> ast.FunctionDef:
    tree = ast.parse((ROOT / "ledger/payloads.py").read_bytes())
    return next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name)


def test_a_value_is_redacted_before_anything_else_is_done_with_it() -> None:
    put = _function("put")
    uses = [node for node in ast.walk(put) if isinstance(node, ast.Name) and node.id == "value"]
    first, *_ = sorted(uses, key=lambda node: (node.lineno, node.col_offset))
    statement = next(
        node
        for node in put.body
        if isinstance(node, ast.Assign) and node.lineno <= first.lineno <= (node.end_lineno or 0)
    )
    assert ast.unparse(statement) == "value = self._redactor.redact(value)"


def test_only_put_makes_commitments_and_queues_records() -> None:
    for where, tree in _modules(*FOLDERS):
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for function in functions:
            for name, call in _calls(function):
                if name == "commitment":
                    assert (where, function.name) in {
                        ("ledger/payloads.py", "put"),
                        ("ledger/payloads.py", "is_payload_of"),
                    }, (where, function.name)
                if name == "append" and ast.unparse(call.func) == "writer.waiting.append":
                    assert (where, function.name) == ("ledger/payloads.py", "put"), (where, call.lineno)


def test_every_payload_store_is_given_a_redactor_of_the_environment() -> None:
    stores = {
        where: ast.unparse(tree)
        for where, tree in _modules("harness", "report", "gates", "cli")
        if any(name == "PayloadStore" for name, _ in _calls(tree))
    }
    assert set(stores) == {"cli/session.py", "harness/opening.py"}
    assert "Redactor(self.env, dotenv_secrets(self.repo))" in stores["cli/session.py"]
    assert (
        "Redactor(request.env, dotenv_secrets(repo)) if redacts_env else Redactor()"
        in stores["harness/opening.py"]
    )


def test_every_other_module_that_writes_is_known() -> None:
    found = {where for where, tree in _modules("gates", "harness", "report") if _writes(tree)}
    assert found - set(WRITERS) == set(), "does it write text of an agent's? then through PayloadStore.put"


def test_nothing_is_logged() -> None:
    for where, tree in _modules(*FOLDERS):
        for node in ast.walk(tree):
            names = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            )
            assert not {"logging", "syslog"} & {*names, getattr(node, "module", None)}, where


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_entry_has_no_room_for_free_text(kind: str) -> None:
    for text in ("a path/with space", "--password hunter2", "caf\u00e9", "a\nb", "x" * 65):
        assert not is_token(text)
        for name, field in KINDS[kind].fields.items():
            assert not field.check(text), (kind, name)
            assert not field.check([text]), (kind, name)
