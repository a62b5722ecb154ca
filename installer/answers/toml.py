"""Values as TOML writes them, for messages, examples and the skeleton; tomllib only reads."""

import json
import re

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def toml(value: object) -> str:
    """One value, on one line (TOML 1.0). TypeError for what TOML cannot say, such as None."""
    match value:
        case str():
            # JSON's escapes are TOML's, but for DEL, which TOML wants escaped as well.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            pairs = ", ".join(f"{toml_key(str(key))} = {toml(inner)}" for key, inner in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case _:
            raise TypeError(f"TOML has no {type(value).__name__}")


def toml_key(key: str) -> str:
    """A key, in quotes where TOML needs them."""
    return key if _BARE_KEY.fullmatch(key) else toml(key)
