"""What `approve` and `promote` have in common: which branch, who, and whether the record holds."""

from __future__ import annotations

import os
from pathlib import Path

from agentgov.cli.session import Session
from agentgov.cli.verify import verify_here
from agentgov.errors import ExitCode, UsageError
from agentgov.gates.landing import Person
from agentgov.git import branch_ref
from agentgov.harness.promoting import PromoteRequest
from agentgov.ledger.history import RunRecord
from agentgov.report.facts import intent_of, start_facts

FALLBACK_NAME = "unknown"
FALLBACK_EMAIL = "unknown@localhost"


def home_folder() -> Path | None:
    """This person's home folder; None when it is not set."""
    home = os.environ.get("HOME")
    return Path(home) if home else None


def request_for(
    session: Session, record: RunRecord, into: str | None, policy_ref: str | None, *, verified: bool
) -> PromoteRequest:
    """Gather what a promotion of `record` would be about.

    Raises:
        UsageError: AG0310, no branch was named and there is no default; AG0016, it cannot be a branch.
    """
    facts = start_facts(record, session.payloads)
    started_on = facts.get("branch")
    started_on = started_on if isinstance(started_on, str) else None
    operator = facts.get("operator")
    email = operator.get("email") if isinstance(operator, dict) else None
    target = into or started_on or session.repo.default_branch()
    if target is None:
        raise UsageError("no branch to land on", id="AG0310", hint="name it: --into BRANCH")
    problem = None
    if verified:
        report = verify_here(session)
        # An approval by somebody who was revoked counts for nothing, which the gate sees for itself; it must
        # not close the gate for every other run of this record.
        report.findings = [f for f in report.findings if f.code != "revoked" or f.run is None]
        if report.exit_code is not ExitCode.OK:
            problem = (report.exit_code, report.headline())
    return PromoteRequest(
        target=branch_ref(target),
        state=session.state,
        home=home_folder(),
        started_on=started_on,
        intent=intent_of(record, session.payloads),
        operator_email=email if isinstance(email, str) else None,
        person=Person(
            session.repo.config("user.name") or FALLBACK_NAME,
            session.repo.config("user.email") or FALLBACK_EMAIL,
        ),
        record_problem=problem,
        policy_ref=policy_ref,
    )
