"""Secrets: where they are, never what they are."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from installer.answers.text_kinds import AbsolutePath, true_or_false
from installer.frozen import Frozen


class SecretFile(Frozen):
    """A secret kept outside the answer file."""

    file: AbsolutePath
    """Absolute path, on the live system, of a file holding the secret; one trailing newline is dropped."""


class SecretPrompt(Frozen):
    """A secret typed at the console during installation; not for unattended use."""

    prompt: Annotated[Literal[True], BeforeValidator(true_or_false)]
    """Ask for it."""


def _secret_kind(value: Any) -> str | None:
    keys = value.keys() if isinstance(value, dict) else getattr(value, "model_fields_set", ())
    return next((kind for kind in ("file", "prompt") if kind in keys), None)


Secret = Annotated[
    Annotated[SecretFile, Tag("file")] | Annotated[SecretPrompt, Tag("prompt")],
    Discriminator(_secret_kind),
    Field(
        title='`{ file = "/path" }` or `{ prompt = true }`: a secret is never written into the answer file',
        examples=[{"file": "/run/secrets/passphrase"}],
        json_schema_extra={"writeOnly": True},
    ),
]
