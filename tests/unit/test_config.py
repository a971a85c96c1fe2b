"""`.agentgov.toml` says what it may and nothing else; each error names its line; the example is true."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgov.config import ReviewTable, Settings, parse_size, rule_lines
from agentgov.errors import ConfigError
from agentgov.gates.policy import Policy

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / ".agentgov.toml.example").read_text()
# One "#" comments a setting out; prose has two.
UNCOMMENTED = re.sub(r"^# ?", "", re.sub(r"^##.*$", "", EXAMPLE, flags=re.M), flags=re.M)


def test_no_file_and_an_empty_file_mean_the_defaults() -> None:
    assert Settings.parse(b"") == Settings()
    assert Settings().review is None


def test_the_example_as_it_is_means_the_defaults() -> None:
    assert tomllib.loads(EXAMPLE) == {}


def test_the_example_uncommented_parses_to_the_defaults() -> None:
    parsed = Settings.parse(UNCOMMENTED.encode())
    assert parsed == dataclasses.replace(Settings(), review=ReviewTable())


def test_the_examples_rules_hold() -> None:
    text = "".join(f"{line[3:]}\n" for line in EXAMPLE.splitlines() if line.startswith("##>"))
    policy = Policy.parse(text.encode(), source="default-branch")
    own = [rule.id for rule in policy.rules if rule.where.startswith(".agentgov.toml")]
    assert own == ["keep-important", "ask-publish"]


def test_the_example_names_every_key() -> None:
    table = tomllib.loads(UNCOMMENTED)
    for section in dataclasses.fields(Settings):
        assert section.name in table, section.name
        default = ReviewTable() if section.name == "review" else getattr(Settings(), section.name)
        if dataclasses.is_dataclass(default):
            keys = {field.name for field in dataclasses.fields(default)}
            # Rules are tables of their own: prose describes them.
            assert keys - {"rule"} == set(table[section.name]), section.name


def test_values_are_read() -> None:
    raw = b"""
[run]
default_workspace = "clone"
[workspace]
carry = [".env", "node_modules"]
setup = ["npm ci"]
[policy]
ask_timeout_seconds = 5
default_rules = false
[[policy.rule]]
name = "one"
[[policy.rule]]
name = "two"
effects = ["fs.delete"]
[paths]
important = ["important/**"]
[protect]
branches = ["main", "release/*"]
[review]
required = 2
[snapshots]
max_file_size = "1KiB"
secret = []
[retention]
output_days = 0
[sync]
remote = "origin"
classes = ["changes", "output"]
mirror = "agentgov/record"
"""
    settings = Settings.parse(raw)
    assert settings.run.default_workspace == "clone"
    assert settings.workspace.carry == (".env", "node_modules")
    assert settings.policy.rule == ({"name": "one"}, {"name": "two", "effects": ["fs.delete"]})
    assert settings.policy.ask_timeout_seconds == 5
    assert not settings.policy.default_rules
    assert settings.paths == {"important": ("important/**",)}
    assert settings.protect.branches == ("main", "release/*")
    assert settings.review == ReviewTable(required=2, solo=False)
    assert settings.snapshots.max_file_bytes == 1024
    assert (settings.retention.args_days, settings.retention.output_days) == (400, 0)
    assert settings.sync.classes == ("changes", "output")
    assert (settings.sync.remote, settings.sync.mirror) == ("origin", "agentgov/record")
    assert rule_lines(raw) == [10, 12]


@pytest.mark.parametrize(
    ("raw", "line", "said"),
    [
        ("[nope]\n", 1, "nope: there is no such key"),
        ("\n[workspace]\n\nfoo = 1\n", 4, "workspace.foo: there is no such key"),
        ('[run]\ndefault_workspace = "here"\n', 2, "'auto', 'clone' or 'in-place'"),
        ('[policy]\nask_timeout_seconds = "5"\n', 2, "valid integer"),
        ("[policy]\nask_timeout_seconds = 5.0\n", 2, "valid integer"),
        ("[policy]\nask_timeout_seconds = true\n", 2, "valid integer"),
        ("[policy]\nask_timeout_seconds = 0\n", 1, "from 1 to 86400"),
        ("[review]\nrequired = 0\n", 1, "from 1 to 100"),
        ("[review]\nsolo = 1\n", 2, "valid boolean"),
        ("# x\n[workspace]\ncarry = [\n 'a',\n 1,\n]\n", 3, "workspace.carry.1"),
        ("[workspace]\ncarry = 'a'\n", 2, "array"),
        ("\n\npolicy = 1\n", 3, "policy: Input should be an object"),
        ("[policy]\nrule = 1\n", 2, "policy.rule"),
        ("[[policy.rule]]\n[[review]]\n", 2, "review"),
        ('[snapshots]\nmax_file_size = "64 MB"\n', 1, "a size is written as"),
        ("[snapshots]\nsecret = ['']\n", 1, "must not be empty"),
        ("[protect]\nbranches = ['']\n", 1, "must not be empty"),
        ("[retention]\nargs_days = -1\n", 1, "from 0 to 36500"),
        ("[retention]\nargs_days = 36501\n", 1, "from 0 to 36500"),
        ("[retention]\nchain_days = 1\n", 2, "retention.chain_days: there is no such key"),
        ("[sync]\nclasses = ['chain']\n", 2, "sync.classes.0"),
        ("[sync]\nremote = '--upload-pack=x'\n", 1, "names of a remote and of a branch"),
        ("[sync]\nmirror = 'a/../b'\n", 1, "names of a remote and of a branch"),
        ("[sync]\nmirror = 'a.lock'\n", 1, "names of a remote and of a branch"),
        ("[run]\nx =\n", 2, "this is not TOML"),
        ("[run]\n[run]\n", 2, "this is not TOML"),
    ],
)
def test_an_error_names_its_line_and_what_is_wrong(raw: str, line: int, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Settings.parse(raw.encode(), "the.toml")
    assert raised.value.id == "AG0020"
    assert raised.value.where == f"the.toml:{line}"
    assert said in raised.value.message


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff",
        b"[paths]\nx = 1979-05-27",
        b"[paths]\nX = ['a']",
        b"[paths]\n'../x' = ['a']",
        b"[[policy.rule]]\nx = nan",
        b"a=" + b"[" * 5000,
        b"#" * (1024 * 1024 + 1),
        b"x = \x00",
    ],
)
def test_anything_else_that_is_wrong_is_AG0020(raw: bytes) -> None:
    with pytest.raises(ConfigError) as raised:
        Settings.parse(raw)
    assert raised.value.id == "AG0020"


def test_an_error_is_printable() -> None:
    with pytest.raises(ConfigError) as raised:
        Settings.parse(b'["\\u001b[31m"]\n')
    assert "\x1b" not in str(raised.value)


@given(st.text(max_size=200))
def test_any_text_gives_settings_or_a_configuration_error(raw: str) -> None:
    with contextlib.suppress(ConfigError):
        Settings.parse(raw.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("raw", ["0MiB", "01B", "1", "1MB", " 1B", "1B ", "-1B", "1_0B", "1.5GiB", "٣B", ""])
def test_a_size_has_one_form(raw: str) -> None:
    with pytest.raises(ValueError, match="a size is written as"):
        parse_size(raw)
    assert parse_size("3GiB") == 3 * 1024**3


def test_rule_lines_are_not_fooled_by_strings_or_other_tables() -> None:
    raw = b'x = """\n[[policy.rule]]\n"""\n[[policy.rule]]\na = 1\n\n  [[ policy . "rule" ]]\n[[other]]\n'
    assert rule_lines(raw) == [4, 7]


def test_rules_in_one_array_stand_where_it_begins() -> None:
    assert rule_lines(b"[policy]\n\nrule = [\n {a = 1},\n {a = 2},\n]\n") == [3, 3]
    assert rule_lines(b"") == []


def test_importing_the_module_imports_nothing_heavy() -> None:
    code = "import sys, agentgov.config; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"False\n"
