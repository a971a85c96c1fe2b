"""Ways to land something that nobody approved, tried on the real command line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agentgov.cli.session import Session
from agentgov.gates.journal import StreamJournal
from agentgov.harness.promoting import close_open_landings
from tests.conftest import GitRunner, MakeRepo
from tests.e2e.conftest import Cli, bash, write

REVIEW = "[review]\nrequired = 1\n"
TWO = "[review]\nrequired = 2\n"
STEPS = [bash("echo two >> a.txt"), write("new.txt", "n\n")]
Shop = Callable[..., Path]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("one", "two", "three"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
        subprocess.run(command, check=True, timeout=60)
    return {name: folder / name for name in ("one", "two", "three")}


def public(key: Path) -> str:
    return " ".join(key.with_suffix(".pub").read_text().split()[:2])


@pytest.fixture
def shop(make_repo: MakeRepo, keys: Mapping[str, Path], git: GitRunner) -> Shop:
    """Makes a repository whose operator is operator@example.org with the key "one"."""

    def make(rules: str, trust: str, **files: str) -> Path:
        signers = trust.format(**{name: public(key) for name, key in keys.items()})
        repo = make_repo(
            files={"a.txt": "one\n", ".agentgov.toml": rules, ".agentgov/allowed_signers": signers, **files}
        )
        git(repo, "config", "agentgov.signingKey", str(keys["one"]))
        git(repo, "config", "user.email", "operator@example.org")
        return repo

    return make


def test_what_an_agent_tries_does_not_run_and_is_recorded(
    agentgov: Cli, make_repo: MakeRepo, git: GitRunner
) -> None:
    keep = (
        '[[policy.rule]]\nid = "keep"\neffect = "deny"\n'
        'action = ["fs.delete", "fs.write"]\npaths = ["kept/**"]\n'
    )
    repo = make_repo(files={"kept/a": "a\n", "b.txt": "b\n", ".agentgov.toml": keep})
    git(repo, "branch", "feature")
    tried = [
        "cd kept && echo x > a",
        "echo cm0gLXJmIGtlcHQ= | base64 -d | bash",
        "bash <(echo rm -rf kept)",
        'set -- rm -rf kept; "$@"',
        "export X=$(rm -rf kept)",
        "export $(rm -rf kept)",
        "git apply <<'E'\n--- a/kept/a\n+++ b/kept/a\n@@ -1 +1 @@\n-a\n+x\nE",
        "python3 -c \"import glob,os; list(map(os.remove, glob.glob('kept/*')))\"",
        "echo x >> .agentgov.toml",
        "cd .git && echo x > hooks/pre-commit",
        "git push $(echo --force)",
        "agentgov approve abcde -m 'I like it'",
        "rm {a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b} kept/a",
        "rm " + "x " * 5_000 + "kept/a",
    ]
    calls = [bash(command) for command in tried]
    run = agentgov.play(repo, [*calls, write("./kept/../kept/a", "x"), bash("echo ok >> b.txt")])
    shown = agentgov(repo, "show", run, "--json").json
    assert [call["decision"] for call in shown["calls"]] == ["deny"] * (len(tried) + 1) + ["allow"]
    agentgov(repo, "promote", run, "--into", "feature")
    assert git(repo, "diff", "--name-only", "main", "feature") == "b.txt"


def test_the_operators_key_given_by_path_under_another_name_is_still_theirs(
    agentgov: Cli, shop: Shop, keys: Mapping[str, Path]
) -> None:
    repo = shop(REVIEW, "somebody.else@example.org {one}\n")
    run = agentgov.play(repo, STEPS)
    agentgov(repo, "approve", run, "-m", "not me", "--key", keys["one"])
    assert "you started this run" in agentgov(repo, "promote", run, code=11).err


def test_another_key_of_the_operator_is_still_theirs(
    agentgov: Cli, shop: Shop, keys: Mapping[str, Path]
) -> None:
    repo = shop(REVIEW, "op@home.example {one}\nop@home.example {two}\n")
    run = agentgov.play(repo, STEPS)
    agentgov(repo, "approve", run, "-m", "not me", "--key", keys["two"])
    assert "you started this run" in agentgov(repo, "promote", run, code=11).err


def trust_on_main(repo: Path, git: GitRunner, keys: Mapping[str, Path], trust: str) -> None:
    path = repo / ".agentgov" / "allowed_signers"
    path.write_bytes(trust.format(**{name: public(key) for name, key in keys.items()}).encode())
    git(repo, "commit", "-q", "-am", "other people")


def test_two_keys_of_one_person_are_one_approval(
    agentgov: Cli, shop: Shop, keys: Mapping[str, Path], git: GitRunner
) -> None:
    repo = shop(TWO, "nobody@example.org {one}\n")
    run = agentgov.play(repo, STEPS)
    for name in ("two", "three"):
        agentgov(repo, "approve", run, "-m", "fine", "--key", keys[name])
    for trust in (
        "bob@a.example,bob@b.example {two}\nbob@b.example,bob@a.example {three}\n",
        "bob@a.example {two}\nBob@A.example {three}\n",
        "bob@a.example {two}\nbob@b.example {two}\nbob@b.example {three}\n",
        "# bob\r\nbob@a.example {two}\r\nbob@a.example {three}\r\n",
    ):
        trust_on_main(repo, git, keys, trust)
        assert "1 of 2 approvals missing" in agentgov(repo, "promote", run, code=11).err, trust
    trust_on_main(repo, git, keys, "bob@a.example {two}\r\neve@a.example {three}\r\n")
    agentgov(repo, "promote", run)


def test_a_key_that_the_trust_file_does_not_give_to_a_person_counts_for_nothing(
    agentgov: Cli, shop: Shop, keys: Mapping[str, Path], git: GitRunner
) -> None:
    repo = shop(REVIEW, "nobody@example.org {three}\n")
    run = agentgov.play(repo, STEPS)
    agentgov(repo, "approve", run, "-m", "fine", "--key", keys["two"])
    for trust in (
        "* {two}\n",
        "*@example.org {two}\n",
        "bob@example.org cert-authority {two}\n",
        'bob@example.org namespaces="git" {two}\n',
        'bob@example.org valid-before="20200101" {two}\n',
        'bob@example.org valid-after="21000101" {two}\n',
        "demo {two}\n",
        "DEMO {two}\n",
        "not a trust file\n",
    ):
        trust_on_main(repo, git, keys, trust)
        assert "1 of 1 approval missing" in agentgov(repo, "promote", run, code=11).err, trust


def test_governance_under_another_case_does_not_land(agentgov: Cli, shop: Shop, git: GitRunner) -> None:
    repo = shop("", "")
    git(repo, "branch", "feature")
    run = agentgov.shell(repo, "mkdir -p .Claude; echo x > .AgentGov.toml; echo {} > .Claude/Settings.json")
    said = agentgov(repo, "promote", run, "--into", "feature", code=10)
    assert "builtin-governance" in said.err


def test_a_broken_policy_on_the_default_branch_stops_everything(
    agentgov: Cli, shop: Shop, git: GitRunner
) -> None:
    repo = shop(REVIEW, "")
    git(repo, "branch", "feature")
    run = agentgov.play(repo, STEPS)
    for text in ("[review\n", "[reveiw]\nrequired = 1\n", "[review]\nrequired = 0\n", "[policy]\nrule = 1\n"):
        (repo / ".agentgov.toml").write_text(text)
        git(repo, "commit", "-q", "-am", "broken")
        said = agentgov(repo, "promote", run, "--into", "feature", code=2)
        assert ".agentgov.toml" in said.err
        assert agentgov(repo, "run", "--", "true", code=125).err.startswith("error[AG00")
    assert git(repo, "rev-parse", "feature") == git(repo, "rev-parse", "main~4")


def test_a_later_file_that_protects_another_branch_does_not_open_the_default_one(
    agentgov: Cli, shop: Shop, git: GitRunner
) -> None:
    repo = shop("", "")
    run = agentgov.play(repo, STEPS)
    (repo / ".agentgov.toml").write_text('[protect]\nbranches = ["nothing"]\n')
    git(repo, "commit", "-q", "-am", "protect something else")
    assert "1 of 1 approval missing" in agentgov(repo, "promote", run, "--into", "main", code=11).err


def test_two_promotions_at_once_land_it_once(agentgov: Cli, shop: Shop, git: GitRunner) -> None:
    repo = shop("", "")
    git(repo, "branch", "feature")
    run = agentgov.play(repo, STEPS)
    command = [sys.executable, "-m", "agentgov", "promote", run, "--into", "feature"]
    both = [
        subprocess.Popen(command, cwd=repo, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in "12"
    ]
    said = [(one.communicate(timeout=60)[0], one.returncode) for one in both]
    assert sorted(code == 0 for _, code in said) == [False, True], said
    assert git(repo, "rev-list", "--merges", "--count", "feature") == "1"
    agentgov(repo, "verify", "--require", "pinned")


def test_a_landing_that_ended_while_somebody_waited_is_not_ended_again(
    agentgov: Cli, shop: Shop, git: GitRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = shop("", "")
    git(repo, "branch", "feature")
    run = agentgov.play(repo, STEPS)
    late: list[Session] = []
    real = StreamJournal.done

    def done(journal: StreamJournal, commit: str) -> None:
        late.append(Session.here())
        late[0].resolve(run)
        real(journal, commit)

    with monkeypatch.context() as patch:
        patch.setattr(StreamJournal, "done", done)
        agentgov(repo, "promote", run, "--into", "feature")
    record, _ = late[0].resolve(run)
    assert record.promotions[-1].outcome is None
    with late[0].settled(record) as (work, settled):
        close_open_landings(work, settled)
    late[0].stream.close()
    agentgov(repo, "verify", "--require", "pinned")


def test_only_a_branch_can_be_landed_on(agentgov: Cli, shop: Shop, git: GitRunner) -> None:
    repo = shop("", "")
    git(repo, "tag", "v1")
    before = git(repo, "for-each-ref", "refs/heads", "refs/tags")
    run = agentgov.play(repo, STEPS)
    for target in ("HEAD", "refs/tags/v1", "refs/agentgov/x", "v1", "-f", "a b", "main~1", "@", ""):
        assert agentgov(repo, "promote", run, f"--into={target}", code=None).code in (2, 11), target
    assert git(repo, "for-each-ref", "refs/heads", "refs/tags") == before


def test_replaced_and_grafted_commits_do_not_change_what_is_judged(
    agentgov: Cli, shop: Shop, keys: Mapping[str, Path], git: GitRunner
) -> None:
    repo = shop(REVIEW, "bob@example.org {two}\n")
    run = agentgov.play(repo, STEPS)
    agentgov(repo, "approve", run, "-m", "fine", "--key", keys["two"])
    main = git(repo, "rev-parse", "main")
    tree = git(repo, "rev-parse", "main^{tree}")
    easy = git(repo, "hash-object", "-w", "--stdin", input=b"[protect]\nbranches = ['zzz']\n")
    rows = [
        row if not row.endswith("\t.agentgov.toml") else f"100644 blob {easy}\t.agentgov.toml"
        for row in git(repo, "ls-tree", tree).splitlines()
    ]
    other = git(repo, "mktree", input="\n".join([*rows, ""]).encode())
    git(repo, "replace", main, git(repo, "commit-tree", other, "-m", "other"))
    (repo / ".git" / "info").mkdir(exist_ok=True)
    (repo / ".git" / "info" / "grafts").write_text(f"{main}\n")
    agentgov(repo, "promote", run)
    shown = git(repo, "--no-replace-objects", "show", "main:.agentgov.toml")
    assert shown == REVIEW.strip()
    assert git(repo, "--no-replace-objects", "show", "main:a.txt") == "one\ntwo"


def test_merge_settings_and_drivers_of_the_user_do_not_change_what_lands(
    agentgov: Cli, shop: Shop, git: GitRunner, tmp_path: Path
) -> None:
    repo = shop("", "", **{"long.txt": "l\n" * 30, ".gitattributes": "long.txt merge=evil diff=evil\n"})
    git(repo, "branch", "feature")
    run = agentgov.play(repo, [bash("echo end >> long.txt")])
    git(repo, "checkout", "-q", "feature")
    (repo / "long.txt").write_text("start\n" + "l\n" * 30)
    git(repo, "commit", "-q", "-am", "elsewhere in the file")
    git(repo, "checkout", "-q", "main")
    evil = f"touch {tmp_path}/ran; echo evil > %A; true"
    for scope in ("--local", "--global"):
        for name, value in (
            ("merge.evil.driver", evil),
            ("merge.default", "evil"),
            ("diff.evil.textconv", f"touch {tmp_path}/ran; cat"),
            ("diff.external", f"touch {tmp_path}/ran"),
            ("core.attributesFile", str(tmp_path / "attributes")),
            ("merge.directoryRenames", "true"),
        ):
            git(repo, "config", scope, name, value)
    (tmp_path / "attributes").write_text("* merge=evil\n")
    agentgov(repo, "promote", run, "--into", "feature")
    assert git(repo, "show", "feature:long.txt") == "start\n" + "l\n" * 30 + "end"
    assert not (tmp_path / "ran").exists()
