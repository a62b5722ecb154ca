"""A recipe: a base image and what goes into it. Its id follows from the content, so the same wishes have the same id."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from iso.contents import Content


@dataclass(frozen=True)
class Recipe:
    """A customised image, before it is made."""

    image: str
    """Name of the base image."""
    sha256: str
    """Of the base image."""
    content: Content

    @property
    def identity(self) -> str:
        """The id: SHA-256 over base, files and arguments, the first 160 bits."""
        told: dict[str, Any] = {
            "version": 1,
            "base": self.sha256,
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in self.content.files.items()},
            "arguments": list(self.content.arguments),
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:40]
