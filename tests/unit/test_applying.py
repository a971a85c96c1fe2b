"""A result comes into the user's tree three-way and whole, or not at all, and goes out again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agentgov.errors import ConflictError, DivergedError
from agentgov.git import discover
from agentgov.rollback.applying import Application, apply_result, plan_application, plan_undo
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.restore import apply_plan
from agentgov.rollback.trees import FILE, LINK, PROGRAM, Node, edit_tree

Git = Callable[..., str]
MakeRepo = Callable[..., Path]
Result = dict[bytes, tuple[int, bytes] | None]

LINES = [f"line {number}\n" for number in range(20)]
TEXT = "".join(LINES)
FILES: dict[str, str | bytes] = {
    "a.txt": TEXT,
    "b.txt": "b\n",
    "src/gone.txt": "gone\n",
    "src/stays.txt": "stays\n",
    "lib/only.txt": "only\n",
    "run.sh": "#!/bin/sh\n",
    "bin.dat": b"\0binary",
    "swap": "file\n",
}
RESULT: Result = {
    b"a.txt": (FILE, "".join([*LINES[:15], "agent\n", *LINES[16:]]).encode()),
    b"src/gone.txt": None,
    b"lib/only.txt": None,
    b"run.sh": (PROGRAM, b"#!/bin/sh\n"),
    b"new/deep/file.txt": (FILE, b"new\n"),
    b"link": (LINK, b"a.txt"),
    b"bin.dat": (FILE, b"\0changed"),
    b"swap": None,
    b"swap/in": (FILE, b"in\n"),
}


class Bench:
    """A user's repository and a run's result in a store beside it."""

    def __init__(self, repo: Path, folder: Path, git: Git, result: Result) -> None:
        self.root = repo
        self.git = git
        self.repo = discover(repo)
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.journal = folder / "journal"
        self.store = ObjectStore(folder / "store.git", self.repo.objects_dir, "sha1", durable=False)
        self.store.ensure()
        self.base = git(repo, "rev-parse", "HEAD^{tree}")
        self.result = edit_tree(
            self.store,
            self.base,
            {
                path: None if entry is None else Node(entry[0], self.store.write(b"blob", entry[1]))
                for path, entry in result.items()
            },
        )

    def plan(self) -> Application:
        return plan_application(self.repo, self.store, self.root, self.base, self.result, self.scratch)

    def apply(self) -> Application:
        application = self.plan()
        apply_result(self.root, self.store, application, self.journal)
        return application

    def undo(self, application: Application) -> None:
        plan = plan_undo(self.store, self.root, application.saved, application.written)
        apply_plan(self.root, self.store, plan, self.journal)

    def files(self) -> dict[str, bytes | str]:
        found: dict[str, bytes | str] = {}
        for path in self.root.rglob("*"):
            name = str(path.relative_to(self.root))
            if name.split("/")[0] == ".git":
                continue
            if path.is_symlink():
                found[name] = f"-> {path.readlink()}"
            elif path.is_file():
                found[name] = oct(path.stat().st_mode)[-3:].encode() + b" " + path.read_bytes()
            else:
                found[name] = "folder"
        return found


@pytest.fixture
def bench(make_repo: MakeRepo, git: Git, tmp_path: Path) -> Callable[..., Bench]:
    def make(
        result: Result = RESULT, files: dict[str, str | bytes] | None = None, config: tuple[str, ...] = ()
    ) -> Bench:
        repo = make_repo(files=files or FILES)
        for setting in config:
            git(repo, "config", *setting.split("="))
        if config:
            git(repo, "rm", "-q", "--cached", "-r", ".")
            git(repo, "reset", "-q", "--hard")
        return Bench(repo, tmp_path, git, result)

    return make


def test_a_clean_tree_becomes_the_result_and_goes_back(bench: Callable[..., Bench]) -> None:
    made = bench()
    before = made.files()
    index, head = (made.root / ".git/index").read_bytes(), (made.root / ".git/HEAD").read_bytes()
    application = made.apply()
    assert (made.root / ".git/index").read_bytes() == index
    assert (made.root / ".git/HEAD").read_bytes() == head
    assert not (made.root / "lib").exists()
    after = made.files()
    made.undo(application)
    assert made.files() == before
    made.apply()
    assert made.files() == after
    made.git(made.root, "add", "-A")
    assert made.git(made.root, "write-tree") == made.result


def test_the_users_own_edits_stay(bench: Callable[..., Bench]) -> None:
    made = bench()
    (made.root / "a.txt").write_text("".join(["mine\n", *LINES[1:]]))
    (made.root / "b.txt").write_text("mine\n")
    (made.root / "own.txt").write_text("untracked\n")
    (made.root / "lib/own.txt").write_text("untracked\n")
    before = made.files()
    application = made.apply()
    assert (made.root / "a.txt").read_text() == "".join(["mine\n", *LINES[1:15], "agent\n", *LINES[16:]])
    assert (made.root / "b.txt").read_text() == "mine\n"
    assert (made.root / "lib/own.txt").read_text() == "untracked\n"
    made.undo(application)
    assert made.files() == before


def _edit_same_line(root: Path) -> None:
    (root / "a.txt").write_text(TEXT.replace("line 15\n", "mine\n"))


def _edit_binary(root: Path) -> None:
    (root / "bin.dat").write_bytes(b"\0mine")


def _edit_deleted(root: Path) -> None:
    (root / "src/gone.txt").write_text("mine\n")


def _delete_changed(root: Path) -> None:
    (root / "a.txt").unlink()


def _create_same(root: Path) -> None:
    (root / "new/deep").mkdir(parents=True)
    (root / "new/deep/file.txt").write_text("mine\n")


def _file_for_folder(root: Path) -> None:
    (root / "new").write_text("mine\n")


def _folder_for_link(root: Path) -> None:
    (root / "link/in").mkdir(parents=True)


def _link_for_folder(root: Path) -> None:
    (root / "new").symlink_to("/tmp")


CONFLICTS: list[tuple[Callable[[Path], None], bytes]] = [
    (_edit_same_line, b"a.txt"),
    (_edit_binary, b"bin.dat"),
    (_edit_deleted, b"src/gone.txt"),
    (_delete_changed, b"a.txt"),
    (_create_same, b"new/deep/file.txt"),
    (_file_for_folder, b"new/deep/file.txt"),
    (_folder_for_link, b"link"),
    (_link_for_folder, b"new/deep/file.txt"),
]


@pytest.mark.parametrize(("edit", "path"), CONFLICTS)
def test_one_conflict_refuses_everything(
    bench: Callable[..., Bench], edit: Callable[[Path], None], path: bytes
) -> None:
    made = bench()
    edit(made.root)
    before = made.files()
    application = made.plan()
    assert path in [conflict.path for conflict in application.plan.conflicts]
    assert any(line.startswith("! ") for line in application.plan.lines())
    with pytest.raises(ConflictError) as caught:
        apply_result(made.root, made.store, application, made.journal)
    assert caught.value.id == "AG0174"
    assert made.files() == before
    assert not made.journal.exists()


def test_what_already_stands_there_is_not_written_again(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.apply()
    before = {path: path.lstat().st_mtime_ns for path in made.root.rglob("*") if path.is_file()}
    assert made.plan().plan.is_empty
    made.apply()
    assert {path: path.lstat().st_mtime_ns for path in made.root.rglob("*") if path.is_file()} == before


def test_an_edit_after_the_plan_stops_it(bench: Callable[..., Bench]) -> None:
    made = bench()
    application = made.plan()
    (made.root / "src/gone.txt").write_text("mine\n")
    before = made.files()
    with pytest.raises(DivergedError):
        apply_result(made.root, made.store, application, made.journal)
    assert made.files() == before


def test_undo_refuses_when_a_file_changed_since(bench: Callable[..., Bench]) -> None:
    made = bench()
    application = made.apply()
    (made.root / "new/deep/file.txt").write_text("mine\n")
    before = made.files()
    with pytest.raises(DivergedError):
        made.undo(application)
    assert made.files() == before


@pytest.mark.parametrize(
    ("attributes", "config"),
    [
        ("* text eol=crlf\n", ("core.autocrlf=false",)),
        ("", ("core.autocrlf=true",)),
        ("* text=auto\n", ("core.eol=crlf",)),
    ],
)
def test_a_clean_crlf_checkout_stays_clean_but_for_the_result(
    bench: Callable[..., Bench], attributes: str, config: tuple[str, ...]
) -> None:
    made = bench(files={**FILES, ".gitattributes": attributes + "bin.dat binary\n"}, config=config)
    assert b"\r\n" in (made.root / "a.txt").read_bytes()
    made.apply()
    expected = b"".join(line.encode() for line in [*LINES[:15], "agent\n", *LINES[16:]])
    assert (made.root / "a.txt").read_bytes() == expected.replace(b"\n", b"\r\n")
    assert (made.root / "new/deep/file.txt").read_bytes() == b"new\r\n"
    assert "b.txt" not in made.git(made.root, "status", "--porcelain")
    made.git(made.root, "-c", "core.safecrlf=false", "add", "-A")
    assert made.git(made.root, "write-tree") == made.result


def test_a_crlf_edit_of_the_users_merges(bench: Callable[..., Bench]) -> None:
    made = bench(config=("core.autocrlf=true",))
    path = made.root / "a.txt"
    path.write_bytes(path.read_bytes().replace(b"line 1\r\n", b"mine\r\n"))
    made.apply()
    lines = ["line 0\n", "mine\n", *LINES[2:15], "agent\n", *LINES[16:]]
    assert path.read_bytes() == "".join(lines).replace("\n", "\r\n").encode()


def test_the_users_mode_stays_where_the_run_did_not_change_it(bench: Callable[..., Bench]) -> None:
    made = bench()
    (made.root / "a.txt").chmod(0o700)
    (made.root / "run.sh").chmod(0o600)
    made.apply()
    assert (made.root / "a.txt").stat().st_mode & 0o777 == 0o700
    assert (made.root / "run.sh").stat().st_mode & 0o777 == 0o700


def test_names_that_are_not_utf8_are_applied(bench: Callable[..., Bench]) -> None:
    made = bench({b"caf\xe9/\n\x1b[31m": (FILE, b"odd\n")})
    application = made.apply()
    assert (made.root / os.fsdecode(b"caf\xe9/\n\x1b[31m")).read_bytes() == b"odd\n"
    assert all("\x1b" not in line and "\n" not in line for line in application.plan.lines())


def test_saved_holds_what_stood_there_and_nothing_else(bench: Callable[..., Bench]) -> None:
    made = bench()
    (made.root / "a.txt").write_text("".join(["mine\n", *LINES[1:]]))
    application = made.plan()
    saved = {path: made.store.blob(oid) for path, _, oid in made.store.leaves(application.saved)}
    assert saved.pop(b"a.txt") == "".join(["mine\n", *LINES[1:]]).encode()
    assert set(saved) == {b"src/gone.txt", b"lib/only.txt", b"run.sh", b"bin.dat", b"swap"}
