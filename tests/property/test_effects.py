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
