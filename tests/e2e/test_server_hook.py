"""The hook for a shared repository: records only grow there, whoever pushes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentgov.git import discover
from tests.conftest import GitRunner, MakeRepo
from tests.e2e.conftest import Cli, write

HOOK = Path(__file__).parents[2] / "docs/server-hook/update"
ID = "a" * 32


@pytest.fixture
def remote(tmp_path: Path, git: GitRunner) -> Path:
    """A bare repository with the hook, in which `agentgov-records` is the mirror branch."""
    path = tmp_path / "remote.git"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", path)
    (path / "hooks").mkdir(exist_ok=True)
    shutil.copy(HOOK, path / "hooks/update")
    git(path, "config", "agentgov.mirror", "refs/heads/agentgov-records")
    return path


@pytest.fixture
def repo(make_repo: MakeRepo, remote: Path, git: GitRunner, agentgov: Cli) -> Path:
    """A clone with one run, synchronised with its mirror."""
    path = make_repo()
    git(path, "remote", "add", "origin", remote)
    git(path, "push", "-q", "origin", "main")
    agentgov.play(path, [write("a.txt", "one\n")], "--workspace", "in-place")
    agentgov(path, "sync", "--yes", "--mirror", "agentgov-records")
    return path


def push(repo: Path, *specs: str, git: GitRunner) -> str:
    """Push as somebody who means harm; returns what git said, or nothing when it was taken."""
    done = subprocess.run(
        ["git", "push", "-q", "--force", "origin", *specs], cwd=repo, capture_output=True, check=False
    )
    return done.stderr.decode() if done.returncode else ""


def own_ref(repo: Path) -> str:
    return f"refs/agentgov/ledger/{discover(repo).layout.stream_file.read_text().strip()}"


def flat(repo: Path, git: GitRunner, *names: str, parents: tuple[str, ...] = (), content: str = "x") -> str:
    """Make a commit with these files."""
    blob = git(repo, "hash-object", "-w", "--stdin", input=content.encode())
    tree = git(repo, "mktree", input="".join(f"100644 blob {blob}\t{name}\n" for name in names).encode())
    options = [option for parent in parents for option in ("-p", parent)]
    return git(repo, "commit-tree", tree, *options, "-m", "made up")


SEAL = ("checkpoint", "entries", "proof", "signatures")


def test_what_sync_sends_is_taken_and_goes_on(
    agentgov: Cli, repo: Path, remote: Path, git: GitRunner
) -> None:
    agentgov.play(repo, [write("b.txt", "two\n")], "--workspace", "in-place")
    said = agentgov(repo, "sync", "--mirror", "agentgov-records", "--json").json
    assert said["refused"] == []
    assert git(remote, "rev-parse", own_ref(repo)) == git(repo, "rev-parse", own_ref(repo))


def test_people_push_branches_and_tags_as_before(repo: Path, git: GitRunner) -> None:
    git(repo, "tag", "v1")
    assert push(repo, "main", "v1", "main:work", git=git) == ""
    git(repo, "commit", "-q", "--amend", "--allow-empty", "-m", "again")
    assert push(repo, "main:work", git=git) == ""
    assert push(repo, ":work", git=git) == ""


def test_a_record_is_not_cut_rewritten_or_deleted(repo: Path, remote: Path, git: GitRunner) -> None:
    ref = own_ref(repo)
    tip = git(remote, "rev-parse", ref)
    forged = flat(repo, git, *SEAL)
    assert "rewritten or cut" in push(repo, f"{tip}^:{ref}", git=git)
    assert "rewritten or cut" in push(repo, f"{forged}:{ref}", git=git)
    assert "never deleted" in push(repo, f":{ref}", git=git)
    assert git(remote, "rev-parse", ref) == tip


@pytest.mark.parametrize(
    "name", ["ledger/x", f"ledger/{ID}/x", f"ledger/{'A' * 32}", "other", f"witness/{ID}/xyz"]
)
def test_other_names_are_not_kept(repo: Path, git: GitRunner, name: str) -> None:
    assert "agentgov: " in push(repo, f"{flat(repo, git, *SEAL)}:refs/agentgov/{name}", git=git)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        (f"ledger/{ID}", SEAL),
        (f"timestamp/{ID}", ("checkpoint", "timestamp")),
        (f"witness/{ID}/0123abcd", ("checkpoint",)),
        (f"payloads/{ID}/7kq2f/changes", ("payloads",)),
    ],
)
def test_each_kind_is_a_line_of_commits_with_its_own_files(
    repo: Path, git: GitRunner, name: str, files: tuple[str, ...]
) -> None:
    ref = f"refs/agentgov/{name}"
    good = flat(repo, git, *files)
    assert "other files" in push(repo, f"{flat(repo, git, *files, 'extra')}:{ref}", git=git)
    assert "no commit" in push(repo, f"{good}^{{tree}}:{ref}", git=git)
    assert push(repo, f"{good}:{ref}", git=git) == ""
    merged = flat(repo, git, *files, parents=(good, flat(repo, git, *files, content="y")))
    assert "merge" in push(repo, f"{merged}:{ref}", git=git)
    assert push(repo, f"{flat(repo, git, *files, parents=(good,))}:{ref}", git=git) == ""
    assert "deleted" in push(repo, f":{ref}", git=git)


def test_only_the_classes_that_the_server_takes_are_taken(repo: Path, remote: Path, git: GitRunner) -> None:
    commit = flat(repo, git, "payloads")
    ref = f"refs/agentgov/payloads/{ID}/7kq2f"
    assert "output is not taken here" in push(repo, f"{commit}:{ref}/output", git=git)
    git(remote, "config", "agentgov.classes", "changes output")
    assert push(repo, f"{commit}:{ref}/output", git=git) == ""
    git(remote, "config", "agentgov.classes", "")
    assert "none" in push(repo, f"{flat(repo, git, 'payloads', parents=(commit,))}:{ref}/output", git=git)
    assert "agentgov.erase" in push(repo, f":{ref}/output", git=git)
    git(remote, "config", "agentgov.erase", "true")
    assert push(repo, f":{ref}/output", git=git) == ""


def test_the_mirror_only_grows_and_no_record_goes_back_in_it(
    repo: Path, remote: Path, git: GitRunner
) -> None:
    ref = "refs/heads/agentgov-records"
    tip = git(remote, "rev-parse", ref)
    lines = git(remote, "cat-file", "blob", f"{tip}:streams") + "\n"
    record, count, root, seal = lines.split()
    assert "deleted" in push(repo, f":{ref}", git=git)
    assert "rewritten" in push(repo, f"{flat(repo, git, 'streams', content=lines)}:{ref}", git=git)
    assert "other files" in push(repo, f"{flat(repo, git, 'streams', 'x', parents=(tip,))}:{ref}", git=git)
    for bad in ("", f"{record} {int(count) - 1} {root} {seal}\n", f"{ID} {count} {root} {seal}\n"):
        commit = flat(repo, git, "streams", parents=(tip,), content=bad)
        assert "goes back or is gone" in push(repo, f"{commit}:{ref}", git=git)
    more = f"{record} {int(count) + 1} {root} {seal}\n"
    commit = flat(repo, git, "streams", parents=(tip,), content=more)
    assert "names no head of its record" in push(repo, f"{commit}:{ref}", git=git)


def test_a_record_leaves_its_own_ref_only_for_the_archive(repo: Path, remote: Path, git: GitRunner) -> None:
    ref = own_ref(repo)
    tip = git(remote, "rev-parse", ref)
    line = git(remote, "cat-file", "blob", "refs/heads/agentgov-records:streams") + "\n"
    older = git(remote, "rev-parse", f"{tip}^")
    part = flat(repo, git, "streams", parents=(older,), content=line)
    assert "names no head of its record" in push(repo, f"{part}:refs/agentgov/archive", git=git)
    assert "never deleted" in push(repo, f":{ref}", git=git)
    whole = flat(repo, git, "streams", parents=(tip,), content=line)
    assert push(repo, f"{whole}:refs/agentgov/archive", git=git) == ""
    assert push(repo, f":{ref}", git=git) == ""
    assert "deleted" in push(repo, ":refs/agentgov/archive", git=git)


def test_the_hook_is_posix_sh_that_shellcheck_has_nothing_to_say_about() -> None:
    assert HOOK.read_text().startswith("#!/bin/sh\n")
    assert HOOK.stat().st_mode & 0o111
    assert subprocess.run(["sh", "-n", HOOK], check=False).returncode == 0
    program = shutil.which("shellcheck") or shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([program, "-s", "sh", HOOK], capture_output=True, check=False)
    assert done.stdout.decode() == ""


def listed(repo: Path, git: GitRunner, content: str, *parents: str) -> str:
    return flat(repo, git, "streams", parents=parents, content=content)


ROOT = "A" * 43 + "="


@pytest.mark.parametrize(
    "change",
    [
        lambda line, other: line + "nonsense\n",
        lambda line, other: line + f"{'f' * 32} 1 {ROOT} {'0' * 40}\n",
        lambda line, other: line + f"{'f' * 32} 9999999999999999 {ROOT} {other}\n",
        lambda line, other: line.replace(line.split()[1], "9999999999999999"),
        lambda line, other: line.replace(line.split()[3], other),
        lambda line, other: line + line,
        lambda line, other: line.removesuffix("\n"),
        lambda line, other: f"{'f' * 32} 1 {ROOT} {other}\n" + line,
    ],
    ids=["form", "missing", "size", "regrown", "other-seal", "twice", "torn", "order"],
)
@pytest.mark.parametrize("ref", ["refs/heads/agentgov-records", "refs/agentgov/archive"])
def test_a_list_that_nobody_could_use_is_not_taken(
    repo: Path, remote: Path, git: GitRunner, ref: str, change: Callable[[str, str], str]
) -> None:
    first = git(remote, "rev-parse", "refs/heads/agentgov-records")
    git(repo, "fetch", "-q", "origin", "refs/heads/agentgov-records")
    line = git(remote, "show", f"{first}:streams") + "\n"
    if ref.endswith("archive"):
        assert push(repo, f"{first}:{ref}", git=git) == ""
    main = git(repo, "rev-parse", "main")
    spoilt = listed(repo, git, change(line, main), first, main)
    assert "agentgov: " in push(repo, f"{spoilt}:{ref}", git=git)
    assert git(remote, "rev-parse", ref) == first


def test_a_record_that_went_into_the_archive_does_not_come_back_in_another_form(
    repo: Path, remote: Path, git: GitRunner
) -> None:
    ref = own_ref(repo)
    tip = git(remote, "rev-parse", ref)
    git(repo, "fetch", "-q", "origin", "refs/heads/agentgov-records")
    assert push(repo, "FETCH_HEAD:refs/agentgov/archive", git=git) == ""
    assert push(repo, f":{ref}", git=git) == ""
    assert "the archive holds another one" in push(repo, f"{flat(repo, git, *SEAL)}:{ref}", git=git)
    assert "the archive holds another one" in push(repo, f"{tip}^:{ref}", git=git)
    # A clone that still has it may send it again.
    assert push(repo, f"{tip}:{ref}", git=git) == ""


@pytest.mark.parametrize("mode", ["120000", "100755", "160000", "040000"])
def test_a_file_of_a_record_is_a_plain_file(repo: Path, git: GitRunner, mode: str) -> None:
    blob = git(repo, "hash-object", "-w", "--stdin", input=b"x")
    kind, oid = "blob", blob
    if mode == "160000":
        kind, oid = "commit", git(repo, "rev-parse", "main")
    elif mode == "040000":
        kind, oid = "tree", git(repo, "mktree", input=f"100644 blob {blob}\ta\n".encode())
    lines = f"{mode} {kind} {oid}\tcheckpoint\n"
    lines += "".join(f"100644 blob {blob}\t{name}\n" for name in SEAL[1:])
    commit = git(repo, "commit-tree", git(repo, "mktree", input=lines.encode()), "-m", "x")
    assert "agentgov: " in push(repo, f"{commit}:refs/agentgov/ledger/{ID}", git=git)
