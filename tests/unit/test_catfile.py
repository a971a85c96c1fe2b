"""Many objects are read with few questions, each checked, in order."""

from __future__ import annotations

import pytest

from agentgov.errors import BrokenRecordError, IncompleteError
from agentgov.git import CatFile, Git
from tests.conftest import MakeRepo


@pytest.fixture
def git(make_repo: MakeRepo) -> Git:
    return Git(make_repo() / ".git")


def _write(git: Git, count: int) -> list[str]:
    return [git.text("hash-object", "-w", "--stdin", input=b"%d\n" % n) for n in range(count)]


def test_objects_come_in_the_order_they_were_asked_for(git: Git) -> None:
    oids = _write(git, 100)
    with CatFile(git) as objects:
        assert [data for _, data in objects.read_all(oids)] == [b"%d\n" % n for n in range(100)]
        assert objects.read(oids[5]) == ("blob", b"5\n")


def test_a_missing_object_stops_at_its_turn_and_the_reader_goes_on_afterwards(git: Git) -> None:
    oids = _write(git, 60)
    with CatFile(git) as objects:
        answers = objects.read_all([*oids[:3], "1" * 40, *oids[3:]])
        assert [next(answers)[1] for _ in range(3)] == [b"0\n", b"1\n", b"2\n"]
        with pytest.raises(IncompleteError):
            next(answers)
        assert objects.read(oids[7]) == ("blob", b"7\n")


def test_answers_that_nobody_took_are_not_taken_for_others(git: Git) -> None:
    oids = _write(git, 60)
    with CatFile(git) as objects:
        answers = objects.read_all(oids)
        next(answers)
        answers.close()
        assert objects.read(oids[9]) == ("blob", b"9\n")


def test_a_git_that_has_gone_is_an_error_and_no_end(git: Git) -> None:
    oids = _write(git, 60)
    with CatFile(git) as objects:
        answers = objects.read_all(oids)
        next(answers)
        assert objects._process is not None
        objects._process.kill()
        with pytest.raises(BrokenRecordError):
            list(answers)


def test_what_is_asked_for_unhashed_is_not_compared_with_its_name_and_all_else_is(
    git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [git.text("hash-object", "-w", "--stdin", input=text) for text in (b"one", b"two")]
    monkeypatch.setattr("agentgov.catfile.hash_object", lambda *_: "0" * 40)
    with CatFile(git) as objects:
        assert [data for _, data in objects.read_all(names, unhashed=frozenset(names))] == [b"one", b"two"]
        answers = objects.read_all(names, unhashed=frozenset(names[:1]))
        assert next(answers) == ("blob", b"one")
        with pytest.raises(BrokenRecordError) as error:
            next(answers)
    assert error.value.id == "AG0018"
