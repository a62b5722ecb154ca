"""udev's database on the running machine, through pyudev."""

import os
from collections.abc import Mapping
from functools import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pyudev

DATABASE = "/run/udev/data"
"""Where udevd keeps what its rules found; without udevd, libudev has nothing that sysfs has not."""

KEPT = frozenset(
    [
        "ID_BUS",
        "ID_MODEL",
        "ID_MODEL_ENC",
        "ID_VENDOR_ENC",
        "ID_SERIAL",
        "ID_SERIAL_SHORT",
        "ID_SCSI_SERIAL",
        "ID_WWN",
        "ID_WWN_WITH_EXTENSION",
        "ID_FS_TYPE",
        "ID_FS_UUID",
        "ID_FS_UUID_ENC",
        "ID_FS_LABEL",
        "ID_FS_LABEL_ENC",
        "ID_PART_TABLE_TYPE",
        "ID_PART_ENTRY_TYPE",
        "ID_PART_ENTRY_UUID",
        "ID_PART_ENTRY_NAME",
        "MD_NAME",
        "MD_DEVNAME",
        "MD_UUID",
        "ID_NET_NAME_ONBOARD",
        "ID_NET_NAME_SLOT",
        "ID_NET_NAME_PATH",
        "ID_NET_NAME_MAC",
        "ID_VENDOR_FROM_DATABASE",
        "ID_MODEL_FROM_DATABASE",
        "ID_PCI_SUBCLASS_FROM_DATABASE",
    ]
)
"""What the probe uses; a record tells nothing else."""
LINKS = ("/dev/disk/by-id/", "/dev/disk/by-path/")
"""The names in DEVLINKS that the probe uses."""


@cache
def _context() -> "pyudev.Context | None":
    """pyudev's context, None without udevd; loaded only when needed, for it takes longer than the rest."""
    if not os.path.isdir(DATABASE) and "UMOCKDEV_DIR" not in os.environ:  # noqa: PTH112
        return None
    import pyudev

    return pyudev.Context()


def live_properties(device: str) -> Mapping[str, str]:
    """Properties of the device at this path below /sys."""
    context = _context()
    if context is None:
        return {}
    import pyudev

    try:
        found = pyudev.Devices.from_sys_path(context, device)
    except pyudev.DeviceNotFoundError:
        return {}
    return readable(found.properties)


def readable(properties: Mapping[str, str]) -> dict[str, str]:
    """The properties that the probe uses and that are UTF-8, sorted by name.

    Devices give bytes of any kind as serial or label. pyudev decodes at each access, so that one bad value must
    not take the others along.
    """
    good = {}
    names = iter(properties)
    while True:
        try:
            name = next(names)
            if name == "DEVLINKS":
                good[name] = " ".join(
                    sorted(link for link in properties[name].split() if link.startswith(LINKS))
                )
            elif name in KEPT:
                good[name] = properties[name]
        except StopIteration:
            return dict(sorted(good.items()))
        except (UnicodeDecodeError, KeyError):
            continue
