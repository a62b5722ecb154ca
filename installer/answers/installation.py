"""Who is told of the installation, and what runs along with it."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from installer.answers.secret import SecretFile
from installer.frozen import Frozen


class Hook(Frozen):
    """A program of the operator's, run at a point of the installation."""

    when: Literal["before-plan", "before-write", "after-install"]
    """Before planning, right before the first write, or after the last step with the target mounted at /mnt."""
    command: tuple[str, ...] = Field(min_length=1, examples=[["/run/hooks/ready", "--verbose"]])
    """Program and arguments; no shell."""
    timeout: int = Field(default=300, ge=1)
    """Seconds."""


class Webhook(Frozen):
    """A server that is told how the installation goes."""

    url: Annotated[
        str,
        StringConstraints(pattern=r"^https?://\S+$"),
        Field(
            title="a URL that begins with https:// or http://", examples=["https://fleet.example.org/events"]
        ),
    ]
    """Where each event is posted to; it gets no name or password in it."""
    events: tuple[Literal["started", "step", "succeeded", "failed", "first-run"], ...] = (
        "started",
        "step",
        "succeeded",
        "failed",
        "first-run",
    )
    """Which events; `first-run` is told by the installed host itself, after its first boot."""
    secret: SecretFile | None = Field(
        default=None,
        examples=[{"file": "/run/hyper-nixos/live/secrets/webhook"}],
        json_schema_extra={"writeOnly": True},
    )
    """Key with which each event is signed (HMAC-SHA-256); without it events are not signed."""
    certificate: (
        Annotated[
            str,
            StringConstraints(pattern=r"^[0-9a-f]{64}$"),
            Field(
                title="a SHA-256: 64 hexadecimal digits in lower case",
                examples=["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
            ),
        ]
        | None
    ) = None
    """SHA-256 of the server's certificate; then this one is trusted, whoever issued it, and no other."""
