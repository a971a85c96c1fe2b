"""The tables of the search index, and what each entry of the record puts into them.

Rules kept here:

- Entries are taken in as `ledger.history` folds them: the first start, end, answer and result of a thing
  count, and what belongs to nothing known is passed over.
- Texts and paths come from payloads, so they are redacted; one that is missing leaves its place empty.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Final

from agentgov.ids import RunId
from agentgov.ledger.bodies import STEPS
from agentgov.ledger.entry import Entry
from agentgov.report.facts import PayloadReader, files_in, payload_object, payload_text
from agentgov.report.runs import READING_KINDS

FORM: Final = 2
"""Counts changes of the tables: an index of another form is made again."""
MAX_TEXT_CHARS: Final = 4096
"""How much of a call's arguments can be searched."""
TABLES: Final = """
CREATE TABLE form(form INTEGER NOT NULL);
CREATE TABLE stream(rank INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, leaf BLOB);
CREATE TABLE run(
    id INTEGER PRIMARY KEY, run TEXT NOT NULL UNIQUE, started_us INTEGER, ended_us INTEGER, operator TEXT,
    agent TEXT, agent_version TEXT, model TEXT, intent TEXT, workspace TEXT, base TEXT, base_branch TEXT,
    result TEXT, policy TEXT, hooks INTEGER NOT NULL DEFAULT 0, state TEXT, exit INTEGER, promoting INTEGER,
    landed TEXT, dropped INTEGER NOT NULL DEFAULT 0, unknown INTEGER NOT NULL DEFAULT 0, started INTEGER,
    intent_missing TEXT
);
CREATE TABLE call(
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL, n INTEGER NOT NULL, at_us INTEGER NOT NULL,
    actor INTEGER NOT NULL, tool TEXT NOT NULL, what TEXT NOT NULL, reads INTEGER NOT NULL,
    decision TEXT NOT NULL, allowed INTEGER, status TEXT, took_us INTEGER, UNIQUE(run, n)
);
CREATE INDEX denied_calls ON call(allowed, id) WHERE allowed = 0;
CREATE INDEX tools ON call(tool COLLATE NOCASE, id);
CREATE TABLE actor(run INTEGER NOT NULL, actor INTEGER NOT NULL, type TEXT, UNIQUE(run, actor));
CREATE TABLE change(
    run INTEGER NOT NULL, n INTEGER, path BLOB NOT NULL, added INTEGER NOT NULL, deleted INTEGER NOT NULL
);
CREATE INDEX changed_paths ON change(path);
CREATE INDEX run_changes ON change(run, n);
CREATE TABLE said(call INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE VIRTUAL TABLE words
    USING fts5(text, content='said', content_rowid='call', tokenize='trigram', detail='none');
"""


def create_tables(connection: sqlite3.Connection) -> None:
    """Make the tables in an empty index."""
    for statement in TABLES.strip().rstrip(";").split(";\n"):
        connection.execute(statement)


class Tables:
    """Takes entries in, for one connection.

    Args:
        connection: Has the tables, and an open transaction.
        payloads: Where texts and lists of changes are looked up.
    """

    def __init__(self, connection: sqlite3.Connection, payloads: PayloadReader) -> None:
        self._db = connection
        self._payloads = payloads
        self._runs: dict[RunId, int] = {}

    def take(self, name: RunId, entry: Entry) -> None:
        """Take in one entry of the run `name`; entries come in their order, each once."""
        run, body, kind = self._run(name), entry.body, entry.kind
        if kind == "call.request":
            self._take_request(run, name, entry)
        elif kind == "call.answer":
            self._db.execute(
                "UPDATE call SET allowed = ? WHERE run = ? AND n = ? AND allowed IS NULL",
                (body["answer"] == "allow", run, body["n"]),
            )
        elif kind == "call.result":
            self._db.execute(
                "UPDATE call SET status = ?, took_us = ? WHERE run = ? AND n = ? AND status IS NULL",
                (body["status"], body["took_us"], run, body["n"]),
            )
        elif kind == "run.start":
            self._take_start(run, name, entry)
        elif kind == "actor.seen":
            who = payload_object(self._payloads, name, body["who"]).get("type")
            row = (run, body["actor"], _storable(str(who)) if who else None)
            self._db.execute("INSERT OR IGNORE INTO actor VALUES (?, ?, ?)", row)
        else:
            self._take_state(run, entry)
        if kind in STEPS and kind != "run.rollback" and body["changes"] is not None:
            self._take_changes(run, name, entry)

    def _run(self, run: RunId) -> int:
        found = self._runs.get(run)
        if found is None:
            self._db.execute("INSERT OR IGNORE INTO run(run) VALUES (?)", (run,))
            found = self._runs[run] = self._db.execute("SELECT id FROM run WHERE run = ?", (run,)).fetchone()[
                0
            ]
        return found

    def _take_start(self, run: int, name: RunId, entry: Entry) -> None:
        body = entry.body
        facts = payload_object(self._payloads, name, body["start"])
        intent = payload_text(self._payloads, name, body["intent"])
        operator = facts.get("operator")
        if isinstance(operator, dict):
            operator = operator.get("name")
        self._db.execute(
            "UPDATE run SET started = 1, started_us = ?, operator = ?, agent = ?, agent_version = ?, "
            "intent = ?, workspace = ?, base = ?, base_branch = ?, policy = ?, hooks = ?, "
            "intent_missing = ? WHERE id = ? AND started IS NULL",
            (
                entry.ts,
                _text(operator),
                body["agent"],
                body["agent_version"],
                _storable(intent),
                body["workspace"],
                body["base"],
                _text(facts.get("branch")),
                body["policy"],
                body["capture"]["hooks"],
                None if body["intent"] is None or intent is not None else "not in this clone",
                run,
            ),
        )

    def _take_request(self, run: int, name: RunId, entry: Entry) -> None:
        body = entry.body
        facts = payload_object(self._payloads, name, body["args"])
        tool, what = _text(facts.get("tool")) or body["tool"], _text(facts.get("what")) or ""
        decision = body["verdict"]["decision"]
        row = self._db.execute(
            "INSERT OR IGNORE INTO call(run, n, at_us, actor, tool, what, reads, decision, allowed) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                run,
                body["n"],
                entry.ts,
                body["actor"],
                tool,
                what[:MAX_TEXT_CHARS],
                facts.get("kind") in READING_KINDS,
                decision,
                None if decision == "ask" else decision == "allow",
            ),
        )
        if row.rowcount != 1:
            return
        given = facts.get("input")
        arguments = json.dumps(given, ensure_ascii=False) if given else ""
        text = _storable(f"{tool} {what}\n{arguments}"[:MAX_TEXT_CHARS])
        self._db.execute("INSERT INTO said VALUES (?, ?)", (row.lastrowid, text))
        self._db.execute("INSERT INTO words(rowid, text) VALUES (?, ?)", (row.lastrowid, text))
        model = _text(facts.get("model"))
        if model is not None:
            self._db.execute("UPDATE run SET model = ? WHERE id = ? AND model IS NOT ?", (model, run, model))

    def _take_changes(self, run: int, name: RunId, entry: Entry) -> None:
        files = files_in(payload_object(self._payloads, name, entry.body["changes"]))
        if files is None:
            self._db.execute("UPDATE run SET unknown = unknown + 1 WHERE id = ?", (run,))
            return
        opened = entry.body["open"]
        owner = opened[0] if len(opened) == 1 and entry.kind != "change.unattributed" else None
        self._db.executemany(
            "INSERT INTO change VALUES (?, ?, ?, ?, ?)",
            [
                (run, n, file.path, file.added, file.deleted)
                for file in files
                for n in (file.calls or (owner,))
            ],
        )

    def _take_state(self, run: int, entry: Entry) -> None:
        body = entry.body
        if entry.kind == "run.end":
            self._db.execute(
                "UPDATE run SET ended_us = ?, state = ?, exit = ? WHERE id = ? AND state IS NULL",
                (entry.ts, body["state"], body["exit"], run),
            )
        elif entry.kind == "run.drop":
            self._db.execute("UPDATE run SET dropped = 1 WHERE id = ?", (run,))
        elif entry.kind == "result.bind":
            self._db.execute("UPDATE run SET result = ? WHERE id = ?", (body["result"], run))
        elif entry.kind == "promote.intent":
            self._db.execute("UPDATE run SET promoting = 1 WHERE id = ?", (run,))
        elif entry.kind in ("promote.done", "promote.failed"):
            self._db.execute(
                "UPDATE run SET landed = coalesce(?, landed), promoting = 0 WHERE id = ? AND promoting = 1",
                (body.get("commit"), run),
            )


def _text(value: object) -> str | None:
    return _storable(value) if isinstance(value, str) and value else None


def _storable(text: str | None) -> str | None:
    """Return text that SQLite can hold: no lone surrogates."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode("utf-8")
