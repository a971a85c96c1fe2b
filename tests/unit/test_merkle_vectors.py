"""The tree against published vectors, and every size up to 256 against the slow reference."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence

import pytest

from agentgov.errors import BrokenRecordError
from agentgov.ledger import merkle
from agentgov.ledger.chain import leaf_hash
from tests.reference import merkle_slow

# The leaves and roots of Certificate Transparency's own tests, as in transparency-dev/merkle.
CT_LEAVES = [
    leaf_hash(bytes.fromhex(item))
    for item in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
CT_CONSISTENCY_6_8 = [
    "DrxdNDf74tsVi58Sah0RjjCBgQMdCpSfje3t68VY72o=",
    "yoVOoSjtBQtBs1/8G4e46yveRh6eO1WW7Oa51ZdaCuA=",
    "037kGJdt2VdTwcc4Yrk5j6Kiz5tP8P3+izDNlSCWFLc=",
]

LEAVES = [merkle_slow.leaf(b"%d" % number) for number in range(257)]


@functools.cache
def slow_root(first: int, last: int) -> bytes:
    """The reference's MTH, each node once: the recursion itself takes minutes at 256."""
    if last - first < 2:
        return merkle_slow.root(LEAVES[first:last])
    middle = first + merkle_slow.split(last - first)
    return hashlib.sha256(b"\x01" + slow_root(first, middle) + slow_root(middle, last)).digest()


def test_roots_are_those_published() -> None:
    assert [merkle.root(CT_LEAVES[:size]).hex() for size in range(9)] == CT_ROOTS


def test_a_published_consistency_proof_is_made_and_verified() -> None:
    proof = [base64.b64decode(item) for item in CT_CONSISTENCY_6_8]
    assert merkle.consistency_proof(CT_LEAVES, 6) == proof
    roots = [bytes.fromhex(item) for item in CT_ROOTS]
    merkle.verify_consistency(6, roots[6], 8, roots[8], proof)
    for changed in (proof[:-1], proof[::-1], [*proof, proof[0]], [proof[0][:31], *proof[1:]]):
        with pytest.raises(BrokenRecordError):
            merkle.verify_consistency(6, roots[6], 8, roots[8], changed)


@pytest.mark.parametrize(
    ("old", "old_root", "new", "new_root", "proof", "holds"),
    [
        (0, CT_ROOTS[0], 1, CT_ROOTS[0], [CT_ROOTS[0]], False),
        (0, CT_ROOTS[0], 1, b"don't care 2".hex(), [], False),
        (0, b"don't care 1".hex(), 1, b"don't care 2".hex(), [], False),
        (0, b"don't care 1".hex(), 0, b"don't care 2".hex(), [], False),
        (0, b"don't care 1".hex(), 0, b"don't care 1".hex(), [CT_ROOTS[0]], False),
        # Here we are stricter: transparency-dev takes any two equal roots. Nothing has one root only.
        (0, b"don't care 1".hex(), 0, b"don't care 1".hex(), [], False),
        (0, CT_ROOTS[0], 0, CT_ROOTS[0], [], True),
        (1, CT_ROOTS[1], 1, CT_ROOTS[1], [], True),
        (1, CT_ROOTS[1], 1, CT_ROOTS[2], [], False),
        (1, CT_ROOTS[1], 1, CT_ROOTS[1], [CT_ROOTS[0]], False),
        (2, CT_ROOTS[2], 1, CT_ROOTS[1], [], False),
        (1, CT_ROOTS[1], 2, CT_ROOTS[2], [], False),
        (-1, CT_ROOTS[0], 1, CT_ROOTS[1], [], False),
    ],
)
def test_the_edges_agree_with_those_of_transparency_dev(
    old: int, old_root: str, new: int, new_root: str, proof: Sequence[str], holds: bool
) -> None:
    def verify() -> None:
        hashes = [bytes.fromhex(item) for item in proof]
        merkle.verify_consistency(old, bytes.fromhex(old_root), new, bytes.fromhex(new_root), hashes)

    if holds:
        verify()
        return
    with pytest.raises(BrokenRecordError) as error:
        verify()
    assert error.value.id == "AG0206"


def test_the_reference_says_what_its_quick_form_says() -> None:
    for size in range(40):
        assert merkle_slow.root(LEAVES[:size]) == slow_root(0, size)
        for index in range(size):
            assert merkle_slow.path(index, LEAVES[:size]) == slow_path(index, 0, size)
            assert index == 0 or merkle_slow.consistency(index, LEAVES[:size]) == slow_proof(index, 0, size)


def slow_path(index: int, first: int, last: int) -> list[bytes]:
    """The reference's PATH, over `slow_root`."""
    if last - first == 1:
        return []
    middle = first + merkle_slow.split(last - first)
    if index < middle:
        return [*slow_path(index, first, middle), slow_root(middle, last)]
    return [*slow_path(index, middle, last), slow_root(first, middle)]


def slow_proof(old: int, first: int, last: int, *, whole: bool = True) -> list[bytes]:
    """The reference's SUBPROOF, over `slow_root`; `old` counts from 0."""
    if old == last:
        return [] if whole else [slow_root(first, last)]
    middle = first + merkle_slow.split(last - first)
    if old <= middle:
        return [*slow_proof(old, first, middle, whole=whole), slow_root(middle, last)]
    return [*slow_proof(old, middle, last, whole=False), slow_root(first, middle)]


@pytest.mark.parametrize("size", range(257))
def test_every_root_and_proof_up_to_256_is_the_references(size: int) -> None:
    leaves, expected = LEAVES[:size], slow_root(0, size)
    assert merkle.root(leaves) == expected
    for index in range(size):
        ranges = merkle.inclusion_ranges(index, size)
        path = [slow_root(first, last) for first, last in ranges]
        assert path == slow_path(index, 0, size)
        merkle.verify_inclusion(leaves[index], index, size, path, expected)
    for old in range(1, size):
        ranges = merkle.consistency_ranges(old, size)
        proof = [slow_root(first, last) for first, last in ranges]
        assert proof == slow_proof(old, 0, size)
        merkle.verify_consistency(old, slow_root(0, old), size, expected, proof)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 31, 64, 100, 256])
def test_no_proof_fits_another_place_or_size(size: int) -> None:
    expected = slow_root(0, size)
    for index in range(size):
        path = slow_path(index, 0, size)
        for other_index, other_size in ((index + 1, size), (index - 1, size), (index ^ 1, size)):
            if other_index != index:
                with pytest.raises(BrokenRecordError):
                    merkle.verify_inclusion(LEAVES[index], other_index, other_size, path, expected)
        with pytest.raises(BrokenRecordError):
            merkle.verify_inclusion(LEAVES[256], index, size, path, expected)
