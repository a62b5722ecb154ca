"""disks.nix: file systems with all their options, LUKS, swap, boot loader. All of it from the plan."""

from installer.answers.sizes import MIB
from installer.plan.model import HostFilesystem, HostKeyLuks, HostLuks, HostStorage, Plan
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
        boot["initrd"] = {"luks": {"devices": {luks.name: _luks(luks) for luks in host.luks}}}
    if host.resume_device:
        boot["resumeDevice"] = host.resume_device
    if host.arrays:
        boot["swraid"] = {"enable": True, "mdadmConf": _mdadm(plan)}
    if host.zfs:
        boot["zfs"] = {"forceImportRoot": False, "devNodes": host.zfs.nodes}
    options: dict[str, Nix] = {
        "fileSystems": {filesystem.mountpoint: _filesystem(filesystem) for filesystem in host.filesystems},
        "swapDevices": [
            *({"device": device} for device in host.swap_devices),
            *(
                {"device": device, "randomEncryption": {"enable": True}}
                for device in host.random_swap_devices
            ),
            *({"device": file.path, "size": -(-file.size // MIB)} for file in host.swap_files),
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
    if services := _services(host):
        options["services"] = services
    if host.in_place:
        options["systemd"] = {"tmpfiles": {"rules": [f"h {path} - - - - +C" for path in host.in_place]}}
    if host.key_luks:
        lines = "".join(f"{_crypttab_line(luks)}\n" for luks in host.key_luks)
        options["environment"] = {"etc": {"crypttab": {"text": lines}}}
    if storage := _hypervisor(host):
        options["hypervisor"] = {"storage": storage}
    return options


def _luks(luks: HostLuks) -> dict[str, Nix]:
    options: dict[str, Nix] = {"device": luks.device, "allowDiscards": luks.allow_discards}
    # Where the token is missing or says no, stage 1 asks for the passphrase; "nofail": it goes on without the device, and
    # what stands on it decides how long it is waited for.
    more = [
        # By default systemd gives up after three, of which a missing token takes one and a wrong passphrase two: it is
        # tried again by itself. What is left then is a locked root, which nobody comes out of from afar (crypttab(5)).
        "tries=0",
        *([f"{luks.token}-device=auto"] if luks.token else []),
        *(["nofail"] if luks.dispensable else []),
    ]
    options["crypttabExtraOpts"] = list(more)
    return options


def _crypttab_line(luks: HostKeyLuks) -> str:
    """crypttab(5); opened once the root with the key is there."""
    options = ",".join(("luks", "nofail", *(("discard",) if luks.allow_discards else ())))
    return f"{luks.name} {luks.device} {luks.key_file} {options}"


def _mdadm(plan: Plan) -> str:
    """mdadm.conf(5): arrays by UUID, so that members moved to other ports are found, and strangers' are not."""
    arrays = [f"ARRAY /dev/md/{array.name} metadata=1.2 UUID={array.uuid}" for array in plan.host.arrays]
    return "\n".join((f"HOMEHOST {plan.hostname}", "MAILADDR root", *arrays)) + "\n"


def _services(host: HostStorage) -> dict[str, Nix]:
    found: dict[str, Nix] = {}
    if host.lvm == "thin":
        found["lvm"] = {"boot": {"thin": {"enable": True}}}
    return found


def _hypervisor(host: HostStorage) -> dict[str, Nix]:
    """What the host's own modules do for disks that may be missing."""
    found: dict[str, Nix] = {}
    if host.mirrors and host.loader == "systemd-boot":
        found["esp"] = {"mirrors": [each.mountpoint for each in host.mirrors]}
    if host.zfs:
        found["zfs"] = {"arcMax": f"{host.zfs.cache // MIB}MiB"}
    if host.degraded:
        found["degraded"] = {"enable": True}
    return found


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
        loader: dict[str, Nix] = {"enable": True, "configurationLimit": host.generations, "editor": False}
        if host.xbootldr_mountpoint:
            loader["xbootldrMountPoint"] = host.xbootldr_mountpoint
        return {"systemd-boot": loader, **efi}
    # Under UEFI, GRUB lives on the ESP alone: "nodev" keeps it off the disk's first sectors.
    grub: dict[str, Nix] = {"enable": True, "configurationLimit": host.generations}
    if not host.mirrors:
        if efi:
            grub |= {"device": "nodev", "efiSupport": True}
        elif host.grub_device is None:
            # A disk image: nobody knows what its disk is called. GRUB looks for nothing else than where it was started from.
            grub |= {"device": "nodev", "fsIdentifier": "provided"}
        else:
            grub |= {"device": host.grub_device}
    else:
        grub |= {"efiSupport": True} if efi else {}
        grub["mirroredBoots"] = [
            _grub_boot("/boot", host.grub_device, host),
            *(_grub_boot(each.mountpoint, each.grub_device, host) for each in host.mirrors),
        ]
    return {"grub": grub, **efi}


def _grub_boot(path: str, device: str | None, host: HostStorage) -> dict[str, Nix]:
    """One disk's GRUB, with kernels and menu beside it."""
    found: dict[str, Nix] = {"path": path, "devices": [device or "nodev"]}
    if host.firmware == "uefi":
        found["efiSysMountPoint"] = path
    return found
