"""Takes out of text what must not leave the machine: secrets that are known, and what looks like one. Pure."""

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable
from urllib.parse import quote

from installer.execute.log import MARK, Redactor

SHORTEST = 4
"""Shorter values stand everywhere; nobody could read a text without them."""
_BLOCK = re.compile(
    r"-----BEGIN ([A-Z0-9 ]*(?:PRIVATE KEY|SECRET)[A-Z0-9 ]*)-----"
    r"(?:(?:(?!-----BEGIN).){0,20000}?-----END \1-----|(?:(?:\\n|\s)+[A-Za-z0-9+/=]{8,})*)",
    re.DOTALL,
)
"""A key in armour; where its end was cut off, the lines that look like one."""
_HASH = re.compile(r"\$(?:y|gy|7|6|5|1|2[abxy]?|argon2(?:id|i|d))\$[^\s:\"'<>,]+")
_KNOWN_KINDS = re.compile(
    r"AGE-SECRET-KEY-1[0-9A-Z]+|AGE-PLUGIN-[0-9A-Z-]+"
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bxox[abprs]-[\w-]{10,}|\bey[JK][\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"
)
_NIX_KEY = re.compile(r"\b([\w.-]+-\d+:)[A-Za-z0-9+/]{86}==")
"""A Nix signing key is 64 bytes, a public one 32: only the name before the colon stays."""
_URL_LOGIN = re.compile(r"(?<=://)[^/@\s\"']+@")
_URL_QUERY = re.compile(r"(?<=[a-z]://)([^\s\"'?]*)\?[^\s\"'<>]+")
_HEADER = re.compile(
    r"(?i)\b((?:proxy-)?authorization\s*[:=]\s*[\"']?(?:bearer|basic|digest)?\s*)[^\s\"',]+"
)
_WORDS = r"(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|private[_-]?key|psk|credential)"
_NAME = re.compile(rf"(?i)(?!token\Z)[\w.-]*{_WORDS}[\w.-]*")
"""Keys in JSON whose values are secrets; `token` alone is a plan's confirm token there."""
_NAMED = re.compile(
    rf"(?i)(?!password-hash:[a-z_])([\w.-]*{_WORDS}[\w.-]*"
    r"[\"']?\s*[=:]\s*)(\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^\s,;}\]\"']+)"
)
_HARMLESS = re.compile(r"[\"']?(?:|none|null|true|false|yes|no|/[\w./-]*|<secret>|\{.*)[\"']?\Z", re.DOTALL)
"""Values that say where a secret is or that there is none."""


class Scrub:
    """Makes text fit to leave the machine."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self._redact = Redactor()
        for secret in secrets:
            for form in _forms(secret):
                self._redact.add(form)

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        text = self._redact(text)
        text = _BLOCK.sub(f"-----{MARK}-----", text)
        text = _HASH.sub(MARK, text)
        text = _KNOWN_KINDS.sub(MARK, text)
        text = _NIX_KEY.sub(rf"\1{MARK}", text)
        text = _URL_LOGIN.sub(f"{MARK}@", text)
        text = _URL_QUERY.sub(rf"\1?{MARK}", text)
        text = _HEADER.sub(rf"\1{MARK}", text)
        return _NAMED.sub(_without_value, text)

    def document(self, content: bytes) -> bytes:
        """A file: JSON and lines of JSON by their values, so that they stay JSON; anything else as text."""
        text = content.decode("utf-8", "replace")
        try:
            return json.dumps(self._value(json.loads(text)), ensure_ascii=False, indent=1).encode() + b"\n"
        except ValueError:
            if not text.startswith("{"):
                return self(text).encode()
        return "".join(map(self._line, text.splitlines(keepends=True))).encode()

    def _line(self, line: str) -> str:
        try:
            return json.dumps(self._value(json.loads(line)), ensure_ascii=False) + "\n"
        except ValueError:
            return self(line)

    def _value(self, value: object) -> object:
        match value:
            case str():
                return self(value)
            case list() if all(isinstance(inner, str) for inner in value) and "-----BEGIN" in "".join(value):
                return self("\n".join(value)).split("\n")  # an armoured key, a line each
            case list():
                return [self._value(inner) for inner in value]
            case dict():
                return {
                    self(key): MARK
                    if isinstance(inner, str) and _NAME.fullmatch(key) and not _HARMLESS.match(inner)
                    else self._value(inner)
                    for key, inner in value.items()
                }
            case _:
                return value


def _forms(secret: bytes) -> Iterable[bytes]:
    """A secret as it may stand in text: whole, line by line, in base64, in hexadecimal, as part of a URL."""
    whole = secret.strip()
    lines = whole.splitlines()
    for value in dict.fromkeys([whole, *(line.strip() for line in lines)]):
        if len(value) < SHORTEST:
            continue
        yield value
        for encoded in (value, value + b"\n"):
            yield from (b64encode(encoded), urlsafe_b64encode(encoded), encoded.hex().encode())
        yield quote(value, safe="").encode()


def _without_value(match: re.Match[str]) -> str:
    value = match[2]
    if _HARMLESS.match(value):
        return match[0]
    mark = value[0] if value[0] in "\"'" else ""
    return f"{match[1]}{mark}{MARK}{mark}"
