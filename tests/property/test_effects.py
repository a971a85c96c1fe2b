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
from agentgov.gates.scope import MAX_COMMANDS, MAX_EFFECTS, MAX_OPAQUE

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
@example("rm " + "{a,b}" * 40)
@example('python3 -c \'a="x"\n' + "a=a+a\n" * 60 + "open(a)'")
@example('python3 -c \'a="x"\n' + 'a=f"{a}{a}{a}{a}"\n' * 40 + "open(a)'")
@example("rm QZ41Z\u00e9 #QZ2fZQ")
@settings(max_examples=150)
def test_any_text_gets_a_verdict(command: str) -> None:
    assert JUDGE.decide(call(command)).reason != "policy error"


LONG = {
    "a megabyte of one word": "echo " + "a" * 1_000_000,
    "many words": "touch " + "x " * 100_000,
    "many commands": "rm x;" * 40_000,
    "deep substitutions": "echo " + "$(" * 50_000 + ")" * 50_000,
    "deep braces": "rm " + "{" * 50_000 + "}" * 50_000,
    "what the grammar lacks": "rm " + "!(a)" * 20_000,
    "many stages": "cat x" + "|cat" * 20_000,
    "many links": ";".join(f"ln -s a{i} b{i}" for i in range(1_000)),
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_text_is_read_as_far_as_the_bounds_go(name: str) -> None:
    # No time is asserted: what took time that grows with the square of the length, or worse, never ended.
    assert len(effects_of(call(LONG[name]), PLACES)) <= MAX_EFFECTS + MAX_COMMANDS + MAX_OPAQUE


def test_what_lies_beyond_the_bounds_is_judged_as_text() -> None:
    rule = '[[policy.rule]]\nid = "r"\neffect = "deny"\naction = ["fs.delete"]\npaths = ["important/**"]\n'
    policy = Policy.parse(rule.encode(), source="base")
    for command in (
        "rm " + "x " * 20_000 + "important",
        "rm x;" * 20_000 + "rm -rf important",
        "rm " + "{a,b}" * 20 + "; rm -rf {x,important}",
        "rm " + "!(a)" * 20_000 + "; rm -rf important",
        "a" * 400_000 + "; rm -rf important",
    ):
        assert policy.decide(call(command), PLACES).decision == "deny", command[-40:]


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
