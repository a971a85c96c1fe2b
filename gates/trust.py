"""Who a signature belongs to: a principal of the trust file, or whoever works on this machine.

Rules kept here:
- A wrong signature is an error, an unknown signer is nobody; the two are never confused.
- The pinned key is recognised also under its name in the trust file, so that an operator cannot count as
  somebody else.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentgov.errors import UntrustedSignerError
from agentgov.gates.review import Principal
from agentgov.ledger import sshsig

OPERATOR = "operator"


@dataclass(frozen=True)
class TrustedPersons:
    """Answers who made a signature.

    Attributes:
        allowed_signers: the trust file's text; empty when there is none.
        operator_key: the pinned key's line, or None.
    """

    allowed_signers: str
    operator_key: str | None = None

    def identify(self, message: bytes, signature: bytes) -> Principal | None:
        """The principal behind a signature over `message`, or None when nobody trusts its key.

        Raises:
            BrokenRecordError: AG0217 or AG0218, when the signature is wrong or none.
        """
        parsed = sshsig.parse_sshsig(signature)
        key = sshsig.verify_ssh_alone(parsed, message)
        own = (
            self.operator_key is not None
            and sshsig.parse_public_key(self.operator_key).fingerprint == key.fingerprint
        )
        if self.allowed_signers.strip():
            try:
                return Principal(sshsig.verify_ssh(parsed, message, self.allowed_signers), own)
            except UntrustedSignerError:
                # The key may still be the operator's own.
                return Principal(OPERATOR, True) if own else None
        return Principal(OPERATOR, True) if own else None
