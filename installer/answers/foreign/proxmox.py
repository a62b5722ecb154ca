"""An answer file of Proxmox VE's automated installation (Proxmox VE wiki, Automated Installation)."""

import ipaddress
from typing import Any

from installer.answers.foreign.disks import selector, storage_disks
from installer.answers.foreign.tree import Imported, Tree
from installer.facts import Facts

KEYBOARDS = {
    "de": "de-latin1",
    "de-ch": "sg",
    "dk": "dk",
    "en-gb": "uk",
    "en-us": "us",
    "es": "es",
    "fi": "fi",
    "fr": "fr",
    "fr-be": "be-latin1",
    "fr-ca": "cf",
    "fr-ch": "fr_CH",
    "hu": "hu",
    "is": "is-latin1",
    "it": "it",
    "jp": "jp106",
    "lt": "lt",
    "mk": "mk",
    "nl": "nl",
    "no": "no",
    "pl": "pl",
    "pt": "pt-latin1",
    "pt-br": "br-abnt2",
    "se": "sv-latin1",
    "si": "slovene",
    "tr": "trq",
}
"""Its layouts as console keymaps."""
RAIDS = {
    "raid0": "none",
    "raid1": "mirror",
    "raid10": "raid10",
    "raidz-1": "raidz1",
    "raidz-2": "raidz2",
    "raidz-3": "raidz3",
}
FILTERS = {"ID_SERIAL_SHORT": "serial", "ID_WWN": "wwn", "ID_MODEL": "model"}
"""udev's properties that a disk can be found by here too."""
ROOT_LOGIN = "nobody logs in as root; make an administrator in [[users]]"


def read_proxmox(value: dict[str, Any], facts: Facts | None = None) -> Imported:
    """An `answer.toml` as tomllib gives it. Older files write keys with `_`, newer ones with `-`."""
    tree = Tree(_dashed(value))
    answers: dict[str, Any] = {"version": 1, "storage": {}}
    _global(tree, answers)
    _network(tree, answers)
    _disks(tree, answers, facts)
    tree.leave(
        ("first-boot",), "programs of the first boot are NixOS services, or hooks of the installation"
    )
    tree.leave(("post-installation-webhook",), "write [[webhooks]], whose events have another form")
    return Imported(answers, tree.left())


def _dashed(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key if key.isupper() or key.startswith("ID_") else key.replace("_", "-"): _dashed(inner)
            for key, inner in value.items()
        }
    return value


def _global(tree: Tree, answers: dict[str, Any]) -> None:
    fqdn = tree.look("global", "fqdn")
    if isinstance(fqdn, str):
        tree.take("global", "fqdn")
        answers["hostname"], dot, domain = fqdn.lower().partition(".")
        if dot:
            answers["domain"] = domain
    keyboard = tree.look("global", "keyboard")
    if keyboard in KEYBOARDS:
        tree.take("global", "keyboard")
        answers["keymap"] = KEYBOARDS[keyboard]
    if isinstance(tree.look("global", "timezone"), str):
        answers["timezone"] = tree.take("global", "timezone")
    mode = {"reboot": "reboot", "power-off": "poweroff"}.get(str(tree.look("global", "reboot-mode")))
    if mode:
        tree.take("global", "reboot-mode")
        answers["at_end"] = mode
    keys = tree.look("global", "root-ssh-keys")
    if isinstance(keys, list) and keys:
        tree.take("global", "root-ssh-keys")
        answers["users"] = [{"name": "admin", "admin": True, "ssh_keys": keys}]
    tree.leave(("global", "root-password"), f"{ROOT_LOGIN}, with password_hash_file")
    tree.leave(("global", "root-password-hashed"), f"{ROOT_LOGIN}; the hash fits its password_hash")
    tree.leave(("global", "country"), "locale and time zone are fields of their own")
    tree.leave(("global", "mailto"), "the host sends no mail by itself")


def _network(tree: Tree, answers: dict[str, Any]) -> None:
    source = tree.look("network", "source")
    if source == "from-dhcp":
        tree.take("network", "source")
        return
    if source != "from-answer":
        return
    tree.take("network", "source")
    addressing: dict[str, Any] = {"dhcp": "no"}
    for field, name in (("cidr", "addresses"), ("gateway", "gateways"), ("dns", "dns")):
        text = tree.look("network", field)
        if isinstance(text, str) and _fits(name, text):
            tree.take("network", field)
            addressing[name] = [text]
    match: dict[str, str] = {}
    for key, value in (tree.look("network", "filter") or {}).items():
        if (
            key == "ID_NET_NAME_MAC"
            and isinstance(value, str)
            and len(digits := value.lstrip("*").removeprefix("enx")) == 12
        ):
            match = {"mac": ":".join(digits[place : place + 2] for place in range(0, 12, 2))}
            tree.take("network", "filter", key)
        elif key in ("ID_NET_NAME", "INTERFACE", "ID_NET_NAME_PATH", "ID_NET_NAME_ONBOARD") and not match:
            match = {"name": str(value)}
            tree.take("network", "filter", key)
        else:
            tree.leave(("network", "filter", key), "interfaces are found by `mac` or `name`")
    if match:
        answers["network"] = {"ethernets": [{"name": "lan0", "match": match, "addressing": addressing}]}
    else:
        for field in ("cidr", "gateway", "dns"):
            tree.leave(
                ("network", field), "no filter says whose it is: write [[network.ethernets]] with its MAC"
            )


def _fits(name: str, text: str) -> bool:
    try:
        ipaddress.ip_interface(text) if name == "addresses" else ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _disks(tree: Tree, answers: dict[str, Any], facts: Facts | None) -> None:
    storage, path = answers["storage"], "disk-setup"
    if tree.look(path) is None and tree.look("disk-configuration") is not None:
        path = "disk-configuration"
    kind = tree.look(path, "filesystem")
    if kind in ("ext4", "xfs", "zfs", "btrfs"):
        tree.take(path, "filesystem")
        storage["filesystem"] = kind
    if kind in ("ext4", "xfs"):
        # Proxmox puts these on LVM, with a thin pool for guests beside the root, unless that is to have no size.
        storage["volumes"] = "lvm"
        if tree.look(path, "lvm", "maxvz") == 0:
            tree.take(path, "lvm", "maxvz")
        else:
            storage["pool"] = {"kind": "lvm-thin"}
    elif kind == "zfs":
        storage["pool"] = {"kind": "zfs"}  # rpool/data
    elif kind == "btrfs":
        storage["pool"] = {"kind": "dir"}  # /var/lib/pve/local-btrfs, on the root's disks
    if kind in ("ext4", "xfs"):
        for field, name in (("maxroot", "root_size"),):
            if isinstance(size := tree.look(path, "lvm", field), int | float):
                tree.take(path, "lvm", field)
                storage[name] = f"{size}GiB"
        if isinstance(size := tree.look(path, "lvm", "swapsize"), int | float):
            tree.take(path, "lvm", "swapsize")
            storage["swap"] = {"kind": "partition", "size": f"{size}GiB"} if size else {"kind": "none"}
        tree.leave((path, "lvm"), "the thin pool takes what the root leaves")
    selectors = []
    for place, name in enumerate(tree.look(path, "disk-list") or []):
        found = selector(str(name), facts)
        if isinstance(found, str):
            tree.leave((path, "disk-list", place), found)
        else:
            tree.take(path, "disk-list", place)
            selectors.append(found)
    storage |= storage_disks(selectors) or _filtered(tree, path)
    raid = tree.look(path, str(kind), "raid")
    if raid in RAIDS:
        tree.take(path, str(kind), "raid")
        several = len(selectors) > 1 or raid != "raid0"
        if several:
            storage["layout"] = "mirror" if raid == "raid1" else "array"
        if storage.get("layout") == "array":
            storage["redundancy"] = RAIDS[raid]
    for part in ("lvm", "zfs", "btrfs"):
        tree.leave((path, part, "hdsize"), "each disk is used whole")
    tree.leave((path, "zfs"), "the installer chooses it, and ZFS's cache takes an eighth of the memory")
    tree.leave((path, "btrfs"), "the installer chooses it")


def _filtered(tree: Tree, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    every = tree.look(path, "filter-match") in (None, "any", "all")
    filters = tree.look(path, "filter") or {}
    single = len(filters) == 1 or tree.look(path, "filter-match") == "all"
    for key, value in filters.items():
        name = FILTERS.get(key)
        if name is None or not single or not every:
            why = (
                "one condition of several would do there; here all of them must hold"
                if name
                else "disks are found by serial, wwn, by_id, model, transport, size or rotational"
            )
            tree.leave((path, "filter", key), why)
        elif name != "model" and any(mark in str(value) for mark in "*?["):
            tree.leave((path, "filter", key), "only a model may have wildcards")
        else:
            tree.take(path, "filter", key)
            found[name] = value.replace("_", " ") if name == "model" else value
    if found and tree.look(path, "filter-match"):
        tree.take(path, "filter-match")
    return {"disk": found} if found else {}
