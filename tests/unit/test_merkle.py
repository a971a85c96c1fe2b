"""The tree, against the recursive definitions of RFC 6962, for every size up to 130."""

from __future__ import annotations

import pytest

from agentgov.errors import BrokenRecordError
from agentgov.ledger import merkle
from agentgov.ledger.chain import leaf_hash
from tests.support.ledger import slow_consistency, slow_path, slow_root

LEAVES = [leaf_hash(b"%d" % number) for number in range(131)]
ROOTS = [slow_root(LEAVES[:size]) for size in range(131)]


def test_leaf_and_empty_root_are_those_of_rfc_6962() -> None:
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert merkle.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_roots_agree_with_the_definition_and_with_the_frontier() -> None:
    frontier = merkle.Frontier()
    for size in range(131):
        assert frontier.root() == merkle.root(LEAVES[:size]) == ROOTS[size]
        if size < 130:
            assert frontier.last_proof() == slow_path(size, LEAVES[: size + 1])
            frontier.append(LEAVES[size])


def test_a_frontier_is_found_again_from_the_proof_of_the_last_leaf() -> None:
    for size in range(1, 131):
        frontier = merkle.Frontier.from_last_proof(size, LEAVES[size - 1], slow_path(size - 1, LEAVES[:size]))
        assert (frontier.size, frontier.root()) == (size, ROOTS[size])


@pytest.mark.parametrize("size", range(131))
def test_inclusion_proofs_agree_with_the_definition_and_hold(size: int) -> None:
    for index in range(size):
        proof = merkle.inclusion_proof(LEAVES[:size], index)
        assert proof == slow_path(index, LEAVES[:size])
        merkle.verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size])
        for bad in (proof[:-1] if proof else [LEAVES[0]], [*proof, LEAVES[0]], [*proof[::-1], b"x"]):
            with pytest.raises(BrokenRecordError):
                merkle.verify_inclusion(LEAVES[index], index, size, bad, ROOTS[size])
    for index in (-1, size, size + 1):
        with pytest.raises(BrokenRecordError):
            merkle.verify_inclusion(LEAVES[0], index, size, [], ROOTS[size])


@pytest.mark.parametrize("size", range(131))
def test_consistency_proofs_agree_with_the_definition_and_hold(size: int) -> None:
    for old in range(size + 1):
        proof = merkle.consistency_proof(LEAVES[:size], old)
        assert proof == (slow_consistency(old, LEAVES[:size]) if 0 < old < size else [])
        merkle.verify_consistency(old, ROOTS[old], size, ROOTS[size], proof)
        with pytest.raises(BrokenRecordError):
            merkle.verify_consistency(old, LEAVES[0][::-1], size, ROOTS[size], proof)
        with pytest.raises(BrokenRecordError):
            merkle.verify_consistency(old, ROOTS[old], size, ROOTS[size], [*proof, LEAVES[0]])
        if proof:
            with pytest.raises(BrokenRecordError):
                merkle.verify_consistency(old, ROOTS[old], size, ROOTS[size], proof[:-1])
            with pytest.raises(BrokenRecordError):
                merkle.verify_consistency(old, ROOTS[old], size, LEAVES[0][::-1], proof)
    with pytest.raises(BrokenRecordError):
        merkle.verify_consistency(size + 1, ROOTS[0], size, ROOTS[size], [])


def test_size_zero_and_one_are_no_way_around_a_proof() -> None:
    other = LEAVES[5]
    with pytest.raises(BrokenRecordError):
        merkle.verify_inclusion(other, 0, 0, [], merkle.EMPTY_ROOT)
    with pytest.raises(BrokenRecordError):
        merkle.verify_inclusion(other, 0, 1, [], ROOTS[1])
    with pytest.raises(BrokenRecordError):
        merkle.verify_consistency(0, other, 5, ROOTS[5], [])
    with pytest.raises(BrokenRecordError):
        merkle.verify_consistency(0, other, 0, other, [])
    with pytest.raises(BrokenRecordError):
        merkle.verify_consistency(1, other, 1, ROOTS[1], [])
    with pytest.raises(BrokenRecordError):
        merkle.verify_consistency(1, ROOTS[1], 2, ROOTS[2], [])


def test_peaks_that_do_not_fit_the_size_are_refused() -> None:
    for size, peaks in ((1, []), (0, [LEAVES[0]]), (3, [LEAVES[0]]), (1, [b"short"]), (-1, [])):
        with pytest.raises(BrokenRecordError):
            merkle.Frontier(size, peaks)
    with pytest.raises(BrokenRecordError):
        merkle.Frontier.from_last_proof(0, LEAVES[0], [])


def test_asking_for_a_proof_of_what_is_not_there_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="no such leaf"):
        merkle.inclusion_proof(LEAVES[:3], 3)
    with pytest.raises(ValueError, match="larger"):
        merkle.consistency_proof(LEAVES[:3], 4)
