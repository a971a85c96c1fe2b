"""What rules may say, how they compile, and what an error in any of it leads to."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentgov.calls import ToolCall
from agentgov.errors import ConfigError
from agentgov.gates import cedar
from agentgov.gates.cedar import CedarPolicies, policy_text
from agentgov.gates.defaults import BUILTIN_RULES
from agentgov.gates.places import Places
from agentgov.gates.policy import Judge, Policy, decide, digest_of
from agentgov.gates.rules import Rule


def rule(body: str, head: str = "") -> Policy:
    return Policy.parse(f"{head}\n[[policy.rule]]\n{body}\n".encode(), source="base")


def shell(command: str, folder: Path) -> ToolCall:
    return ToolCall("Bash", "shell", "1", None, None, None, folder, {}, command=command)


WHOLE = 'id = "r"\neffect = "deny"\naction = ["fs.delete"]\npaths = ["x/**"]\n'


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('effect = "deny"\naction = ["exec"]\nprograms = ["x"]', "needs an id"),
        ('id = "R X"\neffect = "deny"', "needs an id"),
        ('id = "builtin-x"\neffect = "deny"', "taken"),
        ('id = "r"\neffect = "maybe"', "effect must be"),
        ('id = "r"\neffect = "deny"\naction = ["fs.delete"]', "needs paths"),
        ('id = "r"\neffect = "deny"\naction = ["exec"]\npaths = ["x"]', "have no effect"),
        ('id = "r"\neffect = "deny"\naction = ["fs.read"]\npaths = ["x"]\nhosts = ["y"]', "no effect"),
        ('id = "r"\neffect = "deny"\naction = ["fly"]\npaths = ["x"]', "action must be"),
        ('id = "r"\neffect = "deny"\npaths = ["x"]', "action is missing"),
        ('id = "r"\neffect = "deny"\naction = "fs.read"\npaths = ["@none"]', "no set of paths"),
        ('id = "r"\neffect = "deny"\naction = "fs.read"\npaths = ["a/../b"]', "'..'"),
        ('id = "r"\neffect = "deny"\naction = "fs.read"\npaths = ["!a"]', "takes away"),
        ('id = "r"\neffect = "deny"\naction = "fs.read"\npaths = "a"', "must be a list"),
        ('id = "r"\neffect = "deny"\naction = "fs.read"\npaths = ["a"]\nwhen = "x"', "no key"),
        (WHOLE + "[[policy.rule]]\n" + WHOLE, "two rules"),
    ],
)
def test_a_wrong_rule_is_an_error_with_its_line(body: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        rule(body)
    assert caught.value.id == "AG0100"
    assert caught.value.where is not None
    assert caught.value.where.startswith(".agentgov.toml:")


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ('match = ["ls x"]', "does not hit"),
        ('match = ["rm x/a"]\nnot_match = ["rm -r x"]', "hits what it should not"),
        ('not_match = ["ls"]', "none in match"),
    ],
)
def test_examples_that_do_not_hold_are_an_error(examples: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        rule(WHOLE + examples)
    assert caught.value.id == "AG0102"


@pytest.mark.parametrize("effect", ["deny", "ask", "allow"])
def test_examples_hold_for_every_effect(effect: str) -> None:
    rule(
        f'id = "r"\neffect = "{effect}"\nprograms = ["terraform apply"]\n'
        'match = ["cd a && terraform -chdir=x apply"]\nnot_match = ["terraform plan"]'
    )


def test_programs_match_by_their_first_words(tmp_path: Path) -> None:
    policy = rule(
        'id = "r"\neffect = "ask"\nprograms = ["terraform apply", "kubectl delete", '
        '"git push --tags", "@opaque"]'
    )
    asked = (
        "terraform apply",
        "sudo terraform -chdir=x apply -auto-approve",
        "kubectl -n prod delete pod/x",
        "git -C . push --tags",
        "node -e 'x()'",
    )
    for command in asked:
        assert policy.decide(shell(command, tmp_path), Places.of(tmp_path)).decision == "ask", command
    for command in (
        "terraform plan",
        "kubectl get pods",
        "git push",
        "git commit -m push",
        "echo terraform apply",
    ):
        assert policy.decide(shell(command, tmp_path), Places.of(tmp_path)).decision == "allow", command


def test_hosts_match_by_name_and_port(tmp_path: Path) -> None:
    policy = rule('id = "r"\neffect = "deny"\nhosts = ["*.example.org", "localhost:9000"]')
    for command in (
        "curl https://a.example.org/x",
        "wget EXAMPLE.org",
        "ssh me@b.example.org",
        "git clone git@example.org:x/y",
        "curl localhost:9000",
    ):
        assert policy.decide(shell(command, tmp_path), Places.of(tmp_path)).decision == "deny", command
    for command in ("curl https://example.com", "curl localhost:9001", "curl https://notexample.org"):
        assert policy.decide(shell(command, tmp_path), Places.of(tmp_path)).decision == "allow", command


def test_deny_wins_over_ask_and_ask_over_allow_whatever_the_order(tmp_path: Path) -> None:
    programs = {"allow": "x", "ask": "x y", "deny": "x y z"}
    for order in (("allow", "ask", "deny"), ("deny", "ask", "allow"), ("ask", "deny", "allow")):
        text = "".join(
            f'[[policy.rule]]\nid = "{kind}"\neffect = "{kind}"\nprograms = ["{programs[kind]}"]\n'
            for kind in order
        )
        policy = Policy.parse(text.encode(), source="base")
        places = Places.of(tmp_path)
        assert policy.decide(shell("x y z", tmp_path), places).rules[:1] == ("deny",)
        verdict = policy.decide(shell("x y", tmp_path), places)
        assert (verdict.decision, verdict.rules) == ("ask", ("ask",))
        verdict = policy.decide(shell("x", tmp_path), places)
        assert (verdict.decision, verdict.rules) == ("allow", ("allow",))


def test_an_exclusion_takes_paths_out_of_one_rule_only(tmp_path: Path) -> None:
    text = b"""
[[policy.rule]]
id = "one"
effect = "deny"
action = ["fs.write"]
paths = ["x/**", "!x/free/**"]
[[policy.rule]]
id = "two"
effect = "ask"
action = ["fs.write"]
paths = ["x/**"]
"""
    policy = Policy.parse(text, source="base")
    assert policy.decide(shell("echo > x/free/a", tmp_path), Places.of(tmp_path)).rules == ("two",)
    assert policy.decide(shell("echo > x/a", tmp_path), Places.of(tmp_path)).decision == "deny"


def test_the_builtin_rules_stay_on_unless_the_file_switches_them_off(tmp_path: Path) -> None:
    on, off = rule(WHOLE), rule(WHOLE, "[policy]\ndefault_rules = false")
    assert on.decide(shell("git push --force", tmp_path), Places.of(tmp_path)).decision == "deny"
    assert off.decide(shell("git push --force", tmp_path), Places.of(tmp_path)).decision == "allow"
    assert len({on.digest, off.digest, Policy.builtin().digest}) == 3


def test_the_stricter_of_two_policies_wins(tmp_path: Path) -> None:
    ask = rule('id = "a"\neffect = "ask"\nprograms = ["x"]')
    deny = rule('id = "d"\neffect = "deny"\nprograms = ["x"]')
    for pair in ([ask, deny], [deny, ask]):
        verdict = decide(pair, shell("x", tmp_path), Places.of(tmp_path))
        assert verdict.rules == ("d",)
        assert verdict.policy == digest_of(pair)
    assert decide([ask, Policy.builtin()], shell("x", tmp_path), Places.of(tmp_path)).decision == "ask"


def test_no_policy_at_all_denies(tmp_path: Path) -> None:
    verdict = Judge([], Places.of(tmp_path)).decide(shell("ls", tmp_path))
    assert (verdict.decision, verdict.reason) == ("deny", "policy error")


def test_an_engine_that_fails_denies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = Judge([Policy.builtin()], Places.of(tmp_path))
    assert ready.decide(shell("ls", tmp_path)).decision == "allow"

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(CedarPolicies, "_evaluate", broken)
    verdict = ready.decide(shell("ls", tmp_path))
    assert (verdict.decision, verdict.reason) == ("deny", "policy error")


def test_a_request_that_does_not_fit_the_schema_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = CedarPolicies(policy_text(BUILTIN_RULES), "here")
    assert engine.ask("fs.read", [], exact=True).decision == "allow"
    monkeypatch.setitem(cedar._RESOURCES, "fs.read", "Host")
    answer = engine.ask("fs.read", [], exact=True)
    assert (answer.decision, answer.is_error) == ("deny", True)


def test_nothing_is_allowed_without_a_permit() -> None:
    engine = CedarPolicies(policy_text(BUILTIN_RULES, with_baseline=False), "here")
    assert engine.ask("exec", [], exact=True).decision == "deny"


def test_texts_of_rules_cannot_leave_their_quotes() -> None:
    odd = 'x"]) }; permit(principal, action, resource); //\\\n\u202e'
    engine = CedarPolicies(policy_text([Rule("r", "deny", ("fs.read",), paths=(odd,))]), "here")
    assert engine.ask("fs.read", [f"r: path {odd}"], exact=True).rules == ("r",)


def test_a_policy_that_does_not_fit_the_schema_is_refused() -> None:
    for text in ("forbid (principal, action, resource) when { context.nothing };", "permit (principal"):
        with pytest.raises(ConfigError) as caught:
            CedarPolicies(text, "here")
        assert caught.value.id == "AG0101"


def test_the_agents_text_is_made_printable(tmp_path: Path) -> None:
    policy = rule('id = "r"\neffect = "deny"\naction = ["fs.delete"]\npaths = ["**"]')
    verdict = policy.decide(shell("rm 'a\x1b]8;;http://x\x07b\u202ec'", tmp_path), Places.of(tmp_path))
    assert verdict.decision == "deny"
    assert not any(char in "".join((*verdict.effects, verdict.reason)) for char in "\x1b\x07\u202e")
