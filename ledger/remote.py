"""One remote, spoken to without believing it: what it offers, fetching objects, pushing refs.

Rules this module keeps:
    * One address, one transport: git may use the protocol of that address and no other, no remote helper, no
      program that the repository's configuration names for the far end, no bundle or pack from elsewhere.
      The address that was shown is the one used: git gets it under a name made for one exchange, so that
      neither a second `url.<base>.insteadOf` nor a `[remote "<address>"]` of the configuration applies to it.
    * What the remote offers is read up to a limit of bytes and time; names are taken only in the forms that
      this program writes, everything else is counted and left alone. Objects are checked as they arrive
      (`transfer.fsckObjects`) and may fill only so much of the disk.
    * A fetch moves no ref: who calls compares old and new first. A push never forces, never deletes, runs no
      hook of the user's, follows no tags, signs nothing.
    * An address is shown without its password.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from agentgov.catfile import is_partial
from agentgov.errors import AgentgovError, UsageError
from agentgov.git import Git, GitResult, Repository, is_oid, is_refname
from agentgov.ledger.remote_address import absolute, protocol_of, redacted
from agentgov.text import printable

MAX_ADVERTISED_BYTES: Final = 64 * 2**20
MAX_SAID_BYTES: Final = 2**20
MAX_PACK_BYTES: Final = 4 * 2**30
PUSHED_AT_ONCE: Final = 400
# Stands for the remote's address among arguments.
_THERE: Final = "<there>"
_find_addresses: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"]+")
_is_ours = re.compile(
    r"refs/agentgov/(?:archive|(?:ledger|timestamp)/[0-9a-f]{32}|witness/[0-9a-f]{32}/[0-9a-f]{8}"
    r"|payloads/[0-9a-f]{32}/[0-9a-hjkmnp-tv-z]{5}/(?:args|changes|output|patch))"
).fullmatch


@dataclass(frozen=True, slots=True)
class Offer:
    """What a remote says it has; nothing of it is verified.

    Attributes:
        refs: Our refs there by name, in the forms that this program writes.
        heads: Its branches by full name.
        default: The branch that its HEAD names; None when it does not say.
        odd: How many names under `refs/agentgov/` have no form of ours.
    """

    refs: Mapping[str, str] = field(default_factory=dict)
    heads: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None
    odd: int = 0


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one pushed ref: `refused` is the remote's reason, None when it took it."""

    ref: str
    refused: str | None


@dataclass(frozen=True, slots=True)
class Remote:
    """A remote of the repository's.

    Attributes:
        repository: The repository.
        name: The remote's name in its settings.
        fetch_url: Where git fetches from.
        push_url: Where git pushes to.
        left_seconds: How long exchanges may still take together; None waits for ever, and lets git and ssh
            ask for a password on the terminal.
    """

    repository: Repository
    name: str
    fetch_url: str
    push_url: str
    left_seconds: Callable[[], float] | None = None

    @property
    def shown(self) -> str:
        """The address that is pushed to, without a password."""
        return redacted(self.push_url)

    @property
    def prefix(self) -> str:
        """The namespace of what was fetched from here."""
        return f"refs/agentgov/remotes/{self.name}/"

    def offer(self) -> Offer:
        """Ask what is there.

        Raises:
            AgentgovError: AG0482, it cannot be reached; AG0484, it says too much or nothing readable; AG0494,
                it does not answer in time.
        """
        args = ("ls-remote", "--symref", "--upload-pack=git-upload-pack", _THERE)
        return parse_offer(self._exchange(self.fetch_url, *args, limit=MAX_ADVERTISED_BYTES).stdout)

    def fetch(self, refs: Sequence[str]) -> None:
        """Bring the objects of some of its refs here; no ref moves.

        Raises:
            AgentgovError: AG0482, AG0484 or AG0494, as `offer`; also when objects are malformed.
        """
        if refs:
            # A partial clone may have a record's commits without their files, and git would not ask again.
            partial = is_partial(Git(self.repository.common_dir))
            self._exchange(
                self.fetch_url,
                "fetch",
                "--no-tags",
                "--no-write-fetch-head",
                "--no-auto-maintenance",
                "--no-recurse-submodules",
                "--no-show-forced-updates",
                *(("--refetch", "--no-filter") if partial else ()),
                "--upload-pack=git-upload-pack",
                "--stdin",
                _THERE,
                input="".join(f"{ref}\n" for ref in refs).encode(),
            )

    def push(self, targets: Mapping[str, str], *, objects: Path | None = None) -> list[Sent]:
        """Offer commits to it under the names of refs; what it refuses is returned, not raised.

        Args:
            targets: Commit by full ref name.
            objects: A further folder of objects that the commits may lie in.

        Raises:
            AgentgovError: AG0482 or AG0494, when it cannot be reached or breaks off.
        """
        found: list[Sent] = []
        names = list(targets)
        env = {} if objects is None else {"GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(objects)}
        for start in range(0, len(names), PUSHED_AT_ONCE):
            part = names[start : start + PUSHED_AT_ONCE]
            done = self._exchange(
                self.push_url,
                "push",
                "--porcelain",
                "--no-verify",
                "--no-signed",
                "--no-follow-tags",
                "--recurse-submodules=no",
                "--receive-pack=git-receive-pack",
                _THERE,
                *(f"{targets[ref]}:{ref}" for ref in part),
                check=False,
                env=env,
            )
            found += self._parse_pushed(done, part)
        return found

    def _parse_pushed(self, done: GitResult, refs: Sequence[str]) -> list[Sent]:
        # git-push(1), OUTPUT: flag TAB from:to TAB summary (reason).
        said: dict[str, str | None] = {}
        for raw_line in done.stdout.decode("utf-8", "replace").splitlines():
            parts = raw_line.split("\t")
            if len(parts) == 3 and len(parts[0]) == 1:
                taken = parts[0] in " *="
                said[parts[1].partition(":")[2]] = None if taken else printable(parts[2], limit=200)
        if not any(ref in said for ref in refs):
            raise self._failed("push", done)
        notes = [
            line.removeprefix(b"remote: ") for line in done.stderr.splitlines() if line.startswith(b"remote:")
        ]
        why = f": {printable(b' '.join(notes[-3:]), limit=300, strip=True)}" if notes else ""
        found = []
        for ref in refs:
            reason = said.get(ref, "it says nothing about this one")
            found.append(Sent(ref, None if reason is None else self._clean(reason + why)))
        return found

    def _exchange(
        self,
        url: str,
        *args: str,
        input: bytes = b"",
        check: bool = True,
        limit: int = MAX_SAID_BYTES,
        env: Mapping[str, str] | None = None,
    ) -> GitResult:
        config = {
            f"protocol.{protocol_of(url)}.allow": "always",
            "transfer.fsckObjects": "true",
            "fetch.fsckObjects": "true",
            "transfer.bundleURI": "false",
            "fetch.uriProtocols": "",
            "fetch.writeCommitGraph": "false",
            "push.followTags": "false",
            "push.pushOption": "",
        }
        name = f"agentgov-{secrets.token_hex(16)}:"
        asks = self.left_seconds is None
        git = Git(self.repository.common_dir)
        more = {**(env or {}), **_only(url, name), **({"GIT_TERMINAL_PROMPT": "1"} if asks else {})}
        process = subprocess.Popen(
            git.command(*(name if arg == _THERE else arg for arg in args), config=config),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=git.environment(config=config, env=more),
            cwd=self.repository.work_tree or self.repository.git_dir,
            # A group of its own ends as a whole, with ssh in it; but such a group cannot ask on the terminal.
            start_new_session=not asks,
        )
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (MAX_PACK_BYTES, MAX_PACK_BYTES))
        talk = _Talk(process, grouped=not asks)
        timeout_seconds = None if self.left_seconds is None else max(0.0, self.left_seconds())
        result = talk.finish(input, limit, timeout_seconds)
        if talk.is_late:
            raise AgentgovError(
                "the remote did not answer in time",
                id="AG0494",
                where=self.shown,
                hint="nothing of yours waits for it: try agentgov sync again later",
            )
        if talk.is_too_much:
            raise AgentgovError(
                f"the remote says more than {limit} bytes, and was not heard out",
                id="AG0484",
                where=self.shown,
            )
        if check and not result.ok:
            raise self._failed(args[0], result)
        return result

    def _failed(self, verb: str, done: GitResult) -> AgentgovError:
        lines = [line for line in done.stderr.splitlines() if line.startswith((b"fatal:", b"error:"))]
        what = printable(lines[0], limit=300) if lines else done.message
        return AgentgovError(
            f"git {verb} failed: {self._clean(what)}",
            id="AG0482",
            where=self.shown,
            hint=f"git ls-remote {self.name}",
        )

    def _clean(self, text: str) -> str:
        """Return what git or the remote said, with no address in it that shows a password."""
        for url in (self.fetch_url, self.push_url):
            text = text.replace(url, redacted(url))
        # Git prints an address in another form than it was given.
        return _find_addresses.sub(lambda match: redacted(match[0]), text)


class _Talk:
    """A git process, heard up to a limit of bytes and time."""

    def __init__(self, process: subprocess.Popen[bytes], *, grouped: bool) -> None:
        self._process = process
        self._grouped = grouped
        self.is_late = False
        self.is_too_much = False

    def finish(self, input: bytes, limit: int, timeout_seconds: float | None) -> GitResult:
        process = self._process
        out, err = bytearray(), bytearray()
        threads = [
            threading.Thread(target=self._feed, args=(input,), daemon=True),
            threading.Thread(target=self._hear, args=(process.stdout, out, limit), daemon=True),
            threading.Thread(target=self._hear, args=(process.stderr, err, MAX_SAID_BYTES), daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.is_late = True
        finally:
            if process.poll() is None:
                self._end()
                process.wait()
        for thread in threads:
            # A grandchild that lives on may hold the pipe open; what it says no longer matters.
            thread.join(timeout=5)
        return GitResult(process.returncode, bytes(out), bytes(err))

    def _feed(self, data: bytes) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe, for the type checker
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(data)

    def _hear(self, pipe: IO[bytes], into: bytearray, limit: int) -> None:
        with pipe:
            while data := os.read(pipe.fileno(), 2**16):
                if len(into) + len(data) > limit:
                    self.is_too_much = True
                    self._end()
                    return
                into += data

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._grouped:
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()


def find_remote(
    repository: Repository, name: str | None, *, left_seconds: Callable[[], float] | None = None
) -> Remote:
    """Return a remote by its name; without one origin, else the only one there is.

    Raises:
        UsageError: AG0480, there is none of that name, or none to choose; AG0481, its address is of a kind
            that is not used here.
    """
    names = repository.remotes()
    chosen = name
    if chosen is None:
        chosen = "origin" if "origin" in names else names[0] if len(names) == 1 else None
    if chosen is None or chosen not in names or not is_refname(f"refs/agentgov/remotes/{chosen}/archive"):
        listed = ", ".join(printable(item, limit=60) for item in names[:10]) or "none"
        what = "no remote to choose" if name is None else f"no remote named {printable(name, limit=60)}"
        raise UsageError(
            f"there is {what}; this repository has: {listed}",
            id="AG0480",
            where=str(repository.common_dir),
            hint="git remote add origin URL",
        )
    git = Git(repository.common_dir)
    urls = []
    for options in ((), ("--push",)):
        first = git.text("remote", "get-url", *options, "--end-of-options", chosen).split("\n")[0]
        protocol_of(first)
        urls.append(absolute(first, repository.work_tree or repository.git_dir))
    return Remote(repository, chosen, urls[0], urls[1], left_seconds)


def parse_offer(raw: bytes) -> Offer:
    """Parse what `git ls-remote --symref` printed; whatever has no form of ours is left out.

    Raises:
        AgentgovError: AG0484, when a line is none of git's.
    """
    refs: dict[str, str] = {}
    heads: dict[str, str] = {}
    default, odd = None, 0
    for raw_line in raw.split(b"\n")[:-1]:
        raw_oid, tab, raw_name = raw_line.partition(b"\t")
        oid, name = raw_oid.decode("utf-8", "replace"), raw_name.decode("utf-8", "replace")
        if name == "HEAD" and oid.startswith("ref: "):
            default = oid[5:] if is_refname(oid[5:]) else None
            continue
        if not tab or not (is_oid(oid) or oid.startswith("ref: ")):
            raise AgentgovError(
                f"the remote offers something that is no ref: {printable(raw_line, limit=80)}", id="AG0484"
            )
        if not is_oid(oid):
            continue
        if name.startswith("refs/heads/"):
            heads[name] = oid
        elif name.startswith("refs/agentgov/"):
            if _is_ours(name):
                refs[name] = oid
            elif not name.startswith("refs/agentgov/remotes/"):
                odd += 1
    return Offer(refs, heads, default, odd)


def _only(url: str, name: str) -> dict[str, str]:
    # git-config(1), url.<base>.insteadOf: the longest match wins, and what it gives is not rewritten again.
    # Nobody knows the name before. Not with -c, which ends the key at the address's first "=".
    keys = (f"url.{url}.insteadOf", f"url.{url}.pushInsteadOf")
    found = {"GIT_CONFIG_COUNT": str(len(keys))}
    for number, key in enumerate(keys):
        found |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": name}
    return found


def _quoted(folder: Path) -> str:
    # git(1), GIT_ALTERNATE_OBJECT_DIRECTORIES: separated by ":", unless quoted as in C.
    text = str(folder)
    if not any(char in text for char in ':"\\\n'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
