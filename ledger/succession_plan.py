"""The journal of a succession: what is to follow a record, written down before anything of it is done.

Rules: the plan lies beside the log key, outside the repository, the new key in a file of its own; both are
replaced whole and durable. A plan that cannot be read is an error and never "no plan".
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from agentgov.errors import AgentgovError, BrokenRecordError
from agentgov.files import read_own_file, write_atomic
from agentgov.ledger import canonical
from agentgov.ledger.keys import SEED_BYTES, KeyFolder
from agentgov.ledger.signing import PrivateKey
from agentgov.memory import guard_memory

Reason = Literal["rotated", "restarted"]
VERSION: Final = 1
_is_stream = re.compile(r"[0-9a-f]{32}").fullmatch
_is_hash = re.compile(r"[0-9a-f]{64}").fullmatch
_KEYS: Final = {"continues", "ended", "new", "old", "public_key", "reason", "switching", "v"}


@dataclass(frozen=True, slots=True)
class Plan:
    """The journal of a succession, beside the log key.

    Attributes:
        new: The id of the record to begin.
        public_key: Its log key, hex.
        reason: Why.
        old: The id of the record before.
        switching: Whether the old record no longer counts.
        ended: Whether it was ended and sealed.
        continues: What the new record's first entry names.
    """

    new: str
    public_key: str
    reason: Reason
    old: str | None = None
    switching: bool = False
    ended: bool = False
    continues: Mapping[str, Any] | None = None

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        value = {name: getattr(self, name) for name in self.__slots__}
        return canonical.encode({**value, "v": VERSION}) + b"\n"


def plan_file(keys: KeyFolder) -> Path:
    """Return the file of the plan."""
    return keys.path / "successor"


def next_key_file(keys: KeyFolder) -> Path:
    """Return the file of the new key's seed."""
    return keys.path / "successor.key"


def write_plan(keys: KeyFolder, plan: Plan) -> None:
    """Write the plan, durably."""
    write_atomic(plan_file(keys), plan.to_bytes())


def read_seed(keys: KeyFolder, plan: Plan) -> bytes:
    """Return the new key's seed, wherever the succession has come to.

    Raises:
        AgentgovError: AG0461, when it is gone.
    """
    guard_memory()
    for path in (next_key_file(keys), keys.key_file):
        with contextlib.suppress(FileNotFoundError):
            seed = read_own_file(path, max_bytes=SEED_BYTES)
            if len(seed) == SEED_BYTES and PrivateKey(seed).public_key.hex() == plan.public_key:
                return seed
    raise _unreadable(keys, "the new key is gone")


def read_plan(keys: KeyFolder) -> Plan | None:
    """Return the plan; None when there is none.

    Raises:
        AgentgovError: AG0461, when it cannot be read.
    """
    try:
        raw = read_own_file(plan_file(keys), max_bytes=canonical.MAX_BYTES)
    except FileNotFoundError:
        return None
    try:
        value = canonical.decode(raw.removesuffix(b"\n"))
    except BrokenRecordError as error:
        raise _unreadable(keys, error.message) from None
    if type(value) is not dict or value.keys() != _KEYS or value.pop("v") != VERSION:
        raise _unreadable(keys, "it has another form")
    texts = (value["new"], value["public_key"], value["old"] or value["new"])
    if (
        any(type(text) is not str for text in texts)
        or not (_is_stream(texts[0]) and _is_hash(texts[1]) and _is_stream(texts[2]))
        or value["reason"] not in ("rotated", "restarted")
        or type(value["switching"]) is not bool
        or type(value["ended"]) is not bool
        or type(value["continues"]) not in (dict, type(None))
    ):
        raise _unreadable(keys, "it has another form")
    return Plan(**value)


def _unreadable(keys: KeyFolder, what: str) -> AgentgovError:
    path = plan_file(keys)
    return AgentgovError(
        f"the plan for a new record cannot be read: {what}",
        id="AG0461",
        where=str(path),
        hint=f"mv {path} {path}.unreadable",
    )
