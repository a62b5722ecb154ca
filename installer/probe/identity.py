"""Which machine this is, told to servers: the one that chooses answers, and those that are told how it goes."""

import hashlib
import json
import re

from installer.facts import Facts
from installer.frozen import Frozen
from installer.probe.root import Root

DMI_ID = "/sys/class/dmi/id"
MEANINGLESS = re.compile(
    r"|0+|none|n/?a|not (specified|applicable|available)|default string|to be filled by o\.?e\.?m\.?|"
    r"system serial number|chassis serial number|unknown|123456789|x+",
    re.IGNORECASE,
)
"""Serial numbers that vendors leave in: no machine is meant by them."""


class Identity(Frozen):
    """Which machine it is."""

    serial: str | None = None
    """Serial number of the system (DMI); none where the vendor left it blank."""
    uuid: str | None = None
    """UUID of the system (DMI), lower case."""
    macs: tuple[str, ...] = ()
    """Permanent addresses of all network cards, sorted, lower case."""
    boot: str = ""
    """Drawn by chance at every boot (`/proc/sys/kernel/random/boot_id`): the same for every try within one."""

    def machine(self) -> str:
        """A digest that stays the same over boots."""
        return hashlib.sha256(json.dumps([self.serial, self.uuid, self.macs]).encode()).hexdigest()


def identity(root: Root, facts: Facts) -> Identity:
    """Who this machine is."""
    uuid = root.text(f"{DMI_ID}/product_uuid")
    return Identity(
        serial=_meaningful(root.text(f"{DMI_ID}/product_serial")),
        uuid=uuid.lower() if _meaningful((uuid or "").replace("-", "")) and uuid else None,
        macs=tuple(sorted(nic.mac.lower() for nic in facts.nics)),
        boot=root.text("/proc/sys/kernel/random/boot_id") or "",
    )


def _meaningful(text: str | None) -> str | None:
    return None if text is None or MEANINGLESS.fullmatch(text.strip()) else text.strip()
