"""A corpus of secrets as they are printed, and of text that is none: all of one found, none of the other.

In `found.tsv` the secret stands between marks and is cut into pieces, so that no scanner takes the file for a
leak. `missed.txt` says what the patterns do not find: without a name, a prefix or the environment nothing
tells such a value from an id, and a rule that guesses would blacken records.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentgov.ledger.redaction import Redactor

FOLDER = Path(__file__).parents[1] / "fixtures" / "secrets"
FOUND = [line.split("\t", 1) for line in (FOLDER / "found.tsv").read_text("utf-8").splitlines()]
LEFT_ALONE = (FOLDER / "left_alone.txt").read_text("utf-8").splitlines()
MISSED = (FOLDER / "missed.txt").read_text("utf-8").splitlines()


def _plain(text: str) -> tuple[str, str]:
    """The text as it was printed, and the secret in it."""
    whole = text.replace("¦", "")
    return whole.replace("«", "").replace("»", ""), whole[whole.index("«") + 1 : whole.index("»")]


@pytest.mark.parametrize(("kind", "marked"), FOUND, ids=range(len(FOUND)))
def test_a_secret_is_found_as_printed_and_in_json(kind: str, marked: str) -> None:
    text, secret = _plain(marked)
    for raw in (text, json.dumps({"output": f"a\n{text}\nb"}), json.dumps(json.dumps({"o": text}))):
        redacted = Redactor().redact_text(raw)
        assert secret not in redacted
        assert "[REDACTED:" in redacted


def test_the_kinds_are_named_as_the_corpus_says() -> None:
    wrong = []
    for kind, marked in FOUND:
        redacted = Redactor().redact_text(_plain(marked)[0])
        if f"[REDACTED:{kind}:#" not in redacted:
            wrong.append((kind, redacted))
    # A name before it may say of a token what it is before its own form does.
    assert [item for item in wrong if "[REDACTED:" not in item[1]] == []
    assert len(wrong) <= len(FOUND) // 5, wrong


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_text_without_a_secret_is_left_alone(text: str) -> None:
    for raw in (text, json.dumps({"output": text})):
        assert Redactor().redact_text(raw) == raw


@pytest.mark.parametrize("text", MISSED)
def test_what_nothing_tells_from_other_text_is_missed_and_said_so(text: str) -> None:
    assert Redactor().redact_text(text) == text


def test_what_the_patterns_miss_is_found_when_the_environment_holds_it() -> None:
    secret = MISSED[4]
    assert Redactor({"UPSTREAM_KEY": secret}).redact_text(f"key: {secret}") == "key: [REDACTED:env:#1]"


def test_the_whole_corpus_at_once_reads_as_its_lines_do() -> None:
    text = "\n".join(LEFT_ALONE)
    assert Redactor().redact_text(text) == text
    secrets = [_plain(marked) for _, marked in FOUND]
    redacted = Redactor().redact_text("\n".join(text for text, _ in secrets))
    assert [secret for _, secret in secrets if secret in redacted] == []
