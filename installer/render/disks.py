"""disks.nix: file systems with all their options, LUKS, swap, boot loader. All of it from the plan."""

from installer.plan.model import HostFilesystem, HostStorage, Plan
from installer.render.nix import Commented, Nix

HOST_ID = "Names this host to ZFS and to everything else that keys on it."


def disks(plan: Plan) -> dict[str, Nix]:
    """Options that follow from the planned storage."""
    host = plan.host
    boot: dict[str, Nix] = {
        "supportedFilesystems": list(host.supported_filesystems),
        "loader": _loader(host),
    }
    if host.luks:
        boot["initrd"] = {
            "luks": {
                "devices": {
                    luks.name: {"device": luks.device, "allowDiscards": luks.allow_discards}
                    for luks in host.luks
                }
            }
        }
    options: dict[str, Nix] = {
        "fileSystems": {filesystem.mountpoint: _filesystem(filesystem) for filesystem in host.filesystems},
        "swapDevices": [
            *({"device": device} for device in host.swap_devices),
            *(
                {"device": device, "randomEncryption": {"enable": True}}
                for device in host.random_swap_devices
            ),
        ],
        "boot": boot,
        "networking": {"hostId": Commented(HOST_ID, plan.host_id)},
    }
    # Said either way: the tier has a default of its own.
    options["zramSwap"] = (
        {"enable": False}
        if host.zram_percent is None
        else {"enable": True, "memoryPercent": host.zram_percent}
    )
    return options


def _filesystem(filesystem: HostFilesystem) -> dict[str, Nix]:
    options: dict[str, Nix] = {"device": filesystem.device, "fsType": filesystem.kind}
    if filesystem.options:
        options["options"] = list(filesystem.options)
    if filesystem.needed_for_boot:
        options["neededForBoot"] = True
    return options


def _loader(host: HostStorage) -> dict[str, Nix]:
    efi: dict[str, Nix] = {}
    if host.firmware == "uefi":
        efi["efi"] = {"canTouchEfiVariables": True, "efiSysMountPoint": host.esp_mountpoint}
    if host.loader == "systemd-boot":
        return {
            "systemd-boot": {"enable": True, "configurationLimit": host.generations, "editor": False},
            **efi,
        }
    # Under UEFI, GRUB lives on the ESP alone: "nodev" keeps it off the disk's first sectors.
    grub: dict[str, Nix] = {"enable": True, "configurationLimit": host.generations}
    grub |= {"device": "nodev", "efiSupport": True} if efi else {"device": host.grub_device}
    return {"grub": grub, **efi}
