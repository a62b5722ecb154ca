"""Where the system comes from."""

from typing import Literal

from pydantic import Field

from installer.frozen import Frozen


class Substituter(Frozen):
    """A binary cache."""

    url: str = Field(examples=["https://cache.example.org"])
    """`https://…`, `file:///…`, `s3://…`."""
    public_key: str | None = Field(default=None, examples=["cache.example.org-1:…="])
    """`name:base64`, as `nix key convert-secret-to-public` prints it; none only for caches that sign with known keys."""


class SystemAnswers(Frozen):
    """Where the system comes from."""

    source: Literal["flake", "closure"] = "flake"
    """`flake`: evaluated from the rendered configuration; `closure`: ready-made, found on the medium or in a cache."""
    closure: str | None = Field(default=None, examples=["standard"])
    """With `closure`: the name that the medium gives it, or a store path."""
    substituters: tuple[Substituter, ...] = ()
    """Binary caches for the live system and the host alike."""
    ca_certificates: tuple[str, ...] = Field(default=(), examples=[["-----BEGIN CERTIFICATE-----\n…"]])
    """PEM certificates to trust, in the live system and on the host."""
    offline: bool = False
    """Never reach for the network; refuse when something is missing."""
