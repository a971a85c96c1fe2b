"""A policy: rules from one source, compiled, with examples that were run, and the verdicts it gives.

Rules kept here:
- Examples run when the policy loads, in a place that does not exist, so that they mean the same everywhere.
- The digest is over the canonical text of everything that is evaluated: schema, built-in rules, own rules,
  and what the file says of approvals.
- An effect that no rule touches is evaluated like any other; nothing is allowed without Cedar having said so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from agentgov.calls import Decision, ToolCall, Verdict
from agentgov.config import FILE_NAME, Settings, rule_lines
from agentgov.errors import ConfigError
from agentgov.gates.cedar import SCHEMA, CedarPolicies, policy_text
from agentgov.gates.defaults import BUILTIN_RULES, BUILTIN_SETS, WHERE
from agentgov.gates.describe import describe
from agentgov.gates.effect import Action, Effect
from agentgov.gates.effects import effects_of
from agentgov.gates.matching import RuleMatcher
from agentgov.gates.places import Places
from agentgov.gates.rules import BUILTIN_PREFIX, Rule, parse_rules
from agentgov.text import printable

Source = Literal[
    "built-in", "organisation", "policy-ref", "pinned", "remote-default", "default-branch", "base"
]
_ORDER: dict[Decision, int] = {"allow": 0, "ask": 1, "deny": 2}
MAX_EFFECTS_SHOWN = 8
_EXAMPLE_PLACES = Places("/nonexistent/example/workspace", home="/nonexistent/example/home")


@dataclass(frozen=True)
class Policy:
    """Rules of one source.

    Attributes:
        rules: in the order of the file, built-in ones first.
        source: where the text came from.
        where: the file, for people.
        text: the raw file; empty for the built-in set.
        settings: the whole file as settings (review, protect).
    """

    rules: tuple[Rule, ...]
    source: Source
    where: str
    text: bytes = b""
    settings: Settings = field(default_factory=Settings)

    @staticmethod
    def builtin() -> Policy:
        """The policy when no file is found."""
        return Policy(BUILTIN_RULES, "built-in", WHERE)

    @staticmethod
    def compile(
        settings: Settings, *, raw: bytes = b"", where: str = FILE_NAME, label: str = "", source: Source
    ) -> Policy:
        """Makes a policy of a file's settings and runs its examples.

        Args:
            settings: the parsed file.
            raw: the file, for line numbers.
            where: the file's name.
            label: what stands behind a place, such as " on main".
            source: where the text came from.

        Raises:
            ConfigError: AG0100 a rule is wrong, AG0101 it does not compile, AG0102 an example does not hold.
        """
        sets = {**BUILTIN_SETS, **settings.paths}
        lines = rule_lines(raw) if raw and settings.policy.rule else []
        own = parse_rules(settings.policy.rule, sets, lines=lines, where=where, label=label)
        builtin = BUILTIN_RULES if settings.policy.default_rules else ()
        policy = Policy((*builtin, *own), source, where + label, raw, settings)
        policy.engine  # noqa: B018 - compiles now, so that a wrong policy is an error before anything runs
        for rule in own:
            _check_examples(rule)
        return policy

    @staticmethod
    def parse(raw: bytes, *, where: str = FILE_NAME, label: str = "", source: Source) -> Policy:
        """Makes a policy of a file's bytes; raises as `compile` and `Settings.parse` do."""
        return Policy.compile(Settings.parse(raw, where), raw=raw, where=where, label=label, source=source)

    @cached_property
    def cedar_text(self) -> str:
        """The canonical Cedar text that is evaluated."""
        return policy_text(self.rules)

    @cached_property
    def gate_text(self) -> str:
        """What the file says of approvals, as it goes into the digest: changing it changes the policy."""
        review = self.settings.review
        said = {
            "protect": list(self.settings.protect.branches),
            "review": None if review is None else {"required": review.required, "solo": review.solo},
        }
        return f"// {json.dumps(said, sort_keys=True)}\n"

    @cached_property
    def engine(self) -> CedarPolicies:
        """The compiled policies."""
        return CedarPolicies(self.cedar_text, self.where)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the schema and the canonical texts."""
        return digest_of([self])

    def decide(self, call: ToolCall, places: Places) -> Verdict:
        """Judges one call."""
        return decide([self], call, places)


def digest_of(policies: Sequence[Policy]) -> str:
    """The digest of policies that are evaluated together, in their order."""
    state = hashlib.sha256(b"agentgov/policy/v1\x00")
    for text in (SCHEMA, *(part for policy in policies for part in (policy.cedar_text, policy.gate_text))):
        raw = text.encode("utf-8", "surrogatepass")
        state.update(len(raw).to_bytes(8, "big") + raw)
    return state.hexdigest()


@dataclass(frozen=True)
class _Finding:
    decision: Decision
    rules: tuple[str, ...]
    effect: Effect
    policy: Policy
    is_error: bool


class Judge:
    """Policies made ready for the places of one run; one verdict per call, no state between calls."""

    def __init__(self, policies: Sequence[Policy], places: Places) -> None:
        self._policies = tuple(policies)
        self._places = places
        self._matchers = [[RuleMatcher(rule, places) for rule in policy.rules] for policy in self._policies]
        self._digest = digest_of(self._policies)

    def decide(self, call: ToolCall) -> Verdict:
        """Judges one call by every policy; the strictest answer wins, and any error is a deny."""
        try:
            effects = effects_of(call, self._places)
            findings = [finding for effect in effects for finding in self._judge(effect)]
        except Exception:
            return self._error()
        return self._verdict(effects, findings)

    def _error(self) -> Verdict:
        return Verdict(
            "deny", (), self._digest, "policy error", self._policies[0].where if self._policies else WHERE, ()
        )

    def _judge(self, effect: Effect) -> Iterable[_Finding]:
        if not self._policies:
            raise LookupError("no policy")
        for policy, matchers in zip(self._policies, self._matchers, strict=True):
            keys = [key for matcher in matchers for key in matcher.keys(effect)]
            questions: dict[tuple[Action, bool], list[str]] = {(effect.action, effect.exact): keys}
            if effect.opaque:
                for matcher in matchers:
                    for action, key in matcher.mentioned(effect.text):
                        questions.setdefault((action, True), []).append(key)
            for (action, exact), found in questions.items():
                answer = policy.engine.ask(action, found, exact=exact)
                yield _Finding(answer.decision, answer.rules, effect, policy, answer.is_error)

    def _verdict(self, effects: Sequence[Effect], findings: Sequence[_Finding]) -> Verdict:
        if any(finding.is_error for finding in findings):
            return self._error()
        if not findings:
            # A call without effects (a search, a sub-agent's start) still is one that Cedar says yes to.
            findings = list(self._judge(Effect("exec", argv=("nothing",))))
        decision: Decision = max((finding.decision for finding in findings), key=lambda one: _ORDER[one])
        deciding = [finding for finding in findings if finding.decision == decision and finding.rules]
        named = dict.fromkeys(name for finding in deciding for name in finding.rules)
        # The repository's own rules say more about this repository than the built-in ones.
        rules = tuple(sorted(named, key=lambda name: name.startswith(BUILTIN_PREFIX)))
        shown = [finding.effect for finding in deciding] if decision != "allow" else effects
        lines = describe(shown, self._places)[:MAX_EFFECTS_SHOWN]
        if decision == "allow" and not rules:
            return Verdict(
                decision, (), self._digest, "no rule matched", self._policies[0].where, tuple(lines)
            )
        rule = _find_rule(deciding, rules)
        if rule is None:
            return self._error()
        reason = "; ".join(
            part for part in (f"would {', '.join(lines[:2])}" if lines else "", rule.reason) if part
        )
        return Verdict(decision, rules, self._digest, printable(reason, limit=400), rule.where, tuple(lines))


def _find_rule(findings: Sequence[_Finding], names: Sequence[str]) -> Rule | None:
    for finding in findings:
        for rule in finding.policy.rules:
            if names and rule.id == names[0]:
                return rule
    return None


def decide(policies: Sequence[Policy], call: ToolCall, places: Places) -> Verdict:
    """Judges a call by policies together. For many calls, keep a `Judge`."""
    return Judge(policies, places).decide(call)


def _check_examples(rule: Rule) -> None:
    if not rule.match and not rule.not_match:
        return
    if not rule.match:
        raise ConfigError(
            f"{rule.id}: it has examples, but none in match that it hits", id="AG0102", where=rule.where
        )
    matcher = RuleMatcher(rule, _EXAMPLE_PLACES)
    engine = CedarPolicies(policy_text([rule], with_baseline=True), rule.where)
    for example, wanted in [(text, True) for text in rule.match] + [(text, False) for text in rule.not_match]:
        if _hits(rule, matcher, engine, example) != wanted:
            verb = "does not hit its example" if wanted else "hits what it should not"
            raise ConfigError(
                printable(f"{rule.id}: the rule {verb}: {example}", limit=300), id="AG0102", where=rule.where
            )


def _hits(rule: Rule, matcher: RuleMatcher, engine: CedarPolicies, example: str) -> bool:
    call = ToolCall(
        tool="example",
        kind="shell",
        call_id="example",
        actor_id=None,
        actor_type=None,
        session_id=None,
        cwd=Path(_EXAMPLE_PLACES.workspace),
        input={},
        command=example,
    )
    for effect in effects_of(call, _EXAMPLE_PLACES):
        questions: list[tuple[Action, list[str]]] = [(effect.action, matcher.keys(effect))]
        if effect.opaque:
            questions += [(action, [key]) for action, key in matcher.mentioned(effect.text)]
        for action, keys in questions:
            if keys and rule.id in engine.ask(action, keys, exact=True).rules:
                return True
    return False
