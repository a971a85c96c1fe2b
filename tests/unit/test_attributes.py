"""Line ends are converted exactly as git converts them, and no filter is ever run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agentgov.git import discover, hash_object
from agentgov.rollback.attributes import Conversion, is_lfs_pointer, read_conversions
from agentgov.rollback.objects import ObjectStore

ATTRIBUTES = [
    "",
    "text",
    "-text",
    "!text",
    "text=auto",
    "eol=crlf",
    "eol=lf",
    "text eol=crlf",
    "text eol=lf",
    "-text eol=crlf",
    "text=auto eol=crlf",
    "text=auto eol=lf",
    "binary",
    "crlf",
    "-crlf",
    "crlf=input",
    "text=unknown",
]
CONTENTS = {
    "empty": b"",
    "lf": b"one\ntwo\n",
    "crlf": b"one\r\ntwo\r\n",
    "mixed": b"one\r\ntwo\nthree",
    "lone-cr": b"one\rtwo\r\n",
    "cr-cr-lf": b"one\r\r\ntwo\r\n",
    "nul": b"one\r\n\0two\r\n",
    "controls": b"\x01\x02\x03 a\r\nb\n",
    "few-controls": b"x" * 300 + b"\x01\r\nb\n",
    "dos-end": b"one\r\ntwo\r\n\x1a",
    "printed-controls": b"\x08\t\x1b\x0c\r\nb\n",
    "utf8": "h\u00e9llo\r\nw\u00f6rld\n".encode(),
    "no-end": b"one\r\ntwo",
}
BASES: dict[str, bytes | None] = {
    "new": None,
    "over-lf": b"before\n",
    "over-crlf": b"before\r\nthat\r\n",
    "over-binary": b"before\r\n\0",
}
Git = Callable[..., str]
MakeRepo = Callable[..., Path]


def store_of(repo: Path, folder: Path) -> ObjectStore:
    store = ObjectStore(folder / "store.git", repo / ".git/objects", "sha1", durable=False)
    store.ensure()
    return store


def matrix() -> dict[str, tuple[bytes, bytes | None]]:
    """Path to its content in the work tree and the object it replaces."""
    return {
        f"d{number}/{name}.{base}": (content, BASES[base])
        for number in range(len(ATTRIBUTES))
        for name, content in CONTENTS.items()
        for base in BASES
    }


@pytest.mark.parametrize("autocrlf", [None, "true", "input", "false"])
@pytest.mark.parametrize("eol", [None, "lf", "crlf"])
def test_every_conversion_is_gits_own(
    make_repo: MakeRepo, git: Git, tmp_path: Path, autocrlf: str | None, eol: str | None
) -> None:
    lines = [f"d{number}/* {text}" for number, text in enumerate(ATTRIBUTES)]
    repo = make_repo(files={".gitattributes": "\n".join(lines) + "\n"})
    for key, value in (("core.autocrlf", autocrlf), ("core.eol", eol)):
        if value is not None:
            git(repo, "config", key, value)
    files = matrix()
    oids = {
        data: git(repo, "hash-object", "-w", "--no-filters", "--stdin", input=data)
        for data in {base for _, base in files.values() if base is not None} | set(CONTENTS.values())
    }
    index = "".join(f"100644 {oids[base]}\t{path}\0" for path, (_, base) in files.items() if base is not None)
    git(repo, "update-index", "-z", "--index-info", input=index.encode())
    git(repo, "commit", "-q", "-m", "base")
    tree = git(repo, "rev-parse", "HEAD^{tree}")
    for path, (content, _) in files.items():
        (repo / path).parent.mkdir(exist_ok=True)
        (repo / path).write_bytes(content)
    git(repo, "-c", "core.safecrlf=false", "add", "-A")
    staged = {
        line.split("\t")[1]: line.split()[1] for line in git(repo, "ls-files", "-s", "-z").split("\0") if line
    }
    found = read_conversions(
        discover(repo), store_of(repo, tmp_path), tree, [path.encode() for path in files], tmp_path
    )
    for name, (content, base) in files.items():
        converted = found[name.encode()].to_git(content, base)
        assert hash_object(b"blob", converted, "sha1") == staged[name], (name, converted)
    for number in range(len(ATTRIBUTES)):
        for name, content in CONTENTS.items():
            path = f"d{number}/{name}.out"
            git_index = f"100644 {oids[content]}\t{path}\0"
            git(repo, "update-index", "-z", "--index-info", input=git_index.encode())
    git(repo, "checkout-index", "-a", "-f")
    for number in range(len(ATTRIBUTES)):
        conversion = found[f"d{number}/lf.new".encode()]
        for name, content in CONTENTS.items():
            written = (repo / f"d{number}/{name}.out").read_bytes()
            assert conversion.to_work_tree(content) == written, (ATTRIBUTES[number], name)


def test_attributes_of_the_work_tree_do_not_count(make_repo: MakeRepo, git: Git, tmp_path: Path) -> None:
    repo = make_repo(
        files={"sub/a.txt": "a\n", ".gitattributes": "*.txt text\n", "sub/.gitattributes": "b text\n"}
    )
    (repo / ".gitattributes").write_text("*.txt -text filter=evil\n")
    (repo / "sub/.gitattributes").write_text("* -text filter=evil\n")
    git(repo, "add", "-A")
    tree = git(repo, "rev-parse", "HEAD^{tree}")
    found = read_conversions(
        discover(repo), store_of(repo, tmp_path), tree, [b"sub/a.txt", b"sub/b", b"c"], tmp_path
    )
    assert found == {
        b"sub/a.txt": Conversion("text"),
        b"sub/b": Conversion("text"),
        b"c": Conversion("none"),
    }


def test_info_attributes_count_and_the_users_index_does_not(
    make_repo: MakeRepo, git: Git, tmp_path: Path
) -> None:
    repo = make_repo(files={"a.txt": "a\n"})
    (repo / ".git/info").mkdir(exist_ok=True)
    (repo / ".git/info/attributes").write_text("*.txt eol=crlf\n")
    before = (repo / ".git/index").read_bytes()
    tree = git(repo, "rev-parse", "HEAD^{tree}")
    odd = b'od\xe9\n ".txt'
    found = read_conversions(discover(repo), store_of(repo, tmp_path), tree, [b"a.txt", odd], tmp_path)
    assert found[b"a.txt"] == found[odd] == Conversion("text", crlf=True)
    assert (repo / ".git/index").read_bytes() == before


def test_filters_ident_and_encodings_are_named(make_repo: MakeRepo, git: Git, tmp_path: Path) -> None:
    repo = make_repo(
        files={
            ".gitattributes": "*.bin filter=lfs\n*.id ident\n*.u16 working-tree-encoding=UTF-16\n"
            "*.u8 working-tree-encoding=UTF-8\n*.off -filter -ident\n"
        }
    )
    paths = [b"a.bin", b"a.id", b"a.u16", b"a.u8", b"a.off"]
    tree = git(repo, "rev-parse", "HEAD^{tree}")
    found = read_conversions(discover(repo), store_of(repo, tmp_path), tree, paths, tmp_path)
    assert [found[path].refusal(b"$Id$ x") for path in paths] == ["filter", "ident", "encoding", None, None]
    assert found[b"a.id"].refusal(b"nothing to expand") is None


def test_an_lfs_pointer_is_stored_as_it_is() -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12\n"
    assert is_lfs_pointer(pointer)
    assert Conversion("none", filter="lfs").refusal(pointer) is None
    assert Conversion("none", filter="other").refusal(pointer) == "filter"
    for bad in (pointer + b"x", pointer.replace(b"size 12", b"size 012"), b"content", pointer[:-1]):
        assert not is_lfs_pointer(bad)
