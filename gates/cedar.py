"""Rules compiled to Cedar, and asked.

Rules kept here:
- There is always a schema: without one a policy over a missing attribute is skipped, and Cedar fails open.
- Any error, NoDecision or exception is a deny. deny > ask > allow, with no priorities: `forbid` wins in
  Cedar.
- `ask` is what is forbidden with `context.approved` false and allowed with it true; both are evaluated.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentgov.calls import Decision
from agentgov.errors import ConfigError
from agentgov.gates.effect import Action
from agentgov.gates.rules import Rule

if TYPE_CHECKING:
    from cedarpy import AuthzResult

SCHEMA = """entity Agent;
entity File;
entity Host;
entity Program;
action "fs.read", "fs.write", "fs.delete" appliesTo {
  principal: [Agent], resource: [File], context: { approved: Bool, exact: Bool, matched: Set<String> }
};
action "net.connect" appliesTo {
  principal: [Agent], resource: [Host], context: { approved: Bool, exact: Bool, matched: Set<String> }
};
action "exec" appliesTo {
  principal: [Agent], resource: [Program], context: { approved: Bool, exact: Bool, matched: Set<String> }
};
"""
BASELINE = "baseline"
_RESOURCES: dict[Action, str] = {
    "fs.read": "File",
    "fs.write": "File",
    "fs.delete": "File",
    "net.connect": "Host",
    "exec": "Program",
}


@dataclass(frozen=True)
class Answer:
    """What Cedar said of one effect: the decision and the ids of the rules it rests on."""

    decision: Decision
    rules: tuple[str, ...]
    is_error: bool = False


def policy_text(rules: Iterable[Rule], *, with_baseline: bool = True) -> str:
    """The Cedar text of rules: one policy each, in their order."""
    parts = [f'@id("{BASELINE}")\npermit (principal, action, resource);\n'] if with_baseline else []
    for rule in rules:
        actions = ", ".join(f"Action::{_quoted(action)}" for action in rule.actions)
        keys = ", ".join(_quoted(key) for key in rule.keys)
        condition = f"context.matched.containsAny([{keys}])"
        if rule.exact_only:
            condition += " && context.exact"
        head = "permit" if rule.effect == "allow" else "forbid"
        unless = "\nunless { context.approved }" if rule.effect == "ask" else ""
        parts.append(
            f"@id({_quoted(rule.id)})\n{head} (principal, action in [{actions}], resource)\n"
            f"when {{ {condition} }}{unless};\n"
        )
    return "\n".join(parts)


def _quoted(text: str) -> str:
    # JSON's \u00e9 is not Cedar's \u{e9}: characters stand for themselves, and only these are escaped.
    escaped = (
        text.replace("\\", "\\\\")
        .replace('"', '\\"')
        .replace("\n", "\\n")
        .replace("\r", "\\r")
        .replace("\t", "\\t")
    )
    return (
        '"'
        + "".join(
            char if ord(char) >= 0x20 and char != "\x7f" else f"\\u{{{ord(char):x}}}" for char in escaped
        )
        + '"'
    )


class CedarPolicies:
    """A parsed and validated set of policies.

    Raises:
        ConfigError: AG0101, when the text does not parse or does not fit the schema.
    """

    def __init__(self, text: str, where: str) -> None:
        import cedarpy

        self.text = text
        try:
            self._schema = cedarpy.Schema.from_str(SCHEMA)
            self._policies = cedarpy.PolicySet.from_str(text)
            self._entities = cedarpy.Entities.from_json_str("[]", self._schema)
            checked = cedarpy.validate_policies(text, self._schema)
        except ValueError as error:
            raise ConfigError(f"the policy cannot be compiled: {error}", id="AG0101", where=where) from error
        if not checked.validation_passed:
            first = checked.errors[0] if checked.errors else "it does not fit the schema"
            raise ConfigError(f"the policy cannot be compiled: {first}", id="AG0101", where=where)

    def ask(self, action: Action, matched: Sequence[str], *, exact: bool) -> Answer:
        """Judges one effect; never raises."""
        try:
            return self._ask(action, matched, exact)
        except Exception:
            return Answer("deny", (), is_error=True)

    def _ask(self, action: Action, matched: Sequence[str], exact: bool) -> Answer:
        first = self._evaluate(action, matched, exact, approved=False)
        named = _ids(first)
        if _is_error(first):
            return Answer("deny", (), is_error=True)
        if first.allowed:
            # Unless the approval changes nothing, an allow without it is not one.
            again = self._evaluate(action, matched, exact, approved=True)
            if _is_error(again) or not again.allowed:
                return Answer("deny", _ids(again), is_error=_is_error(again))
            return Answer("allow", tuple(name for name in named if name != BASELINE))
        second = self._evaluate(action, matched, exact, approved=True)
        if _is_error(second):
            return Answer("deny", (), is_error=True)
        return Answer("ask", named) if second.allowed else Answer("deny", _ids(second))

    def _evaluate(
        self, action: Action, matched: Sequence[str], exact: bool, *, approved: bool
    ) -> AuthzResult:
        import cedarpy

        request: dict[str, Any] = {
            "principal": {"type": "Agent", "id": "agent"},
            "action": {"type": "Action", "id": action},
            "resource": {"type": _RESOURCES[action], "id": "it"},
            "context": json.dumps({"approved": approved, "exact": exact, "matched": sorted(matched)}),
        }
        return cedarpy.is_authorized(request, self._policies, self._entities, schema=self._schema)


def _is_error(result: AuthzResult) -> bool:
    import cedarpy

    return bool(result.diagnostics.errors) or result.decision not in (
        cedarpy.Decision.Allow,
        cedarpy.Decision.Deny,
    )


def _ids(result: AuthzResult) -> tuple[str, ...]:
    return tuple(sorted(result.diagnostics.id_annotations_by_reason.values()))
