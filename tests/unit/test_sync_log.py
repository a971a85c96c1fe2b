"""What was sent where: nothing that left is ever forgotten, and nothing unreadable reads as "never"."""

from __future__ import annotations

import pytest

from agentgov.errors import BrokenRecordError
from agentgov.ids import RunId
from agentgov.layout import StateHome
from agentgov.ledger.sync import pushed
from agentgov.ledger.sync_log import note_pushes

RUN, OTHER = RunId("7kq2f"), RunId("5bd0a")
STREAM, SECOND = "a" * 32, "b" * 32
PLACE = "https://example.org/repo.git"


def test_what_was_never_sent_is_not_named(state: StateHome) -> None:
    assert pushed(state, RUN, "changes") == []
    note_pushes(state, STREAM, PLACE, [(RUN, "changes")], 5)
    assert pushed(state, RUN, "output") == []
    assert pushed(state, OTHER, "changes") == []
    assert pushed(state, RUN, "changes", stream_id=SECOND) == []


def test_every_place_and_time_is_named_the_oldest_first(state: StateHome) -> None:
    note_pushes(state, STREAM, PLACE, [(RUN, "changes"), (OTHER, "args")], 7)
    note_pushes(state, SECOND, "ssh://git@other/x", [(RUN, "changes")], 3)
    note_pushes(state, STREAM, "/srv/Müll\udcff.git", [(RUN, "changes")], 9)
    assert pushed(state, RUN, "changes") == [
        ("ssh://git@other/x", 3),
        (PLACE, 7),
        ("/srv/Müll\udcff.git", 9),
    ]
    assert pushed(state, RUN, "changes", stream_id=SECOND) == [("ssh://git@other/x", 3)]
    assert pushed(state, OTHER, "args") == [(PLACE, 7)]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n",
        b"{}\n",
        b"[1]\n",
        b'{"class":"output","remote":"b64:?","run":"7kq2f","stream":"%s","ts":1,"v":1}\n' % (b"a" * 32),
        b'{"class":"nonsense","remote":"x","run":"7kq2f","stream":"%s","ts":1,"v":1}\n' % (b"a" * 32),
    ],
)
def test_unreadable_memory_is_an_error_and_never_says_nothing_was_sent(
    state: StateHome, garbage: bytes
) -> None:
    note_pushes(state, STREAM, PLACE, [(RUN, "changes")], 5)
    path = state.root / "pushed" / f"{STREAM}.jsonl"
    path.write_bytes(garbage + path.read_bytes())
    with pytest.raises(BrokenRecordError) as caught:
        pushed(state, RUN, "changes")
    assert caught.value.id == "AG0489"


def test_a_line_torn_by_a_crash_was_not_sent_and_harms_no_later_line(state: StateHome) -> None:
    note_pushes(state, STREAM, PLACE, [(RUN, "changes")], 5)
    path = state.root / "pushed" / f"{STREAM}.jsonl"
    path.write_bytes(path.read_bytes() + b'{"class":"outp')
    assert pushed(state, RUN, "changes") == [(PLACE, 5)]
    note_pushes(state, STREAM, PLACE, [(RUN, "args")], 6)
    assert pushed(state, RUN, "args") == [(PLACE, 6)]
    assert pushed(state, RUN, "changes") == [(PLACE, 5)]
