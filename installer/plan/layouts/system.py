"""The system's disks, GPT on each: what firmware needs first, then swap, then the root over the rest.

Under UEFI the EFI system partition is /boot, for systemd-boot and GRUB alike, so that neither ever opens LUKS.
Under BIOS GRUB's code has a partition of 1 MiB. GRUB always finds kernels on a plain ext4, which it has read for ever:
on the root where that is one (and within reach of old BIOSes), else on a /boot of its own as large as an ESP would be.
So no kernel hides behind LUKS, and no new default of mkfs.xfs or btrfs can make a host unbootable.

Several disks with redundancy each have boot partitions of their own, never an array: firmware writes to them without
asking md. The next one is /boot2, and the host starts with any of them gone.
"""

from collections.abc import Iterator

from installer.answers.catalogue import zram_percent
from installer.answers.model import (
    Answers,
    BootLoader,
    FilesystemKind,
    KernelsPlace,
    Redundancy,
    VolumesKind,
)
from installer.answers.sizes import GIB, MIB, format_size, parse_size
from installer.answers.storage_shape import needs_md, system_redundancy
from installer.errors import Exit, HyperError
from installer.facts.disks import Partition as Found
from installer.plan.layouts.data_pool import data_pool, own_dataset
from installer.plan.layouts.ground import (
    ARRAY_HEADER,
    DEFAULT_OPTIONS,
    LUKS_HEADER,
    Ground,
    Slice,
    aligned,
    cut,
    encrypted,
    joined,
    usable,
    with_number,
)
from installer.plan.layouts.kept import PATIENCE, Kept, ground_elements, kept_elements, too_small
from installer.plan.naming import Names
from installer.plan.storage import gpt, swap
from installer.plan.storage.biosboot import BIOS_BOOT_SIZE, BiosBoot
from installer.plan.storage.btrfs import Btrfs
from installer.plan.storage.disk import WholeDisk, disk_title
from installer.plan.storage.element import Element, Layout
from installer.plan.storage.ext4 import Ext4
from installer.plan.storage.filesystem import Filesystem, Mount
from installer.plan.storage.gpt import Partition, PartitionType, Table
from installer.plan.storage.in_place import InPlace
from installer.plan.storage.kept import KeptFilesystem, KeptTable, SharedEsp
from installer.plan.storage.lvm import EXTENT, POOL_SHARE, Volume, VolumeGroup
from installer.plan.storage.swap import RandomKeySwap, Swap, SwapFile
from installer.plan.storage.vfat import ESP_OPTIONS, EfiSystem
from installer.plan.storage.xbootldr import EFI, LOADER_ROOM, Xbootldr
from installer.plan.storage.xfs import Xfs
from installer.plan.storage.zfs import ZfsDataset, ZfsPool
from installer.plan.storage.zram import Zram

ESP_FLOOR = GIB
"""Smallest ESP or /boot: ten generations of kernel and initrd, or a few with large firmware in them."""
ESP_ALONE = 512 * MIB
"""An ESP with a loader alone: FAT32 on sectors of 4096 bytes takes half of it at least."""
ESP_USUAL = 2 * GIB
"""Smallest that nobody asked for."""
GENERATION_SIZE = 150 * MIB
"""Bytes of one generation's kernel and initrd, with a GPU's firmware in it."""
SIGNED_TIMES = 2
"""How much more room a generation takes whose systems are signed images as well: measured kernels with their RAM disks are
a third of the size above, and both phases have one."""
SWAP_CEILING = 16 * GIB
"""Largest swap that nobody asked for."""
RESERVE = 2 * GIB
"""Room for logs, journals, the file system's own structures and a first guest."""
ROOT_BESIDE_POOL = 64 * GIB
"""Root where the rest of a volume group is the pool's."""
BIOS_REACH = 2 << 40
"""Bytes of a disk that every BIOS reads; beyond, some count sectors in 32 bits."""
SHARED_ROOM = 3 * GENERATION_SIZE
"""Bytes that must be free on an ESP that is shared: two generations, and the one that is being written."""
SWAP_FILE = "/var/lib/swapfile"
"""Below no subvolume of its own, so that snapshots of it are nobody's habit; the host makes it."""


def system(answers: Answers, ground: Ground) -> Layout:
    """The layout's elements, in order.

    Raises:
        HyperError: a disk is too small (Exit.unsuitable), or a size makes no sense (Exit.answers).
    """
    return _System(answers, ground).layout()


class _System:
    """One composition: what the answers want on this ground."""

    def __init__(self, answers: Answers, ground: Ground) -> None:
        self.answers, self.ground, self.storage = answers, ground, answers.storage
        self.several = len(ground.disks) > 1
        self.redundancy = system_redundancy(answers.storage) if self.several else Redundancy.none
        self.md = self.several and needs_md(answers.storage)
        self.zfs = answers.storage.filesystem is FilesystemKind.zfs
        self.encrypted = answers.storage.encryption.enable
        self.lvm = answers.storage.volumes is not VolumesKind.none
        self.boots = len(ground.disks) if self.redundancy is not Redundancy.none else 1
        self.apart = self._kernels_apart()
        self.names = Names(answers.hostname, tuple(disk.disk for disk in ground.disks))

    def layout(self) -> Layout:
        slices = self._slices()
        self._require_room(slices)
        if self.ground.kept:
            return self._beside(slices)
        disks = self.ground.disks
        tables = tuple(Table(key=f"{disk.key}-table", disk=disk.key) for disk in disks)
        partitions: list[Element] = []
        for place, disk in enumerate(disks):
            mine = slices if place < self.boots else slices[-1:]
            # Of disks of different sizes the smallest decides; where nothing is mirrored each gives all it has.
            size = disk.disk.size if self.redundancy is Redundancy.none else self.ground.smallest
            partitions += cut(mine, disk, self._number(place), self.answers.hostname, gpt.usable_end(size))
        pool_disks, pool = data_pool(self.answers, self.ground)
        elements = (*disks, *pool_disks, *tables, *partitions, *self._everything(slices), *pool)
        return Layout(elements=elements, gate=self.ground.gate)

    def _beside(self, slices: tuple[Slice, ...]) -> Layout:
        """The same beside what stays on the disks."""
        disks: list[Element] = []
        tables: list[Element] = []
        partitions: list[Element] = []
        standing: list[Element] = []
        upper: list[Element] = []
        mounted: list[Element] = []
        for place, (disk, kept) in enumerate(zip(self.ground.disks, self.ground.kept, strict=True)):
            mine = slices if place < self.boots else slices[-1:]
            start, end = _free(disk, kept)
            if self.redundancy is not Redundancy.none:
                end = start + self._least_room()
            if kept is None:
                disks.append(disk)
                tables.append(Table(key=f"{disk.key}-table", disk=disk.key))
                partitions += cut(mine, disk, self._number(place), self.answers.hostname, end)
                continue
            whole, table = ground_elements(kept, disk.disk)
            disks.append(whole)
            tables.append(table)
            new = mine[:-1] if kept.root else mine
            partitions += cut(new, disk, self._number(place), self.answers.hostname, end, kept)
            formatted = self._formatted(kept, table, slices[-1], self._number(place))
            partitions += formatted[0]
            upper += formatted[1]
            stays = tuple(kept_elements(kept, table.key, self._number(place)))
            mounted += (each for each in stays if isinstance(each, KeptFilesystem))
            standing += (each for each in stays if not isinstance(each, KeptFilesystem))
            if kept.esp:
                upper.insert(0, self._shared_esp(kept.esp))
        pool_disks, pool = data_pool(self.answers, self.ground)
        elements = (*disks, *pool_disks, *tables, *partitions, *standing)
        return Layout(
            elements=(*elements, *self._everything(slices), *upper, *mounted, *pool), gate=self.ground.gate
        )

    def _least_room(self) -> int:
        """Bytes of the smallest stretch that the host gets on one of the disks."""
        stretches = (_free(*each) for each in zip(self.ground.disks, self.ground.kept, strict=True))
        return min(end - start for start, end in stretches)

    def _shared_esp(self, esp: Found) -> SharedEsp:
        assert esp.filesystem is not None
        assert esp.filesystem.uuid is not None
        return SharedEsp(
            key="esp",
            on=f"kept-{esp.number}",
            kind="vfat",
            uuid=esp.filesystem.uuid,
            mounts=(Mount(self._esp_place, ESP_OPTIONS),),
            room=LOADER_ROOM if self.apart else SHARED_ROOM,
        )

    def _formatted(
        self, kept: Kept, table: KeptTable, root_slice: Slice, number: int | None
    ) -> tuple[list[Element], list[Element]]:
        """Partitions whose place stays, and what is made in them but for the root."""
        partitions: list[Element] = []
        upper: list[Element] = []
        for (found, wanted), end in zip(kept.formatted, kept.ends, strict=True):
            root = wanted.mount == "/"
            name = found.number if number is None else f"{number}-{found.number}"
            role = "root" if root else f"data-{name}"
            partitions.append(
                Partition(
                    key=f"{role}-partition",
                    table=table.key,
                    number=found.number,
                    label=self.names.label(role, gpt.LABEL_LIMIT),
                    type=root_slice.type if root else PartitionType.linux,
                    start=found.start,
                    size=end - found.start,
                )
            )
            if not root and wanted.mount:
                upper.append(self._data(role, wanted.mount))
        return partitions, upper

    def _data(self, role: str, place: str) -> Element:
        """A file system beside the root's, of the same kind as far as one can do without its ways."""
        on, uuid, mounts = (
            f"{role}-partition",
            self.names.uuid(role),
            (Mount(place, ("noatime",), PATIENCE),),
        )
        if self.storage.filesystem is FilesystemKind.xfs:
            label = self.names.label(role, Xfs.label_limit)
            return Xfs(key=role, on=on, uuid=uuid, label=label, mounts=mounts)
        return Ext4(
            key=role, on=on, uuid=uuid, label=self.names.label(role, Ext4.label_limit), mounts=mounts
        )

    def _everything(self, slices: tuple[Slice, ...]) -> list[Element]:
        """What stands on the system's partitions, and swap that takes none."""
        upper = [element for each in slices[:-1] for element in self._upper(each)]
        upper += self._root_stack(slices[-1])
        swap_kind = self.storage.swap.kind
        if swap_kind == "zram":
            upper.append(Zram(key="zram", percent=zram_percent(self.answers)))
        elif swap_kind == "file":
            upper.append(SwapFile(key="swap-file", path=SWAP_FILE, size=self._swap_size()))
        return upper

    def _number(self, place: int) -> int | None:
        return place + 1 if self.several else None

    def _slices(self) -> tuple[Slice, ...]:
        """Partitions of a disk that boots, the root's last."""
        esp_size = self._esp_size()
        found = []
        if self.ground.firmware == "uefi":
            if self.ground.esp is None:
                found.append(Slice("esp", PartitionType.esp, ESP_ALONE if self.apart else esp_size))
            if self.apart:
                found.append(Slice("xbootldr", PartitionType.xbootldr, esp_size))
        else:
            found.append(Slice("grub", PartitionType.bios_boot, BIOS_BOOT_SIZE))
            if not self._grub_reads_root():
                found.append(Slice("boot", PartitionType.linux, esp_size))
        if self.storage.swap.kind == "partition" and not self.lvm:
            kind = PartitionType.plain_crypt if self.encrypted else PartitionType.swap
            kind = PartitionType.raid if self._mirrored_swap else kind
            found.append(Slice("swap", kind, self._swap_size()))
        found.append(Slice("root", self._root_type(), None))
        return tuple(found)

    def _kernels_apart(self) -> bool:
        """Whether kernels have a partition of their own beside the EFI system partition."""
        boot, esp = self.answers.boot, self.ground.esp
        if (
            self.ground.firmware != "uefi"
            or boot.loader is BootLoader.grub
            or boot.kernels is KernelsPlace.esp
        ):
            return False
        if boot.kernels is KernelsPlace.auto:
            return esp is not None and too_small(esp)
        if self.boots > 1:
            raise HyperError(
                "boot.kernels = 'xbootldr' does not fit several disks",
                why="each disk of a mirror has its kernels on its own EFI system partition, so that it boots alone",
                remedy="leave it out, or install on one disk",
                code=Exit.answers,
            )
        return True

    @property
    def _esp_place(self) -> str:
        return EFI if self.apart else "/boot"

    @property
    def _mirrored_swap(self) -> bool:
        """A disk that fails must not take the processes with it whose memory it held."""
        return self.redundancy is not Redundancy.none

    def _root_type(self) -> PartitionType:
        if self.md:
            return PartitionType.raid
        if self.encrypted:
            return PartitionType.luks
        if self.lvm:
            return PartitionType.lvm
        return PartitionType.zfs if self.zfs else self.ground.root_type

    def _esp_size(self) -> int:
        boot = self.answers.boot
        if boot.esp_size is None:
            # The new entry is written before the oldest is deleted.
            # A signed image holds kernel and RAM disk once more, for each phase.
            each = (SIGNED_TIMES if boot.secure_boot else 1) * GENERATION_SIZE
            needed = (boot.generations + 1) * each
            return max(ESP_USUAL, -(-needed // GIB) * GIB)
        size = aligned(parse_size(boot.esp_size))
        if size < ESP_FLOOR:
            raise HyperError(
                f"boot.esp_size = {boot.esp_size!r} is too small",
                why=f"every generation's kernel and initrd go there; less than {format_size(ESP_FLOOR)} runs full",
                remedy='leave it out (2 GiB), or write at least "1GiB"',
                code=Exit.answers,
            )
        return size

    def _grub_reads_root(self) -> bool:
        plain_ext4 = self.storage.filesystem is FilesystemKind.ext4 and not self.encrypted
        reached = all(each.disk.size <= BIOS_REACH for each in self.ground.disks)
        return plain_ext4 and not self.several and not self.lvm and reached

    def _swap_size(self) -> int:
        swap, memory = self.storage.swap, self.ground.memory
        unit = EXTENT if self.lvm else gpt.ALIGNMENT
        if swap.size:
            size = max(aligned(parse_size(swap.size)), unit)
            if swap.hibernate and size < memory:
                raise HyperError(
                    f"storage.swap.size = {swap.size!r} is too small to hibernate",
                    why=f"the memory of {format_size(memory)} goes there, and nobody knows how much of it shrinks",
                    remedy="leave it out, write a larger size, or write storage.swap.hibernate = false",
                    code=Exit.unsuitable,
                )
            return size
        if swap.hibernate:
            return -(-memory // unit) * unit
        size = min(memory, SWAP_CEILING, self.ground.smallest // 10)
        return max(size // unit * unit, unit)

    def _require_room(self, slices: tuple[Slice, ...]) -> None:
        words = {
            "esp": "EFI system partition",
            "xbootldr": "kernels beside it",
            "grub": "GRUB's BIOS code",
            "boot": "/boot",
            "swap": "swap",
        }
        needs = [(words[each.role], each.size) for each in slices if each.size is not None]
        if self.storage.swap.kind == "file" or (self.storage.swap.kind == "partition" and self.lvm):
            needs.append(("swap", self._swap_size()))
        needs += [
            ("the system", self.ground.system),
            ("its next generation beside it", self.ground.system),
            ("logs, file system and a first guest", RESERVE),
            ("partition tables", 2 * MIB),
        ]
        if self.md:
            needs.append(("md's own", ARRAY_HEADER))
        needed = sum(size for _, size in needs)
        disk = min((each.disk for each in self.ground.disks), key=lambda each: each.size)
        if self.ground.kept:
            for whole, kept in zip(self.ground.disks, self.ground.kept, strict=True):
                self._require_free(needs, len(slices) - 1, whole, kept)
            return
        if needed <= disk.size:
            return
        smaller = "choose a larger disk"
        if self.storage.swap.kind == "partition":
            smaller += ', or a smaller storage.swap.size, or storage.swap.kind = "zram"'
        raise HyperError(
            f"{disk_title(disk)} is too small",
            why=f"{format_size(needed)} are needed: "
            + ", ".join(f"{format_size(size)} {what}" for what, size in needs if size >= MIB),
            remedy=smaller,
            code=Exit.unsuitable,
        )

    def _require_free(
        self, needs: list[tuple[str, int]], own: int, whole: WholeDisk, kept: Kept | None
    ) -> None:
        """The same of the free space of one disk and, where the root takes a partition, of that."""
        start, end = _free(whole, kept)
        tables = ("partition tables", 2 * MIB)
        outside, inside = needs[:own], [each for each in needs[own:] if each != tables]
        stretches = (
            ((end - start, outside, "the free space"), (kept.room, inside, "that partition"))
            if kept and kept.root
            else ((end - start, [*outside, *inside], "the free space"),)
        )
        for room, parts, where in stretches:
            needed = sum(size for _, size in parts)
            if needed > room:
                raise HyperError(
                    f"{where} of {disk_title(whole.disk)} is too small"
                    if where == "the free space"
                    else f"partition {kept.root[0].number if kept and kept.root else ''} of {disk_title(whole.disk)} is too small",
                    why=f"it has {format_size(max(room, 0))} in one piece, and {format_size(needed)} are needed: "
                    + ", ".join(f"{format_size(size)} {what}" for what, size in parts if size >= MIB),
                    remedy='free more with action = "delete" in storage.partitions, shrink what stays with its own system, '
                    "or choose another disk",
                    code=Exit.unsuitable,
                )

    def _keys(self, role: str) -> tuple[str, ...]:
        """Keys of the partitions with this role, on all disks that have one."""
        disks = len(self.ground.disks) if role == "root" else self.boots
        return tuple(with_number(f"{role}-partition", self._number(place)) for place in range(disks))

    def _upper(self, each: Slice) -> Iterator[Element]:
        """What stands on the partitions of one role, but for the root's."""
        match each.role:
            case "swap":
                yield from self._swap_stack(each)
            case _:
                for place, on in enumerate(self._keys(each.role)):
                    yield self._boot_element(each, place, on)

    def _boot_element(self, each: Slice, place: int, on: str) -> Element:
        """What one disk starts from. The first keeps the name that it would have alone."""
        names = Names(self.answers.hostname, (self.ground.disks[place].disk,))
        key = each.role if place == 0 else f"{each.role}-{place + 1}"
        mountpoint = "/boot" if place == 0 else f"/boot{place + 1}"
        on_host = PATIENCE if self.boots > 1 else ()
        match each.type:
            case PartitionType.xbootldr:
                return Xbootldr(
                    key=key,
                    on=on,
                    uuid=names.volume_id("xbootldr"),
                    label="XBOOTLDR",
                    mounts=(Mount(mountpoint, ESP_OPTIONS, on_host),),
                )
            case PartitionType.esp:
                label = "ESP" if place == 0 else f"ESP{place + 1}"
                mount = Mount(EFI if self.apart else mountpoint, ESP_OPTIONS, on_host)
                return EfiSystem(key=key, on=on, uuid=names.volume_id("esp"), label=label, mounts=(mount,))
            case PartitionType.bios_boot:
                return BiosBoot(key=key, on=on)
            case _:
                return Ext4(
                    key=key,
                    on=on,
                    uuid=names.uuid("boot"),
                    label=names.label(key, Ext4.label_limit),
                    mounts=(Mount(mountpoint, ("noatime",), on_host),),
                    read_by_grub=True,
                )

    def _swap_stack(self, each: Slice) -> Iterator[Element]:
        members = self._keys("swap")
        on = members[0]
        if self._mirrored_swap:
            array = joined("swap", members, Redundancy.mirror, self.answers.hostname, self.names)
            yield array
            on = array.key
        del each
        yield RandomKeySwap(key="swap", on=on) if self.encrypted else self._swap(on)

    def _swap(self, on: str) -> Swap:
        return Swap(
            key="swap",
            on=on,
            uuid=self.names.uuid("swap"),
            label=self.names.label("swap", swap.LABEL_LIMIT),
        )

    def _root_stack(self, each: Slice) -> Iterator[Element]:
        """From the root's partitions to its file system: md, LUKS, LVM, as far as they are there."""
        bases = self._keys(each.role)
        if self.md:
            array = joined("root", bases, self.redundancy, self.answers.hostname, self.names)
            yield array
            bases = (array.key,)
        if self.encrypted:
            crypts = tuple(self._luks(on, place, len(bases)) for place, on in enumerate(bases))
            yield from crypts
            bases = tuple(crypt.key for crypt in crypts)
        if self.zfs:
            yield from self._zfs(bases)
            return
        if self.lvm:
            volumes = self._volumes(bases)
            yield from volumes
            bases = ("root-volume",)
            if self.storage.swap.kind == "partition":
                # In clear only to those who have the passphrase: LUKS lies below the group, where it is.
                yield self._swap("swap-volume")
        yield self._root(bases)
        pool = self.storage.pool
        if pool and pool.kind == "dir" and not self.ground.pool:
            mirrored = self.redundancy is not Redundancy.none and not self.md
            if not mirrored if pool.nodatacow is None else pool.nodatacow:
                yield InPlace(key="pool-folder", on="root", path=self.answers.first_run.pool)

    def _luks(self, on: str, place: int, count: int) -> Element:
        alone = count == 1
        return encrypted(
            "cryptroot" if alone else f"cryptroot-{place + 1}",
            on,
            self.names if alone else Names(self.answers.hostname, (self.ground.disks[place].disk,)),
            role="luks" if alone else f"luks-{place + 1}",
            answers=self.answers,
            memory=self.ground.pbkdf_memory,
            dispensable=not alone and self.redundancy is not Redundancy.none,
        )

    def _group_size(self) -> int:
        """Bytes that the volume group has for certain."""
        taken = sum(each.size or 0 for each in self._slices()) + 2 * gpt.ALIGNMENT
        own = (ARRAY_HEADER if self.md else 0) + (LUKS_HEADER if self.encrypted else 0)
        each = self.ground.smallest - taken - own
        return usable(each, len(self.ground.disks) if self.md else 1, self.redundancy) - 8 * EXTENT

    def _volumes(self, bases: tuple[str, ...]) -> Iterator[Element]:
        storage = self.storage
        uuids = tuple(self.names.volume_uuid(f"pv-{place}") for place in range(len(bases)))
        group = VolumeGroup(key="system-group", on=bases, name=self.names.group("system"), uuids=uuids)
        yield group
        swap_size = self._swap_size() if storage.swap.kind == "partition" else 0
        if swap_size:
            yield Volume(key="swap-volume", group=group.key, name="swap", size=swap_size)
        with_pool = storage.pool is not None and storage.pool.kind == "lvm-thin" and not self.ground.pool
        thin = storage.volumes is VolumesKind.lvm_thin
        rest = self._group_size() - swap_size
        share = rest * POOL_SHARE // 100 if thin or with_pool else rest
        usual = min(ROOT_BESIDE_POOL, share // 2) if with_pool else share
        size = parse_size(storage.root_size) if storage.root_size else usual
        size = -(-size // EXTENT) * EXTENT if storage.root_size else size // EXTENT * EXTENT
        if size > share or size < 2 * self.ground.system + RESERVE:
            asked = f"storage.root_size = {storage.root_size!r}" if storage.root_size else "the root's share"
            raise HyperError(
                f"{asked} does not fit",
                why=f"the volume group has about {format_size(max(share, 0))} for it, and the system, its next "
                f"generation and logs take {format_size(2 * self.ground.system + RESERVE)}",
                remedy="write another storage.root_size, leave it out, or choose larger disks",
                code=Exit.answers if storage.root_size else Exit.unsuitable,
            )
        if thin:
            pool = Volume(key="thin-pool", group=group.key, name="vms", size=None, segment="thin-pool")
            yield pool
            yield Volume(
                key="root-volume", group=group.key, name="root", size=size, segment="thin", pool=pool.key
            )
            return
        whole = not with_pool and not storage.root_size
        yield Volume(key="root-volume", group=group.key, name="root", size=None if whole else size)
        if with_pool:
            yield Volume(key="thin-pool", group=group.key, name="vms", size=None, segment="thin-pool")

    def _zfs(self, bases: tuple[str, ...]) -> Iterator[Element]:
        pool = ZfsPool(key="zpool", on=bases, name=self.names.group("system"), redundancy=self.redundancy)
        yield pool
        options = self.storage.mount_options or ()
        yield ZfsDataset(key="root", pool=pool.key, name="root", mounts=(Mount("/", options),))
        yield ZfsDataset(key="nix", pool=pool.key, name="nix", mounts=(Mount("/nix", options),))
        if self.storage.pool and self.storage.pool.kind == "zfs" and not self.ground.pool:
            yield own_dataset(self.answers, pool.key)

    def _root(self, bases: tuple[str, ...]) -> Filesystem:
        kind, storage = self.storage.filesystem, self.storage
        chosen = storage.mount_options
        options = DEFAULT_OPTIONS[kind] if chosen is None else chosen or ("defaults",)
        uuid = self.names.uuid("root")
        on, *more = bases
        match kind:
            case FilesystemKind.ext4:
                return Ext4(
                    key="root",
                    on=on,
                    uuid=uuid,
                    label=self.names.label("root", Ext4.label_limit),
                    mounts=(Mount("/", options),),
                    read_by_grub=self.ground.firmware == "bios" and self._grub_reads_root(),
                )
            case FilesystemKind.xfs:
                return Xfs(
                    key="root",
                    on=on,
                    uuid=uuid,
                    label=self.names.label("root", Xfs.label_limit),
                    mounts=(Mount("/", options),),
                )
            case FilesystemKind.btrfs | FilesystemKind.zfs:
                subvolumes = sorted(storage.subvolumes.items(), key=lambda pair: pair[1].split("/"))
                redundancy = self.redundancy if more else Redundancy.none
                # The host mounts it with a disk missing, once it has waited for all of them.
                on_host = ("degraded",) if redundancy is not Redundancy.none else ()
                return Btrfs(
                    key="root",
                    on=on,
                    uuid=uuid,
                    label=self.names.label("root", Btrfs.label_limit),
                    subvolumes=tuple(sorted(storage.subvolumes)),
                    mounts=tuple(
                        Mount(place, (f"subvol=/{name}", *options), on_host) for name, place in subvolumes
                    ),
                    more=tuple(more),
                    redundancy=redundancy,
                )


def _free(disk: WholeDisk, kept: Kept | None) -> tuple[int, int]:
    """Where on a disk the host's partitions go: first byte, and where they end."""
    return kept.free if kept else (gpt.ALIGNMENT, gpt.usable_end(disk.disk.size))
