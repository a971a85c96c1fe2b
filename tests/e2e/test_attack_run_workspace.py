"""What an agent does to the files while they are looked at: swaps, special files, and places outside."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentgov.layout import StateHome
from agentgov.rollback import reading
from agentgov.rollback.ignore import IgnoreRules, PatternList
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.snapshot import Snapshotter
from tests.conftest import MakeRepo
from tests.support.running import Record, run

ROUNDS = 40
OUTSIDE = b"not of this workspace"
SWAPPER = """
import contextlib, os, socket, sys
def swap_folder():
    os.rename("d", "d0")
    os.symlink(sys.argv[1], "d")
    os.unlink("d")
    os.rename("d0", "d")
def swap_file():
    with contextlib.suppress(FileNotFoundError):
        os.unlink("new")
    os.symlink(sys.argv[1] + "/x", "new")
    os.rename("new", "f")
    open("new", "w").write("f")
    os.rename("new", "f")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("new")
    os.rename("new", "f")
    os.mkfifo("new")
    os.rename("new", "f")
def grow():
    with open("g", "w") as file:
        for _ in range(20):
            file.write("g" * 9999)
            file.flush()
work = {"folder": swap_folder, "file": swap_file, "grow": grow}[sys.argv[2]]
while True:
    work()
"""


@contextlib.contextmanager
def swapping(root: Path, outside: Path) -> Iterator[None]:
    """Let processes swap things in `root` for others until the block ends."""
    started = [
        subprocess.Popen([sys.executable, "-I", "-c", SWAPPER, str(outside), what], cwd=root)
        for what in ("folder", "file", "grow")
    ]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.parametrize("watch", [True, False])
def test_what_is_swapped_while_it_is_read_stops_no_snapshot_and_leads_nowhere(
    tmp_path: Path, watch: bool
) -> None:
    root, outside = tmp_path / "work", tmp_path / "outside"
    for folder in (root / "d", outside):
        folder.mkdir(parents=True)
        (folder / "x").write_bytes(OUTSIDE if folder == outside else b"x")

    store = ObjectStore(tmp_path / "store.git", None, durable=False)
    store.ensure()
    made = Snapshotter(root, store, IgnoreRules(root, [PatternList(b"")]), tracked=(), watch=watch)
    try:
        made.start()
        trees: set[str] = set()
        with swapping(root, outside):
            while len(trees) < ROUNDS:
                trees.add(made.take(full=len(trees) % 7 == 0).tree)
        for tree in trees:
            for path, mode, oid in store.leaves(tree):
                content = b"" if mode == 0o40000 else store.blob(oid)
                assert OUTSIDE not in content, path
    finally:
        made.close()


def test_a_link_that_is_none_any_more_when_it_is_read_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").symlink_to("somewhere")
    store = ObjectStore(tmp_path / "store.git", None, durable=False)
    store.ensure()
    real, fd = os.readlink, os.open(tmp_path, os.O_RDONLY)

    def swapped(name: bytes, *, dir_fd: int) -> bytes:
        (tmp_path / "f").unlink()
        (tmp_path / "f").write_bytes(b"file")
        return real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "readlink", swapped)
    found = reading.capture(fd, b"f", (tmp_path / "f").lstat(), store, ())
    os.close(fd)
    assert found is not None
    assert (found.stable, store.blob(found.oid)) == (True, b"file")


def test_an_agent_that_removes_its_own_repository_or_all_of_its_copy_harms_only_the_copy(
    make_repo: MakeRepo, state: StateHome
) -> None:
    repo = make_repo(files={"a": "a\n", "d/b": "b\n"})
    (repo / "untracked").write_text("mine\n")
    head = (repo / ".git" / "HEAD").read_bytes()
    for attack in (
        "rm -rf .git; ln -s / .git; echo x > x",
        "rm -rf .git; echo 'gitdir: /nowhere' > .git; echo x > x",
        "git checkout -q --orphan none; git rm -rfq .; git gc -q --prune=now; echo x > x",
        "rm -rf ..?* .[!.]* *; echo x > x",
        'here=$PWD; cd ..; mv "$here" elsewhere; mkdir "$here"; echo x > "$here"/x',
    ):
        outcome = run(repo, state, ["sh", "-c", f"{attack}; exit 4"], workspace="clone")
        assert (outcome.state, outcome.exit_code) == ("finished", 4), attack
        record = Record(repo, state)
        record.assert_sequence(outcome.info.run)
        assert record.file(outcome.tree, "x") == b"x\n", attack
    assert (repo / "untracked").read_text() == "mine\n"
    assert (repo / ".git" / "HEAD").read_bytes() == head
    shown = subprocess.run(
        ["git", "status", "--porcelain"], cwd=repo, capture_output=True, check=True, text=True
    )
    assert shown.stdout == "?? untracked\n"


def test_files_that_hang_or_hide_are_named_and_the_run_goes_on(make_repo: MakeRepo, state: StateHome) -> None:
    repo = make_repo()
    script = repo.parent / "agent.py"
    script.write_text(
        """
import os, socket
os.mkfifo("fifo")
socket.socket(socket.AF_UNIX).bind("socket")
os.makedirs("nested/.git")
open("nested/inner", "w").write("x")
for name in (b"\\xff\\xfe", b"new\\nline", b"-dash", b"n" * 255, "\\u202e.txt".encode(), b"Case", b"case"):
    open(name, "w").write("x")
for number in range(1500):
    open(f"many-{number}", "w").write(str(number))
os.symlink("/etc/passwd", "link")
os.symlink("loop", "loop")
os.link("README.md", "hard")
with open("sparse", "wb") as file:
    file.truncate(1 << 40)
open(".gitignore", "w").write("*\\n")
open(".env", "w").write("KEY=1")
top = os.getcwd()
for _ in range(250):
    os.mkdir("deep")
    os.chdir("deep")
open("bottom", "w").write("x")
os.chdir(top)
open("after", "w").write("x")
"""
    )
    outcome = run(repo, state, [sys.executable, str(script)], workspace="in-place")
    assert (outcome.state, outcome.exit_code) == ("finished", 0)
    reasons = dict(outcome.skipped)
    assert reasons[b"fifo"] == reasons[b"socket"] == "special"
    assert reasons[b"sparse"] == "too-large"
    assert reasons[b".env"] == "secret"
    assert any(reason == "too-deep" for reason in reasons.values())
    record = Record(repo, state)
    listed = {path for path, _, _ in record.store.leaves(outcome.tree)}
    # Written after the ignore file that would have hidden it.
    assert {b"after", b"\xff\xfe", b"new\nline", b"Case", b"case", b"nested/inner", b"link"} <= listed
    assert record.file(outcome.tree, "link") == b"/etc/passwd"
    assert not any(b".git/" in path for path in listed)


@pytest.mark.parametrize(
    ("attack", "place", "code"),
    [
        ("chmod 000 .", "clone", 3),
        ("mkdir shut; echo x > shut/x; chmod 000 shut; chmod 000 README.md", "in-place", 3),
        ("chmod 000 .git/agentgov", "in-place", 125),
        ("chmod 000 ../state ../state/*", "in-place", None),
    ],
)
@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folders_that_were_shut_never_hide_how_the_run_went(
    make_repo: MakeRepo, state: StateHome, attack: str, place: str, code: int | None
) -> None:
    repo = make_repo()
    outcome = run(repo, state, ["sh", "-c", f"{attack}; exit 3"], workspace=place)
    for folder in (repo, state.root):
        subprocess.run(["chmod", "-R", "u+rwX", str(folder)], check=True)
    assert outcome.exit_code in ((3, 125) if code is None else (code,))
    record = Record(repo, state)
    record.assert_sequence(outcome.info.run)
    assert record.of(outcome.info.run).start is not None
