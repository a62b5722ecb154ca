"""Who may do what: roles are groups of the host, as nix/modules/privileges/roles.json has them; a test compares."""

from dataclasses import dataclass
from enum import StrEnum


class Permission(StrEnum):
    """What a role allows."""

    list = "list"
    show = "show"
    statistics = "statistics"
    history = "history"
    start = "start"
    stop = "stop"
    console = "console"
    snapshot = "snapshot"
    backup = "backup"
    create = "create"
    change = "change"
    delete = "delete"
    devices = "devices"
    networks = "networks"
    pools = "pools"
    roles = "roles"


P = Permission
_SEES = frozenset({P.list, P.show, P.statistics})
_RUNS = _SEES | {P.start, P.stop, P.console, P.snapshot, P.backup}


@dataclass(frozen=True)
class Role:
    """A role, with the group that has it."""

    name: str
    group: str
    permissions: frozenset[Permission]
    everybodys: bool
    """Whether it reaches every guest, not just one's own."""


ROLES = (
    Role("viewer", "hv-viewers", _SEES, everybodys=True),
    Role("operator", "hv-operators", _RUNS, everybodys=True),
    Role("owner", "hv-owners", _RUNS | {P.create, P.change, P.delete}, everybodys=False),
    Role("auditor", "hv-auditors", _SEES | {P.history}, everybodys=True),
    Role("admin", "hv-admins", frozenset(Permission), everybodys=True),
)
"""Every role."""
GRANTING = "an administrator of the host, who sets users.users.NAME.extraGroups and rebuilds"
"""Who can give a role."""


@dataclass(frozen=True)
class Caller:
    """Somebody who asks."""

    uid: int
    name: str
    groups: frozenset[str]

    @property
    def roles(self) -> tuple[Role, ...]:
        """Theirs; root has every one that admin has."""
        return tuple(
            role for role in ROLES if role.group in self.groups or (self.uid == 0 and role.name == "admin")
        )


@dataclass(frozen=True)
class Decision:
    """Whether, and why."""

    allowed: bool
    why: str
    remedy: str = ""


def decide(caller: Caller, permission: Permission, owner: int | None, target: str) -> Decision:
    """May the caller do that with something of `owner` (None: nobody's)? `create` and the like have no owner."""
    own = owner is not None and owner == caller.uid
    for role in caller.roles:
        if permission in role.permissions and (role.everybodys or own or permission is P.create):
            reach = "every VM" if role.everybodys else "your own VMs"
            return Decision(True, f"role {role.name} (group {role.group}) has `{permission}` for {reach}")
    holders = [role for role in ROLES if permission in role.permissions]
    wanted = ", ".join(
        f"{role.group}{'' if role.everybodys or permission is P.create else ' (for your own)'}"
        for role in holders
    )
    have = ", ".join(role.name for role in caller.roles) or "none"
    limited = any(permission in role.permissions for role in caller.roles)
    why = f"{caller.name} lacks the permission `{permission}` on {target}; roles: {have}"
    if limited:
        why += ", which reach your own VMs only, and this one is somebody else's"
    return Decision(False, why, f"Ask {GRANTING}: `{permission}` comes with the group {wanted}.")
