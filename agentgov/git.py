"""A repository as agentgov sees it: where it lies, what it is, its head, its settings.

Rules: the repository is found by git itself from a folder, never from GIT_DIR, so that git's check of the
owner (`safe.directory`) applies; nothing here writes. How git is called is `gitcall`'s business, names are
`gitnames`', objects `catfile`'s: their names are offered here too, as one place to import from.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from agentgov.catfile import CatFile
from agentgov.errors import AgentgovError, UsageError
from agentgov.gitcall import SECRETS, Git, GitResult, clean_environment, git_version
from agentgov.gitnames import (
    EMPTY_TREE,
    ZERO_OID,
    ObjectFormat,
    branch_ref,
    check_oid,
    check_refname,
    hash_object,
    is_oid,
    is_refname,
    short_ref,
)
from agentgov.layout import Layout
from agentgov.text import printable

__all__ = [
    "EMPTY_TREE",
    "SECRETS",
    "ZERO_OID",
    "CatFile",
    "Git",
    "GitResult",
    "ObjectFormat",
    "RemoteBranch",
    "Repository",
    "Submodule",
    "branch_ref",
    "check_oid",
    "check_refname",
    "clean_environment",
    "discover",
    "git_version",
    "hash_object",
    "is_oid",
    "is_refname",
    "short_ref",
]


@dataclass(frozen=True, slots=True)
class RemoteBranch:
    """A remote's default branch.

    Attributes:
        remote: The remote's name.
        tracking: The ref that follows it here, such as `refs/remotes/origin/main`.
        branch: What it is called there and, if it exists, here: `refs/heads/main`.
    """

    remote: str
    tracking: str
    branch: str


@dataclass(frozen=True, slots=True)
class Submodule:
    """One section of a `.gitmodules` file, as the commit's author wrote it: not to be trusted."""

    name: str
    path: str
    url: str


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository and the work tree one stands in.

    Attributes:
        git_dir: The git folder of this work tree.
        common_dir: The git folder that all work trees share.
        work_tree: The top folder of the work tree; None in a bare repository.
        object_format: How objects are named.
        is_bare: Whether it has no work tree.
        is_shallow: Whether its history is cut off.
        git_version: The version of the git that answered.
    """

    git_dir: Path
    common_dir: Path
    work_tree: Path | None
    object_format: ObjectFormat
    is_bare: bool
    is_shallow: bool
    git_version: str

    @property
    def objects_dir(self) -> Path:
        """The folder of its objects."""
        return self.common_dir / "objects"

    @property
    def layout(self) -> Layout:
        """Where agentgov keeps its own things."""
        return Layout(self.common_dir)

    def git(self, *, with_work_tree: bool = False, index_file: Path | None = None) -> Git:
        """Return a caller of git for objects and refs; with the work tree and the user's index on request.

        Args:
            with_work_tree: Work on the user's work tree and, without `index_file`, on the user's index.
            index_file: An index to use instead.
        """
        work_tree = self.require_work_tree() if with_work_tree else None
        return Git(self.git_dir, work_tree=work_tree, index_file=index_file)

    def require_work_tree(self) -> Path:
        """Return the top folder of the work tree.

        Raises:
            UsageError: AG0011, when the repository is bare.
        """
        if self.work_tree is None:
            raise _bare(self.git_dir)
        return self.work_tree

    def head_commit(self) -> str | None:
        """Return the commit that is checked out; None before the first commit."""
        return self.resolve("HEAD")

    def require_head_commit(self) -> str:
        """Return the commit that is checked out.

        Raises:
            UsageError: AG0012, when there is no commit yet.
        """
        commit = self.head_commit()
        if commit is None:
            raise UsageError(
                "this repository has no commit yet, so there is no state to start from",
                id="AG0012",
                where=str(self.work_tree or self.git_dir),
                hint='git commit --allow-empty -m "start"',
            )
        return commit

    def head_branch(self) -> str | None:
        """Return the branch that is checked out, as `refs/heads/main`; None for a detached head."""
        result = self.git().run("symbolic-ref", "--quiet", "HEAD", check=False)
        ref = _decode(result.stdout)
        return ref if result.ok and is_refname(ref) else None

    def resolve(self, raw_rev: str) -> str | None:
        """Return the commit that a revision names, whatever the user typed; None when it names none."""
        if "\x00" in raw_rev or not raw_rev:
            return None
        result = self.git().run(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{raw_rev}^{{commit}}", check=False
        )
        oid = _decode(result.stdout)
        return oid if result.ok and is_oid(oid) else None

    def ref(self, name: str) -> str | None:
        """Return what a full ref name points at; None when there is no such ref.

        Raises:
            UsageError: AG0016, when it is not a full ref name.
        """
        # rev-parse would go on looking, and take refs/tags/refs/heads/main for a branch main that is gone.
        result = self.git().run("show-ref", "--verify", "--hash", check_refname(name), check=False)
        oid = _decode(result.stdout)
        return oid if result.ok and is_oid(oid) else None

    def remotes(self) -> list[str]:
        """Return the names of the remotes, in the order of the configuration."""
        result = Git(self.git_dir).plain("config", "-z", "--name-only", "--get-regexp", r"^remote\..*\.url$")
        names = [_decode(key)[len("remote.") : -len(".url")] for key in result.stdout.split(b"\x00") if key]
        return list(dict.fromkeys(names))

    def remote_default(self) -> RemoteBranch | None:
        """Return the default branch of the main remote (origin, else the only one), if it is known here."""
        remotes = self.remotes()
        remote = "origin" if "origin" in remotes else (remotes[0] if len(remotes) == 1 else None)
        if remote is None or not is_refname(f"refs/remotes/{remote}/HEAD"):
            return None
        prefix = f"refs/remotes/{remote}/"
        result = self.git().run("symbolic-ref", "--quiet", f"{prefix}HEAD", check=False)
        tracking = _decode(result.stdout)
        if not result.ok or not tracking.startswith(prefix) or not is_refname(tracking):
            return None
        return RemoteBranch(remote, tracking, f"refs/heads/{tracking[len(prefix) :]}")

    def default_branch(self) -> str | None:
        """Return the default branch as `refs/heads/main`.

        The main remote's if it is known; else the first that exists of `init.defaultBranch`, main, master;
        else the branch that is checked out; None when that is none.
        """
        remote = self.remote_default()
        if remote is not None:
            return remote.branch
        for name in (self.config("init.defaultBranch"), "main", "master"):
            if name and is_refname(f"refs/heads/{name}") and self.ref(f"refs/heads/{name}"):
                return f"refs/heads/{name}"
        return self.head_branch()

    def config(self, key: str) -> str | None:
        """Return the last value of a setting as the user's git sees it here; None when it is not set."""
        values = self.config_all(key)
        return values[-1] if values else None

    def config_all(self, key: str) -> list[str]:
        """Return all values of a setting, the strongest last."""
        result = Git(self.git_dir).plain("config", "-z", "--get-all", key, cwd=self.work_tree)
        return [_decode(value) for value in result.stdout.split(b"\x00")[:-1]] if result.ok else []

    def config_bool(self, key: str, default: bool = False) -> bool:
        """Return a yes-or-no setting, with git's own spellings; `default` when unset or neither."""
        result = Git(self.git_dir).plain("config", "--type=bool", "--get", key, cwd=self.work_tree)
        return _decode(result.stdout) == "true" if result.ok else default

    def submodules(self, commit: str) -> list[Submodule]:
        """Return the submodules that a commit's `.gitmodules` describes, sorted by path.

        GitPython parses the file: it is git's configuration format, and unlike `git config --file` its parser
        follows no include and starts no process.

        Raises:
            UsageError: AG0019, when the file cannot be parsed.
        """
        shown = self.git().run("cat-file", "blob", f"{check_oid(commit)}:.gitmodules", check=False)
        return parse_gitmodules(shown.stdout) if shown.ok else []


class _NamedBytes(io.BytesIO):
    """A file in memory; GitPython wants its name for errors."""

    name = ".gitmodules"


def parse_gitmodules(raw_file: bytes) -> list[Submodule]:
    """Parse a `.gitmodules` file; sections without a path are left out, as git does.

    Raises:
        UsageError: AG0019, when it cannot be parsed.
    """
    # Imported here: GitPython takes longer to import than most commands take to run.
    import configparser

    from git.config import GitConfigParser

    found = []
    try:
        with GitConfigParser(_NamedBytes(raw_file), read_only=True, merge_includes=False) as parser:
            for section in parser.sections():
                if section.startswith('submodule "') and parser.has_option(section, "path"):
                    url = str(parser.get_value(section, "url", ""))
                    found.append(Submodule(section[11:-1], str(parser.get_value(section, "path")), url))
    except (configparser.Error, UnicodeDecodeError, ValueError, TypeError) as error:
        raise UsageError(
            f".gitmodules cannot be parsed: {printable(str(error), limit=200)}", id="AG0019"
        ) from error
    return sorted(found, key=lambda module: module.path)


def discover(start: Path, *, bare_ok: bool = False) -> Repository:
    """Find the repository that a folder belongs to.

    Args:
        start: Any folder in a work tree, a linked work tree, a submodule, or a git folder.
        bare_ok: Also return a repository without a work tree.

    Raises:
        UsageError: AG0010 not a repository, AG0011 bare, AG0013 git is too old, AG0014 git does not trust
            the owner of the folder.
        AgentgovError: AG0007 git is missing, AG0008 git failed.
    """
    version = git_version()
    git = Git(None)
    result = git.run(
        "rev-parse",
        "--is-bare-repository",
        "--is-inside-work-tree",
        "--is-shallow-repository",
        "--show-object-format",
        "--absolute-git-dir",
        cwd=start,
        check=False,
    )
    if not result.ok:
        raise _not_found(result, start)
    raw_bare, raw_inside, raw_shallow, raw_format, raw_dir = result.stdout.split(b"\n", 4)
    git_dir = Path(_decode(raw_dir))
    work_tree = None
    if raw_inside == b"true":
        work_tree = Path(git.text("rev-parse", "--show-toplevel", cwd=start))
    elif not bare_ok:
        raise _bare(git_dir)
    return Repository(
        git_dir=git_dir,
        common_dir=_common_dir(git_dir),
        work_tree=work_tree,
        object_format="sha256" if raw_format == b"sha256" else "sha1",
        is_bare=raw_bare == b"true",
        is_shallow=raw_shallow == b"true",
        git_version=version,
    )


def _common_dir(git_dir: Path) -> Path:
    # gitrepository-layout(5): a linked work tree's git folder names the shared one in "commondir".
    try:
        raw_common = (git_dir / "commondir").read_bytes()
    except FileNotFoundError:
        return git_dir
    return (git_dir / _decode(raw_common)).resolve()


def _not_found(result: GitResult, start: Path) -> AgentgovError:
    if b"dubious ownership" in result.stderr or b"safe.directory" in result.stderr:
        return UsageError(
            "git does not trust this repository, because another user owns it",
            id="AG0014",
            where=str(start),
            hint=f"if you trust it: git config --global --add safe.directory {_owner_hint(result, start)}",
        )
    if b"safe.bareRepository" in result.stderr:
        return _bare(start)
    if b"not a git repository" in result.stderr:
        return UsageError(
            "this folder is not in a git repository",
            id="AG0010",
            where=str(start),
            hint='git init && git add -A && git commit -m "start"',
        )
    return AgentgovError(f"git rev-parse: {result.message}", id="AG0008", where=str(start))


def _owner_hint(result: GitResult, start: Path) -> str:
    # Git names the folder it means between the first pair of quotes; a subfolder would not help.
    parts = result.stderr.decode("utf-8", "replace").split("'")
    return printable(parts[1]) if len(parts) >= 3 else str(start)


def _bare(folder: Path) -> UsageError:
    return UsageError(
        "this needs a work tree, and here is none: a bare repository or a .git folder",
        id="AG0011",
        where=str(folder),
        hint="run it in a clone of the repository, or in its work tree",
    )


def _decode(raw_line: bytes) -> str:
    return raw_line.decode("utf-8", "surrogateescape").removesuffix("\n")
