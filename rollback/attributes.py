"""What git's attributes do to a file's bytes between work tree and object: line ends, done here without git.

Rules:
- Attributes come from a commit, `info/attributes` and the user's own settings, never from a work tree that
  an agent can write: git is asked with an index that holds that commit's `.gitattributes` alone, and an
  empty work tree.
- No filter is ever run: a path under a filter driver, `ident` or another encoding is named, and its content
  is not converted.
- Line ends follow git's convert.c exactly (`convert_attrs`, `crlf_to_git`, `crlf_to_worktree`), among them
  that guessed text is left alone when the version it replaces already has CRLF.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agentgov.git import Git, Repository
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.trees import Node, lookup, parents

_ASKED = ("text", "crlf", "eol", "filter", "ident", "working-tree-encoding")
_UTF8 = frozenset({"utf-8", "utf8"})
_LFS_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[0-9]-[^\n]+\n)*"
    rb"oid sha256:[0-9a-f]{64}\nsize (?:0|[1-9][0-9]*)\n"
)
_LFS_POINTER_BYTES = 1024

Refusal = Literal["filter", "ident", "encoding"]


@dataclass(frozen=True, slots=True)
class Conversion:
    """How one path is converted.

    Attributes:
        kind: "none" as it is, "text" always, "auto" when it looks like text.
        crlf: Whether the work tree gets CRLF.
        filter: The name of a filter driver; empty for none.
        ident: Whether `$Id$` is expanded.
        encoding: Another encoding in the work tree; empty for none.
    """

    kind: Literal["none", "text", "auto"]
    crlf: bool = False
    filter: str = ""
    ident: bool = False
    encoding: str = ""

    def refusal(self, data: bytes) -> Refusal | None:
        """Why this content cannot be converted here; None when it can."""
        if self.filter and not (self.filter == "lfs" and is_lfs_pointer(data)):
            return "filter"
        if self.ident and b"$Id" in data:
            return "ident"
        return "encoding" if self.encoding else None

    def to_git(self, data: bytes, replaces: bytes | None = None) -> bytes:
        """Convert a work tree's bytes to what `git add` stores.

        Args:
            data: What stands in the work tree.
            replaces: The object that stood for the path before; None when it is new.
        """
        if self.kind == "none" or b"\r\n" not in data:
            return data
        if self.kind == "auto" and (_is_binary(data) or (replaces is not None and _has_crlf_text(replaces))):
            return data
        return data.replace(b"\r\n", b"\n")

    def to_work_tree(self, data: bytes) -> bytes:
        """Convert an object to the bytes that a checkout writes."""
        if self.kind == "none" or not self.crlf or not _LONE_LF.search(data):
            return data
        if self.kind == "auto" and (b"\r" in data or _is_binary(data)):
            return data
        return _LONE_LF.sub(b"\r\n", data)


_LONE_LF = re.compile(rb"(?<!\r)\n")
_LONE_CR = re.compile(rb"\r(?!\n)")
# convert.c, gather_stats: DEL and all below 32 but BS, HT, LF, ESC, FF (and CR, counted apart) do not print.
_NOT_PRINTED = bytes([*range(8), 11, *range(14, 27), *range(28, 32), 127])
_LINE_ENDS = b"\r\n"


def is_lfs_pointer(data: bytes) -> bool:
    """Whether the content is a Git LFS pointer, which LFS's own filter stores unchanged."""
    return len(data) < _LFS_POINTER_BYTES and _LFS_POINTER.fullmatch(data) is not None


def read_conversions(
    repo: Repository, store: ObjectStore, tree: str, paths: Collection[bytes], scratch: Path
) -> dict[bytes, Conversion]:
    """Read how each path is converted, by the attributes of a commit's tree.

    Args:
        repo: The user's repository (never the agent's): its settings and `info/attributes` count.
        store: Where the tree can be read.
        tree: The tree whose `.gitattributes` count; its objects are in `repo` too.
        paths: The paths to look up.
        scratch: An existing folder for a temporary index; nobody else may write there.
    """
    if not paths:
        return {}
    defaults = _Defaults.read(repo)
    with tempfile.TemporaryDirectory(prefix="attributes-", dir=scratch) as raw_folder:
        folder = Path(raw_folder)
        empty = folder / "tree"
        empty.mkdir()
        git = Git(repo.git_dir, work_tree=empty, index_file=folder / "index")
        records = b"".join(
            b"%o %s\t%s\0" % (node.mode, node.oid.encode("ascii"), path)
            for path, node in sorted(_attribute_files(store, tree, paths))
        )
        git.run("update-index", "-z", "--index-info", input=records)
        fields = git.lines_z(
            "check-attr", "--cached", "--stdin", "-z", *_ASKED, input=b"".join(path + b"\0" for path in paths)
        )
    values: dict[bytes, dict[str, str]] = {}
    for path, name, value in _triples(fields):
        values.setdefault(path, {})[name.decode("ascii")] = value.decode("utf-8", "surrogateescape")
    return {path: defaults.conversion(values[path]) for path in paths}


def _attribute_files(store: ObjectStore, tree: str, paths: Collection[bytes]) -> Iterator[tuple[bytes, Node]]:
    folders = {b"", *(folder for path in paths for folder in parents(path))}
    for folder in folders:
        name = folder + b"/.gitattributes" if folder else b".gitattributes"
        node = lookup(store, tree, name)
        # gitattributes(5): a link of this name is not followed.
        if node is not None and node.is_file:
            yield name, node


def _triples(fields: Sequence[bytes]) -> Iterator[tuple[bytes, bytes, bytes]]:
    for start in range(0, len(fields) - 2, 3):
        yield fields[start], fields[start + 1], fields[start + 2]


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What the repository's settings say where attributes say nothing."""

    autocrlf: Literal["true", "false", "input"]
    eol_crlf: bool

    @classmethod
    def read(cls, repo: Repository) -> _Defaults:
        raw_autocrlf = (repo.config("core.autocrlf") or "false").lower()
        autocrlf: Literal["true", "false", "input"]
        if raw_autocrlf == "input":
            autocrlf = "input"
        else:
            autocrlf = "true" if repo.config_bool("core.autocrlf") else "false"
        raw_eol = (repo.config("core.eol") or "native").lower()
        return cls(autocrlf, raw_eol == "crlf" or (raw_eol != "lf" and os.linesep == "\r\n"))

    def conversion(self, values: dict[str, str]) -> Conversion:
        """Git's convert_attrs."""
        kind = _kind(values["text"]) or _kind(values["crlf"])
        eol = values["eol"] if kind != "none" else ""
        # text_eol_is_crlf: core.autocrlf is stronger than core.eol.
        crlf = self.autocrlf == "true" or (self.autocrlf == "false" and self.eol_crlf)
        if eol in ("lf", "crlf"):
            crlf = eol == "crlf"
            kind = "auto" if kind == "auto" else "text"
        elif kind == "input":
            kind, crlf = "text", False
        elif kind is None:
            kind = "none" if self.autocrlf == "false" else "auto"
        name, encoding = values["filter"], values["working-tree-encoding"]
        return Conversion(
            kind,
            crlf,
            filter="" if name in ("unspecified", "unset", "set") else name,
            ident=values["ident"] == "set",
            encoding=""
            if encoding in ("unspecified", "unset", "") or encoding.lower() in _UTF8
            else encoding,
        )


def _kind(value: str) -> Literal["none", "text", "auto", "input"] | None:
    """Git's git_path_check_crlf; None for its CRLF_UNDEFINED."""
    kinds: dict[str, Literal["none", "text", "auto", "input"]] = {
        "set": "text",
        "unset": "none",
        "auto": "auto",
        "input": "input",
    }
    return kinds.get(value)


def _is_binary(data: bytes) -> bool:
    """Git's convert_is_binary."""
    if b"\0" in data or _LONE_CR.search(data):
        return True
    not_printed = len(data) - len(data.translate(None, _NOT_PRINTED))
    printed = len(data) - not_printed - data.count(b"\r") - data.count(b"\n")
    # A trailing ^Z is DOS's end of file.
    if data.endswith(b"\x1a"):
        not_printed -= 1
    return printed >> 7 < not_printed


def _has_crlf_text(data: bytes) -> bool:
    """Git's has_crlf_in_index."""
    return b"\r\n" in data and not _is_binary(data)
