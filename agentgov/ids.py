"""Names of runs and of moments in a run, as people type them and as the record holds them.

Rules: a run id is five characters of lower-case Crockford base32, so that nobody reads `l` for `1`; a prefix
is accepted wherever a person types one; a number that does not print back identically is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NewType

from agentgov.clock import Random
from agentgov.errors import UsageError

RunId = NewType("RunId", str)
"""Five characters of the alphabet below."""

RUN_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
RUN_ID_LENGTH = 5

_PREFIX = re.compile(rf"[{RUN_ALPHABET}]{{1,{RUN_ID_LENGTH}}}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/+-]{0,63}")
_HINT = "a run is named as 7kq2f, a call as 7kq2f:14 or :14, a moment as :start or :end"

Point = int | Literal["start", "end"]


@dataclass(frozen=True, slots=True)
class RunRef:
    """What a person typed to name a run, a call in it, or a range of calls.

    Attributes:
        run: A prefix of a run id; None for the last run of this work tree.
        point: A call's number, "start", "end", or None for the run as a whole.
        end: The last call of a range; None unless a range was typed.
    """

    run: str | None = None
    point: Point | None = None
    end: int | None = None


def new_run_id(random: Random) -> RunId:
    """Draw a run id; the caller checks that it is not taken."""
    # 256 is a multiple of 32: taking each byte modulo 32 is uniform.
    return RunId("".join(RUN_ALPHABET[byte % 32] for byte in random(RUN_ID_LENGTH)))


def is_run_id(value: str) -> bool:
    """Whether `value` is a whole run id."""
    return len(value) == RUN_ID_LENGTH and _PREFIX.fullmatch(value) is not None


def parse_run_id(raw_id: str) -> RunId:
    """Return `raw_id` as a run id.

    Raises:
        UsageError: AG0001, when it is not one.
    """
    if not is_run_id(raw_id):
        raise UsageError(f"{raw_id!a} is not a run id", id="AG0001", hint=_HINT)
    return RunId(raw_id)


def parse_run_ref(raw_ref: str) -> RunRef:
    """Parse `7kq2f`, `7kq2f:14`, `:14`, `:start`, `:end` or `7kq2f:3..9`.

    Raises:
        UsageError: AG0002, when it is none of these.
    """
    raw_run, colon, raw_point = raw_ref.partition(":")
    error = UsageError(f"{raw_ref!a} does not name a run or a call", id="AG0002", hint=_HINT)
    if raw_run and not _PREFIX.fullmatch(raw_run):
        raise error
    run = raw_run or None
    if not colon:
        if run is None:
            raise error
        return RunRef(run)
    if raw_point == "start":
        return RunRef(run, "start")
    if raw_point == "end":
        return RunRef(run, "end")
    raw_first, dots, raw_last = raw_point.partition("..")
    if not _NUMBER.fullmatch(raw_first):
        raise error
    if not dots:
        return RunRef(run, int(raw_first))
    if not _NUMBER.fullmatch(raw_last) or int(raw_last) < int(raw_first):
        raise error
    return RunRef(run, int(raw_first), int(raw_last))


def is_token(value: str) -> bool:
    """Whether `value` may stand in the chain as a name: short, ASCII, without space or escape."""
    return _TOKEN.fullmatch(value) is not None
