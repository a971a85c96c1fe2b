"""Gates: what may happen (policy on effects) and what may land (review, promotion).

This package imports only the base (`agentgov`) and the ledger; what it needs from other layers comes in as
arguments.
"""
