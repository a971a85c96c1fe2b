"""What `agentgov witness` does with time stamp authorities: ask one, or write a query and take an answer.

Rules kept here:

- A stamp is stored only after it was verified against the authorities that are believed.
- A query is for the newest saved state; an answer may be for an earlier one, and is stored with that one.
- Proxies come from the environment, as everywhere.
"""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Final

from agentgov.cli.session import Session
from agentgov.errors import UsageError
from agentgov.files import write_atomic
from agentgov.git import Git
from agentgov.harness.witnesses import read_authorities
from agentgov.ledger.anchor_store import write_timestamp
from agentgov.ledger.checkpoint import parse_checkpoint
from agentgov.ledger.note import parse_note
from agentgov.ledger.records import Place
from agentgov.ledger.seal import SealStore
from agentgov.ledger.timestamps import (
    AUTHORITIES_FILE,
    MAX_RESPONSE_BYTES,
    Authorities,
    is_of,
    make_query,
    request_timestamp,
    verify_timestamp,
)
from agentgov.ledger.verify_anchors import utc

MAX_HEADS: Final = 4096


class Stamping:
    """The options about time stamps, and what they ask for.

    Args:
        session: The command's session.
        url: The authority to ask.
        query_file: Where to write a query.
        response_file: Where an answer lies.
        authorities: Certificates to believe, instead of the protected branch's.
    """

    def __init__(
        self,
        session: Session,
        url: str | None,
        query_file: Path | None,
        response_file: Path | None,
        authorities: Path | None,
    ) -> None:
        if sum(item is not None for item in (url, query_file, response_file)) > 1:
            raise UsageError("ask an authority, write a query, or take an answer: one at a time", id="AG0332")
        self._session = session
        self._url = url
        self._query_file = query_file
        self._response_file = response_file
        self._authorities = authorities

    @property
    def is_asked(self) -> bool:
        """Whether anything about time stamps was asked for."""
        return self._url is not None or self.is_for_one

    @property
    def is_for_one(self) -> bool:
        """Whether it is about one record only."""
        return self._query_file is not None or self._response_file is not None

    def stamp(self, place: Place) -> str:
        """Do it for one record, and say what was done.

        Raises:
            UsageError: AG0332, when a file cannot be read or nobody is believed.
            AgentgovError: As `verify_timestamp` and `request_timestamp`.
        """
        heads = self._heads(place)
        newest = heads[0]
        if self._query_file is not None:
            query, _ = make_query(newest, self._session.random)
            write_atomic(self._query_file.absolute(), query, mode=0o644)
            size = parse_checkpoint(parse_note(newest).text).size
            return f"query for entries 0-{size - 1} written to {self._query_file}"
        # Known before anybody is asked: without them no answer could be kept.
        believed = self._believed()
        nonce = None
        if self._url is not None:
            query, nonce = make_query(newest, self._session.random)
            raw = request_timestamp(self._url, query, proxies=urllib.request.getproxies())
        else:
            raw = self._read_response()
            newest = next((head for head in heads if is_of(raw, head)), newest)
        stamp = verify_timestamp(raw, newest, believed, nonce=nonce)
        seconds = self._session.clock.now_us() // 1_000_000
        write_timestamp(self._session.repo, place.stream_id, newest, raw, seconds=seconds)
        size = parse_checkpoint(parse_note(newest).text).size
        return f"entries 0-{size - 1} existed before {utc(stamp.ts)}, says {stamp.who}"

    def _heads(self, place: Place) -> list[bytes]:
        """The record's signed heads, newest first; for a query the newest alone."""
        repo = self._session.repo
        store = SealStore(Git(repo.common_dir), place.stream_id, repo.object_format)
        try:
            wanted = MAX_HEADS if self._response_file is not None else 1
            walk = zip(range(wanted), store.newest_first(place.tip), strict=False)
            return [seal.checkpoint for _, seal in walk]
        finally:
            store.close()

    def _believed(self) -> Authorities:
        believed = read_authorities(self._session.repo, self._session.state, self._authorities)
        if believed is None:
            raise UsageError(
                "nobody says which time stamp authority is believed",
                id="AG0332",
                where=str(self._authorities or AUTHORITIES_FILE),
                hint=f"put its certificates into {AUTHORITIES_FILE} on the protected branch",
            )
        return believed

    def _read_response(self) -> bytes:
        path = self._response_file
        assert path is not None  # noqa: S101 - the caller has looked, for the type checker
        try:
            with path.open("rb") as file:
                return file.read(MAX_RESPONSE_BYTES + 1)
        except OSError as error:
            raise UsageError(
                f"this answer cannot be read: {error.strerror}", id="AG0332", where=str(path)
            ) from None
