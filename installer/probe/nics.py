"""Network interfaces with hardware behind them."""

from installer.probe.draft import Nic, Unknown
from installer.probe.pci import address_in
from installer.probe.root import Root

CLASS = "/sys/class/net"
STABLE_NAMES = ("ID_NET_NAME_ONBOARD", "ID_NET_NAME_SLOT", "ID_NET_NAME_PATH", "ID_NET_NAME_MAC")
"""systemd.net-naming-scheme(7), in the order of systemd's default NamePolicy."""
PERMANENT = 0
"""`addr_assign_type` of an address that the device brought along (linux/netdevice.h)."""


def probe_nics(root: Root) -> tuple[Nic, ...]:
    """Interfaces sorted by name; bridges, tunnels and the like have no device and are left out."""
    default = (root.ask("network default", "") or "").split()
    found = []
    for name in root.names(CLASS):
        path = root.real(f"{CLASS}/{name}")
        device = root.real(f"{path}/device") if path else None
        if path and device:
            found.append(_nic(root, name, path, device, default))
    return tuple(found)


def _nic(root: Root, name: str, path: str, device: str, default: list[str]) -> Nic:
    entries = root.names(path)
    properties = root.udev(path)
    pci = address_in(device)
    total = root.number(f"/sys/bus/pci/devices/{pci}/sriov_totalvfs") if pci else None
    return Nic(
        name=name,
        permanent_name=next((properties[key] for key in STABLE_NAMES if properties.get(key)), None),
        mac=_mac(root, path, entries, properties.get("ID_NET_NAME_MAC", "")),
        driver=root.target(f"{path}/device/driver"),
        pci_address=pci,
        speed=_speed(root, f"{path}/speed"),
        link=_link(root, f"{path}/carrier"),
        wireless="wireless" in entries or "phy80211" in entries,
        sriov_total=max(0, total or 0),
        addresses=tuple((root.ask("network addresses", name) or "").split()),
        default_route=name in default,
    )


def _mac(root: Root, path: str, entries: tuple[str, ...], stable: str) -> str:
    """The device's own address, also while a bond or a person has given it another one."""
    own = root.text(f"{path}/bonding_slave/perm_hwaddr") if "bonding_slave" in entries else None
    if own:
        return own.lower()
    if root.number(f"{path}/addr_assign_type") != PERMANENT and len(stable) >= 15:
        digits = stable[-12:]
        return ":".join(digits[place : place + 2] for place in range(0, 12, 2))
    return (root.text(f"{path}/address") or "").lower()


def _speed(root: Root, path: str) -> int | Unknown:
    speed = root.number(path)
    if speed is None:
        return Unknown(unknown_because=root.why(path))
    return speed if speed > 0 else Unknown(unknown_because=f"{path} is {speed}: the driver does not tell")


def _link(root: Root, path: str) -> bool | Unknown:
    carrier = root.text(path)
    return carrier == "1" if carrier in ("0", "1") else Unknown(unknown_because=root.why(path))
