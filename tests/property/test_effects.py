"""Whatever a command line holds, reading it ends in a verdict and never in an exception or a changed file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentgov.calls import ToolCall
from agentgov.gates.effects import effects_of
from agentgov.gates.places import Places
from agentgov.gates.policy import Judge, Policy

PLACES = Places("/nonexistent/ws", home="/nonexistent/home", state_home="/nonexistent/state")
JUDGE = Judge([Policy.builtin()], PLACES)
WORDS = """rm -rf x important $( ) ` ' " { } ; && || | <<E > < $X ${Y:-z} * ~ cd .. git push -f -c bash eval
xargs find -exec python sed -i f() if fi then for in do done env A=1 \\ [ ]] (( # sudo - -- IFS=, !(a)"""
PIECES = (*WORDS.split(), "\nE\n", "\x00", "\ue000", "\ud800")
texts = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join))


def call(command: str) -> ToolCall:
    return ToolCall("Bash", "shell", "1", None, None, None, Path(PLACES.workspace), {}, command=command)


@given(texts)
@example("$(" * 200)
@example("{\U000a38ed")
@example("i8\x07}\xdc{\U000ddfec\x99\x7fw\xdb\u29db\x9d\U0009efde\xd1")
@example("QZe9ZQ QZffffffZQ")
@example("f() { f; }; f")
@example("f() { f; f; f; }; f")
@example("f() { g; }; g() { f; }; f")
@example("x=$x$x;" * 40)
@example("echo {a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}")
@example("eval eval eval eval eval eval eval eval eval eval eval eval eval rm x")
@settings(max_examples=150)
def test_any_text_gets_a_verdict(command: str) -> None:
    assert JUDGE.decide(call(command)).reason != "policy error"


@given(texts)
@settings(max_examples=50)
def test_reading_a_command_is_deterministic(command: str) -> None:
    assert effects_of(call(command), PLACES) == effects_of(call(command), PLACES)


@pytest.mark.parametrize(
    "prefix", ["", "sudo ", "env A=1 ", "true && ", "(cd / ; ", "$(", "x=1 nice -n 3 ", "if true; then "]
)
@given(st.sampled_from(["/etc/passwd", "/usr", "~/x", "/nonexistent/home"]))
@settings(max_examples=10)
def test_removal_outside_is_seen_behind_any_prefix(prefix: str, target: str) -> None:
    closing = {"(cd / ; ": ")", "$(": ")", "if true; then ": "; fi"}.get(prefix, "")
    assert JUDGE.decide(call(f"{prefix}rm -rf {target}{closing}")).decision == "deny"


def test_names_that_are_not_ascii_are_read_as_they_are(tmp_path: Path) -> None:
    rule = '[[policy.rule]]\nid = "r"\neffect = "deny"\naction = ["fs.delete"]\npaths = ["caf\u00e9/**"]\n'
    policy = Policy.parse(rule.encode(), source="base")
    for command in (
        "rm -rf caf\u00e9",
        "cd caf\u00e9 && rm \U0001f600",
        'rm "caf\u00e9/a\u4e00 b"',
        "rm caf\u00e9/a\u4e00*",
    ):
        shell = ToolCall("Bash", "shell", "1", None, None, None, tmp_path, {}, command=command)
        assert policy.decide(shell, Places.of(tmp_path)).decision == "deny", command
