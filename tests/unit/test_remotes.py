"""Which addresses reach the repository a workspace was made from."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from agentgov.harness.remotes import Original, Rewriting, carry_remotes, is_program, local_path

BASE = Path("/base/tree")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/srv/a", "/srv/a"),
        ("../a", "/base/tree/../a"),
        ("file:///srv/a%20b", "/srv/a b"),
        ("file://localhost/srv/a", "/srv/a"),
        ("ssh://git@localhost:22/srv/a", "/srv/a"),
        ("ssh://[::1]/srv/a", "/srv/a"),
        ("localhost:/srv/a", "/srv/a"),
        ("me@127.0.0.1:/srv/a", "/srv/a"),
        (f"{socket.gethostname()}:/srv/a", "/srv/a"),
        ("./odd:name", "/base/tree/odd:name"),
        ("https://example.org/a", None),
        ("git@example.org:a/b.git", None),
        ("ssh://example.org/a", None),
    ],
)
def test_addresses_on_this_machine_are_told_from_others(url: str, path: str | None) -> None:
    assert local_path(url, BASE) == (None if path is None else Path(path))


def test_an_address_that_starts_a_program_may_lead_anywhere() -> None:
    assert is_program("ext::sh -c 'git-upload-pack /x'")
    assert not is_program("https://example.org/a::b")
    assert Original(BASE, frozenset()).is_reached_by("ext::anything")


@pytest.fixture
def original(tmp_path: Path) -> Original:
    tree = tmp_path / "tree"
    (tree / ".git" / "worktrees" / "w").mkdir(parents=True)
    (tree / ".git" / "worktrees" / "w" / "commondir").write_text("../..\n")
    other = tmp_path / "other.git"
    (other / "objects").mkdir(parents=True)
    (tmp_path / "pointer").mkdir()
    (tmp_path / "pointer" / ".git").write_text(f"gitdir: {tree}/.git/worktrees/w\n")
    (tmp_path / "link").symlink_to(tree / ".git")
    (tmp_path / "loop").symlink_to("loop")
    rules = Rewriting.of(
        [(f"url.{tree}.insteadof", "short:"), (f"url.{tmp_path}/.pushinsteadof", "https://p/")]
    )
    return Original(tree, frozenset({tree.resolve(), (tree / ".git").resolve()}), rules)


@pytest.mark.parametrize(
    "name",
    [
        ".",
        "./.git",
        "../tree",
        "../tree/.git",
        "../link",
        "../pointer",
        "short:",
        "https://p/tree",
        "../tree/.git/worktrees/w",
    ],
)
def test_every_way_to_the_original_is_seen(original: Original, name: str) -> None:
    assert original.is_reached_by(name)


@pytest.mark.parametrize(
    "name", ["../other", "../other.git", "../missing", "../loop", "https://example.org/tree"]
)
def test_other_repositories_are_not_the_original(original: Original, name: str) -> None:
    assert not original.is_reached_by(name)


def test_the_longest_prefix_decides_and_the_raw_address_counts_too() -> None:
    rules = Rewriting.of([("url.https://a/.insteadof", "x:"), ("url.https://b/.insteadof", "x:y/")])
    assert rules.all_forms("x:y/z") == {"x:y/z", "https://b/z"}


def test_what_belongs_to_a_left_out_remote_is_left_out_with_it(original: Original) -> None:
    local = [
        ("remote.up.url", "../tree"),
        ("remote.up.fetch", "+refs/heads/*:refs/remotes/up/*"),
        ("remote.fine.url", "../other.git"),
        ("remote.pushdefault", "up"),
        ("branch.main.remote", "up"),
        ("branch.main.merge", "refs/heads/main"),
        ("branch.side.remote", "fine"),
        ("branch.side.merge", "refs/heads/side"),
        ("branch.side.pushremote", str(original.base)),
        ("branch.loc.remote", "."),
        ("branch.loc.merge", "refs/heads/main"),
        (f"url.{original.base}.insteadof", "short:"),
        ("url.https://a/.insteadof", "a:"),
    ]
    carried = carry_remotes(local, local, original)
    assert carried.names == ("fine",)
    assert carried.left_out == ("up",)
    assert carried.settings == (
        ("remote.fine.url", str(original.base.parent / "other.git")),
        ("branch.side.remote", "fine"),
        ("branch.side.merge", "refs/heads/side"),
        ("branch.loc.remote", "."),
        ("branch.loc.merge", "refs/heads/main"),
        ("url.https://a/.insteadof", "a:"),
    )


def test_a_remote_without_an_address_is_a_path(original: Original) -> None:
    local = [("remote.../tree.fetch", "+refs/heads/*:refs/remotes/x/*")]
    assert carry_remotes(local, local, original).names == ()
