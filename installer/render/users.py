"""users.nix and the SSH server of each phase: who can log in, and how."""

from installer.answers.model import Answers, Phase, User
from installer.answers.ssh_policy import sshd_settings
from installer.render.nix import Commented, Nix, default

PASSWORDS = "/var/lib/hyper-nixos/secrets/passwords"
"""Folder of the password hashes on the host: outside /etc/nixos, which is copied into the readable store."""
MUTABLE = """\
A declared password is taken when the account is made; after that passwd(1) rules, and stays in force
through rebuilds. So nobody is locked out by a lost hash file, and no old password comes back.
In phase hardened the security profiles strict and paranoid keep accounts as they are declared instead."""
ADMINISTRATORS = ("wheel", "hv-admins")
"""Root by sudo, and everything with guests (nix/modules/privileges)."""
KEY_ONLY = "These administrators have an SSH key and no password, so sudo cannot ask them for one."


def password_file(user: User) -> str | None:
    """Where the host keeps a user's password hash; none when there is no password."""
    return f"{PASSWORDS}/{user.name}" if user.password_hash or user.password_hash_file else None


def groups_of(user: User) -> tuple[str, ...]:
    """Groups of a user, beside the one that everybody has."""
    return tuple(dict.fromkeys((*(ADMINISTRATORS if user.admin else ()), *user.groups)))


def users(answers: Answers) -> dict[str, Nix]:
    """Accounts, sudo and the SSH server as far as it is the same in both phases."""
    options: dict[str, Nix] = {
        "users": {
            "mutableUsers": Commented(MUTABLE, default(True)),
            "users": {user.name: _account(user) for user in answers.users},
        }
    }
    shells = sorted({user.shell for user in answers.users} - {"bash"})
    if shells:
        options["programs"] = {shell: {"enable": True} for shell in shells}
    if without := [user.name for user in answers.users if user.admin and password_file(user) is None]:
        commands: Nix = [{"command": "ALL", "options": ["NOPASSWD"]}]
        options["security"] = {
            "sudo-rs": {"extraRules": Commented(KEY_ONLY, [{"users": without, "commands": commands}])}
        }
    options["services"] = {"openssh": _openssh(answers)}
    return options


def _openssh(answers: Answers) -> dict[str, Nix]:
    return {"enable": True, "ports": [answers.ssh.port]} if answers.ssh.enable else {"enable": False}


def openssh_settings(answers: Answers, phase: Phase) -> dict[str, Nix]:
    """`services.openssh.settings` of a phase. Whoever has no way in by the phase's rules is not asked at all."""
    settings = sshd_settings(answers, phase)
    passwords = settings["PasswordAuthentication"] is True
    allowed = [user.name for user in answers.users if user.ssh_keys or (passwords and password_file(user))]
    # An empty AllowUsers would admit everybody.
    return {**settings, **({"AllowUsers": allowed} if allowed else {})}


def _account(user: User) -> dict[str, Nix]:
    account: dict[str, Nix] = {"isNormalUser": True}
    if user.full_name:
        account["description"] = user.full_name
    if groups := groups_of(user):
        account["extraGroups"] = list(groups)
    if user.shell != "bash":
        account["shell"] = f"/run/current-system/sw/bin/{user.shell}"
    if file := password_file(user):
        account["hashedPasswordFile"] = file
    if user.ssh_keys:
        account["openssh"] = {"authorizedKeys": {"keys": list(user.ssh_keys)}}
    return account
