"""The layers hold: agentgov < ledger < {rollback, gates, report} < harness < cli; siblings never meet."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "agentgov": set(),
    "ledger": {"agentgov"},
    "rollback": {"agentgov", "ledger"},
    "gates": {"agentgov", "ledger"},
    "report": {"agentgov", "ledger"},
    "harness": {"agentgov", "ledger", "rollback", "gates", "report"},
    "cli": {"agentgov", "ledger", "rollback", "gates", "report", "harness"},
}
HEAVY = ("pydantic", "rich", "typer", "click", "cryptography", "git", "cedarpy", "tree_sitter", "psutil")


def folder_of(module: str) -> str | None:
    """The layer a module name belongs to; None for modules that are not ours."""
    parts = module.split(".")
    if parts[0] in MAY_IMPORT and parts[0] != "agentgov":
        return f"bare {parts[0]}"
    if parts[0] != "agentgov":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in MAY_IMPORT else "agentgov"


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_layer_imports_only_the_layers_below_it(folder: str) -> None:
    wrong = []
    for path in sources(folder):
        # The console script hands over to the command line; nothing imports it.
        if path == ROOT / "agentgov/__main__.py":
            continue
        for line, module in imports_of(path):
            target = folder_of(module)
            if target is not None and target != folder and target not in MAY_IMPORT[folder]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {module}")
    assert wrong == []


def test_tests_and_benches_use_the_public_names() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for folder in ("tests", "bench")
        for path in sources(folder)
        for line, module in imports_of(path)
        if (folder_of(module) or "").startswith("bare")
    ]
    assert wrong == []


def test_the_verifier_needs_only_the_ledger_and_the_base() -> None:
    path = ROOT / "ledger/verify.py"
    assert {folder_of(module) for _, module in imports_of(path)} - {None} <= {"ledger", "agentgov"}


def test_only_the_command_line_prints_exits_or_prompts() -> None:
    wrong = []
    for folder in MAY_IMPORT:
        for path in [] if folder == "cli" else sources(folder):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                    "print",
                    "input",
                    "sys.exit",
                    "exit",
                ):
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node.func)}")
    # Programs of their own, run as a child: they end with a code.
    own = (
        "agentgov/__main__.py",
        "harness/capture/hook_client.py",
        "harness/demo_agent.py",
        "harness/supervisor.py",
    )
    assert [line for line in wrong if not line.startswith(own)] == []


def test_only_the_command_line_reads_the_home_folder() -> None:
    # A remote's address or core.hooksPath may begin with "~", and means there what it means to git.
    allowed = {"cli", "harness/cloning.py", "harness/remotes.py"}
    wrong = []
    for folder in MAY_IMPORT:
        for path in sources(folder):
            name = path.relative_to(ROOT).as_posix()
            if allowed & {folder, name}:
                continue
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    called = ast.unparse(node.func)
                    if called == "Path.home" or called.endswith(".expanduser"):
                        wrong.append(f"{name}:{node.lineno}: {called}")
    assert wrong == []


def test_one_file_knows_how_git_is_called() -> None:
    wrong = []
    for folder in MAY_IMPORT:
        for path in sources(folder):
            for node in ast.walk(ast.parse(path.read_bytes())):
                first = node.elts[0] if isinstance(node, ast.List) and node.elts else None
                if isinstance(first, ast.Constant) and first.value == "git":
                    wrong.append(f"{path.relative_to(ROOT).as_posix()}:{first.lineno}")
    # The demo plays a person with a repository, whose git is their own.
    assert [line for line in wrong if not line.startswith(("agentgov/gitcall.py:", "cli/demo.py:"))] == []


def test_only_the_command_line_uses_terminal_libraries() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for folder in MAY_IMPORT
        if folder != "cli"
        for path in sources(folder)
        for line, module in imports_of(path)
        if module.split(".")[0] in ("typer", "rich", "click")
    ]
    assert wrong == []


def test_the_base_imports_nothing_heavy() -> None:
    modules = [f"agentgov.{path.stem}" for path in (ROOT / "agentgov").glob("[a-z]*.py")]
    code = f"import sys, {', '.join(modules)}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd="/")
    assert done.stdout.decode().split() == []


def test_no_module_is_longer_than_500_lines() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): lines
        for folder in MAY_IMPORT
        for path in sources(folder)
        if (lines := len(path.read_bytes().splitlines())) > 500
    }
    assert long == {}
