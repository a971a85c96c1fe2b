"""Sending the record to one remote and fetching what others sent there."""

from __future__ import annotations

from agentgov.ledger.sync_log import pushed

__all__ = ["pushed"]
