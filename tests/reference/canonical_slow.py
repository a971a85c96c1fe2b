"""Canonical JSON, character by character (docs/format.md, "Canonical JSON"; RFC 8785).

The parser knows the canonical spelling only: what it takes needs no printing again to be compared.
"""

from __future__ import annotations

from typing import Any

from tests.reference.refused import Refused

MAX_BYTES, MAX_DEPTH = 65_536, 16
_SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
_LONG = {spelt: char for char, spelt in _SHORT.items()}
_LOWER, _DIGITS = "abcdefghijklmnopqrstuvwxyz", "0123456789"


def parse(raw: bytes) -> Any:
    """Return the value that these bytes are the canonical form of."""
    if len(raw) > MAX_BYTES:
        raise Refused("line", "too long")
    if any(byte > 0x7F for byte in raw):
        raise Refused("line", "not ASCII")
    reader = _Reader(raw.decode("ascii"))
    value = reader.value(1)
    if reader.at != len(reader.text):
        raise Refused("line", "something follows the value")
    return value


def write(value: Any) -> bytes:
    """Return the canonical form of a value."""
    return _write(value).encode("ascii")


def _write(value: Any) -> str:
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return '"' + "".join(_spell(char) for char in value) + '"'
    if isinstance(value, list):
        return "[" + ",".join(map(_write, value)) + "]"
    return "{" + ",".join(f"{_write(key)}:{_write(value[key])}" for key in sorted(value)) + "}"


def _spell(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    return char if char >= " " else f"\\u{ord(char):04x}"


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def value(self, depth: int) -> Any:
        for word, meaning in (("null", None), ("true", True), ("false", False)):
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return meaning
        char = self.peek()
        if char in "{[" and depth > MAX_DEPTH:
            raise Refused("line", "nested too deep")
        if char == "{":
            return self.object(depth)
        if char == "[":
            return self.array(depth)
        return self.string() if char == '"' else self.integer()

    def peek(self) -> str:
        if self.at >= len(self.text):
            raise Refused("line", "it ends too soon")
        return self.text[self.at]

    def take(self, char: str) -> None:
        if self.peek() != char:
            raise Refused("line", f"{char} is missing at {self.at}")
        self.at += 1

    def object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self.take("{")
        last = ""
        while self.peek() != "}":
            if found:
                self.take(",")
            key = self.string()
            if key == "" or key[0] not in _LOWER or any(c not in _LOWER + _DIGITS + "_" for c in key):
                raise Refused("line", "not a key")
            if key <= last:
                raise Refused("line", "keys are not sorted, or one stands twice")
            last = key
            self.take(":")
            found[key] = self.value(depth + 1)
        self.take("}")
        return found

    def array(self, depth: int) -> list[Any]:
        found: list[Any] = []
        self.take("[")
        while self.peek() != "]":
            if found:
                self.take(",")
            found.append(self.value(depth + 1))
        self.take("]")
        return found

    def string(self) -> str:
        self.take('"')
        text = ""
        while (char := self.peek()) != '"':
            if char == "\\":
                text += self.escape()
                continue
            if char < " ":
                raise Refused("line", "a control character")
            text += char
            self.at += 1
        self.take('"')
        return text

    def escape(self) -> str:
        spelt = self.text[self.at : self.at + 2]
        if spelt in _LONG:
            self.at += 2
            return _LONG[spelt]
        spelt = self.text[self.at : self.at + 6]
        for code in range(0x20):
            if spelt == f"\\u{code:04x}" and chr(code) not in _SHORT:
                self.at += 6
                return chr(code)
        raise Refused("line", "not the canonical escape")

    def integer(self) -> int:
        start = self.at
        if self.text.startswith("-", self.at):
            self.at += 1
        while self.at < len(self.text) and self.text[self.at] in _DIGITS:
            self.at += 1
        spelt = self.text[start : self.at]
        digits = spelt.removeprefix("-")
        if digits == "" or (digits[0] == "0" and spelt != "0") or len(digits) > 16:
            raise Refused("line", "not a canonical integer")
        if not -(2**53) < int(spelt) < 2**53:
            raise Refused("line", "an integer of more than 53 bits")
        return int(spelt)
