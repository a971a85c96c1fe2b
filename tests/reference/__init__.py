"""A second implementation of the format, written from docs/format.md alone, plain and without agentgov.

Rules: nothing here imports agentgov; the standard library suffices, but for the bare Ed25519 operation, which
`cryptography` does; each function follows the words of its section; the kinds of entries are read from the
tables of the page itself, so that a page which says too little cannot pass. What is found wrong is raised as
`Refused`, with the word that the page gives it and the entry at which a reader stops.
"""
