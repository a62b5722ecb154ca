"""Makes the machine records of this folder that no real machine gave: `python -m tests.machines.build`.

Each machine is described in the terms of its kernel; the probe then reads it, and only what it read is kept, so that
these records look exactly like those of `hv probe --record`.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from installer.probe import draft
from installer.probe.record import Record, RecordingRoot, ReplayRoot, save

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
        self.disk(path, size, {"DEVLINKS": links, "ID_BUS": "ata", "ID_MODEL": under, **udev}, sector=4096)
        self.text(f"{path}/device/model", model[:16])
        self.text(f"{path}/device/vendor", "ATA")
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


def main() -> None:
    """Writes all machines."""
    for name, make in BUILT.items():
        save(make().finished(), str(MACHINES / name))


BUILT: dict[str, Callable[[], Machine]] = {
    "lab-uefi": lambda: _lab(firmware=True),
    "lab-bios": lambda: _lab(firmware=False),
    "workstation": workstation,
}


if __name__ == "__main__":
    main()
