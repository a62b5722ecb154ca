"""A request for a guest, completed by what its system wants: what was said stays."""

from typing import Any

from hv.vm.osinfo import Database, System


def fit(given: dict[str, Any], system: System, *, pool: str = "default") -> None:
    """Fills in what the request (VmSpec's fields) does not say.

    A disk of the system's size is made where a medium installs and there is none; `pool` is for that.
    """
    for field, value in (
        ("vcpus", system.cpus),
        ("memory", system.memory),
        ("firmware", system.firmware),
    ):
        if value is not None:
            given.setdefault(field, value)
    if given.get("iso") and not given.get("disks") and system.disk:
        given["disks"] = [{"pool": pool, "size": system.disk}]
    given["disks"] = [{"bus": system.bus} | disk for disk in given.get("disks", ())]
    given["nics"] = [{"model": system.nic} | nic for nic in given.get("nics", ())]
    if system.tpm and given.get("firmware") == "uefi":
        given["tpm"] = given["secure_boot"] = True


def looked_up(os: str, *, told: bool = True) -> tuple[System | None, str]:
    """The system of that id, and why there is none; nothing is said of one that nobody named (`told`)."""
    database = Database()
    system = database.system(os)
    if system is not None or not told:
        return system, ""
    why = (
        f"libosinfo's database does not know {os!r}"
        if database.folder
        else "libosinfo's database is not there (package osinfo-db)"
    )
    like = ", ".join(database.like(os))
    return None, f"{why}: what was not said is as for any system{f'; it knows {like}' if like else ''}"
