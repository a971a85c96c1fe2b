"""A clone that borrows its objects: refs, settings and work tree of a repository at one commit.

Rules kept here:

- It is built from parts, not by `git clone`: nothing of a template, no hook, no remote that reaches the
  original, and nothing is asked of the network.
- Only settings on a list are carried over; what runs programs at commit time (hooks, signing) is not.
- What the user's tree has and the clone cannot have is named in a warning, never silently missing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agentgov.errors import IncompleteError
from agentgov.git import Git, Repository, Submodule, discover, is_oid
from agentgov.harness import holds
from agentgov.harness.carry import NO_LFS
from agentgov.harness.remotes import CarriedRemotes, Original, Rewriting, carry_remotes
from agentgov.ids import RunId
from agentgov.text import printable

FALLBACK_NAME, FALLBACK_EMAIL = "agentgov run", "agentgov@localhost"
_CARRIED = (
    *("user.", "author.", "committer.", "submodule.", "pull.", "push.", "merge.", "diff."),
    *("filter.", "alias.", "rebase.", "rerere.", "format.", "log.", "blame.", "notes.", "i18n."),
    *("lfs.", "fetch.", "status.", "advice.", "color.", "column.", "core.whitespace"),
    *("core.quotepath", "core.abbrev", "core.commentchar", "core.bigfilethreshold"),
    *("core.sparsecheckout", "core.sparsecheckoutcone", "index.sparse", "commit.template"),
    *("commit.cleanup", "commit.verbose", "tag.sort"),
)
# A global file may set these for the original's folder only (`includeIf "gitdir:"`): what is in force counts.
_EFFECTIVE = (
    *("user.name", "user.email", "author.name", "author.email", "committer.name"),
    *("committer.email", "core.autocrlf", "core.eol", "core.safecrlf", "core.excludesfile"),
    *("core.attributesfile",),
)
_ALWAYS = (
    # A key that the agent cannot reach would break every commit; signing happens outside.
    ("commit.gpgsign", "false"),
    ("tag.gpgsign", "false"),
    ("push.gpgsign", "false"),
    # A daemon would be a leftover process at the agent's exit.
    ("gc.autodetach", "false"),
    ("maintenance.autodetach", "false"),
)


@dataclass(slots=True)
class Clone:
    """A clone that was built.

    Attributes:
        root: The top of its work tree.
        git_dir: Its git folder.
        warnings: What is different from the user's tree, one line each.
    """

    root: Path
    git_dir: Path
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Settings:
    local: tuple[tuple[str, str], ...]
    everything: tuple[tuple[str, str], ...]

    def last(self, key: str) -> str | None:
        return next((value for name, value in reversed(self.everything) if name == key), None)


def build_clone(
    source: Repository,
    root: Path,
    *,
    run: RunId,
    commit: str,
    branch: str | None,
    remember: Callable[[Path], None],
    above: frozenset[Path] = frozenset(),
    git_dir: Path | None = None,
) -> Clone:
    """Build a clone of `source` in the new folder `root`, with `commit` checked out.

    Args:
        source: The user's repository, seen from the work tree the run starts in.
        root: Where to build it; made here.
        run: Whose clone it is.
        commit: What is checked out.
        branch: As `refs/heads/main`; None for a detached head.
        remember: Told each git folder before `holds.held_ref` is made there, so that a crash leaves no ref
            behind that nobody knows of.
        above: For a submodule: the places of its superproject.
        git_dir: For a submodule: where its git folder goes.

    Raises:
        IncompleteError: AG0036, when files of the commit cannot be written: objects are missing (a partial
            clone), or a filter that the attributes demand failed.
    """
    settings = _read_settings(source)
    places = above | _places(source)
    original = Original(source.require_work_tree(), places, Rewriting.of(settings.everything))
    remotes = carry_remotes(settings.local, settings.everything, original)
    prefixes = ["refs/heads/", "refs/tags/", *(f"refs/remotes/{name}/" for name in remotes.names)]
    refs = holds.read_refs(source.git(), prefixes)
    borrowed = holds.sort_out(source.git(), [commit, *(ref.oid for ref in refs if is_oid(ref.oid))])
    remember(source.common_dir)
    holds.hold(source, run, borrowed)
    clone = Clone(root, _init(source, root, branch, git_dir))
    _borrow(source, clone.git_dir)
    _write_settings(clone, settings, remotes, own_dir=git_dir)
    _copy_info(source, clone.git_dir)
    _make_refs(source, clone, refs, borrowed, commit, branch)
    _check_out(source, clone, settings)
    _warn(clone, source, settings, remotes)
    for module in source.submodules(commit):
        _add_submodule(source, clone, module, run, remember, places)
    return clone


def _read_settings(source: Repository) -> _Settings:
    found = (
        source.git()
        .plain("config", "--list", "--show-scope", "-z", cwd=source.work_tree)
        .stdout.split(b"\x00")
    )
    local, everything = [], []
    for raw_scope, raw_pair in zip(found[::2], found[1::2], strict=False):
        key, _, value = raw_pair.decode("utf-8", "surrogateescape").partition("\n")
        everything.append((key, value))
        if raw_scope in (b"local", b"worktree"):
            local.append((key, value))
    return _Settings(tuple(local), tuple(everything))


def _places(source: Repository) -> frozenset[Path]:
    listed = source.git().lines_z("worktree", "list", "--porcelain", "-z")
    trees = [Path(os.fsdecode(line[9:])) for line in listed if line.startswith(b"worktree ")]
    return frozenset(path.resolve() for path in (source.common_dir, source.require_work_tree(), *trees))


def _init(source: Repository, root: Path, branch: str | None, git_dir: Path | None) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    command = ["init", "-q", "--template=", f"--object-format={source.object_format}"]
    command += ["-b", (branch or "refs/heads/main").removeprefix("refs/heads/")]
    if git_dir is not None:
        git_dir.parent.mkdir(parents=True, exist_ok=True)
        command.append(f"--separate-git-dir={git_dir}")
    Git(None).run(*command, ".", cwd=root)
    return git_dir or root / ".git"


def _borrow(source: Repository, git_dir: Path) -> None:
    """Name the source's objects, and what it borrows itself, as alternates (gitrepository-layout(5))."""
    found: dict[Path, None] = {}
    todo = [source.objects_dir.resolve()]
    while todo:
        folder = todo.pop(0)
        if folder in found:
            continue
        found[folder] = None
        listed = folder / "info" / "alternates"
        if listed.is_file():
            lines = [line for line in listed.read_bytes().split(b"\n") if line and not line.startswith(b"#")]
            todo += [(folder / os.fsdecode(_unquoted(line))).resolve() for line in lines]
    target = git_dir / "objects" / "info" / "alternates"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"".join(_quoted(os.fsencode(folder)) + b"\n" for folder in found))


def _quoted(path: bytes) -> bytes:
    if not (path.startswith((b'"', b"#")) or b"\n" in path):
        return path
    return b'"' + path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'


def _unquoted(line: bytes) -> bytes:
    if not line.startswith(b'"'):
        return line
    return line[1:].removesuffix(b'"').decode("unicode_escape").encode("latin-1")


def _write_settings(clone: Clone, settings: _Settings, remotes: CarriedRemotes, own_dir: Path | None) -> None:
    pairs = [
        (key, value) for key, value in settings.local if key.startswith(_CARRIED) and key not in _EFFECTIVE
    ]
    pairs += [(key, value) for key in _EFFECTIVE if (value := settings.last(key)) is not None]
    pairs += remotes.settings
    promisor = next((value for key, value in settings.local if key == "extensions.partialclone"), None)
    if promisor is not None and promisor in remotes.names:
        pairs += [("core.repositoryformatversion", "1"), ("extensions.partialclone", promisor)]
    if settings.last("user.name") is None or settings.last("user.email") is None:
        pairs += [("user.name", settings.last("user.name") or FALLBACK_NAME)]
        pairs += [("user.email", settings.last("user.email") or FALLBACK_EMAIL)]
    if own_dir is not None:
        pairs.append(("core.worktree", os.path.relpath(clone.root, own_dir)))
        (clone.root / ".git").write_bytes(
            b"gitdir: " + os.fsencode(os.path.relpath(own_dir, clone.root)) + b"\n"
        )
    with open(clone.git_dir / "config", "ab") as file:
        file.write(b"".join(_config_line(key, value) for key, value in (*pairs, *_ALWAYS)))


def _config_line(key: str, value: str) -> bytes:
    """Write one setting in git-config(1)'s syntax, whatever bytes the value holds."""
    section, _, variable = key.rpartition(".")
    name, dot, sub = section.partition(".")
    if dot:
        name += ' "' + sub.replace("\\", "\\\\").replace('"', '\\"') + '"'
    for raw, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t"), ("\b", "\\b")):
        value = value.replace(raw, escaped)
    return f'[{name}]\n\t{variable} = "{value}"\n'.encode("utf-8", "surrogateescape")


def _copy_info(source: Repository, git_dir: Path) -> None:
    (git_dir / "info").mkdir(exist_ok=True)
    for place, name in ((source.common_dir, "exclude"), (source.common_dir, "attributes")):
        if (place / "info" / name).is_file():
            shutil.copyfile(place / "info" / name, git_dir / "info" / name)
    # Sparse patterns belong to the work tree, the cut of a shallow history to the repository.
    if (source.git_dir / "info" / "sparse-checkout").is_file():
        shutil.copyfile(source.git_dir / "info" / "sparse-checkout", git_dir / "info" / "sparse-checkout")
    if (source.common_dir / "shallow").is_file():
        shutil.copyfile(source.common_dir / "shallow", git_dir / "shallow")


def _make_refs(
    source: Repository,
    clone: Clone,
    refs: Sequence[holds.Ref],
    borrowed: holds.Borrowed,
    commit: str,
    branch: str | None,
) -> None:
    git = Git(clone.git_dir)
    holds.copy_tags(source.git(), git, borrowed.tags)
    there = {*borrowed.commits, *borrowed.tags, *(oid for _, oid in borrowed.others)}
    wanted = {ref.name: ref.oid for ref in refs if not ref.symbolic and ref.oid in there}
    if branch is not None:
        wanted[branch] = commit
    lines = [f"create {name}\x00{oid}\x00" for name, oid in wanted.items()]
    git.run("update-ref", "--stdin", "-z", input="".join(lines).encode("utf-8", "surrogateescape"))
    for ref in refs:
        if ref.symbolic in wanted and ref.name not in wanted:
            git.run("symbolic-ref", ref.name, ref.symbolic)
    if branch is None:
        git.run("update-ref", "--no-deref", "HEAD", commit)


def _check_out(source: Repository, clone: Clone, settings: _Settings) -> None:
    git = Git(clone.git_dir, work_tree=clone.root)
    config = {**NO_LFS, "checkout.workers": "0"}
    done = git.run(
        "read-tree", "--reset", "-u", "HEAD", config=config, env={"GIT_LFS_SKIP_SMUDGE": "1"}, check=False
    )
    if done.ok:
        return
    hints = ["agentgov run --workspace in-place ..."]
    if any(key.startswith("remote.") and key.endswith(".promisor") for key, _ in settings.local):
        # In the user's own repository, git fetches what a checkout needs.
        hints.insert(0, "git checkout HEAD -- .    (fetches what this partial clone lacks)")
    raise IncompleteError(
        f"the commit's files could not be written to the copy: {done.message}",
        id="AG0036",
        where=str(source.work_tree),
        hint=hints,
    )


def _warn(clone: Clone, source: Repository, settings: _Settings, remotes: CarriedRemotes) -> None:
    for name in remotes.left_out:
        clone.warnings.append(
            f"remote {printable(name)} is left out: it leads to this repository or starts a program"
        )
    if settings.last("user.name") is None or settings.last("user.email") is None:
        clone.warnings.append(f"no user.name or user.email: commits in the copy are by {FALLBACK_NAME}")
    active = sorted(path.name for path in _lost_hooks(source, settings))
    if active:
        clone.warnings.append(f"git hooks do not run in the copy: {printable(', '.join(active), limit=120)}")
    pointers = count_lfs(clone)
    if pointers:
        clone.warnings.append(
            f"{pointers} files under git-lfs are pointers in the copy; to fill them: "
            '[workspace] setup = ["git lfs checkout"]'
        )


def _lost_hooks(source: Repository, settings: _Settings) -> list[Path]:
    folder = source.common_dir / "hooks"
    named = settings.last("core.hookspath")
    if named is not None:
        if ("core.hookspath", named) not in settings.local:
            # The user's global hooks run in the copy as they do everywhere.
            return []
        folder = source.require_work_tree() / Path(named).expanduser()
    try:
        files = [path for path in folder.iterdir() if path.is_file() and path.suffix != ".sample"]
    except OSError:
        return []
    return [path for path in files if os.access(path, os.X_OK)]


def count_lfs(clone: Clone) -> int:
    """Count the files whose content git-lfs keeps elsewhere."""
    git = Git(clone.git_dir, work_tree=clone.root)
    anywhere = {"GIT_LITERAL_PATHSPECS": "0"}
    named = git.lines_z("ls-files", "-z", "--", ":(glob)**/.gitattributes", env=anywhere)
    files = [clone.root / os.fsdecode(name) for name in named] + [clone.git_dir / "info" / "attributes"]
    if not any(
        b"filter=lfs" in path.read_bytes() for path in files if path.is_file() and not path.is_symlink()
    ):
        return 0
    tracked = git.run("ls-files", "-z").stdout
    found = git.lines_z("check-attr", "-z", "--stdin", "filter", input=tracked)
    return found[2::3].count(b"lfs")


def _add_submodule(
    source: Repository,
    clone: Clone,
    module: Submodule,
    run: RunId,
    remember: Callable[[Path], None],
    places: frozenset[Path],
) -> None:
    shown = printable(module.path, limit=80)
    parts = Path(module.path).parts
    if not parts or module.path.startswith("/") or any(part in ("..", ".git") for part in parts):
        clone.warnings.append(f"submodule {shown} is left out: its path leads out of the tree")
        return
    listed = Git(clone.git_dir).lines_z("ls-tree", "-z", "HEAD", "--", module.path)
    if len(listed) != 1 or not listed[0].startswith(b"160000 commit "):
        return
    commit = listed[0].split(b"\t")[0].split(b" ")[2].decode()
    theirs = source.require_work_tree() / module.path
    if not os.path.lexists(theirs / ".git") or theirs.is_symlink():
        clone.warnings.append(f"submodule {shown} is empty in the copy, as in your tree")
        return
    inner = discover(theirs)
    if inner.require_work_tree().resolve() != theirs.resolve() or inner.resolve(commit) != commit:
        clone.warnings.append(
            f"submodule {shown} is empty in the copy: commit {commit[:9]} is not on this machine"
        )
        return
    target = clone.root / module.path
    if target.is_symlink() or not target.resolve().is_relative_to(clone.root.resolve()):
        clone.warnings.append(f"submodule {shown} is left out: its path leads out of the tree")
        return
    simple = all(part not in ("", ".", "..") for part in module.name.split("/"))
    git_dir = clone.git_dir / "modules" / module.name if simple else None
    built = build_clone(
        inner, target, run=run, commit=commit, branch=None, remember=remember, above=places, git_dir=git_dir
    )
    clone.warnings += [f"submodule {shown}: {line}" for line in built.warnings]
