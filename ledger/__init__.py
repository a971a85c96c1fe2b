"""The record: entries, chain, keys, signatures, seals, payloads, and the verifier that reads them back."""
