"""Making and deleting guests."""

import threading
import time
from typing import Any

import sqlalchemy as sql

from hv.daemon.guests import definition, disks_in, domain_of, is_starting, state_of
from hv.daemon.host_devices import return_taken, taken
from hv.daemon.limits import Use, size
from hv.daemon.operations import Action, Work
from hv.daemon.placing import Wanted, placed
from hv.daemon.problems import RefusedError, Status
from hv.daemon.roles import Caller, Permission, decide
from hv.daemon.settings import Settings
from hv.daemon.store import IMAGES, OPEN, OPERATIONS, VMS, VOLUMES, Store
from hv.daemon.virt import Libvirt
from hv.daemon.volumes import fill, make, pool_of, remembered, remove, volume_of
from hv.libvirt_python import libvirt_module
from hv.vm.domain import DiskFile, Guest, Host, domain_xml, mac_of, parsed
from hv.vm.seed import seed_iso
from hv.vm.spec import Delete, Disk, Nic, VmSpec
from hv.vm.windows import answers_iso

SECTOR = 512
PRESSES = 20.0
"""Seconds that a key is pressed now and then, for a medium that asks for it."""
ENTER = 28
"""KEY_ENTER (Linux, input-event-codes.h)."""
_KVM = threading.Lock()
_known: dict[str, bool] = {}


def image_of(store: Store, name: str, caller: Caller, kind: str = "image") -> dict[str, Any]:
    """An image that the caller may use. Raises Refused."""
    row = store.row(sql.select(IMAGES).where(IMAGES.c.name == name))
    if row is None or row["kind"] != kind:
        wanted = "medium (ISO)" if kind == "iso" else "image"
        raise RefusedError(
            "no-such-image",
            Status.missing,
            f"There is no {wanted} {name!r}.",
            why="hvd has none of that name" if row is None else f"{name} is of kind {row['kind']}",
            remedy="See `hv image list`; get one with `hv image pull` or `hv image import FILE`.",
        )
    if not row["public"] and row["owner"] != caller.uid:
        decision = decide(caller, Permission.change, row["owner"], f"the image {name}")
        if not decision.allowed:
            raise RefusedError(
                "denied",
                Status.denied,
                f"The image {name} is not yours.",
                why=decision.why,
                remedy=f"Its owner can make it public: `hv image publish {name}`. {decision.remedy}",
                permission="change",
                object=name,
            )
    return row


def disk_rows(store: Store, spec: VmSpec, uuid: str, caller: Caller) -> list[dict[str, Any]]:
    """Rows of the volumes that a guest will have, in its disks' order; raises RefusedError for what the caller may not use."""
    rows = []
    for number, disk in enumerate(spec.disks):
        rows.append(disk_row(store, disk, uuid, caller, f"d{number}"))
    if spec.cloud_init is not None or spec.unattended is not None or spec.ignition is not None:
        pool = spec.disks[0].pool if spec.disks else "default"
        rows.append(
            {
                "pool": pool,
                "name": _seed_name(uuid, spec),
                "vm": uuid,
                "owner": caller.uid,
                "kind": "seed",
                "size": 0,
                "image": None,
            }
        )
    return rows


def _seed_name(uuid: str, spec: VmSpec) -> str:
    return f"{uuid}-seed.{'iso' if spec.ignition is None else 'ign'}"


def disk_row(store: Store, disk: Disk, uuid: str, caller: Caller, label: str) -> dict[str, Any]:
    """The row of one disk. Raises Refused."""
    if disk.volume is not None:
        row = remembered(store, disk.pool, disk.volume)
        own = row["owner"] == caller.uid or any(role.name == "admin" for role in caller.roles)
        if not own or row["kind"] != "disk":
            raise RefusedError(
                "denied",
                Status.denied,
                f"The disk {disk.volume} cannot be given to a VM of yours.",
                why=f"{caller.name} lacks the permission `change` on it"
                if not own
                else f"it is a {row['kind']}",
                remedy="Name a disk of your own: `hv vm disks`; an administrator can give others.",
                permission="change",
                object=disk.volume,
            )
        if row["vm"] not in (None, uuid):
            raise RefusedError(
                "in-use",
                Status.conflict,
                f"The disk {disk.volume} is in use.",
                why=f"the VM {row['vm']} has it",
                remedy="Unplug it there first: `hv vm detach NAME --disk TARGET`.",
            )
        return row
    image = image_of(store, disk.image, caller) if disk.image else None
    if image is not None and disk.size is not None and disk.size < image["size"]:
        raise RefusedError(
            "too-small",
            Status.invalid,
            f"The disk is smaller than the image {disk.image}.",
            why=f"the image has {size(image['size'])}, {size(disk.size)} are asked for",
            remedy=f"Ask for at least {size(image['size'])}, or leave the size out.",
        )
    if image is not None and disk.pool not in ("default", image["pool"]):
        raise RefusedError(
            "other-pool",
            Status.invalid,
            f"A disk on the image {disk.image} cannot be in the pool {disk.pool}.",
            why=f"it stands on the image, which is in {image['pool']}",
            remedy=f"Leave the pool out, or import the image into {disk.pool} under another name.",
        )
    wanted = disk.size or (image["size"] if image else 0)
    pool = image["pool"] if image else disk.pool
    return {
        "pool": pool,
        "name": f"{uuid}-{label}.qcow2",
        "vm": uuid,
        "owner": caller.uid,
        "kind": "disk",
        "size": wanted,
        "image": disk.image,
    }


def host_of(libvirt: Libvirt, settings: Settings, connection: Any) -> Host:
    """KVM or emulation: as the host says, or as libvirt finds it."""
    if settings.accelerator != "auto":
        return Host(settings.accelerator == "kvm", settings.cpu_model)
    with _KVM:
        if libvirt.uri not in _known:
            try:
                connection.getDomainCapabilities(None, "x86_64", "q35", "kvm", 0)
                _known[libvirt.uri] = True
            except libvirt_module().libvirtError:
                _known[libvirt.uri] = False
        return Host(_known[libvirt.uri], settings.cpu_model)


def plan_create(work: Work) -> list[str]:
    """What would be made."""
    spec: VmSpec = work.given
    rows = disk_rows(work.store, spec, work.uuid, work.caller)
    for row in rows:
        pool_of(work.connection, row["pool"])
    require_networks(work.connection, spec.nics)
    host = host_of(work.libvirt, work.settings, work.connection)
    _require_screen(work, host, spec)
    first = (
        f"VM {spec.name}: {spec.vcpus} virtual processor{'s' if spec.vcpus > 1 else ''}, {size(spec.memory)}, "
        f"{spec.firmware}{' with Secure Boot' if spec.secure_boot else ''}{', TPM' if spec.tpm else ''}, "
        f"{'KVM' if host.accelerated else 'emulated'}, owner {work.caller.name}"
    )
    lines = [first]
    mosts = []
    if (spec.max_vcpus or 0) > spec.vcpus:
        mosts.append(f"{spec.max_vcpus} processors")
    if (spec.max_memory or 0) > spec.memory:
        mosts.append(f"{size(spec.max_memory or 0)} of memory")
    if spec.placement:
        lines += placed(work, spec.placement, _wanted(spec))[1]
    if mosts:
        lines.append(f"may get while it runs: up to {' and '.join(mosts)}")
    disks = [row for row in rows if row["kind"] == "disk"]
    for disk, row in zip(spec.disks, disks, strict=True):
        start = f"on image {row['image']}" if row["image"] else "as it is" if disk.volume else "empty"
        lines.append(f"disk {row['pool']}/{row['name']}: {size(row['size'])}, {start}, {disk.bus}")
    lines += [f"network card in {nic.network}, {nic.model}" for nic in spec.nics]
    if spec.unattended is not None:
        lines.append(
            f"Windows installs itself to the first disk, for {spec.unattended.user}, who has no password until "
            "one is set at its screen"
        )
    if spec.cloud_init is not None:
        lines.append(f"first boot: cloud-init with {len(spec.cloud_init.keys)} SSH keys")
    if spec.ignition is not None:
        lines.append(f"first boot: Ignition with {len(spec.ignition.config.encode())} bytes")
    if spec.iso:
        image_of(work.store, spec.iso, work.caller, "iso")
        lines.append(f"boots once from {spec.iso}")
    if spec.autostart:
        lines.append("starts with the host")
    if spec.start:
        lines.append("started now")
    return lines


def _wanted(spec: VmSpec) -> Wanted:
    return Wanted(spec.max_vcpus or spec.vcpus, spec.max_memory or spec.memory)


def _require_screen(work: Work, host: Host, spec: VmSpec) -> None:
    """RefusedError unless QEMU has that kind of screen (https://libvirt.org/formatdomaincaps.html)."""
    if spec.screen == "vnc" or work.libvirt.uri.startswith("test:"):
        return
    kind = "kvm" if host.accelerated else "qemu"
    told = parsed(work.connection.getDomainCapabilities(None, "x86_64", "q35", kind, 0))
    has = [value.text or "" for value in told.iterfind("devices/graphics/enum[@name='type']/value")]
    if spec.screen not in has:
        raise RefusedError(
            "no-such-screen",
            Status.unavailable,
            f"This host's QEMU has no screens by {spec.screen.upper()}.",
            why=f"libvirt says that it has: {', '.join(has) or 'none'}",
            remedy="Leave --spice out: the VM gets a screen by VNC.",
        )


def require_networks(connection: Any, nics: tuple[Nic, ...]) -> None:
    """RefusedError unless libvirt has the network of each card."""
    libvirt = libvirt_module()
    for nic in nics:
        try:
            connection.networkLookupByName(nic.network)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_NETWORK:
                raise
            known = ", ".join(sorted(each.name() for each in connection.listAllNetworks(0))) or "none"
            raise RefusedError(
                "no-such-network",
                Status.missing,
                f"There is no network {nic.network!r}.",
                why=f"libvirt has: {known}",
                remedy="Name one of these (--network), or none (--network none).",
            ) from error


def use_of(spec: VmSpec, rows: list[dict[str, Any]], *, here: str) -> Use:
    """What a new guest takes more; `here`: its UUID, whose disks are new."""
    new = sum(row["size"] for row in rows if row["kind"] == "disk" and row["name"].startswith(here))
    return Use(1, spec.vcpus, spec.memory, new)


def kept_with(
    spec: VmSpec, rows: list[dict[str, Any]], row: dict[str, Any], caller: Caller
) -> tuple[Any, ...]:
    """Statements that take a guest's name, room and disks at the moment that it is asked for."""
    guest = {
        "uuid": row["uuid"],
        "name": spec.name,
        "owner": caller.uid,
        "vcpus": spec.vcpus,
        "memory": spec.memory,
        "tags": list(spec.tags),
        "os": spec.os,
        "declared": spec.declared,
        "created": row["created"],
    }
    statements: list[Any] = [sql.insert(VMS).values(**guest)]
    for volume in rows:
        if volume["name"].startswith(row["uuid"]):
            statements.append(sql.insert(VOLUMES).values(**volume))
        else:
            statements.append(
                sql.update(VOLUMES)
                .where(VOLUMES.c.pool == volume["pool"], VOLUMES.c.name == volume["name"])
                .values(vm=row["uuid"])
            )
    return tuple(statements)


def run_create(work: Work) -> dict[str, Any]:
    """Volumes, definition, start; each unless it is there."""
    spec: VmSpec = work.given
    libvirt = libvirt_module()
    require_networks(work.connection, spec.nics)
    rows = work.store.rows(sql.select(VOLUMES).where(VOLUMES.c.vm == work.uuid))
    by_name = {row["name"]: row for row in rows}
    files = []
    for number, disk in enumerate(spec.disks):
        name = disk.volume or f"{work.uuid}-d{number}.qcow2"
        work.say(f"making disk {number + 1} of {len(spec.disks)}", 10 + 50 * number / len(spec.disks))
        files.append(disk_file(work, by_name[name], disk))
    ignition = None
    if spec.ignition is not None:
        work.say("writing what Ignition reads", 60)
        ignition = _seed(work, by_name[_seed_name(work.uuid, spec)], spec)
    if spec.cloud_init is not None:
        work.say("writing what cloud-init reads", 60)
        path = _seed(work, by_name[_seed_name(work.uuid, spec)], spec)
        files.append(DiskFile(path, "raw", "virtio", "seed"))
    if spec.iso:
        image = image_of(work.store, spec.iso, work.caller, "iso")
        _, path = volume_of(work.connection, image["pool"], image["volume"])
        files.append(DiskFile(path, "raw", "sata", "iso"))
    if spec.unattended is not None:
        work.say("writing what Windows' installer reads", 60)
        path = _seed(work, by_name[_seed_name(work.uuid, spec)], spec)
        files.append(DiskFile(path, "raw", "sata", "iso"))
    work.say("defining it", 70)
    macs = tuple(nic.mac or mac_of(work.uuid, number) for number, nic in enumerate(spec.nics))
    host = host_of(work.libvirt, work.settings, work.connection)
    place = placed(work, spec.placement, _wanted(spec))[0] if spec.placement else None
    xml = domain_xml(Guest(spec, work.uuid, work.caller.name, host, tuple(files), macs, place, ignition))
    domain = work.connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    domain.setAutostart(int(spec.autostart))
    if spec.start and not domain.isActive():
        work.say("starting it", 80)
        domain.create()
    while is_starting(domain):
        work.pause(0.1)
    if spec.start and spec.unattended is not None:
        _press_a_key(work, domain)
    found = state_of(domain)
    if spec.start and found not in ("running", "blocked"):
        raise RefusedError(
            "did-not-stay",
            Status.failed,
            f"{spec.name} does not run.",
            why=f"right after it was started it is {found}",
            remedy=f"See `hv vm logs {spec.name}`.",
        )
    return {"name": spec.name, "uuid": work.uuid, "state": found}


def _press_a_key(work: Work, domain: Any) -> None:
    """Windows' media start only when a key is pressed, within seconds of a moment that nobody knows."""
    libvirt = libvirt_module()
    end = time.monotonic() + PRESSES
    while time.monotonic() < end and domain.isActive():
        work.say("pressing a key, so that the medium starts", 90)
        domain.sendKey(libvirt.VIR_KEYCODE_SET_LINUX, 50, [ENTER], 1, 0)
        work.pause(1)


def disk_file(work: Work, row: dict[str, Any], disk: Disk) -> DiskFile:
    """A disk's volume, made if it is new."""
    backing = None
    if row["image"]:
        image = work.store.row(sql.select(IMAGES).where(IMAGES.c.name == row["image"]))
        if image is None:
            raise RefusedError(
                "no-such-image",
                Status.missing,
                f"The image {row['image']} is gone.",
                why="it was deleted in the meantime",
                remedy="See `hv image list`.",
            )
        _, backing = volume_of(work.connection, image["pool"], image["volume"])
    if disk.volume is None:
        make(work.connection, row, backing=backing)
    _, path = volume_of(work.connection, row["pool"], row["name"])
    return DiskFile(path, bus=disk.bus, backing=backing)


def _seed(work: Work, row: dict[str, Any], spec: VmSpec) -> str:
    """Path of the volume with what the guest is told at first."""
    plain = "".join(char if char.isascii() and char.isalnum() else "-" for char in spec.name).strip("-")
    hostname = plain[:63].strip("-") or "vm"
    if spec.unattended is not None:
        # Only digits would be no name for Windows.
        short = plain[:15].strip("-")
        data = answers_iso(spec.unattended, "vm" if not short or short.isdigit() else short)
    elif spec.ignition is not None:
        data = spec.ignition.config.encode()
        data += b"\n" * (-len(data) % SECTOR)  # a volume has whole sectors
    else:
        assert spec.cloud_init is not None
        data = seed_iso(spec.cloud_init, instance=work.uuid, hostname=hostname)
    make(work.connection, row | {"size": len(data)}, kind="raw")
    fill(work.connection, row["pool"], row["name"], data)
    return volume_of(work.connection, row["pool"], row["name"])[1]


def undo_create(work: Work) -> None:
    """As if it had never been: guest, volumes that were made for it, rows."""
    libvirt = libvirt_module()
    with work.libvirt.connected() as connection:
        try:
            domain = connection.lookupByUUIDString(work.uuid)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
        else:
            if domain.isActive():
                domain.destroy()
            domain.undefineFlags(undefine_flags())
        for row in work.store.rows(sql.select(VOLUMES).where(VOLUMES.c.vm == work.uuid)):
            if row["name"].startswith(work.uuid):
                remove(connection, row["pool"], row["name"])
    work.store.write(
        sql.update(VOLUMES)
        .where(VOLUMES.c.vm == work.uuid, sql.not_(VOLUMES.c.name.startswith(work.uuid)))
        .values(vm=None),
        sql.delete(VOLUMES).where(VOLUMES.c.vm == work.uuid),
        sql.delete(VMS).where(VMS.c.uuid == work.uuid),
    )


def reconcile(connection: Any, store: Store) -> list[str]:
    """Forget guests that libvirt no longer has, which root took away or a failure left half; their names.

    Their disks are kept, as disks that no guest uses.
    """
    there = {domain.UUIDString() for domain in connection.listAllDomains(0)}
    busy = set()
    for row in store.rows(
        sql.select(OPERATIONS.c.id, OPERATIONS.c.uuid).where(OPERATIONS.c.status.in_(OPEN))
    ):
        busy |= {row["id"], row["uuid"]}  # a copy's UUID is its operation's id
    gone = [row for row in store.rows(sql.select(VMS)) if row["uuid"] not in there | busy]
    for row in gone:
        for volume in store.rows(sql.select(VOLUMES).where(VOLUMES.c.vm == row["uuid"])):
            where = (VOLUMES.c.pool == volume["pool"], VOLUMES.c.name == volume["name"])
            if volume["kind"] == "disk":
                store.write(sql.update(VOLUMES).where(*where).values(vm=None))
            else:
                remove(connection, volume["pool"], volume["name"])
                store.write(sql.delete(VOLUMES).where(*where))
        store.write(sql.delete(VMS).where(VMS.c.uuid == row["uuid"]))
    return [row["name"] for row in gone]


def undefine_flags() -> int:
    """Everything that libvirt keeps beside a definition goes along."""
    libvirt = libvirt_module()
    flags = (
        libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    )
    return int(flags | getattr(libvirt, "VIR_DOMAIN_UNDEFINE_TPM", 0))


def plan_delete(work: Work) -> list[str]:
    """What goes, and what stays."""
    given: Delete = work.given
    domain = domain_of(work.connection, work.uuid)
    active = bool(domain.isActive())
    if active and not given.force:
        raise RefusedError(
            "runs",
            Status.conflict,
            f"{work.target} runs.",
            why="a VM that runs is not deleted by mistake",
            remedy=f"Stop it first (`hv vm stop '{work.target}'`), or say --force.",
        )
    root = definition(domain)
    lines = [f"VM {work.target}{', which runs, is ended at once and' if active else ''} is deleted"]
    rows = {
        row["name"]: row for row in work.store.rows(sql.select(VOLUMES).where(VOLUMES.c.vm == work.uuid))
    }
    for disk in disks_in(root):
        name = (disk["path"] or "").rpartition("/")[2]
        if name in rows and rows[name]["kind"] == "seed":
            lines.append(f"what cloud-init read ({name}) goes along")
        elif name in rows:
            fate = "is deleted with everything in it" if given.disks else "is kept"
            lines.append(
                f"disk {disk['target']} ({rows[name]['pool']}/{name}, {size(rows[name]['size'])}) {fate}"
            )
        elif disk["path"]:
            lines.append(f"{disk['path']} is kept: hvd did not make it")
    if root.find("sysinfo[@type='fwcfg']") is not None:
        lines += [f"what Ignition read ({name}) goes along" for name in rows if name.endswith("-seed.ign")]
    if count := domain.snapshotNum(0):
        lines.append(f"{count} snapshot{'s' if count > 1 else ''} can no longer be gone back to")
    if root.find("devices/tpm") is not None:
        lines.append("the TPM goes along, and with it keys that are in it alone")
    system = root.find("os")
    if system is not None and (system.find("nvram") is not None or system.get("firmware") == "efi"):
        lines.append("the firmware's variables go along")
    if domain.hasManagedSaveImage(0):
        lines.append("its saved memory goes along")
    return lines


def run_delete(work: Work) -> dict[str, Any]:
    """The guest goes, then its disks if asked."""
    given: Delete = work.given
    libvirt = libvirt_module()
    try:
        domain = work.connection.lookupByUUIDString(work.uuid)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
    else:
        plan_delete(work)
        if domain.isActive():
            work.say("ending it", 20)
            domain.destroy()
        work.say("forgetting it", 40)
        domain.undefineFlags(undefine_flags())
    return_taken(work, taken(work))
    kept = []
    for row in work.store.rows(sql.select(VOLUMES).where(VOLUMES.c.vm == work.uuid)):
        where = (VOLUMES.c.pool == row["pool"], VOLUMES.c.name == row["name"])
        if row["kind"] == "disk" and not given.disks:
            kept.append(f"{row['pool']}/{row['name']}")
            work.store.write(sql.update(VOLUMES).where(*where).values(vm=None))
        else:
            remove(work.connection, row["pool"], row["name"])
            work.store.write(sql.delete(VOLUMES).where(*where))
    work.store.write(sql.delete(VMS).where(VMS.c.uuid == work.uuid))
    return {"name": work.target, "kept": kept}


CREATE = Action("create", Permission.create, VmSpec, plan_create, run_create, 900, undo_create)
DELETE = Action("delete", Permission.delete, Delete, plan_delete, run_delete)
