"""Looking runs and calls up: by text, tool, path, agent, time, intent, and whether they were denied.

Rules kept here:

- Everything is read from the search index, which was brought up to date by who opened it.
- A search for calls names calls, a search for runs names runs; both are newest first.
- Text is matched as it was recorded (redacted); upper case in what is looked for makes its case count.
- Statements are put together from the constant terms in this file; what a person typed is only ever bound.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from agentgov.errors import UsageError
from agentgov.ids import RunId
from agentgov.report.facts import name_actors
from agentgov.report.runs import RunView
from agentgov.report.search_tables import MAX_TEXT_CHARS

IsLive = Callable[[RunId], bool]
_MIN_INDEXED: Final = 3
_GLOB: Final = re.compile(r"[*?\[]")
_RUN_COLUMNS: Final = (
    "run.id, run.run, started_us, ended_us, operator, agent, agent_version, model, intent, workspace, base, "
    "base_branch, result, policy, hooks, state, exit, landed, dropped, unknown, "
    "intent_missing"
)


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for; every part that is given must hold.

    Attributes:
        text: Stands in the call's tool, command or arguments.
        pattern: A regular expression that matches somewhere in them.
        tool: The tool's name, or a glob of it, in any case.
        path: A file that the call changed, a folder above it, or a glob of it, from the root of the tree.
        agent: The agent's name, or a glob of it; or, for calls, the sub-agent's type.
        denied: Only calls that were not allowed, and runs with such a call.
        since_us: Not before this moment, microseconds since 1970 UTC.
        until_us: Before this moment.
        intent: Stands in the intent of the run.
    """

    text: str | None = None
    pattern: str | None = None
    tool: str | None = None
    path: str | None = None
    agent: str | None = None
    denied: bool = False
    since_us: int | None = None
    until_us: int | None = None
    intent: str | None = None

    @property
    def wants_calls(self) -> bool:
        """Whether calls are looked for, and not runs."""
        return bool(self.text or self.pattern or self.tool or self.path or self.denied)


@dataclass(frozen=True, slots=True)
class FoundCall:
    """One call that was found.

    Attributes:
        run: Its run.
        n: Its number there.
        at_us: When it was asked for, microseconds UTC.
        actor: Who made it.
        agent: The agent of its run.
        tool: The agent's name for the tool.
        what: The command, path or address, on one line.
        status: `ok`, `error`, `interrupted`, `denied` or `open`.
        decision: What policy said.
        took_us: How long it ran.
        added: Lines added by it, as far as they are known to be its own.
        deleted: Lines deleted by it, likewise.
    """

    run: RunId
    n: int
    at_us: int
    actor: str
    agent: str | None
    tool: str
    what: str
    status: str
    decision: str
    took_us: int | None
    added: int
    deleted: int

    def to_json(self) -> dict[str, Any]:
        """Return the call as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


def find_calls(db: sqlite3.Connection, query: Query, limit: int | None) -> list[FoundCall]:
    """Return the calls that fit, the newest first, at most `limit`.

    Raises:
        UsageError: AG0346, when the regular expression is none.
    """
    tables, terms = "call JOIN run ON run.id = call.run", ["1"]
    values: list[Any] = []
    if query.text or query.pattern:
        tables = "words CROSS JOIN call ON call.id = words.rowid JOIN run ON run.id = call.run"
        words, word_values = _text_terms(db, query)
        terms, values = [*terms, *words], [*values, *word_values]
    if query.tool:
        terms.append(_named("call.tool", query.tool))
        values.append(query.tool)
    if query.path:
        terms.append(f"(call.run, call.n) IN (SELECT run, n FROM change WHERE {_path_term(query.path)})")
        values += _path_values(query.path)
    if query.denied:
        terms.append("call.allowed = 0")
    if query.agent:
        terms.append(
            f"({_named('run.agent', query.agent)} OR EXISTS (SELECT 1 FROM actor WHERE "
            f"actor.run = call.run AND actor.actor = call.actor AND {_named('actor.type', query.agent)}))"
        )
        values += [query.agent] * 2
    _add_times(query, "call.at_us", terms, values)
    _add_intent(query, terms, values)
    order = "words.rowid" if query.text or query.pattern else "call.id"
    rows = db.execute(
        "SELECT call.run, run.run, call.n, call.at_us, call.actor, run.agent, call.tool, call.what, "
        f"call.allowed, call.status, call.decision, call.took_us, run.state FROM {tables} "
        f"WHERE {' AND '.join(terms)} ORDER BY {order} DESC LIMIT ?",
        (*values, -1 if limit is None else limit),
    ).fetchall()
    names: dict[int, dict[int, str]] = {}
    return [_found_call(db, row, names) for row in rows]


def find_runs(
    db: sqlite3.Connection, query: Query, limit: int | None, is_live: IsLive
) -> tuple[list[RunView], int]:
    """Return the runs that fit, the newest first, at most `limit`; and how many fit."""
    terms, values = ["1"], list[Any]()
    if query.agent:
        terms.append(_named("run.agent", query.agent))
        values.append(query.agent)
    _add_times(query, "run.started_us", terms, values)
    _add_intent(query, terms, values)
    where = " AND ".join(terms)
    total: int = db.execute(f"SELECT count(*) FROM run WHERE {where}", values).fetchone()[0]
    rows = db.execute(
        f"SELECT {_RUN_COLUMNS} FROM run WHERE {where} ORDER BY run.id DESC LIMIT ?",
        (*values, -1 if limit is None else limit),
    ).fetchall()
    return [_run_view(db, row, is_live) for row in rows], total


def _run_view(db: sqlite3.Connection, row: tuple[Any, ...], is_live: IsLive) -> RunView:
    (number, run, started, ended, operator, agent, version, model, intent, workspace, base) = row[:11]
    (branch, result, policy, hooks, state, exit_code, landed, dropped, unknown, missing) = row[11:]
    calls, ran, denied = db.execute(
        "SELECT count(*), count(status), coalesce(sum(allowed = 0), 0) FROM call WHERE run = ?", (number,)
    ).fetchone()
    files = None
    if not unknown:
        files = db.execute("SELECT count(DISTINCT path) FROM change WHERE run = ?", (number,)).fetchone()[0]
    return RunView(
        run=RunId(run),
        started_us=started,
        ended_us=ended,
        operator=operator,
        agent=agent,
        agent_version=version,
        model=model,
        intent=intent,
        intent_missing=missing,
        workspace=workspace,
        base=base,
        base_branch=branch,
        result=result,
        policy=policy,
        hooks=bool(hooks),
        calls=calls,
        ran=ran,
        denied=denied,
        files=files,
        state=state or ("running" if is_live(RunId(run)) else "OPEN"),
        exit=exit_code,
        landed=landed,
        dropped=bool(dropped),
    )


def _found_call(db: sqlite3.Connection, row: tuple[Any, ...], names: dict[int, dict[int, str]]) -> FoundCall:
    (number, run, n, at_us, actor, agent, tool, what, allowed, status, decision, took_us, state) = row
    if number not in names:
        names[number] = _actor_names(db, number)
    added, deleted = db.execute(
        "SELECT coalesce(sum(added), 0), coalesce(sum(deleted), 0) FROM change WHERE run = ? AND n = ?",
        (number, n),
    ).fetchone()
    if status is None:
        # Nothing goes on after the end: what has no result then was cut off.
        status = "denied" if allowed == 0 else "open" if state is None else "interrupted"
    name = names[number].get(actor, f"agent-{actor}")
    return FoundCall(RunId(run), n, at_us, name, agent, tool, what, status, decision, took_us, added, deleted)


def _actor_names(db: sqlite3.Connection, run: int) -> dict[int, str]:
    rows = db.execute("SELECT actor, type FROM actor WHERE run = ? ORDER BY actor", (run,))
    return name_actors({number: kind or f"agent-{number}" for number, kind in rows})


def _text_terms(db: sqlite3.Connection, query: Query) -> tuple[list[str], list[Any]]:
    terms: list[str] = []
    values: list[Any] = []
    if query.text and len(query.text) > MAX_TEXT_CHARS:
        # No more of a call is looked through, and SQLite refuses patterns that are very long.
        terms.append("0")
    elif query.text:
        # The index knows runs of three characters and no case; what it finds is compared once more.
        terms += _indexed(query.text, values)
        if query.text.lower() != query.text:
            terms.append("instr(words.text, ?) > 0")
            values.append(query.text)
        else:
            terms.append("words.text LIKE ? ESCAPE '\\'")
            values.append(f"%{_escaped(query.text)}%")
    if query.pattern:
        flags = re.IGNORECASE if query.pattern.lower() == query.pattern else re.NOFLAG
        try:
            compiled = re.compile(query.pattern, flags)
        except (re.error, RecursionError, OverflowError) as error:
            raise UsageError(
                f"this is not a regular expression: {error}",
                id="AG0346",
                hint="without --regexp, --grep looks for the text as it is",
            ) from error
        terms += _indexed(literal_in(query.pattern), values)
        db.create_function("matches", 1, lambda text: compiled.search(text) is not None, deterministic=True)
        terms.append("matches(words.text)")
    return terms, values


def _indexed(text: str, values: list[Any]) -> list[str]:
    """The term that the index answers; none when the text is too short for it."""
    if len(text) < _MIN_INDEXED:
        return []
    values.append(f"%{re.sub('[%_]', '_', text)}%")
    return ["words.text LIKE ?"]


def literal_in(pattern: str) -> str:
    """Return some text that everything holds which `pattern` matches; empty when none is plain to see."""
    if re.search(r"[|(\[{\\]", pattern):
        return ""
    runs = [""]
    for place, char in enumerate(pattern):
        following = pattern[place + 1 : place + 2]
        if char in ".^$*?+":
            runs.append("")
        elif following in ("*", "?"):
            # It may be missing.
            runs.append("")
        else:
            runs[-1] += char
    return max(runs, key=len)


def _escaped(text: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", text)


def _named(column: str, raw: str) -> str:
    """The term for a name in any case, or a glob of it; takes one value."""
    return f"lower({column}) GLOB lower(?)" if _GLOB.search(raw) else f"{column} = ? COLLATE NOCASE"


def _path_term(raw: str) -> str:
    # Not every SQLite matches a glob against bytes.
    return (
        "CAST(path AS TEXT) GLOB CAST(? AS TEXT)"
        if _GLOB.search(raw)
        else "(path = ? OR (path >= ? AND path < ?))"
    )


def _path_values(raw: str) -> list[bytes]:
    path = raw.removeprefix("./").rstrip("/").encode("utf-8", "surrogateescape")
    return [path] if _GLOB.search(raw) else [path, path + b"/", path + b"0"]


def _add_times(query: Query, column: str, terms: list[str], values: list[Any]) -> None:
    if query.since_us is not None:
        terms.append(f"{column} >= ?")
        values.append(query.since_us)
    if query.until_us is not None:
        terms.append(f"{column} < ?")
        values.append(query.until_us)


def _add_intent(query: Query, terms: list[str], values: list[Any]) -> None:
    if query.intent and len(query.intent) > MAX_TEXT_CHARS:
        terms.append("instr(run.intent, ?) > 0")
        values.append(query.intent)
    elif query.intent:
        terms.append("run.intent LIKE ? ESCAPE '\\'")
        values.append(f"%{_escaped(query.intent)}%")
