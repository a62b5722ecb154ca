"""JSON with one spelling for each value: what hashes are taken of."""

import json
from typing import Any


def canonical_json(value: Any) -> str:
    """Sorted keys, no white space, UTF-8 text as it is."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
