"""Accounts and the SSH server."""

from typing import Literal

from pydantic import Field

from installer.answers.secret import SecretFile
from installer.answers.text_kinds import GroupName, UserName
from installer.frozen import Frozen


class User(Frozen):
    """One person's account."""

    name: UserName
    """Login name."""
    full_name: str = ""
    """Name for people (GECOS; no colon, no line break)."""
    admin: bool = False
    """Whether the user may become root (group wheel)."""
    password_hash: str | None = Field(
        default=None, repr=False, examples=["$y$j9T$…"], json_schema_extra={"writeOnly": True}
    )
    """crypt(5) hash of the password, as `mkpasswd -m yescrypt` prints it; kinds $y$, $gy$, $7$, $6$, $2b$."""
    password_hash_file: SecretFile | None = Field(
        default=None, examples=[{"file": "/run/secrets/anna.hash"}], json_schema_extra={"writeOnly": True}
    )
    """The same, kept outside the answer file."""
    ssh_keys: tuple[str, ...] = Field(default=(), examples=[["ssh-ed25519 AAAA… anna@desk"]])
    """Public keys, one authorized_keys(5) line each."""
    groups: tuple[GroupName, ...] = ()
    """Further groups."""
    shell: Literal["bash", "zsh", "fish"] = "bash"
    """Login shell."""


class SshAnswers(Frozen):
    """The SSH server."""

    enable: bool = True
    """Whether it runs."""
    port: int = Field(default=22, ge=1, le=65535)
    """TCP port."""
    password_login: bool = False
    """Whether passwords are accepted in phase setup; never in phase hardened."""
