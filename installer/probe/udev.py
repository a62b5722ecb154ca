"""udev's database on the running machine, through pyudev."""

import os
from collections.abc import Mapping
from functools import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pyudev

DATABASE = "/run/udev/data"
"""Where udevd keeps what its rules found; without udevd, libudev has nothing that sysfs has not."""


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
    """The properties that are UTF-8, sorted by name.

    Devices give bytes of any kind as serial or label. pyudev decodes at each access, so that one bad value must
    not take the others along.
    """
    good = {}
    names = iter(properties)
    while True:
        try:
            name = next(names)
            good[name] = properties[name]
        except StopIteration:
            return dict(sorted(good.items()))
        except (UnicodeDecodeError, KeyError):
            continue
