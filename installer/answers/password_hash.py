"""Password hashes as crypt(5) writes them: is it one that the host's login will take?"""

import re

_BASE64 = r"[./A-Za-z0-9]"

KINDS = {
    # crypt(5), "Available hashing methods". The kinds that NixOS lets a user log in with, without the weak ones.
    "y": ("yescrypt", rf"\$y\${_BASE64}+\${_BASE64}{{1,86}}\${_BASE64}{{43}}"),
    "gy": ("gost-yescrypt", rf"\$gy\${_BASE64}+\${_BASE64}{{1,86}}\${_BASE64}{{43}}"),
    "7": ("scrypt", rf"\$7\${_BASE64}{{11,97}}\${_BASE64}{{43}}"),
    "6": ("sha512crypt", rf"\$6\$(rounds=[1-9][0-9]{{3,8}}\$)?[^$:\s]{{1,16}}\${_BASE64}{{86}}"),
    "2b": ("bcrypt", rf"\$2b\$(0[4-9]|[12][0-9]|3[01])\${_BASE64}{{53}}"),
}


def hash_fault(text: str) -> str | None:
    """What is wrong with a password hash, in words that never repeat it; none when it is well formed."""
    if not text:
        return "is empty: anyone could log in, or nobody"
    if text[0] in "!*":
        return "is locked (begins with `!` or `*`)"
    kind = re.match(r"\$([A-Za-z0-9]+)\$", text)
    if not kind:
        return "is not a hash; a password itself must never be written here"
    if kind[1] not in KINDS:
        return f"is of kind ${kind[1]}$, which is not supported; supported are " + ", ".join(
            f"${name}$ ({words})" for name, (words, _) in KINDS.items()
        )
    words, pattern = KINDS[kind[1]]
    if not re.fullmatch(pattern, text):
        return f"is not a whole {words} hash: {len(text)} characters that do not have its form"
    return None
