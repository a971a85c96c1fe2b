"""The result tree is what `git add` would have made of the run's changes, and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agentgov.errors import AgentgovError
from agentgov.git import Repository, discover
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.result import Result, bind_result, export_to_repo, problems_payload
from agentgov.rollback.trees import FILE, FOLDER, LINK, PROGRAM, Node, edit_tree, lookup

Git = Callable[..., str]
MakeRepo = Callable[..., Path]


class Bench:
    """A repository, a store that borrows from it, and raw snapshots of its work tree."""

    def __init__(self, repo: Path, folder: Path, git: Git) -> None:
        self.root = repo
        self.git = git
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.repo: Repository = discover(repo)
        self.store = ObjectStore(
            folder / "store.git", self.repo.objects_dir, self.repo.object_format, durable=False
        )
        self.store.ensure()
        self.base = git(repo, "rev-parse", "HEAD")
        self.start = self.snapshot()

    def snapshot(self) -> str:
        nodes: dict[bytes, Node | None] = {}
        for path in sorted(self.root.rglob("*")):
            name = os.fsencode(path.relative_to(self.root))
            if b".git" in name.split(b"/"):
                continue
            if path.is_symlink():
                nodes[name] = Node(LINK, self.store.write(b"blob", os.fsencode(path.readlink())))
            elif path.is_file():
                mode = PROGRAM if path.stat().st_mode & 0o100 else FILE
                nodes[name] = Node(mode, self.store.write(b"blob", path.read_bytes()))
            elif not any(path.iterdir()):
                nodes[name] = Node(FOLDER, self.store.empty_tree)
        return edit_tree(self.store, None, nodes)

    def bind(self, **options: object) -> Result:
        end = self.snapshot()
        return bind_result(self.repo, self.store, self.base, self.start, end, self.scratch, **options)  # type: ignore[arg-type]

    def added(self) -> str:
        """The tree that git itself makes of the work tree."""
        self.git(self.root, "-c", "core.safecrlf=false", "add", "-A")
        return self.git(self.root, "write-tree")

    def content(self, tree: str, path: bytes) -> bytes | None:
        node = lookup(self.store, tree, path)
        return None if node is None else self.store.blob(node.oid)


@pytest.fixture
def bench(make_repo: MakeRepo, git: Git, tmp_path: Path) -> Callable[..., Bench]:
    def make(
        files: dict[str, str | bytes],
        config: tuple[str, ...] = (),
        change: Callable[[Path], None] | None = None,
    ) -> Bench:
        repo = make_repo(files=files)
        for setting in config:
            git(repo, "config", *setting.split("="))
        if config:
            # A checkout by these settings, as the user would have it.
            git(repo, "rm", "-q", "--cached", "-r", ".")
            git(repo, "reset", "-q", "--hard")
        if change is not None:
            change(repo)
        return Bench(repo, tmp_path, git)

    return make


def edit_everything(repo: Path) -> None:
    (repo / "a.txt").write_bytes(b"one\r\nTWO\r\nthree\r\n")
    (repo / "new.txt").write_bytes(b"new\r\nfile\r\n")
    (repo / "new.bin").write_bytes(b"new\r\n\0")
    (repo / "sub/gone.txt").unlink()
    (repo / "run.sh").chmod(0o755)
    (repo / "link").symlink_to("a.txt")
    (repo / "swap").unlink()
    (repo / "swap/in").mkdir(parents=True)
    (repo / "swap/in/x").write_bytes(b"x")
    (repo / "empty").mkdir()
    (repo / os.fsdecode(b"caf\xe9 \n")).write_bytes(b"odd\r\n")


FILES: dict[str, str | bytes] = {
    "a.txt": "one\ntwo\nthree\n",
    "same.txt": "same\n",
    "sub/gone.txt": "gone\n",
    "run.sh": "#!/bin/sh\n",
    "swap": "a file\n",
}


@pytest.mark.parametrize(
    "attributes", ["", "* text=auto\n", "* text\n", "* -text\n", "* eol=crlf\n", "* eol=lf\n"]
)
@pytest.mark.parametrize("config", [(), ("core.autocrlf=true",), ("core.autocrlf=input",)])
def test_the_result_is_what_git_add_makes(
    bench: Callable[..., Bench], attributes: str, config: tuple[str, ...]
) -> None:
    made = bench({**FILES, ".gitattributes": attributes}, config)
    edit_everything(made.root)
    result = made.bind()
    assert result.problems == ()
    assert result.tree == made.added()


def test_without_a_change_the_result_is_the_base(bench: Callable[..., Bench]) -> None:
    made = bench({**FILES, ".gitattributes": "* eol=crlf\n"}, ("core.autocrlf=true",))
    result = made.bind()
    assert result.tree == made.git(made.root, "rev-parse", "HEAD^{tree}")
    assert result.changed == ()
    # Touched, not changed: with eol=crlf the raw bytes differ from the base's object all the time.
    assert (made.root / "a.txt").read_bytes() == b"one\r\ntwo\r\nthree\r\n"


def test_the_delta_digest_is_what_stock_git_gives(bench: Callable[..., Bench]) -> None:
    made = bench(FILES)
    edit_everything(made.root)
    result = made.bind()
    made.added()
    raw = subprocess.run(
        ["git", "diff-tree", "-r", "-z", "--raw", "--full-index", "--no-renames", result.base, result.tree],
        cwd=made.root,
        capture_output=True,
        check=True,
    ).stdout
    assert result.delta == hashlib.sha256(raw).hexdigest()


def test_a_filter_never_runs_and_is_a_problem(bench: Callable[..., Bench], tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    made = bench({".gitattributes": "*.bin filter=lfs -text\n", "a.txt": "a\n", "b.bin": "pointer\n"})
    for step in ("clean", "smudge", "process"):
        made.git(made.root, "config", f"filter.lfs.{step}", f"touch {marker}; cat")
    made.git(made.root, "config", "filter.lfs.required", "true")
    (made.root / "b.bin").write_bytes(b"large content")
    (made.root / "c.bin").write_bytes(b"large, too")
    (made.root / "a.txt").write_bytes(b"changed\n")
    result = made.bind()
    assert [(problem.path, problem.kind) for problem in result.problems] == [
        (b"b.bin", "filter"),
        (b"c.bin", "filter"),
    ]
    assert result.changed == (b"a.txt",)
    assert made.content(result.tree, b"b.bin") == b"pointer\n"
    assert not marker.exists()
    assert "filter driver" in result.problems[0].text


def test_a_deleted_file_under_a_filter_is_deleted(bench: Callable[..., Bench]) -> None:
    made = bench({".gitattributes": "*.bin filter=lfs\n", "b.bin": "pointer\n", "c.bin": "pointer\n"})
    (made.root / "b.bin").unlink()
    (made.root / "c.bin").chmod(0o755)
    result = made.bind()
    assert result.problems == ()
    assert result.changed == (b"b.bin", b"c.bin")


def test_the_agents_own_attributes_decide_nothing(bench: Callable[..., Bench]) -> None:
    made = bench({".gitattributes": "*.bin filter=lfs\n", "b.bin": "pointer\n"})
    (made.root / ".gitattributes").write_text("*.bin -filter\n")
    (made.root / "b.bin").write_bytes(b"smuggled")
    result = made.bind()
    assert [problem.path for problem in result.problems] == [b"b.bin"]
    assert made.content(result.tree, b".gitattributes") == b"*.bin -filter\n"


def test_ignored_files_stay_out_and_tracked_ones_count(bench: Callable[..., Bench]) -> None:
    made = bench(FILES)
    (made.root / "out.log").write_bytes(b"log")
    (made.root / "a.txt").write_bytes(b"A\n")
    result = made.bind(is_ignored=lambda path: path in (b"out.log", b"a.txt"))
    assert result.changed == (b"a.txt",)
    assert result.problems == ()


def test_gits_own_names_are_dropped(bench: Callable[..., Bench]) -> None:
    made = bench(FILES)
    end = edit_tree(
        made.store,
        made.start,
        {
            name: Node(FILE, made.store.write(b"blob", b"[core]\n"))
            for name in (b"vendor/.git/config", b"x/.GIT/config", b"ok.txt", b"GIT~1/hooks")
        },
    )
    result = bind_result(made.repo, made.store, made.base, made.start, end, made.scratch)
    assert result.changed == (b"ok.txt",)
    assert result.dropped == (b"GIT~1/hooks", b"vendor/.git/config", b"x/.GIT/config")


def test_changes_in_submodules_and_nested_repositories_are_problems(
    bench: Callable[..., Bench], make_repo: MakeRepo, git: Git, tmp_path: Path
) -> None:
    inner = make_repo(tmp_path / "inner", files={"in.txt": "in\n"})

    def with_submodule(repo: Path) -> None:
        git(repo, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "sub-module")
        git(repo, "commit", "-q", "-m", "submodule")

    made = bench({"a.txt": "a\n"}, change=with_submodule)
    (made.root / "sub-module/in.txt").write_bytes(b"changed\n")
    make_repo(made.root / "nested", files={"n.txt": "n\n"})
    (made.root / "a.txt").write_bytes(b"A\n")
    result = made.bind(nested=[b"nested"])
    assert [(problem.path, problem.kind) for problem in result.problems] == [
        (b"nested", "nested"),
        (b"sub-module", "submodule"),
    ]
    assert result.changed == (b"a.txt",)


def test_only_the_runs_own_change_of_a_dirty_file_counts(bench: Callable[..., Bench]) -> None:
    lines = [f"line {number}\n" for number in range(20)]

    def edit(repo: Path, number: int) -> None:
        now = (repo / "a.txt").read_text().splitlines(keepends=True)
        now[number] = "edited\n"
        (repo / "a.txt").write_text("".join(now))

    made = bench({"a.txt": "".join(lines), "b.txt": "b\n"}, change=lambda repo: edit(repo, 2))
    edit(made.root, 15)
    result = made.bind()
    assert result.problems == ()
    assert made.content(result.tree, b"a.txt") == "".join([*lines[:15], "edited\n", *lines[16:]]).encode()


def test_a_change_that_meets_the_users_own_edit_is_a_problem(bench: Callable[..., Bench]) -> None:
    def dirty(repo: Path) -> None:
        (repo / "a.txt").write_bytes(b"one\nmine\nthree\n")
        (repo / "sub/gone.txt").write_bytes(b"edited by the user\n")
        (repo / "untracked.txt").write_bytes(b"of the user\n")
        (repo / "removed.txt").unlink()
        (repo / "left.txt").write_bytes(b"left alone\n")

    made = bench({**FILES, "removed.txt": "r\n", "left.txt": "l\n"}, change=dirty)
    (made.root / "a.txt").write_bytes(b"one\nagent\nthree\n")
    (made.root / "sub/gone.txt").unlink()
    (made.root / "untracked.txt").write_bytes(b"of the agent\n")
    (made.root / "removed.txt").write_bytes(b"back, but different\n")
    result = made.bind()
    assert [(problem.path, problem.kind) for problem in result.problems] == [
        (b"a.txt", "overlap"),
        (b"removed.txt", "overlap"),
        (b"sub/gone.txt", "overlap"),
        (b"untracked.txt", "untracked"),
    ]
    assert result.tree == made.git(made.root, "rev-parse", "HEAD^{tree}")
    listed = json.loads(problems_payload(result.problems))
    assert listed["problems"][0] == {"path": "a.txt", "kind": "overlap"}


def test_a_dirty_crlf_file_merges_in_gits_form(bench: Callable[..., Bench]) -> None:
    text = [f"line {number}\n" for number in range(20)]
    made = bench(
        {"a.txt": "".join(text), ".gitattributes": "* text eol=crlf\n"},
        ("core.autocrlf=false",),
        change=lambda repo: (
            (repo / "a.txt").write_bytes("".join(["mine\n", *text[1:]]).replace("\n", "\r\n").encode())
            and None
        ),
    )
    (made.root / "a.txt").write_bytes(
        "".join(["mine\n", *text[1:-1], "agent\n"]).replace("\n", "\r\n").encode()
    )
    result = made.bind()
    assert result.problems == ()
    assert made.content(result.tree, b"a.txt") == "".join([*text[:-1], "agent\n"]).encode()


def test_a_skipped_file_is_a_problem_and_not_a_deletion(bench: Callable[..., Bench]) -> None:
    made = bench(FILES)
    (made.root / "a.txt").unlink()
    result = made.bind(skipped=[b"a.txt", b"huge.bin"])
    assert [(problem.path, problem.kind) for problem in result.problems] == [
        (b"a.txt", "skipped"),
        (b"huge.bin", "skipped"),
    ]
    assert result.changed == ()


def test_without_file_mode_the_bases_mode_stands(bench: Callable[..., Bench]) -> None:
    made = bench(FILES, ("core.fileMode=false",))
    (made.root / "run.sh").chmod(0o755)
    (made.root / "new.sh").write_bytes(b"x")
    (made.root / "new.sh").chmod(0o755)
    result = made.bind()
    assert result.changed == (b"new.sh",)
    assert result.tree == made.added()


def test_a_file_over_a_folder_that_keeps_files_is_a_problem(bench: Callable[..., Bench]) -> None:
    def dirty(repo: Path) -> None:
        (repo / "sub/gone.txt").unlink()
        (repo / "sub").rmdir()

    made = bench(FILES, change=dirty)
    (made.root / "sub").write_bytes(b"now a file\n")
    (made.root / "a.txt").write_bytes(b"A\n")
    result = made.bind()
    assert [(problem.path, problem.kind) for problem in result.problems] == [(b"sub", "name")]
    assert result.changed == (b"a.txt",)


def test_exported_objects_are_whole_and_checked(bench: Callable[..., Bench]) -> None:
    made = bench(FILES)
    edit_everything(made.root)
    result = made.bind()
    export_to_repo(made.repo, made.store, [result.tree], exclude=[result.base])
    assert made.git(made.root, "ls-tree", "-r", "--name-only", result.tree).count("\n") >= 5
    made.git(made.root, "fsck", "--strict")
    export_to_repo(made.repo, made.store, [result.tree], exclude=[result.base])


def test_a_hostile_tree_is_refused_at_the_door(bench: Callable[..., Bench]) -> None:
    made = bench(FILES)
    blob = made.store.write(b"blob", b"[core]\n")
    evil = made.store.write_tree([(FOLDER, b".git", made.store.write_tree([(FILE, b"config", blob)]))])
    with pytest.raises(AgentgovError) as caught:
        export_to_repo(made.repo, made.store, [evil])
    assert caught.value.id == "AG0008"


def test_a_sha256_repository_works(git: Git, tmp_path: Path) -> None:
    repo = tmp_path / "repo256"
    git(tmp_path, "init", "-q", "--object-format=sha256", str(repo))
    (repo / "a.txt").write_bytes(b"a\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "one")
    made = Bench(repo, tmp_path, git)
    (repo / "a.txt").write_bytes(b"b\n")
    result = made.bind()
    assert result.tree == made.added()
    assert len(result.tree) == 64
