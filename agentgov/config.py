"""`.agentgov.toml`: what it may say, its defaults, and where in the file each thing stands.

Rules: a key that is not known, a value of another type, a size or number out of range is an error with the
line it stands on, never ignored; nothing is converted ("5" is not 5); what was parsed never changes. Rules of
policy stay raw tables here: `gates/rules.py` gives them meaning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from agentgov.errors import ConfigError
from agentgov.text import printable

if TYPE_CHECKING:
    from pydantic import ConfigDict, TypeAdapter

FILE_NAME = ".agentgov.toml"
MAX_FILE_BYTES = 1024 * 1024

_SIZE = re.compile(r"([1-9][0-9]{0,11})(B|KiB|MiB|GiB)")
_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_SET_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_REF_NAME = re.compile(r"(?!.*(?:\.\.|//|\.lock$|[./]$))[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}")
_HINT = "see .agentgov.toml.example for every key and its default"

# Read by pydantic from a standard dataclass; spelled out here so that importing this module stays cheap.
_STRICT: ConfigDict = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, slots=True)
class RunTable:
    """[run]: how an agent is started.

    Attributes:
        default_workspace: Where an agent works when the command does not say: "auto", "clone", "in-place".
    """

    __pydantic_config__ = _STRICT
    default_workspace: Literal["auto", "clone", "in-place"] = "auto"


@dataclass(frozen=True, slots=True)
class WorkspaceTable:
    """[workspace]: what a clone gets besides the tracked files.

    Attributes:
        carry: Ignored or untracked files and folders to copy over, as patterns of gitignore.
        setup: Shell commands to run in a new clone before the agent starts.
    """

    __pydantic_config__ = _STRICT
    carry: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CaptureTable:
    """[capture]: how a run is observed.

    Attributes:
        watch: Let the kernel name changed files; without it every snapshot looks at all files.
    """

    __pydantic_config__ = _STRICT
    watch: bool = True


@dataclass(frozen=True, slots=True)
class PolicyTable:
    """[policy] and [[policy.rule]]: what may happen.

    Attributes:
        ask_timeout_seconds: How long a question waits for a person; no answer means no.
        default_rules: Also apply the built-in rules.
        rule: The rules as raw tables, in the order of the file.
    """

    __pydantic_config__ = _STRICT
    ask_timeout_seconds: int = 600
    default_rules: bool = True
    rule: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.ask_timeout_seconds <= 86_400:
            raise ValueError("ask_timeout_seconds must be from 1 to 86400")


@dataclass(frozen=True, slots=True)
class ProtectTable:
    """[protect]: where approvals are needed.

    Attributes:
        branches: Branch names or globs; none means the remote's default branch or, without a remote, the
            branch that was checked out when the run began.
    """

    __pydantic_config__ = _STRICT
    branches: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not all(self.branches):
            raise ValueError("a branch name must not be empty")


@dataclass(frozen=True, slots=True)
class ReviewTable:
    """[review]: who approves. Without this table the operator's own approval counts, as self-approved.

    Attributes:
        required: How many people must approve.
        solo: Let the operator's own approval count, marked as self-approved.
    """

    __pydantic_config__ = _STRICT
    required: int = 1
    solo: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.required <= 100:
            raise ValueError("required must be from 1 to 100")


@dataclass(frozen=True, slots=True)
class RecordTable:
    """[record]: what the record keeps.

    Attributes:
        redact_env: Also redact the values of variables whose names look secret, of the environment and of
            `.env` files. Counts on the protected branch only.
    """

    __pydantic_config__ = _STRICT
    redact_env: bool = True


@dataclass(frozen=True, slots=True)
class RetentionTable:
    """[retention]: how many days each class of stored content is kept; 0 means for ever. The chain always is.

    Attributes:
        args_days: What a call was given, and other texts.
        output_days: What a call printed.
        patch_days: Content of changes.
        changes_days: Intents, and which lines of which files changed.
    """

    __pydantic_config__ = _STRICT
    args_days: int = 400
    output_days: int = 400
    patch_days: int = 400
    changes_days: int = 0

    def __post_init__(self) -> None:
        for days in (self.args_days, self.output_days, self.patch_days, self.changes_days):
            if not 0 <= days <= 36_500:
                raise ValueError("days must be from 0 to 36500; 0 keeps for ever")


@dataclass(frozen=True, slots=True)
class SyncTable:
    """[sync]: what of the record leaves this machine, and where to.

    Attributes:
        remote: The one remote the record goes to; none means the one that is asked for.
        classes: Which stored content goes with the chain.
        mirror: A branch of that remote that also holds the record; none means no such branch.
    """

    __pydantic_config__ = _STRICT
    remote: str = ""
    classes: tuple[Literal["args", "changes", "output", "patch"], ...] = ("changes",)
    mirror: str = ""

    def __post_init__(self) -> None:
        for name in (self.remote, self.mirror):
            if name and _REF_NAME.fullmatch(name) is None:
                raise ValueError("remote and mirror are names of a remote and of a branch")


@dataclass(frozen=True, slots=True)
class SnapshotsTable:
    """[snapshots]: which files a snapshot leaves out.

    Attributes:
        max_file_size: Larger files are named as left out, not stored; such as "64MiB".
        secret: File names (globs) whose content is never stored, when git does not track them.
    """

    __pydantic_config__ = _STRICT
    max_file_size: str = "64MiB"
    secret: tuple[str, ...] = (
        ".env",
        ".env.local",
        ".env.*.local",
        "*.pem",
        "*.key",
        "*.p12",
        "*.pfx",
        "id_rsa",
        "id_ecdsa",
        "id_ed25519",
        ".netrc",
        ".pypirc",
        ".git-credentials",
    )

    def __post_init__(self) -> None:
        parse_size(self.max_file_size)
        if not all(self.secret):
            raise ValueError("a file name in secret must not be empty")

    @property
    def max_file_bytes(self) -> int:
        """`max_file_size` in bytes."""
        return parse_size(self.max_file_size)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a `.agentgov.toml` says, with defaults for what it does not say.

    Attributes:
        review: None when the file has no [review] table.
        paths: Named sets of path patterns, for rules to refer to.
    """

    __pydantic_config__ = _STRICT
    run: RunTable = field(default_factory=RunTable)
    workspace: WorkspaceTable = field(default_factory=WorkspaceTable)
    capture: CaptureTable = field(default_factory=CaptureTable)
    policy: PolicyTable = field(default_factory=PolicyTable)
    paths: dict[str, tuple[str, ...]] = field(default_factory=dict)
    protect: ProtectTable = field(default_factory=ProtectTable)
    review: ReviewTable | None = None
    record: RecordTable = field(default_factory=RecordTable)
    retention: RetentionTable = field(default_factory=RetentionTable)
    sync: SyncTable = field(default_factory=SyncTable)
    snapshots: SnapshotsTable = field(default_factory=SnapshotsTable)

    def __post_init__(self) -> None:
        for name in self.paths:
            if not _SET_NAME.fullmatch(name):
                raise ValueError(f"[paths] {name!a}: a set's name is lower-case letters, digits, - and _")

    @classmethod
    def parse(cls, raw: bytes, where: str = FILE_NAME) -> Settings:
        """Parse the content of a `.agentgov.toml`.

        Args:
            raw: The file's bytes.
            where: What to call it in errors.

        Raises:
            ConfigError: AG0020, with the line where it can be told.
        """
        text, table = _load(raw, where)
        return _validate(text, table, where)


def parse_size(raw_size: str) -> int:
    """Return the bytes of a size such as "64MiB"; units are B, KiB, MiB, GiB.

    Raises:
        ValueError: When it is not written so; only for use inside a model, which names the place.
    """
    match = _SIZE.fullmatch(raw_size)
    if match is None:
        raise ValueError(f'a size is written as "64MiB" (B, KiB, MiB, GiB), not {raw_size!a}')
    return int(match[1]) * _UNITS[match[2]]


def rule_lines(raw: bytes) -> list[int]:
    """Return the line on which each `[[policy.rule]]` of a valid file begins, in the order of the rules.

    A line inside a multi-line string is not taken for a header: the text before a header is a valid file
    that holds exactly the rules before it. Rules written as one inline array all begin where it begins.
    """
    text, table = _load(raw, FILE_NAME)
    count = len(table.get("policy", {}).get("rule", ()))
    lines = text.splitlines(keepends=True)
    found: list[int] = []
    for number, line in enumerate(lines, start=1):
        if line.lstrip().startswith("[[") and len(found) < count:
            before = _try_load("".join(lines[: number - 1]))
            after = _try_load("".join(lines[:number]))
            if before is None or after is None:
                continue
            if len(_at(after, ("policy", "rule")) or ()) == len(_at(before, ("policy", "rule")) or ()) + 1:
                found.append(number)
    if len(found) < count:
        first = _line_of(text, ("policy", "rule")) or 1
        return [first] * count
    return found


def _load(raw: bytes, where: str) -> tuple[str, dict[str, Any]]:
    import tomllib

    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"the file is larger than {MAX_FILE_BYTES} bytes", id="AG0020", where=where)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError("this is not UTF-8 text", id="AG0020", where=f"{where}:{line}") from error
    try:
        return text, tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        position = re.search(r"at line ([0-9]+)", str(error))
        place = f"{where}:{position[1]}" if position else where
        raise ConfigError(
            f"this is not TOML: {printable(str(error), limit=200)}", id="AG0020", where=place, hint=_HINT
        ) from error


def _validate(text: str, table: dict[str, Any], where: str) -> Settings:
    import json

    from pydantic import TypeAdapter, ValidationError

    try:
        # Through JSON, because an array is a tuple there also when nothing else is converted.
        raw_json = json.dumps(table, default=_no_json, allow_nan=False)
        adapter: TypeAdapter[Settings] = TypeAdapter(Settings)
        return adapter.validate_json(raw_json)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = tuple(first["loc"])
        raise _invalid(text, path, str(first["msg"]), where) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(printable(str(error), limit=200), id="AG0020", where=where, hint=_HINT) from error


def _no_json(value: object) -> object:
    raise ValueError(f"{value} is a date or a time; no key takes one")


def _invalid(text: str, path: tuple[str | int, ...], message: str, where: str) -> ConfigError:
    known = {
        "Unexpected keyword argument": "there is no such key",
        "Extra inputs are not permitted": "there is no such key",
    }
    said = known.get(message, message.removeprefix("Value error, "))
    line = _line_of(text, path)
    name = ".".join(str(part) for part in path)
    return ConfigError(
        printable(f"{name}: {said}" if name else said, limit=300),
        id="AG0020",
        where=f"{where}:{line}" if line else where,
        hint=_HINT,
    )


def _line_of(text: str, path: tuple[str | int, ...]) -> int | None:
    """Return the line where the statement begins that first gives the file this path."""
    lines = text.splitlines(keepends=True)
    while path:
        last_whole = 0
        for number in range(1, len(lines) + 1):
            table = _try_load("".join(lines[:number]))
            if table is None:
                continue
            if _at(table, path) is not None:
                return last_whole + 1
            last_whole = number
        # A missing or inner part has no line of its own: name the nearest thing around it.
        path = path[:-1]
    return None


def _try_load(text: str) -> dict[str, Any] | None:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _at(table: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        try:
            table = table[part]
        except (KeyError, IndexError, TypeError):
            return None
    return table
