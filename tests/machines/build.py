"""Makes the machine records of this folder that no real machine gave: `python -m tests.machines.build`.

Each machine is described in the terms of its kernel; the probe then reads it, and only what it read is kept, so that
these records look exactly like those of `hv probe --record`.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from installer.commands.probe import dumps
from installer.probe import draft
from installer.probe.record import Record, RecordingRoot, ReplayRoot, load, save

MACHINES = Path(__file__).parent
GIB = 1 << 30
SECTOR = 512
EFI_GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
INTEL_FLAGS = "fpu lm nx pdpe1gb avx2 vmx ept vpid clflushopt"
AMD_FLAGS = "fpu lm nx pdpe1gb avx2 svm npt clzero clflushopt"
INTEL, REDHAT = "Intel Corporation", "Red Hat, Inc."
ESP_TYPE = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
LINUX_TYPE = "0fc63daf-8483-4772-8e79-3d69d8477de4"
RAID_TYPE = "a19d880f-05fc-4d3b-a006-743f0f84911e"
RESERVED_TYPE = "e3c9e316-0b5c-4db8-817d-f92df00215ae"
DATA_TYPE = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"
RECOVERY_TYPE = "de94bba4-06d1-4d40-a16a-bfd50179d6ac"


class Machine:
    """A record in the making."""

    def __init__(self) -> None:
        self.record = Record()
        self._mounts: list[str] = []
        self._swaps: list[str] = []
        self._groups: set[tuple[int, str]] = set()
        self._minor = 0
        self.text("/proc/cmdline", "")
        self.mount("/", "tmpfs", "tmpfs", "0:2")

    def text(self, path: str, text: str | int) -> None:
        """A text file."""
        self.record.files[path] = str(text)

    def link(self, path: str, target: str) -> None:
        """A symbolic link, by where it finally leads."""
        self.record.links[path] = target

    def processor(
        self, vendor: str, model: str, flags: str, *, cores: int, threads_per_core: int = 2, sockets: int = 1
    ) -> None:
        """Processors, all alike."""
        entries = []
        for number in range(sockets * cores * threads_per_core):
            socket, core = number % (sockets * cores) // cores, number % cores
            entries.append(
                f"processor\t: {number}\nvendor_id\t: {vendor}\nmodel name\t: {model}\nphysical id\t: {socket}\n"
                f"core id\t\t: {core}\nflags\t\t: {flags}\n"
            )
        self.text("/proc/cpuinfo", "\n".join(entries))
        self.text("/sys/devices/system/node/has_cpu", "0" if sockets == 1 else f"0-{sockets - 1}")

    def kvm(self, module: str, **parameters: str) -> None:
        """KVM works, with this module."""
        self.record.answers["kvm"] = "ok 12"
        self.link(f"/sys/module/{module}", f"/sys/module/{module}")
        for name, value in {"nested": "Y", **parameters}.items():
            self.text(f"/sys/module/{module}/parameters/{name}", value)

    def memory(self, gib: int, *, available_gib: int | None = None, correction: int | None = None) -> None:
        """Main memory; `correction` as in SMBIOS 7.17.3."""
        total = gib * GIB * 97 // 100 // 1024
        available = (available_gib or gib) * GIB * 9 // 10 // 1024
        self.text(
            "/proc/meminfo", f"MemTotal: {total} kB\nMemFree: {available} kB\nMemAvailable: {available} kB"
        )
        for size in (2048, 1048576):
            self.text(f"/sys/kernel/mm/hugepages/hugepages-{size}kB/nr_hugepages", 0)
        if correction is not None:
            self.record.data["/sys/firmware/dmi/entries/16-0/raw"] = bytes(
                (16, 23, 0, 16, 3, 3, correction)
            ).hex()

    def uefi(self, *, secure_boot: bool = False, setup_mode: bool = False) -> None:
        """Started by 64-bit UEFI."""
        self.text("/sys/firmware/efi/fw_platform_size", 64)
        for name, value in (("SecureBoot", secure_boot), ("SetupMode", setup_mode)):
            path = f"/sys/firmware/efi/efivars/{name}-{EFI_GLOBAL}"
            self.record.data[path] = (b"\x06\0\0\0" + bytes((value,))).hex()

    def board(
        self, vendor: str, product: str, chassis: int, *, tables: Iterable[str] = ("FACP", "APIC")
    ) -> None:
        """DMI and ACPI; `chassis` as in SMBIOS 7.4.1."""
        self.text("/sys/class/dmi/id/sys_vendor", vendor)
        self.text("/sys/class/dmi/id/product_name", product)
        self.text("/sys/class/dmi/id/chassis_type", chassis)
        for table in tables:
            self.text(f"/sys/firmware/acpi/tables/{table}", "")

    def tpm(self, version: int = 2) -> None:
        """A TPM."""
        self.text("/sys/class/tpm/tpm0/tpm_version_major", version)

    def serial(self, name: str = "ttyS0", *, active: bool = True) -> None:
        """A serial port with hardware, and whether the kernel's console is on it."""
        self.text(f"/sys/class/tty/{name}/type", 4)
        self.text("/sys/class/tty/console/active", f"tty0 {name}" if active else "tty0")
        if active:
            self.text("/proc/cmdline", f"console=tty0 console={name},115200n8")

    def pci(
        self,
        address: str,
        kind: str,
        ids: str,
        names: tuple[str, str],
        *,
        below: str = "",
        driver: str | None = None,
        group: int | None = None,
        reset: str | None = "bus",
        boot_vga: bool | None = None,
        bars: dict[int, int] | None = None,
        virtual_functions: int = 0,
        subsystem: str = "1043:8888",
    ) -> str:
        """A PCI function; gives its path below /sys. `bars` are masks of sizes in 2^n MiB."""
        path = f"{below or '/sys/devices/pci' + address[:7]}/{address}"
        vendor, device = ids.split(":")
        self.link(f"/sys/bus/pci/devices/{address}", path)
        for name, value in (("vendor", vendor), ("device", device), ("class", kind)):
            self.text(f"{path}/{name}", f"0x{value}")
        for name, value in zip(("subsystem_vendor", "subsystem_device"), subsystem.split(":"), strict=True):
            self.text(f"{path}/{name}", f"0x{value}")
        self.text(f"{path}/numa_node", -1)
        self.record.udev[path] = {"ID_VENDOR_FROM_DATABASE": names[0], "ID_MODEL_FROM_DATABASE": names[1]}
        if driver is not None:
            self.link(f"{path}/driver", f"/sys/bus/pci/drivers/{driver}")
            self.link(f"{path}/driver/module", f"/sys/module/{driver.replace('-', '_')}")
        if group is not None:
            self.link(f"{path}/iommu_group", f"/sys/kernel/iommu_groups/{group}")
            self.link(f"/sys/kernel/iommu_groups/{group}/devices/{address}", path)
            self.text(f"/sys/kernel/iommu_groups/{group}/type", "DMA-FQ")
        if reset is not None:
            self.text(f"{path}/reset_method", reset)
        if boot_vga is not None:
            self.text(f"{path}/boot_vga", int(boot_vga))
        for bar, mask in (bars or {}).items():
            self.text(f"{path}/resource{bar}_resize", f"{mask:016x}")
        if virtual_functions:
            self.text(f"{path}/sriov_totalvfs", virtual_functions)
            self.text(f"{path}/sriov_numvfs", 0)
        return path

    def disk(
        self, path: str, size: int, udev: Mapping[str, str], *, rotational: bool = False, sector: int = 512
    ) -> str:
        """A whole disk at this path below /sys; by-id names in `DEVLINKS`, separated by spaces."""
        name = path.rpartition("/")[2]
        self._block(path, size)
        for attribute, value in (
            ("queue/rotational", int(rotational)),
            ("queue/logical_block_size", 512),
            ("queue/physical_block_size", sector),
            ("removable", 0),
            ("ro", 0),
        ):
            self.text(f"{path}/{attribute}", value)
        links = " ".join(f"/dev/disk/{link}" for link in udev.get("DEVLINKS", "").split())
        self.record.udev[path] = {**udev, "DEVNAME": f"/dev/{name}", "DEVLINKS": links}
        return path

    def nvme(
        self, pci: str, number: int, serial: str, model: str, size: int, *, eui: str = "", **udev: str
    ) -> str:
        """An NVMe namespace; `eui` is its EUI-64 or NGUID, else Linux makes up a name from ids, serial and model."""
        vendor = self.record.files[f"{pci}/vendor"][2:]
        made_up = f"nvme.{vendor}-{serial.encode().hex()}-{model.encode().hex()}-00000001"
        wwn = f"eui.{eui}" if eui else made_up
        controller = f"{pci}/nvme/nvme{number}"
        path = f"{controller}/nvme{number}n1"
        under = model.replace(" ", "_")
        slot = pci.rpartition("/")[2]
        links = f"by-id/nvme-{under}_{serial} by-id/nvme-{under}_{serial}_1 by-id/nvme-{wwn} by-path/pci-{slot}-nvme-1"
        self.disk(
            path,
            size,
            {"DEVLINKS": links, "ID_MODEL": under, "ID_SERIAL_SHORT": serial, "ID_WWN": wwn, **udev},
        )
        self.link(f"{path}/device", controller)
        self.text(f"{path}/wwid", wwn)
        self.text(f"{path}/device/serial", serial)
        self.text(f"{path}/device/model", model)
        self.record.answers[f"nvme health nvme{number}"] = bytes((0, 0x38, 1, 100, 10, 2)).hex()
        return path

    def virtio(self, pci: str, name: str, serial: str, size: int, **udev: str) -> str:
        """A virtio disk."""
        number = ord(name[-1]) - ord("a")
        path = f"{pci}/virtio{number}/block/{name}"
        slot = pci.rpartition("/")[2]
        links = f"by-path/pci-{slot} by-path/virtio-pci-{slot}" + (
            f" by-id/virtio-{serial}" if serial else ""
        )
        if serial:
            udev = {"ID_SERIAL": serial, **udev}
        self.disk(path, size, {"DEVLINKS": links, **udev}, rotational=True)
        self.text(f"{path}/serial", serial)
        self.link(f"{pci}/virtio{number}/driver/module", "/sys/module/virtio_blk")
        return path

    def sata(  # noqa: PLR0917
        self, pci: str, port: int, name: str, serial: str, model: str, size: int, wwn: str = "", **udev: str
    ) -> str:
        """A SATA disk."""
        path = f"{pci}/ata{port}/host{port - 1}/target{port - 1}:0:0/{port - 1}:0:0:0/block/{name}"
        under = model.replace(" ", "_")
        slot = pci.rpartition("/")[2]
        links = f"by-path/pci-{slot}-ata-{port}"
        if serial:
            links += f" by-id/ata-{under}_{serial}"
            udev = {"ID_SERIAL": f"{under}_{serial}", "ID_SERIAL_SHORT": serial, **udev}
        if wwn:
            links += f" by-id/wwn-{wwn}"
            udev = {"ID_WWN": wwn, **udev}
        self.disk(
            path,
            size,
            {"DEVLINKS": links, "ID_BUS": "ata", "ID_MODEL_ENC": model.replace(" ", r"\x20"), **udev},
            sector=4096,
        )
        self.text(f"{path}/device/model", model[:16])
        self.text(f"{path}/device/vendor", "ATA")
        self.record.answers[f"smart health {name}"] = "passed=1 reallocated=0 pending=0 celsius=31"
        return path

    def partition(self, disk: str, number: int, start_mib: int, size: int, kind: str, **udev: str) -> str:
        """A GPT partition; gives its path."""
        name = disk.rpartition("/")[2]
        child = f"{name}p{number}" if name[-1].isdigit() else f"{name}{number}"
        path = f"{disk}/{child}"
        self._block(path, size)
        self.text(f"{path}/partition", number)
        self.text(f"{path}/start", start_mib * 2048)
        self.record.udev[disk].setdefault("ID_PART_TABLE_TYPE", "gpt")
        self.record.udev[path] = {"DEVNAME": f"/dev/{child}", "ID_PART_ENTRY_TYPE": kind, **udev}
        return path

    def mapped(self, number: int, name: str, uuid: str, size: int, on: Iterable[str], **udev: str) -> str:
        """A device-mapper device on others."""
        path = f"/sys/devices/virtual/block/dm-{number}"
        self._block(path, size, on)
        self.text(f"{path}/dm/name", name)
        self.text(f"{path}/dm/uuid", uuid)
        self.record.udev[path] = {"DEVNAME": f"/dev/dm-{number}", "DM_NAME": name, "DM_UUID": uuid, **udev}
        return path

    def array(self, name: str, size: int, on: Iterable[str], **udev: str) -> str:
        """An md array on others."""
        path = f"/sys/devices/virtual/block/{name}"
        self._block(path, size, on)
        self.text(f"{path}/md/level", "raid1")
        self.record.udev[path] = {"DEVNAME": f"/dev/{name}", **udev}
        return path

    def bcache(self, name: str, size: int, on: Iterable[str], **udev: str) -> str:
        """A cached device on others."""
        path = f"/sys/devices/virtual/block/{name}"
        self._block(path, size, on)
        self.text(f"{path}/bcache/state", "clean")
        self.record.udev[path] = {"DEVNAME": f"/dev/{name}", **udev}
        return path

    def loop(self, backing: str) -> str:
        """A loop device on this file."""
        path = "/sys/devices/virtual/block/loop0"
        self._block(path, GIB)
        self.text(f"{path}/loop/backing_file", backing)
        return path

    def _block(self, path: str, size: int, on: Iterable[str] = ()) -> None:
        name = path.rpartition("/")[2]
        self._minor += 1
        self.link(f"/sys/class/block/{name}", path)
        self.text(f"{path}/dev", f"259:{self._minor}")
        self.text(f"{path}/size", size // SECTOR)
        for below in on:
            self.link(f"{path}/slaves/{below.rpartition('/')[2]}", below)
            self.link(f"{below}/holders/{name}", path)

    def mount(self, point: str, source: str, kind: str, device: str = "") -> None:
        """A mount; `source` is a path below /sys for a block device."""
        if source.startswith("/sys/"):
            device = device or self.record.files[f"{source}/dev"]
            source = f"/dev/{source.rpartition('/')[2]}"
        self._mounts.append(f"{30 + len(self._mounts)} 1 {device} / {point} rw - {kind} {source} rw")

    def installed(self, disk: str, name: str, kind: str = "ext4") -> None:
        """Makes the running system an installed one, with this root file system."""
        self._mounts = []
        self.mount("/", disk, kind)
        self.text("/etc/os-release", f'NAME="{name.split(maxsplit=1)[0]}"\nPRETTY_NAME="{name}"')

    def swap(self, block: str) -> None:
        """Active swap."""
        self._swaps.append(f"/dev/{block.rpartition('/')[2]} partition 8388604 0 -2")

    def nic(
        self,
        name: str,
        pci: str,
        mac: str,
        driver: str,
        *,
        speed: int | None = 1000,
        addresses: str = "",
        **udev: str,
    ) -> None:
        """A network interface; without `speed` no cable answers."""
        path = f"{pci}/net/{name}"
        self.link(f"/sys/class/net/{name}", path)
        self.link(f"{path}/device", pci)
        self.link(f"{path}/device/driver", f"/sys/bus/pci/drivers/{driver}")
        self.text(f"{path}/address", mac)
        self.text(f"{path}/addr_assign_type", 0)
        if speed is None:
            self.text(f"{path}/carrier", 0)
            self.text(f"{path}/speed", -1)
        else:
            self.text(f"{path}/carrier", 1)
            self.text(f"{path}/speed", speed)
        stable = {"ID_NET_NAME_MAC": "enx" + mac.replace(":", ""), "ID_NET_NAME_PATH": name}
        self.record.udev[path] = {**stable, **udev}
        if addresses:
            self.record.answers[f"network addresses {name}"] = addresses
            self.record.answers["network default"] = name

    def finished(self) -> Record:
        """The record of what the probe reads of this machine."""
        self.text("/proc/self/mountinfo", "\n".join(self._mounts))
        self.text("/proc/swaps", "\n".join(["Filename Type Size Used Priority", *self._swaps]))
        for path in (*self.record.files, *self.record.data, *self.record.links):
            parts = path.split("/")
            for end in range(2, len(parts)):
                names = self.record.folders.setdefault("/".join(parts[:end]), [])
                if parts[end] not in names:
                    names.append(parts[end])
        recording = RecordingRoot(ReplayRoot(self.record))
        draft(recording)
        for names in recording.record.folders.values():
            names.sort()
        return recording.record


def _lab(*, firmware: bool) -> Machine:
    """The machine that the lab boots: q35, emulated Intel IOMMU, one virtio and one NVMe disk, both blank."""
    machine = Machine()
    flags = f"{INTEL_FLAGS} hypervisor"
    machine.processor("GenuineIntel", "QEMU TCG CPU version 2.5+", flags, cores=1, threads_per_core=1)
    machine.memory(4)
    machine.board("QEMU", "Standard PC (Q35 + ICH9, 2009)", 1, tables=("FACP", "APIC", "DMAR"))
    if firmware:
        machine.uefi()
        machine.tpm()
    machine.serial()
    dram = (INTEL, "82G33/G31/P35/P31 Express DRAM Controller")
    machine.pci("0000:00:00.0", "060000", "8086:29c0", dram, group=0, reset=None)
    vga = ("QEMU", "Virtual Video Controller")
    machine.pci(
        "0000:00:01.0", "030000", "1234:1111", vga, driver="bochs-drm", group=1, boot_vga=True, reset=None
    )
    block = (REDHAT, "Virtio 1.0 block device")
    disk = machine.pci("0000:00:02.0", "010000", "1af4:1042", block, driver="virtio-pci", group=2)
    express = (REDHAT, "QEMU NVM Express Controller")
    nvme = machine.pci(
        "0000:00:03.0", "010802", "1b36:0010", express, driver="nvme", group=3, reset="flr bus"
    )
    network = (REDHAT, "Virtio 1.0 network device")
    net = machine.pci("0000:00:04.0", "020000", "1af4:1041", network, driver="virtio-pci", group=4)
    lpc = (INTEL, "82801IB (ICH9) LPC Interface Controller")
    machine.pci("0000:00:1f.0", "060100", "8086:2918", lpc, driver="lpc_ich", group=5, reset=None)
    ahci = (INTEL, "82801IR/IO/IH (ICH9R/DO/DH) 6 port SATA Controller")
    machine.pci("0000:00:1f.2", "010601", "8086:2922", ahci, driver="ahci", group=5, reset=None)
    smbus = (INTEL, "82801I (ICH9 Family) SMBus Controller")
    machine.pci("0000:00:1f.3", "0c0500", "8086:2930", smbus, driver="i801_smbus", group=5, reset=None)
    machine.virtio(disk, "vda", "DISK0", 8 * GIB)
    machine.nvme(nvme, 0, "NVME0", "QEMU NVMe Ctrl", 8 * GIB)
    machine.nic("enp0s4", net, "52:54:00:12:34:56", "virtio_net", speed=None, addresses="10.0.2.15/24")
    return machine


def _medium_stick(machine: Machine, controller: str) -> str:
    """A USB stick with the live system on it, mounted as NixOS does."""
    usb = f"{controller}/usb1/1-4/1-4:1.0/host9/target9:0:0/9:0:0:0/block/sdz"
    links = "by-id/usb-SanDisk_Ultra_4C530001230123-0:0 by-path/pci-usb-0:4:1.0-scsi-0:0:0:0"
    stick = machine.disk(
        usb,
        32 * GIB,
        {
            "DEVLINKS": links,
            "ID_BUS": "usb",
            "ID_MODEL": "Ultra",
            "ID_SERIAL_SHORT": "4C530001230123",
            "ID_FS_TYPE": "iso9660",
            "ID_FS_LABEL": "HYPER-NIXOS",
            "ID_PART_TABLE_TYPE": "dos",
        },
    )
    machine.text(f"{stick}/removable", 1)
    part = machine.partition(stick, 1, 0, 2 * GIB, "0x0", ID_FS_TYPE="iso9660", ID_FS_LABEL="HYPER-NIXOS")
    machine.mount("/iso", part, "iso9660")
    loop = machine.loop("/iso/nix-store.squashfs")
    machine.mount("/nix/.ro-store", loop, "squashfs")
    return stick


def workstation() -> Machine:
    """Ryzen with graphics inside, GeForce in a group of its own, two NVMe disks (one blank), live system on USB."""
    machine = Machine()
    machine.processor(
        "AuthenticAMD", "AMD Ryzen 9 7950X 16-Core Processor", f"{AMD_FLAGS} sev sev_es", cores=16
    )
    machine.kvm("kvm_amd", nested="1", avic="N", sev="N", sev_es="N")
    machine.memory(64, correction=3)
    machine.board("ASUS", "ProArt X670E-CREATOR WIFI", 3, tables=("FACP", "APIC", "IVRS"))
    machine.uefi()
    machine.tpm()
    machine.text("/sys/class/iommu/ivhd0/devices/none", "")
    amd, nvidia = "Advanced Micro Devices, Inc. [AMD]", "NVIDIA Corporation"
    root = "/sys/devices/pci0000:00"
    machine.pci(
        "0000:00:00.0",
        "060000",
        "1022:14d8",
        (amd, "Raphael/Granite Ridge Root Complex"),
        group=0,
        reset=None,
    )
    machine.pci("0000:00:00.2", "080600", "1022:14d9", (amd, "Raphael/Granite Ridge IOMMU"), reset=None)
    for place, (port, group) in enumerate({"01.1": 1, "01.2": 2, "02.1": 3, "02.2": 4, "08.1": 5}.items()):
        kind = (amd, f"Raphael/Granite Ridge GPP Bridge {place}")
        machine.pci(
            f"0000:00:{port}", "060400", "1022:14db", kind, driver="pcieport", group=group, reset="pm"
        )
    machine.pci("0000:00:14.0", "0c0500", "1022:790b", (amd, "FCH SMBus Controller"), group=6, reset=None)
    machine.pci("0000:00:14.3", "060100", "1022:790e", (amd, "FCH LPC Bridge"), group=6, reset=None)
    card = partial(machine.pci, below=f"{root}/0000:00:01.1", group=14, subsystem="1043:889f")
    geforce = (nvidia, "AD103 [GeForce RTX 4080]")
    card("0000:01:00.0", "030000", "10de:2704", geforce, driver="nouveau", boot_vga=False, bars={1: 0x7FC0})
    card("0000:01:00.1", "040300", "10de:22bb", (nvidia, "AD103 HD Audio"), driver="snd_hda_intel")
    samsung = ("Samsung Electronics Co Ltd", "NVMe SSD Controller PM9A1/PM9A3/980PRO")
    fast = partial(machine.pci, driver="nvme", reset="flr bus", subsystem="144d:a801")
    first = fast("0000:02:00.0", "010802", "144d:a80a", samsung, below=f"{root}/0000:00:01.2", group=15)
    second = fast("0000:03:00.0", "010802", "144d:a80a", samsung, below=f"{root}/0000:00:02.1", group=16)
    wired = machine.pci(
        "0000:04:00.0",
        "020000",
        "8086:15f3",
        (INTEL, "Ethernet Controller I225-V"),
        below=f"{root}/0000:00:02.2",
        driver="igc",
        group=17,
        reset="flr bus",
    )
    inside = partial(machine.pci, below=f"{root}/0000:00:08.1")
    raphael = (amd, "Raphael")
    inside("0000:7a:00.0", "030000", "1002:164e", raphael, driver="amdgpu", group=20, boot_vga=True)
    machine.text(f"{root}/0000:00:08.1/0000:7a:00.0/drm/card0/card0-HDMI-A-1/status", "connected")
    inside(
        "0000:7a:00.1", "040300", "1002:1640", (amd, "Rembrandt HD Audio"), driver="snd_hda_intel", group=21
    )
    inside("0000:7a:00.2", "108000", "1022:1649", (amd, "Family 19h PSP/CCP"), driver="ccp", group=22)
    usb = inside(
        "0000:7a:00.3", "0c0330", "1022:15b6", (amd, "Raphael USB 3.1 xHCI"), driver="xhci_hcd", group=23
    )
    machine.nvme(
        first, 0, "S69ENF0R123456A", "Samsung SSD 980 PRO 2TB", 2_000_398_934_016, eui="002538b111b2c3d4"
    )
    data = machine.nvme(
        second, 1, "S69ENF0R654321B", "Samsung SSD 980 PRO 2TB", 2_000_398_934_016, eui="002538b111b2c3d5"
    )
    machine.partition(
        data,
        1,
        1,
        1_900_000_000_000,
        LINUX_TYPE,
        ID_PART_ENTRY_UUID="6f2c7a8e-2b1d-4c5e-9f00-112233445566",
        ID_FS_TYPE="xfs",
        ID_FS_UUID="0b6f1f0c-93a5-4c1e-a2f4-778899aabbcc",
        ID_FS_LABEL="data",
    )
    machine.nic("enp4s0", wired, "04:42:1a:00:11:22", "igc", speed=2500, addresses="192.0.2.10/24")
    _medium_stick(machine, usb)
    return machine


def _intel_platform(machine: Machine, *, iommu: bool) -> Callable[..., str]:
    """Host bridge, ISA bridge and SMBus of an Intel machine; gives what makes functions, with or without groups."""
    groups = iter(range(1, 100)) if iommu else None

    def function(address: str, kind: str, ids: str, names: tuple[str, str], **more: Any) -> str:
        if groups is not None and "group" not in more:
            more["group"] = next(groups)
        return machine.pci(address, kind, ids, names, **more)

    shared = 0 if iommu else None
    function(
        "0000:00:00.0",
        "060000",
        "8086:3e1f",
        (INTEL, "Host Bridge/DRAM Registers"),
        group=shared,
        reset=None,
    )
    lpc = next(groups) if groups is not None else None
    function("0000:00:1f.0", "060100", "8086:a305", (INTEL, "LPC/eSPI Controller"), group=lpc, reset=None)
    function(
        "0000:00:1f.4",
        "0c0500",
        "8086:a323",
        (INTEL, "SMBus Controller"),
        group=lpc,
        reset=None,
        driver="i801_smbus",
    )
    return function


def server() -> Machine:
    """Two Xeons; NixOS runs from LVM on an md mirror over two SATA disks; ASPEED display; four-port card with SR-IOV."""
    machine = Machine()
    machine.processor(
        "GenuineIntel", "Intel(R) Xeon(R) Silver 4210R CPU @ 2.40GHz", INTEL_FLAGS, cores=10, sockets=2
    )
    machine.kvm("kvm_intel", enable_apicv="Y")
    machine.memory(256, correction=6)
    machine.board("Supermicro", "SYS-6029P-TR", 23, tables=("FACP", "APIC", "DMAR"))
    machine.uefi()
    machine.serial("ttyS1")
    machine.text("/sys/class/iommu/dmar0/devices/none", "")
    function = _intel_platform(machine, iommu=True)
    ahci = function(
        "0000:00:17.0",
        "010601",
        "8086:a182",
        (INTEL, "C620 SATA Controller"),
        driver="ahci",
        reset="flr bus",
    )
    aspeed = ("ASPEED Technology, Inc.", "ASPEED Graphics Family")
    function("0000:03:00.0", "030000", "1a03:2000", aspeed, driver="ast", boot_vga=True, reset=None)
    for port in range(4):
        path = function(
            f"0000:18:00.{port}",
            "020000",
            "8086:1572",
            (INTEL, "Ethernet Controller X710 for 10GbE SFP+"),
            driver="i40e",
            reset="flr",
            virtual_functions=32,
        )
        mac = f"ac:1f:6b:00:10:0{port}"
        machine.nic(
            f"eno{port + 1}",
            path,
            mac,
            "i40e",
            speed=10000 if port == 0 else None,
            addresses="198.51.100.7/24" if port == 0 else "",
        )
    parts = []
    for place, serial in enumerate(("ZC11AAAA", "ZC11BBBB")):
        disk = machine.sata(
            ahci,
            place + 1,
            f"sd{'ab'[place]}",
            serial,
            "ST4000NM0035-1V4107",
            4_000_787_030_016,
            wwn=f"0x5000c500aaaabbb{place}",
        )
        machine.text(f"{disk}/queue/rotational", 1)
        esp = machine.partition(disk, 1, 1, GIB, ESP_TYPE, ID_FS_TYPE="vfat", ID_FS_UUID=f"12AB-34C{place}")
        if place == 0:
            boot = esp
        parts.append(
            machine.partition(
                disk,
                2,
                1025,
                3_998_000_000_000,
                RAID_TYPE,
                ID_FS_TYPE="linux_raid_member",
                ID_FS_UUID="d3b07384-d113-4ec6-a9d4-5d5b9e2f0c11",
                ID_FS_LABEL="rack7:root",
            )
        )
    array = machine.array(
        "md127",
        3_998_000_000_000,
        parts,
        MD_NAME="rack7:root",
        MD_UUID="d3b07384:d1134ec6:a9d45d5b:9e2f0c11",
        ID_FS_TYPE="LVM2_member",
        ID_FS_UUID="Qm1xYz-aB3d-eF5g-hI7j-kL9m-nO1p-qR3sTu",
    )
    group = "kVz3Wm9pQ7rT5yUiOpAsDfGhJkLzXcVb"
    root = machine.mapped(
        0,
        "vg--host-root",
        f"LVM-{group}0000000000000000000000000000aaaa",
        200 * GIB,
        [array],
        ID_FS_TYPE="ext4",
        ID_FS_UUID="5c1e8a40-7b6d-4f0e-8d2c-3a4b5c6d7e8f",
        ID_FS_LABEL="nixos",
    )
    swap = machine.mapped(
        1,
        "vg--host-swap",
        f"LVM-{group}0000000000000000000000000000bbbb",
        16 * GIB,
        [array],
        ID_FS_TYPE="swap",
    )
    machine.installed(root, "NixOS 26.05 (Yarara)")
    machine.mount("/boot", boot, "vfat")
    machine.swap(swap)
    return machine


def laptop() -> Machine:
    """One NVMe disk with Windows under BitLocker; hybrid graphics without a second screen path; Secure Boot on; Wi-Fi."""
    machine = Machine()
    machine.processor("GenuineIntel", "13th Gen Intel(R) Core(TM) i7-1360P", INTEL_FLAGS, cores=12)
    machine.kvm("kvm_intel", enable_apicv="Y")
    machine.memory(16, correction=3)
    machine.board("LENOVO", "21HMCTO1WW", 10, tables=("FACP", "APIC", "DMAR"))
    machine.uefi(secure_boot=True)
    machine.tpm()
    function = _intel_platform(machine, iommu=True)
    iris = (INTEL, "Raptor Lake-P [Iris Xe Graphics]")
    vga = function("0000:00:02.0", "030000", "8086:a7a0", iris, driver="i915", boot_vga=True, reset="flr")
    machine.text(f"{vga}/drm/card0/card0-eDP-1/status", "connected")
    usb = function(
        "0000:00:14.0", "0c0330", "8086:51ed", (INTEL, "Alder Lake PCH USB 3.2"), driver="xhci_hcd"
    )
    wifi = function(
        "0000:00:14.3", "028000", "8086:51f1", (INTEL, "Raptor Lake PCH CNVi WiFi"), driver="iwlwifi"
    )
    nvme = function(
        "0000:01:00.0",
        "010802",
        "15b7:5030",
        ("Sandisk Corp", "WD Black SN850X"),
        driver="nvme",
        reset="flr bus",
    )
    disk = machine.nvme(
        nvme, 0, "231234801234", "WD_BLACK SN850X 1000GB", 1_000_204_886_016, eui="e8238fa6bf530001"
    )
    system = {"ID_FS_TYPE": "vfat", "ID_FS_LABEL": "SYSTEM", "ID_FS_UUID": "A0B1-C2D3"}
    recovery = {"ID_FS_TYPE": "ntfs", "ID_FS_UUID": "C0FFEE00C0FFEE00"}
    for number, start, size, kind, name, found in (
        (1, 1, 260 << 20, ESP_TYPE, "EFI system partition", system),
        (2, 261, 16 << 20, RESERVED_TYPE, "Microsoft reserved partition", {}),
        (3, 277, 998 * GIB // 2, DATA_TYPE, "Basic data partition", {"ID_FS_TYPE": "BitLocker"}),
        (4, 511_500, 2 * GIB, RECOVERY_TYPE, "", recovery),
    ):
        found["ID_PART_ENTRY_UUID"] = f"3f1a7c2e-5b6d-4e8f-9a0b-1c2d3e4f50{number:02}"
        if name:
            found["ID_PART_ENTRY_NAME"] = name.replace(" ", "\\x20")
        machine.partition(disk, number, start, size, kind, **found)
    machine.nic("wlp0s20f3", wifi, "f8:fe:5e:01:02:03", "iwlwifi", speed=None)
    machine.link(f"{wifi}/net/wlp0s20f3/phy80211", f"{wifi}/ieee80211/phy0")
    _medium_stick(machine, usb)
    return machine


def mini_pc() -> Machine:
    """VT-d and VT-x switched off in the firmware, BIOS mode; the disk has no serial."""
    machine = Machine()
    flags = INTEL_FLAGS.replace("vmx ept vpid ", "")
    machine.processor("GenuineIntel", "Intel(R) Core(TM) i5-8259U CPU @ 2.30GHz", flags, cores=4)
    machine.memory(8)
    machine.board("Intel(R) Client Systems", "NUC8i5BEH", 35)
    function = _intel_platform(machine, iommu=False)
    iris = (INTEL, "CoffeeLake-U GT3e [Iris Plus Graphics 655]")
    function("0000:00:02.0", "030000", "8086:3ea5", iris, driver="i915", boot_vga=True, reset="flr")
    ahci = function("0000:00:17.0", "010601", "8086:9dd3", (INTEL, "Cannon Point-LP SATA"), driver="ahci")
    wired = function(
        "0000:00:1f.6",
        "020000",
        "8086:15be",
        (INTEL, "Ethernet Connection (6) I219-V"),
        driver="e1000e",
        reset="flr",
    )
    disk = machine.sata(ahci, 1, "sda", "", "Generic SSD", 120_034_123_776)
    machine.partition(disk, 1, 1, 64 * GIB, LINUX_TYPE, ID_FS_TYPE="ext4", ID_FS_LABEL="nixos")
    machine.nic("eno1", wired, "94:c6:91:0a:0b:0c", "e1000e", addresses="192.0.2.20/24")
    return machine


def identical_gpus() -> Machine:
    """Two equal cards, the first of which shows the firmware's screens; the second shares its group with a USB card."""
    machine = Machine()
    machine.processor("AuthenticAMD", "AMD Ryzen Threadripper PRO 5955WX", AMD_FLAGS, cores=16)
    machine.kvm("kvm_amd", nested="1", avic="Y")
    machine.memory(128, correction=6)
    machine.board("ASUS", "Pro WS WRX80E-SAGE SE WIFI", 3, tables=("FACP", "APIC", "IVRS"))
    machine.uefi()
    nvidia, geforce = "NVIDIA Corporation", ("NVIDIA Corporation", "GA102 [GeForce RTX 3090]")
    for bus, group in ((0x21, 30), (0x41, 50)):
        card = partial(machine.pci, group=group, driver="nouveau")
        card(f"0000:{bus:02x}:00.0", "030000", "10de:2204", geforce, boot_vga=bus == 0x21, bars={1: 0x7FC0})
        card(
            f"0000:{bus:02x}:00.1", "040300", "10de:1aef", (nvidia, "GA102 High Definition Audio Controller")
        )
    renesas = ("Renesas Technology Corp.", "uPD720201 USB 3.0 Host Controller")
    machine.pci("0000:42:00.0", "0c0330", "1912:0014", renesas, group=50, driver="xhci_hcd", reset=None)
    wired = machine.pci(
        "0000:45:00.0", "020000", "8086:1563", (INTEL, "Ethernet Controller X550"), group=60, driver="ixgbe"
    )
    machine.nic("enp69s0", wired, "a8:5e:45:01:02:03", "ixgbe", speed=10000, addresses="192.0.2.30/24")
    other = machine.pci(
        "0000:46:00.0", "020000", "8086:15f3", (INTEL, "Ethernet Controller I225-V"), group=61, driver="igc"
    )
    machine.nic("enp70s0", other, "a8:5e:45:01:02:04", "igc", speed=None)
    return machine


def multipath() -> Machine:
    """A Fibre Channel disk by two paths, in use as a volume group; a btrfs over two more disks; a bare local disk."""
    machine = Machine()
    machine.processor(
        "AuthenticAMD", "AMD EPYC 7313P 16-Core Processor", f"{AMD_FLAGS} sev sev_es sev_snp", cores=16
    )
    machine.kvm("kvm_amd", nested="1", avic="Y", sev="Y", sev_es="Y", sev_snp="N")
    machine.memory(128, correction=6)
    machine.board("Dell Inc.", "PowerEdge R6515", 23, tables=("FACP", "APIC", "IVRS"))
    machine.uefi()
    machine.serial()
    qlogic = ("QLogic Corp.", "ISP2722 16Gb Fibre Channel HBA")
    paths = []
    for place in range(2):
        fibre = machine.pci(
            f"0000:81:00.{place}",
            "0c0400",
            "1077:2261",
            qlogic,
            group=70 + place,
            driver="qla2xxx",
            reset="flr",
        )
        name = f"sd{'ab'[place]}"
        path = f"{fibre}/host{place}/rport-{place}:0-0/target{place}:0:0/{place}:0:0:1/block/{name}"
        disk = machine.disk(
            path,
            500 * GIB,
            {
                "ID_WWN": "0x600508b1001c1111",
                "ID_WWN_WITH_EXTENSION": "0x600508b1001c1111222233334444aaaa",
                "ID_SCSI_SERIAL": "PQR0123456789",
                "ID_SERIAL": "3600508b1001c1111222233334444aaaa",
                "ID_SERIAL_SHORT": "600508b1001c1111222233334444aaaa",
                "ID_MODEL": "MSA2050_SAN",
                "ID_FS_TYPE": "mpath_member",
                "DEVLINKS": f"by-path/pci-0000:81:00.{place}-fc-0x2100-lun-1",
            },
        )
        paths.append(disk)
    mapped = machine.mapped(
        0,
        "mpatha",
        "mpath-3600508b1001c1111222233334444aaaa",
        500 * GIB,
        paths,
        ID_FS_TYPE="LVM2_member",
        ID_FS_UUID="Xx1xYz-aB3d-eF5g-hI7j-kL9m-nO1p-qR3sTu",
    )
    machine.mapped(
        1,
        "san-vms",
        "LVM-kVz3Wm9pQ7rT5yUiOpAsDfGhJkLzXcVb0000000000000000000000000000cccc",
        400 * GIB,
        [mapped],
        ID_FS_TYPE="crypto_LUKS",
        ID_FS_UUID="77777777-aaaa-4bbb-8ccc-0123456789ab",
    )
    ahci = machine.pci(
        "0000:c5:00.0",
        "010601",
        "1022:7901",
        ("AMD", "FCH SATA Controller"),
        group=80,
        driver="ahci",
        reset="flr",
    )
    for place, name in enumerate(("sdc", "sdd")):
        machine.sata(
            ahci,
            place + 1,
            name,
            f"S4EVNX0M10000{place}",
            "Samsung SSD 860 EVO 1TB",
            1_000_204_886_016,
            wwn=f"0x5002538e4000000{place}",
            ID_FS_TYPE="btrfs",
            ID_FS_UUID="4a5b6c7d-1111-4222-8333-944445555666",
            ID_FS_LABEL="pool",
        )
    machine.sata(ahci, 3, "sde", "S4EVNX0M100009", "Samsung SSD 860 EVO 1TB", 1_000_204_886_016)
    wired = machine.pci(
        "0000:63:00.0",
        "020000",
        "14e4:165f",
        ("Broadcom", "BCM5720 Gigabit"),
        group=90,
        driver="tg3",
        reset="pm",
    )
    machine.nic("eno1", wired, "b0:7b:25:01:02:03", "tg3", addresses="192.0.2.40/24 2001:db8::40/64")
    return machine


def many_disks() -> Machine:
    """A server with two equal NVMe disks for its system, and four that turn, one a little larger, with old data."""
    machine = Machine()
    machine.processor("GenuineIntel", "Intel(R) Xeon(R) E-2288G CPU @ 3.70GHz", INTEL_FLAGS, cores=8)
    machine.kvm("kvm_intel", enable_apicv="Y")
    machine.memory(64, correction=5)
    machine.board("Supermicro", "X11SCL-IF", 23, tables=("FACP", "APIC", "DMAR"))
    machine.uefi()
    machine.text("/sys/class/iommu/dmar0/devices/none", "")
    function = _intel_platform(machine, iommu=True)
    ahci = function(
        "0000:00:17.0",
        "010601",
        "8086:a352",
        (INTEL, "Cannon Lake PCH SATA AHCI Controller"),
        driver="ahci",
        reset="flr bus",
    )
    usb = function(
        "0000:00:14.0", "0c0330", "8086:a36d", (INTEL, "Cannon Lake PCH USB 3.1 xHCI"), driver="xhci_hcd"
    )
    names = ("Micron Technology Inc", "7400 PRO NVMe SSD")
    for number, serial in enumerate(("21433A0C5501", "21433A0C5502")):
        slot = f"0000:0{number + 2}:00.0"
        controller = function(slot, "010802", "1344:51c0", names, driver="nvme", reset="flr bus")
        eui = f"000000000000000100a0752133a0c55{number + 1}"
        machine.nvme(controller, number, serial, "Micron_7400_MTFDKBA960TDZ", 960_197_124_096, eui=eui)
    for port, (letter, size) in enumerate(
        zip("abcd", (8_001_563_222_016,) * 3 + (10_000_831_348_736,), strict=True), 1
    ):
        model = "ST8000NM0055-1RM112" if port < 4 else "ST10000NM0086-2A"
        disk = machine.sata(
            ahci, port, f"sd{letter}", f"ZA1000{port:02}", model, size, wwn=f"0x5000c500a100000{port}"
        )
        machine.text(f"{disk}/queue/rotational", 1)
        machine.partition(
            disk,
            1,
            1,
            7_000_000_000_000,
            LINUX_TYPE,
            ID_FS_TYPE="xfs",
            ID_FS_UUID=f"8a3b1c2d-0e4f-5a6b-7c8d-9e0f1a2b3c4{port}",
            ID_FS_LABEL=f"old{port}",
        )
    wired = function(
        "0000:05:00.0", "020000", "8086:1533", (INTEL, "I210 Gigabit Network Connection"), driver="igb"
    )
    machine.nic("enp5s0", wired, "3c:ec:ef:12:34:56", "igb", addresses="192.0.2.60/24")
    _medium_stick(machine, usb)
    return machine


def main() -> None:
    """Writes all machines, and for every record here the facts that the probe makes of it."""
    from tests.machines.disks import DISKS  # which is made of the machines of this module

    for name, make in (BUILT | DISKS).items():
        save(make().finished(), str(MACHINES / name))
    for path in MACHINES.glob("*/machine.json"):
        facts = draft(ReplayRoot(load(str(path.parent))))
        (path.parent / "facts.json").write_text(dumps(facts) + "\n", encoding="utf-8")


BUILT: dict[str, Callable[[], Machine]] = {
    "lab-uefi": lambda: _lab(firmware=True),
    "lab-bios": lambda: _lab(firmware=False),
    "workstation": workstation,
    "server-md-lvm": server,
    "laptop-bitlocker": laptop,
    "mini-pc-all-off": mini_pc,
    "identical-gpus": identical_gpus,
    "multipath-btrfs-pair": multipath,
    "many-disks": many_disks,
}


if __name__ == "__main__":
    main()
