"""docs/format.md, its vectors and its table of kinds, held against both implementations."""

from __future__ import annotations

import ast
import re
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgov.errors import AgentgovError, BrokenRecordError
from agentgov.ledger import canonical, merkle
from agentgov.ledger.bodies import KINDS, check_body
from agentgov.ledger.chain import leaf_hash
from agentgov.ledger.checkpoint import verify_checkpoint
from agentgov.ledger.cosignature import verify_cosignatures
from agentgov.ledger.entry import PAYLOAD_TYPE, SignedEntry, parse_entry
from agentgov.ledger.keyring import Keyring
from agentgov.ledger.note import parse_any_key, parse_note
from agentgov.ledger.payloads import commitment
from agentgov.ledger.signing import PrivateKey, check_public_key, pae, verify_ed25519
from agentgov.ledger.verify_report import Code, Finding, Report
from tests.reference import canonical_slow, merkle_slow, record, signatures, vectors
from tests.reference.kinds import PAGE, read_page
from tests.reference.refused import Refused

TEXT = PAGE.read_text()
SECTION = TEXT.split("\n## Vectors\n")[1]
TABLE = dict(re.findall(r"^\| ([a-z0-9 ']+) \| `(.+)` \|$", SECTION, re.MULTILINE))
NOTES = [
    "".join(f"{line.removeprefix('    ')}\n" for line in block.strip("\n").split("\n"))
    for block in re.findall(r":\n\n((?:    .*\n|\n)+)", SECTION)
]
COUNT = 6
LINES = [TABLE[f"line {seq}"].encode() for seq in range(COUNT)]
LEAVES = [merkle_slow.leaf(line) for line in LINES]
LOG_KEY = bytes.fromhex(TABLE["log key"])


def test_the_reference_imports_nothing_of_agentgov() -> None:
    for path in (PAGE.parents[1] / "tests" / "reference").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.startswith("agentgov") or "support" in name], path


def test_the_page_holds_what_the_reference_makes() -> None:
    assert vectors.section() == SECTION


def test_the_entries_of_the_page_hold() -> None:
    keyring = Keyring()
    leaf = "0" * 64
    for seq, line in enumerate(LINES):
        entry, signature = parse_entry(line), bytes.fromhex(TABLE[f"signature {seq}"])
        assert (entry.seq, entry.prev, entry.line()) == (seq, leaf, line)
        keyring.admit(SignedEntry(entry, line, signature))
        leaf = TABLE[f"leaf {seq}"]
        assert leaf == leaf_hash(line).hex()
    assert keyring.ended == COUNT - 1


def test_the_keys_of_the_page_are_those_of_its_seeds() -> None:
    for seed, public in (("seed of the log key", "log key"), ("seed of the session key", "session key")):
        key = PrivateKey(bytes.fromhex(TABLE[seed]))
        assert key.public_key.hex() == TABLE[public]
    line = LINES[0]
    assert key.public_key != LOG_KEY
    key = PrivateKey(bytes.fromhex(TABLE["seed of the log key"]))
    assert key.sign(pae(PAYLOAD_TYPE, line)).hex() == TABLE["signature 0"]
    assert f'"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} "' in TEXT


def test_the_roots_and_proofs_of_the_page_hold() -> None:
    for size in range(COUNT + 1):
        assert merkle.root([leaf_hash(line) for line in LINES[:size]]).hex() == TABLE[f"root of {size}"]
    for what, spelt in TABLE.items():
        if not what.startswith(("inclusion", "consistency")):
            continue
        hashes = [] if spelt == "none" else [bytes.fromhex(item) for item in spelt.split(" ")]
        if match := re.fullmatch("inclusion of ([0-9]) in ([0-9])", what):
            m, n = int(match[1]), int(match[2])
            merkle.verify_inclusion(LEAVES[m], m, n, hashes, merkle_slow.root(LEAVES[:n]))
            assert merkle.inclusion_proof(LEAVES[:n], m) == hashes
        elif match := re.fullmatch("consistency of ([0-9]) and ([0-9])", what):
            m, n = int(match[1]), int(match[2])
            roots = merkle_slow.root(LEAVES[:m]), merkle_slow.root(LEAVES[:n])
            merkle.verify_consistency(m, roots[0], n, roots[1], hashes)
            assert merkle.consistency_proof(LEAVES[:n], m) == hashes


def test_the_signed_heads_of_the_page_hold() -> None:
    assert len(NOTES) == 2
    for size, note in zip((2, COUNT), NOTES, strict=True):
        head = verify_checkpoint(note.encode(), vectors.ORIGIN, LOG_KEY)
        assert (head.size, head.root.hex()) == (size, TABLE[f"root of {size}"])
        assert parse_note(note.encode()).to_bytes() == note.encode()
    seen = verify_cosignatures(parse_note(NOTES[1].encode()), [parse_any_key(TABLE["the witness"])])
    assert [(found.key.name, found.checkpoint.size) for found in seen] == [(vectors.WITNESS, COUNT)]


def test_the_commitment_of_the_page_holds() -> None:
    name, _, value = TABLE["its field and value"].partition(" ")
    salt = bytes.fromhex(TABLE["salt of a payload"])
    assert commitment(salt, name, value.encode()) == TABLE["its commitment"]


def test_the_table_of_the_page_is_that_of_the_product() -> None:
    page = read_page()
    assert page.keys() == KINDS.keys()
    runs = {"+": "set", "-": "null", "~": "any"}
    for name, kind in KINDS.items():
        assert (runs[page[name].run], page[name].who) == (kind.run, kind.signer), name
        assert page[name].fields.keys() == kind.fields.keys(), name


_HASHES = st.sampled_from(["a" * 64, "b" * 64, "1" * 40, "2" * 40, "g" * 64, "A" * 40, "a" * 63])
_SPELT = """allow ask deny full incremental sha1 sha256 run rotated retired in-place clone ok args changes
    open off watch none operator timeout finished YWI= YW= YR== a.b _x Bash"""
_WORDS = st.sampled_from(_SPELT.split()) | st.just("agentgov/" + "0" * 32)
_NUMBERS = st.sampled_from([-2, -1, 0, 1, 2, 2**53 - 1])
_LEAVES = st.none() | st.booleans() | _NUMBERS | _HASHES | _WORDS
_ENVELOPES = st.fixed_dictionaries(
    {
        "payload": st.sampled_from(["", "YWI=", "YR==", "x"]),
        "payload_type": _LEAVES,
        "signatures": st.lists(st.fixed_dictionaries({"keyid": _WORDS, "sig": _WORDS}), max_size=2),
    }
)
_VERDICTS = st.fixed_dictionaries(
    {"decision": _WORDS, "policy": _HASHES, "rules": st.lists(_WORDS, max_size=2)}
)
_NEXT = st.fixed_dictionaries({"log": _WORDS, "public_key": _HASHES})
_VALUES = _LEAVES | st.lists(_LEAVES, max_size=3) | _ENVELOPES | _VERDICTS | _NEXT


@given(st.data())
def test_both_judge_any_body_alike(data: Any) -> None:
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    body = {}
    for name, field in KINDS[kind].fields.items():
        # Nine times of ten a value that fits: else one bad field would hide the next.
        fits = _VALUES.filter(field.check) if data.draw(st.integers(0, 9)) else _VALUES
        known = {"capture": _capture(), "envelope": _ENVELOPES, "verdict": _VERDICTS}
        body[name] = data.draw(known.get(name, fits))
    run = data.draw(st.sampled_from([None, "7kq2f"]))
    try:
        check_body(kind, run, body)
        product = True
    except BrokenRecordError:
        product = False
    entry = {"body": body, "kind": kind, "run": run, "seq": 1}
    try:
        record._check_body(entry)
        reference = True
    except Refused:
        reference = False
    if "YR==" in str(body) and product:
        return  # Bits that mean nothing are for the envelope's parser to refuse.
    assert product == reference, body


def _capture() -> Any:
    return st.fixed_dictionaries(
        {
            "files": _WORDS,
            "gateway": _WORDS,
            "hooks": st.booleans(),
            "keys": st.just("open"),
            "ledger": st.just("open"),
            "sandbox": _WORDS,
        }
    )


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**54), 2**54)
    | st.text(st.characters(max_codepoint=0x90), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b_1", "B", "1", ""]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(_JSON)
def test_both_write_canonical_json_alike_and_read_it_back(value: Any) -> None:
    try:
        raw = canonical.encode(value)
    except AgentgovError:
        # What has no canonical form is not read back either.
        with pytest.raises((Refused, UnicodeEncodeError)):
            canonical_slow.parse(canonical_slow.write(value))
        return
    assert canonical_slow.write(value) == raw
    assert canonical_slow.parse(raw) == value


_MUTATED = st.tuples(st.sampled_from(LINES), st.integers(0, 600), st.binary(max_size=4), st.integers(0, 4))


@given(_MUTATED)
def test_both_read_any_bytes_near_a_line_alike(mutation: tuple[bytes, int, bytes, int]) -> None:
    line, at, put, cut = mutation
    raw = line[:at] + put + line[at + cut :]
    try:
        value: object = canonical.decode(raw)
    except BrokenRecordError:
        with pytest.raises(Refused):
            canonical_slow.parse(raw)
        return
    assert canonical_slow.parse(raw) == value


SPELLINGS = [b"-0", b"1.0", b"1e3", b"01", b"+1", b" 1", b"1 ", b"9007199254740992", b"-9007199254740991"]
SPELLINGS += [
    b'"\\u0041"',
    b'"\\/"',
    b'"\\u001F"',
    b'"\\u001f"',
    b'"\\u000a"',
    b'"\\n"',
    b'"\x7f"',
    b'"\\u007f"',
]
SPELLINGS += [
    b'{"a":1,"a":1}',
    b'{"b":1,"a":1}',
    b'{"a":1,"b":1}',
    b'{"A":1}',
    b"[1,]",
    b"[,1]",
    b"[]",
    b"{}",
]
SPELLINGS += [
    b"NaN",
    b"Infinity",
    b"",
    b"null",
    b"nul",
    b"[" * 16 + b"]" * 16,
    b"[" * 17 + b"]" * 17,
    b"\xef\xbb\xbf1",
]


@pytest.mark.parametrize("raw", SPELLINGS)
def test_both_take_or_refuse_the_same_spellings(raw: bytes) -> None:
    try:
        value: object = canonical.decode(raw)
    except BrokenRecordError:
        with pytest.raises(Refused):
            canonical_slow.parse(raw)
        return
    assert canonical_slow.parse(raw) == value


def test_both_refuse_the_same_public_keys() -> None:
    p = signatures.P
    low = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
    numbers = [0, 1, 2, 3, 4, 5, 6, 7, 9, p - 2, p - 1, p, p + 1, p + 3, 2**255 - 1, low, p - low]
    for number in [*numbers, *(number + 2**255 for number in numbers)]:
        key = number.to_bytes(32, "little")
        try:
            check_public_key(key)
            product = True
        except BrokenRecordError:
            product = False
        assert signatures.is_acceptable_key(key) == product, hex(number)
        # Nothing verifies under a key that is refused.
        if not product:
            assert not signatures.verify(key, bytes(64), b"")
            with pytest.raises(BrokenRecordError):
                verify_ed25519(key, bytes(64), b"")


def test_the_page_names_the_functions_that_it_promises() -> None:
    folder = PAGE.parents[1] / "ledger"
    named = 0
    for paragraph in re.findall(r"^Library: (.*?)\n\n", TEXT, re.MULTILINE | re.DOTALL):
        module = ""
        for word in re.findall(r"`([A-Za-z0-9_.]+)`", paragraph):
            *path, name = word.removeprefix("agentgov.ledger.").split(".")
            if name.endswith("Error"):
                continue
            if not path and (folder / f"{name}.py").exists():
                module = name
                continue
            if path and path[0].islower():
                module = path.pop(0)
            name = path[0] if path and path[0] else name
            text = (folder / f"{module}.py").read_text()
            assert re.search(rf"^ *(?:def|class) {name}\b", text, re.MULTILINE), f"{module}.{name}"
            named += 1
    assert named > 15


def test_the_page_names_every_finding_with_its_exit_code() -> None:
    section = TEXT.split("\n## Verifying\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \| .* \| ([0-9]+) \|$", section, re.MULTILINE)
    exits = {code: int(number) for words, number in rows for code in re.findall(r"`([a-z-]+)`", words)}
    assert exits.keys() == set(get_args(Code))
    for code in get_args(Code):
        assert Report(findings=[Finding(code, "")]).exit_code == exits[code], code
