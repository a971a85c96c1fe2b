"""Who may let what land where: approvals, tiers, and the decision itself."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgov.config import ReviewTable
from agentgov.errors import BrokenRecordError, UntrustedSignerError
from agentgov.gates.promotion import PromotionFacts, decide_promotion
from agentgov.gates.review import (
    Approval,
    GivenApproval,
    Principal,
    parse_approval,
    sign_approval,
    verify_approval,
)
from agentgov.gates.tiers import ChangedPath, Tier, tier_of
from agentgov.ids import RunId
from agentgov.ledger.signing import Envelope

RUN = RunId("7kq2f")
APPROVAL = Approval(
    run=RUN,
    target="refs/heads/main",
    base="1" * 40,
    head="1" * 40,
    result="2" * 40,
    delta="3" * 64,
    policy="4" * 64,
    log=("agentgov/" + "5" * 32, 12, "6" * 64),
    git_version="2.47.1",
    merge_settings={"merge.renames": "true"},
    given_us=1_000,
    expires_us=2_000,
)
FACTS = PromotionFacts(
    run=RUN,
    target="refs/heads/main",
    protected=("refs/heads/main",),
    base="1" * 40,
    result="2" * 40,
    delta="3" * 64,
    landing_tree="2" * 40,
    landing_delta="3" * 64,
    base_is_head=True,
    tier="low",
    review=ReviewTable(),
    approvals=(),
    operators=frozenset({"alice"}),
    agents=frozenset({"robot"}),
    policy="4" * 64,
    now_us=1_500,
)


def by(*names: str, approval: Approval = APPROVAL, seq: int = 7) -> GivenApproval:
    return GivenApproval(approval, tuple(Principal(name) for name in names), seq)


def test_one_other_person_is_enough() -> None:
    decision = decide_promotion(replace(FACTS, approvals=(by("bob"),)))
    assert decision.allowed
    assert (decision.counted, decision.used, decision.self_approved) == (("bob",), (7,), False)


def test_without_an_approval_a_protected_branch_stays() -> None:
    decision = decide_promotion(FACTS)
    assert (decision.allowed, decision.blocked) == (False, False)
    assert decision.missing == ("1 of 1 approval missing",)


def test_other_branches_need_none() -> None:
    decision = decide_promotion(replace(FACTS, target="refs/heads/topic"))
    assert (decision.allowed, decision.is_protected, decision.self_approved) == (True, False, False)


def test_globs_protect_and_case_does_not_help() -> None:
    facts = replace(FACTS, protected=("refs/heads/release/*",))
    for target in ("refs/heads/release/1", "refs/heads/Release/1"):
        assert decide_promotion(replace(facts, target=target)).is_protected


def test_operator_and_agents_do_not_count() -> None:
    decision = decide_promotion(replace(FACTS, approvals=(by("alice"), by("robot"))))
    assert not decision.allowed
    assert decision.rejected == (
        "alice: you started this run, so yours cannot count",
        "robot: an agent cannot approve",
    )


def test_the_pinned_key_is_the_operator_under_any_name() -> None:
    own = GivenApproval(APPROVAL, (Principal("carol", is_operator_key=True),))
    assert not decide_promotion(replace(FACTS, approvals=(own,))).allowed


@pytest.mark.parametrize("review", [None, ReviewTable(solo=True)])
def test_alone_the_operator_counts_as_self_approved_but_never_for_high_tiers(
    review: ReviewTable | None,
) -> None:
    facts = replace(FACTS, review=review, approvals=(by("alice"),))
    decision = decide_promotion(facts)
    assert (decision.allowed, decision.self_approved) == (True, True)
    tiers: tuple[Tier, ...] = ("high", "critical")
    for tier in tiers:
        assert not decide_promotion(replace(facts, tier=tier)).allowed
    both = decide_promotion(replace(facts, tier="high", approvals=(by("alice"), by("bob"))))
    assert (both.allowed, both.self_approved) == (True, False)


def test_an_agent_never_counts_even_where_the_operator_does() -> None:
    assert not decide_promotion(replace(FACTS, review=None, approvals=(by("robot"),))).allowed


def test_persons_are_counted_and_not_keys_or_signatures() -> None:
    facts = replace(FACTS, review=ReviewTable(required=2))
    assert not decide_promotion(
        replace(facts, approvals=(by("bob"), by("bob", seq=9), by("bob", "bob")))
    ).allowed
    assert decide_promotion(replace(facts, approvals=(by("bob"), by("carol", seq=9)))).used == (7, 9)


@pytest.mark.parametrize(
    "change",
    [
        {"run": RunId("aaaaa")},
        {"target": "refs/heads/x"},
        {"base": "9" * 40},
        {"result": "9" * 40},
        {"delta": "9" * 64},
        {"policy": "9" * 64},
        {"expires_us": 1_500},
        {"expires_us": 900},
    ],
)
def test_an_approval_of_anything_else_is_dead(change: dict[str, object]) -> None:
    approval = replace(APPROVAL, **change)  # type: ignore[arg-type]
    decision = decide_promotion(replace(FACTS, approvals=(by("bob", approval=approval),)))
    assert (decision.allowed, len(decision.rejected)) == (False, 1)


def test_an_unrelated_move_of_the_branch_keeps_the_approval_up_to_medium() -> None:
    facts = replace(FACTS, base_is_head=False, landing_tree="8" * 40, approvals=(by("bob"),))
    expected: dict[Tier, bool] = {"low": True, "medium": True, "high": False, "critical": False}
    for tier, allowed in expected.items():
        assert decide_promotion(replace(facts, tier=tier)).allowed == allowed


def test_a_move_that_touches_the_change_kills_the_approval() -> None:
    facts = replace(
        FACTS, base_is_head=False, landing_tree="8" * 40, landing_delta="8" * 64, approvals=(by("bob"),)
    )
    assert "touches this change" in decide_promotion(facts).rejected[0]


@pytest.mark.parametrize(
    "change",
    [
        {"record_problem": "broken"},
        {"policy_problem": "changed"},
        {"result_problems": ("a uses a filter",)},
        {"landing_tree": "8" * 40},
        {"landing_delta": "8" * 64},
    ],
)
@pytest.mark.parametrize("target", ["refs/heads/main", "refs/heads/topic"])
def test_approvals_do_not_make_up_for_a_broken_record_or_result(
    change: dict[str, object], target: str
) -> None:
    facts = replace(FACTS, target=target, approvals=(by("bob"),), **change)  # type: ignore[arg-type]
    decision = decide_promotion(facts)
    assert not decision.allowed
    assert decision.blocked


@given(
    st.lists(st.sampled_from(["alice", "robot", "bob", "carol"])),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from(["low", "medium", "high", "critical"]),
)
def test_no_set_of_approvals_lets_agents_or_the_operator_alone_through(
    names: list[str], required: int, solo: bool, tier: Tier
) -> None:
    facts = replace(
        FACTS,
        review=ReviewTable(required=required, solo=solo),
        tier=tier,
        approvals=tuple(by(name) for name in names),
    )
    decision = decide_promotion(facts)
    others = set(names) - {"alice", "robot"}
    counting = others | ({"alice"} & set(names) if solo else set())
    assert decision.allowed == (len(counting) >= required and (bool(others) or tier in ("low", "medium")))


# -- approvals as signed texts ---------------------------------------------------------------------------


def test_an_approval_prints_back_identically() -> None:
    assert parse_approval(APPROVAL.to_payload()) == APPROVAL


@given(st.integers(0, len(APPROVAL.to_payload()) - 1), st.integers(0, 255))
def test_any_other_byte_is_another_approval_or_none(index: int, value: int) -> None:
    raw = bytearray(APPROVAL.to_payload())
    if raw[index] == value:
        return
    raw[index] = value
    with contextlib.suppress(BrokenRecordError):
        assert parse_approval(bytes(raw)) != APPROVAL


@pytest.mark.parametrize(
    "edit",
    [
        lambda s: s.update(extra=1),
        lambda s: s["predicate"].update(extra=1),
        lambda s: s["subject"].append({}),
        lambda s: s.update(predicateType="x"),
        lambda s: s["predicate"].update(expires=1.5),
        lambda s: s["predicate"].update(expires=True),
        lambda s: s["predicate"].update(target="main"),
        lambda s: s["predicate"].update(run="../.."),
        lambda s: s["predicate"].pop("ledger"),
    ],
)
def test_a_statement_with_more_less_or_other_parts_is_refused(edit: object) -> None:
    statement = json.loads(APPROVAL.to_payload())
    edit(statement)  # type: ignore[operator]
    with pytest.raises(BrokenRecordError):
        parse_approval(json.dumps(statement, sort_keys=True, separators=(",", ":")).encode())


def test_only_trusted_signers_stand_behind_an_approval() -> None:
    envelope = sign_approval(APPROVAL, "k", lambda message: b"sig:" + message[:8])
    seen = verify_approval(
        envelope,
        lambda message, sig: (
            Principal("bob") if message == envelope.pae() and sig.startswith(b"sig") else None
        ),
    )
    assert seen.principals == (Principal("bob"),)
    with pytest.raises(UntrustedSignerError) as caught:
        verify_approval(envelope, lambda *_: None)
    assert caught.value.id == "AG0112"
    with pytest.raises(BrokenRecordError):
        verify_approval(
            Envelope("text/plain", envelope.payload, envelope.signatures), lambda *_: Principal("bob")
        )


# -- tiers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "tier"),
    [
        (b"src/x.py", "low"),
        (b"README.md", "low"),
        (b".github/workflows/ci.yml", "high"),
        (b"db/migrations/1.sql", "high"),
        (b"package-lock.json", "high"),
        (b"src/auth/login.py", "high"),
        (b".agentgov.toml", "critical"),
        (b"CODEOWNERS", "critical"),
        (b".claude/settings.json", "critical"),
        (b".Claude/Settings.json", "critical"),
        (b"sub/.gitattributes", "critical"),
    ],
)
def test_paths_have_tiers(path: bytes, tier: str) -> None:
    assert (
        tier_of([ChangedPath(b"a.py", "100644", "100644", 3), ChangedPath(path, "100644", "100644", 3)])
        == tier
    )


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("100644", "100755", 0),
        ("000000", "120000", 1),
        ("160000", "160000", 2),
        ("000000", "100755", 4),
        ("100644", "100644", None),
    ],
)
def test_modes_links_submodules_and_binaries_are_high(old: str, new: str, lines: int | None) -> None:
    assert tier_of([ChangedPath(b"a", old, new, lines)]) == "high"


def test_size_raises_the_tier_and_tests_count_less() -> None:
    def change(path: bytes, lines: int) -> str:
        return tier_of([ChangedPath(path, "100644", "100644", lines)])

    assert [change(b"src/a.py", n) for n in (199, 200, 1_000, 1_001)] == ["low", "medium", "medium", "high"]
    assert change(b"tests/test_a.py", 800) == "low"
    assert tier_of([]) == "low"


def test_an_approval_by_a_revoked_key_counts_below_the_freeze_only_and_is_shown() -> None:
    left = GivenApproval(APPROVAL, (Principal("bob", standing="since left"),), 7)
    gone = GivenApproval(APPROVAL, (Principal("carol", standing="revoked"),), 8)
    decision = decide_promotion(replace(FACTS, approvals=(left, gone)))
    assert decision.counted == ("bob",)
    assert decision.used == (7,)
    assert "approvals 1 of 1 (bob: since left)" in decision.passed
    assert decision.rejected == (
        "carol: their key was revoked before this approval, as far as the record can show",
    )
    decision = decide_promotion(replace(FACTS, approvals=(gone,)))
    assert not decision.allowed
    assert not decision.counted
