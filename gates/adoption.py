"""Which policy holds for a run, and whether anybody but the agent stands behind it.

Rules kept here:
- Sources in order: organisation file, `--policy-ref`, the ref pinned for this repository outside it, the
  remote's default branch,
  the default branch, the base commit. The first that exists decides, also when it holds no file: then the
  built-in rules hold.
- Never the work tree and never an agent's commit alone: a base with another file is judged as well, and the
  stricter wins.
- A source that was named and holds no policy is an error, not a fall-back.
"""

# Paths are text here: "..", links and a last slash must stay as they were written.
from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from agentgov.config import FILE_NAME, MAX_FILE_BYTES, ReviewTable, Settings
from agentgov.errors import ConfigError
from agentgov.files import open_private_dir, read_own_file, write_atomic
from agentgov.gates.places import Places
from agentgov.gates.policy import Judge, Policy, Source, digest_of
from agentgov.git import Repository
from agentgov.layout import StateHome
from agentgov.text import printable

_PROTECTED: frozenset[Source] = frozenset(
    {"organisation", "policy-ref", "pinned", "remote-default", "default-branch"}
)


@dataclass(frozen=True)
class AdoptedPolicy:
    """The policies of a run, evaluated together.

    Attributes:
        policies: the one that decides, then the base's if it is another.
        source: where the first one came from.
        previous: the digest that this repository had last on this machine; None at first use.
    """

    policies: tuple[Policy, ...]
    source: Source
    previous: str | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over the canonical text of all of them."""
        return digest_of(self.policies)

    @property
    def protected(self) -> bool:
        """True when the policy stands somewhere an agent's run does not start from alone."""
        return self.source in _PROTECTED

    @property
    def is_first_use(self) -> bool:
        """True when no policy was ever seen for this repository on this machine."""
        return self.previous is None

    @property
    def is_changed(self) -> bool:
        """True when it is another policy than last time."""
        return self.previous is not None and self.previous != self.digest

    @property
    def where(self) -> str:
        """The files, for people."""
        return " and ".join(dict.fromkeys(policy.where for policy in self.policies))

    @property
    def text(self) -> bytes:
        """The canonical text that was evaluated, for the record."""
        parts = [part for policy in self.policies for part in (policy.cedar_text, policy.gate_text)]
        return "\n".join(parts).encode("utf-8", "surrogatepass")

    @property
    def settings(self) -> Settings:
        """The settings of the deciding file."""
        return self.policies[0].settings

    @property
    def review(self) -> ReviewTable | None:
        """The strictest reading of the [review] tables; None when there is none."""
        tables = [policy.settings.review for policy in self.policies if policy.settings.review is not None]
        if not tables:
            return None
        return ReviewTable(
            required=max(table.required for table in tables), solo=all(table.solo for table in tables)
        )

    @property
    def protected_branches(self) -> tuple[str, ...]:
        """All branches that a [protect] table names, in order; empty means the default."""
        return tuple(
            dict.fromkeys(name for policy in self.policies for name in policy.settings.protect.branches)
        )

    def judge(self, places: Places) -> Judge:
        """Makes the policies ready for the places of a run."""
        return Judge(self.policies, places)


def find_policy(
    repo: Repository,
    state: StateHome,
    base_commit: str,
    policy_ref: str | None = None,
    *,
    organisation: Path | None = None,
    target: str | None = None,
) -> AdoptedPolicy:
    """Finds the policy for work that starts at `base_commit`.

    Args:
        repo: the user's repository.
        state: the user's state folder.
        base_commit: where the work starts.
        policy_ref: the ref to take the policy from, if one was named.
        organisation: a file that comes before all else.
        target: the commit that the work is to land on. Its policy counts as well: which branch is the default
            one is a setting, and a setting must not lift the gates that the target itself names.

    Raises:
        ConfigError: AG0020 or AG0100-0102 when a file is wrong; AG0103 when a named source holds no policy.
    """
    primary, source = _primary(repo, state, base_commit, policy_ref, organisation)
    together = [primary]
    for commit, name in ((base_commit, "base commit"), (target, "target")):
        policy = None if commit is None else _policy_at(repo, commit, name, "base")
        if policy is not None and all(policy.text != known.text for known in together):
            together.append(policy)
    return AdoptedPolicy(tuple(together), source, _remembered(repo, state).get("digest"))


def _primary(
    repo: Repository, state: StateHome, base_commit: str, policy_ref: str | None, organisation: Path | None
) -> tuple[Policy, Source]:
    if organisation is not None:
        return Policy.parse(
            _read_file(organisation), where=str(organisation), source="organisation"
        ), "organisation"
    pinned = _remembered(repo, state).get("ref")
    named: tuple[tuple[str | None, Source], ...] = ((policy_ref, "policy-ref"), (pinned, "pinned"))
    for ref, source in named:
        if ref is not None:
            return _required_policy(repo, ref, source), source
    for commit, name, source in _branches(repo):
        policy = _policy_at(repo, commit, name, source)
        return (policy, source) if policy is not None else (Policy.builtin(), "built-in")
    policy = _policy_at(repo, base_commit, "base commit", "base")
    return (policy, "base") if policy is not None else (Policy.builtin(), "built-in")


def _branches(repo: Repository) -> Iterator[tuple[str, str, Source]]:
    remote = repo.remote_default()
    if remote is not None and (commit := repo.ref(remote.tracking)) is not None:
        yield commit, remote.tracking.removeprefix("refs/remotes/"), "remote-default"
    branch = repo.default_branch()
    if branch is not None and (commit := repo.ref(branch)) is not None:
        yield commit, branch.removeprefix("refs/heads/"), "default-branch"


def _required_policy(repo: Repository, ref: str, source: Source) -> Policy:
    commit = repo.resolve(ref)
    policy = None if commit is None else _policy_at(repo, commit, ref, source)
    if policy is None:
        reason = "there is no such revision" if commit is None else f"it holds no {FILE_NAME}"
        raise ConfigError(
            f"the policy cannot be taken from {printable(ref, limit=100)}: {reason}",
            id="AG0103",
            where=str(repo.common_dir),
            hint=f"git show {printable(ref, limit=100)}:{FILE_NAME}",
        )
    return policy


def _policy_at(repo: Repository, commit: str, name: str, source: Source) -> Policy | None:
    raw = read_at(repo, commit, FILE_NAME)
    if raw is None:
        return None
    return Policy.parse(raw, label=f" on {printable(name, limit=100)}", source=source)


def protected_commit(repo: Repository, state: StateHome) -> tuple[str, str] | None:
    """The commit that trust is read from, and the name of its branch; None when there is none.

    The ref pinned for this repository comes first, then the remote's default branch, then the default branch.

    Raises:
        ConfigError: AG0103 when the pinned ref is not there; AG0104 when what is pinned cannot be read.
    """
    pinned = _remembered(repo, state).get("ref")
    if pinned is None:
        return next(((commit, name) for commit, name, _ in _branches(repo)), None)
    commit = repo.resolve(pinned)
    if commit is None:
        raise ConfigError(
            f"trust cannot be taken from {printable(pinned, limit=100)}: there is no such revision",
            id="AG0103",
            where=str(repo.common_dir),
        )
    return commit, pinned


def read_at(repo: Repository, commit: str, path: str, limit_bytes: int = MAX_FILE_BYTES) -> bytes | None:
    """The content of a regular file in a commit; None when there is none.

    Raises:
        ConfigError: AG0103 when the path is a link, a folder, or too large.
    """
    git = repo.git()
    for record in git.lines_z("ls-tree", "-z", "-l", commit, "--", path):
        meta, _, found = record.partition(b"\t")
        mode, _, oid, raw_size = meta.split()
        if found != path.encode():
            continue
        if mode not in (b"100644", b"100755") or not raw_size.isdigit() or int(raw_size) > limit_bytes:
            raise ConfigError(
                f"{path} is not a regular file of at most {limit_bytes} bytes", id="AG0103", where=commit
            )
        return git.run("cat-file", "blob", oid.decode("ascii")).stdout
    return None


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the policy file cannot be read: {error.strerror}", id="AG0103", where=str(path)
        ) from error


# -- what this machine remembers of a repository ---------------------------------------------------------


def _memory(repo: Repository, state: StateHome) -> Path:
    name = hashlib.sha256(os.fsencode(os.path.realpath(repo.common_dir))).hexdigest()
    return state.root / "policies" / f"{name}.json"


def _remembered(repo: Repository, state: StateHome) -> dict[str, str]:
    path = _memory(repo, state)
    try:
        raw = json.loads(read_own_file(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        # Unreadable memory must not read as "first use" or as "nothing pinned".
        raise ConfigError(
            "what is pinned for this repository cannot be read", id="AG0104", where=str(path)
        ) from error
    if not isinstance(raw, dict) or raw.get("v") != 1:
        raise ConfigError("what is pinned for this repository cannot be read", id="AG0104", where=str(path))
    return {key: value for key, value in raw.items() if isinstance(value, str)}


def _remember(repo: Repository, state: StateHome, changes: dict[str, str | None]) -> None:
    kept: dict[str, str | int] = {**_remembered(repo, state), "v": 1}
    for key, value in changes.items():
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = value
    path = _memory(repo, state)
    open_private_dir(path.parent)
    write_atomic(path, json.dumps(kept, sort_keys=True).encode())


def remember_policy(repo: Repository, state: StateHome, adopted: AdoptedPolicy) -> None:
    """Pins the digest, after it was printed and entered in the record."""
    _remember(repo, state, {"digest": adopted.digest, "source": adopted.source})


def pin_policy_ref(repo: Repository, state: StateHome, ref: str | None) -> None:
    """Takes the policy of this repository from `ref` from now on; None goes back to the usual order."""
    _remember(repo, state, {"ref": ref})


def pin_operator_key(repo: Repository, state: StateHome, public_key: str, log: str | None = None) -> None:
    """Pins the key (its line) of the person who works here; approvals by it are self-approvals.

    Args:
        repo: the user's repository.
        state: the user's state folder.
        public_key: the key's line.
        log: the origin of the record that this key was made to stand behind.
    """
    _remember(repo, state, {"operator": public_key, "endorsed": log})


def endorsed_log(repo: Repository, state: StateHome) -> str | None:
    """The origin of the record that the pinned key was made to stand behind, as far as is remembered."""
    return _remembered(repo, state).get("endorsed")


def operator_key(repo: Repository, state: StateHome) -> str | None:
    """The pinned key of the person who works here, as its line."""
    return _remembered(repo, state).get("operator")


def protected_targets(repo: Repository, adopted: AdoptedPolicy, started_on: str | None) -> Sequence[str]:
    """The branches (full names, or globs of names) that need approvals.

    Args:
        repo: the user's repository.
        adopted: the policy that holds.
        started_on: the branch that was checked out when the run began.
    """
    named = tuple(
        name if name.startswith("refs/") else f"refs/heads/{name}" for name in adopted.protected_branches
    )
    if all(policy.settings.protect.branches for policy in adopted.policies):
        return named
    # One of the files leaves it at the default: naming others in another file does not take that away.
    remote = repo.remote_default()
    default = remote.branch if remote is not None else started_on or repo.default_branch()
    return named if default is None else tuple(dict.fromkeys((*named, default)))
