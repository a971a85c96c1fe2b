"""Every folder is a listed package, the wheel holds them and nothing else, and every package is pinned."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import agentgov

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = ("agentgov", "cli", "gates", "harness", "ledger", "report", "rollback")
CONSTRAINTS = (ROOT / "constraints.txt").read_text()


def folders_of_code() -> set[Path]:
    """Every folder below the packages that holds a Python file, relative to the root."""
    found = {path.parent.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    return {path for path in found if "__pycache__" not in path.parts}


def package_of(folder: Path) -> str:
    return ".".join(folder.parts if folder.parts[0] == "agentgov" else ("agentgov", *folder.parts))


def expected_members() -> set[str]:
    return {
        f"{package_of(folder).replace('.', '/')}/{path.name}"
        for folder in folders_of_code()
        for path in (ROOT / folder).glob("*.py")
    } | {"agentgov/py.typed"}


def test_every_folder_of_code_is_a_listed_package() -> None:
    packages = {package_of(folder) for folder in folders_of_code()}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages
    assert PROJECT["tool"]["setuptools"]["package-dir"] == {
        package_of(folder): folder.as_posix() for folder in folders_of_code()
    }
    missing = [folder for folder in folders_of_code() if not (ROOT / folder / "__init__.py").is_file()]
    assert missing == []


def test_type_checkers_see_every_package_and_base_module() -> None:
    links = {path.name: path.readlink().as_posix() for path in (ROOT / ".types/agentgov").iterdir()}
    expected = {folder: f"../../{folder}" for folder in FOLDERS if folder != "agentgov"}
    for path in (ROOT / "agentgov").iterdir():
        if path.suffix == ".py" or path.name == "py.typed":
            expected[path.name] = f"../../agentgov/{path.name}"
    assert links == expected


def test_the_version_is_the_same_everywhere() -> None:
    assert PROJECT["project"]["version"] == agentgov.__version__


def test_every_dependency_is_pinned_and_hashed() -> None:
    pinned = dict(re.findall(r"^([a-z0-9.-]+)==(\S+) \\$", CONSTRAINTS, flags=re.M))
    wanted = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["dev"],
        *PROJECT["build-system"]["requires"],
    ]
    names = [re.split(r"[><=!~\[; ]", wish)[0].lower().replace("_", "-") for wish in wanted]
    assert [name for name in names if name not in pinned] == []
    blocks = re.split(r"^(?=[a-z0-9.-]+==)", CONSTRAINTS, flags=re.M)[1:]
    assert all("--hash=sha256:" in block for block in blocks)
    assert len(blocks) == len(pinned)


def test_the_pins_name_no_host_and_no_path() -> None:
    lines = [line for line in CONSTRAINTS.splitlines() if "--hash" not in line]
    assert [line for line in lines if re.search(r"://|(^|\s)/|--(index|extra|find|trusted)", line)] == []


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source, because a build writes beside it."""
    copy = tmp_path_factory.mktemp("source")
    for folder in (*FOLDERS, "tests", "docs"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, copy / path.name)
    return copy


def build(source: Path, kind: str) -> Path:
    out = source / "dist"
    done = subprocess.run(
        [sys.executable, "-m", "build", kind, "--no-isolation", "--outdir", str(out), str(source)],
        capture_output=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    return next(out.glob("*.whl" if kind == "--wheel" else "*.tar.gz"))


def test_the_wheel_holds_the_packages_and_nothing_else(source: Path, tmp_path: Path) -> None:
    wheel = build(source, "--wheel")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = {name for name in names if ".dist-info/" in name}
        assert names - info == expected_members()
        assert {name.split("/", 1)[1] for name in info} >= {
            "METADATA",
            "entry_points.txt",
            "licenses/LICENSE",
        }
        archive.extractall(tmp_path)
    # Imported from the wheel alone: -I ignores the environment and the current folder.
    code = (
        "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import agentgov.ledger, agentgov.harness.capture as c; print(c.__file__)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True, cwd="/")
    assert done.stdout.decode().strip() == str(tmp_path / "agentgov/harness/capture/__init__.py")


def test_the_source_archive_holds_tests_docs_and_the_example(source: Path) -> None:
    with tarfile.open(build(source, "--sdist")) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = {"tests/conftest.py", ".agentgov.toml.example", "constraints.txt", "LICENSE", "Makefile"}
    wanted |= {f"{folder.as_posix()}/__init__.py" for folder in folders_of_code()}
    assert wanted - names == set()
