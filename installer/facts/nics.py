"""Network interfaces with hardware behind them."""

from installer.facts.common import PciAddress, Unknown
from installer.frozen import Frozen


class Nic(Frozen):
    """One interface."""

    name: str
    """Name now."""
    permanent_name: str | None
    """Name that udev would give it at every boot (ID_NET_NAME_ONBOARD, _SLOT, _PATH or _MAC)."""
    mac: str
    """Permanent address, lower case with colons."""
    driver: str | None
    """Kernel driver."""
    pci_address: PciAddress | None
    """Its PCI function; none for USB and virtual ones."""
    speed: int | Unknown
    """Mbit/s of the link."""
    link: bool | Unknown
    """Whether a cable answers (carrier)."""
    wireless: bool
    """Whether it is Wi-Fi."""
    sriov_total: int
    """Virtual functions it could have."""
    addresses: tuple[str, ...] = ()
    """Addresses with prefix length that it has now."""
    default_route: bool = False
    """Whether the default route leaves through it."""
