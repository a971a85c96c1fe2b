"""The life of keys: who may sign what, from where to where."""

from __future__ import annotations

from typing import Any

import pytest

from agentgov.errors import BrokenRecordError
from agentgov.ids import RunId
from agentgov.ledger.chain import NO_LEAF, leaf_hash
from agentgov.ledger.entry import PAYLOAD_TYPE, Draft, Entry, SignedEntry
from agentgov.ledger.keyring import Keyring
from agentgov.ledger.signing import PrivateKey, pae
from tests.support.ledger import OTHER_RUN, RUN, heartbeat, request

KEYS = [PrivateKey(bytes([number]) * 32) for number in range(1, 6)]
LOG, FIRST, SECOND, THIRD, STRANGER = KEYS


class Book:
    """Writes whatever it is told, with whatever key, and shows it to a keyring."""

    def __init__(self) -> None:
        self.keyring = Keyring()
        self.size = 0
        self.leaf = NO_LEAF
        body = {"continues": None, "object_format": "sha1", "public_key": LOG.public_key.hex()}
        self.add(LOG, 0, Draft("log.genesis", None, body))

    def add(self, private: PrivateKey, key: int, draft: Draft) -> int:
        log = "agentgov/" + "0" * 32
        entry = Entry(self.size, self.leaf.hex(), log, draft.kind, 1, draft.run, key, draft.body)
        line = entry.line()
        self.keyring.admit(SignedEntry(entry, line, private.sign(pae(PAYLOAD_TYPE, line))))
        self.leaf, self.size = leaf_hash(line), self.size + 1
        return entry.seq

    def refuses(self, id: str, private: PrivateKey, key: int, draft: Draft) -> None:
        with pytest.raises(BrokenRecordError) as error:
            self.add(private, key, draft)
        assert error.value.id == id

    def delegate(self, private: PrivateKey, run: RunId = RUN) -> int:
        return self.add(LOG, 0, introduce("key.delegate", private, run, purpose="run"))


def introduce(kind: str, private: PrivateKey, run: RunId = RUN, **more: Any) -> Draft:
    return Draft(kind, run, {"public_key": private.public_key.hex(), **more})


def test_a_session_key_signs_its_runs_calls_and_the_log_key_never_does() -> None:
    book = Book()
    key = book.delegate(FIRST)
    book.add(FIRST, key, request(1))
    book.add(FIRST, key, heartbeat())
    book.refuses("AG0227", LOG, 0, request(2))
    book.refuses("AG0227", FIRST, key, request(2, OTHER_RUN))
    book.refuses("AG0227", FIRST, key, introduce("key.delegate", SECOND, purpose="run"))
    book.refuses("AG0227", FIRST, key, Draft("key.lost", RUN, {"lost": key}))
    book.refuses("AG0227", FIRST, book.size - 1, request(2))
    book.refuses("AG0211", STRANGER, key, request(2))
    book.refuses("AG0211", LOG, key, request(2))


def test_a_rotated_key_is_gone_and_its_successor_signs() -> None:
    book = Book()
    key = book.delegate(FIRST)
    following = book.add(FIRST, key, introduce("key.rotate", SECOND))
    book.refuses("AG0227", FIRST, key, request(1))
    book.refuses("AG0211", FIRST, following, request(1))
    book.add(SECOND, following, request(1))
    assert [k.seq for k in book.keyring.live(RUN)] == [following]


def test_an_ended_or_lost_key_signs_nothing() -> None:
    book = Book()
    ended, lost = book.delegate(FIRST), book.delegate(SECOND, OTHER_RUN)
    book.add(FIRST, ended, Draft("key.end", RUN, {}))
    book.refuses("AG0227", LOG, 0, Draft("key.lost", RUN, {"lost": lost}))
    book.add(LOG, 0, Draft("key.lost", OTHER_RUN, {"lost": lost}))
    book.refuses("AG0227", FIRST, ended, request(1))
    book.refuses("AG0227", SECOND, lost, request(1, OTHER_RUN))
    for gone in (ended, lost, 99):
        book.refuses("AG0227", LOG, 0, Draft("key.lost", OTHER_RUN, {"lost": gone}))
    assert book.keyring.live() == []


def test_after_a_seal_a_key_from_before_it_only_rotates_or_ends() -> None:
    book = Book()
    old, other = book.delegate(FIRST), book.delegate(SECOND, OTHER_RUN)
    book.keyring.seal(book.size)
    book.refuses("AG0227", FIRST, old, request(1))
    book.refuses("AG0227", FIRST, old, heartbeat())
    following = book.add(FIRST, old, introduce("key.rotate", THIRD))
    book.add(THIRD, following, request(1))
    book.add(SECOND, other, Draft("key.end", OTHER_RUN, {}))
    book.add(LOG, 0, heartbeat())


def test_a_weak_key_is_never_introduced() -> None:
    book = Book()
    weak = Draft("key.delegate", RUN, {"public_key": "00" * 32, "purpose": "run"})
    book.refuses("AG0210", LOG, 0, weak)


def test_a_copy_goes_on_alone() -> None:
    book = Book()
    key = book.delegate(FIRST)
    copy = book.keyring.copy()
    book.add(FIRST, key, Draft("key.end", RUN, {}))
    assert ([k.seq for k in copy.live()], book.keyring.live()) == ([key], [])


def test_nothing_follows_the_end_of_a_record_whoever_signs_it() -> None:
    book = Book()
    key = book.delegate(FIRST)
    assert Book().keyring.ended is None
    end = book.add(LOG, 0, Draft("log.end", None, {"next": None, "reason": "retired"}))
    assert book.keyring.ended == book.keyring.copy().ended == end
    book.refuses("AG0420", LOG, 0, heartbeat())
    book.refuses("AG0420", FIRST, key, Draft("key.end", RUN, {}))
    book.refuses("AG0420", LOG, 0, Draft("log.end", None, {"next": None, "reason": "retired"}))


def test_only_the_log_key_ends_a_record() -> None:
    book = Book()
    key = book.delegate(FIRST)
    book.refuses("AG0227", FIRST, key, Draft("log.end", None, {"next": None, "reason": "retired"}))
