"""Moments as a person types them: `2026-11-20`, `2026-11-20 15:31`, `3h`, `2 days ago`, `yesterday`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

from agentgov.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"([0-9]{1,6})\s*(s|m|h|d|w|sec|min|minutes?|hours?|days?|weeks?|seconds?)(\s+ago)?")


def parse_when(raw: str, now_us: int, zone: tzinfo | None = None) -> int:
    """Return the moment that `raw` names, microseconds since 1970 UTC.

    Args:
        raw: As typed.
        now_us: The present moment.
        zone: Where a time without an offset is meant; this machine's own zone when None.

    Raises:
        UsageError: AG0347, when it names none.
    """
    text = raw.strip().lower()
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return max(0, now_us - int(ago[1]) * _UNITS[ago[2][0]] * 1_000_000)
    today = datetime.fromtimestamp(now_us / 1e6, UTC).astimezone(zone)
    days = {"now": None, "today": 0, "yesterday": 1}
    if text == "now":
        return now_us
    if text in days:
        start = today.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days[text] or 0)
        return int(start.timestamp() * 1e6)
    try:
        moment = datetime.fromisoformat(raw.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone) if zone is not None else moment.astimezone()
        return max(0, int(moment.timestamp() * 1e6))
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"this is no moment: {raw!a}",
            id="AG0347",
            hint="2026-11-20, 2026-11-20T15:31, 3h, 2d, yesterday",
        ) from None
