"""Jobs vm-NAME: a guest that the answers name, from its image to running."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from hv.firstrun.domain import HOST_MODELS, Placement, domain_uuid, domain_xml
from hv.firstrun.fetched import job_name
from hv.firstrun.guests import cpu_model, usable_models
from hv.firstrun.image import Owner, import_image, inspect
from hv.firstrun.network import NETWORK, find_network
from hv.firstrun.pool import find_pool, pool_folder
from hv.firstrun.world import TransientError, World
from hv.libvirt_python import libvirt_module
from installer.errors import HyperError
from installer.handoff import Handoff, HandoffVm

CONSOLE_LOGS = "/var/log/libvirt/qemu"
"""Where libvirt keeps its guests' logs; root's alone."""

KVM_TRIAL = (
    *("-accel", "kvm", "-machine", "q35", "-cpu", "host"),
    *("-nodefaults", "-display", "none", "-S", "-monitor", "stdio"),
)
"""QEMU's arguments for a machine that needs nothing but KVM, never runs, and takes `quit` on standard input."""


@dataclass(frozen=True)
class VmJob:
    """Makes and starts one guest. What an administrator changed in it since is left alone."""

    hostname: str
    vm: HandoffVm
    timeout: float = 3600

    @property
    def name(self) -> str:
        """Name of the job."""
        return f"vm-{self.vm.name}"

    @property
    def requires(self) -> tuple[str, ...]:
        """The pool holds its disk; our own network, and its image's job, only when there is need of them."""
        network = ("network",) if self.vm.network == NETWORK else ()
        image = (job_name(self.vm),) if self.vm.fetch else ()
        return ("libvirt", "pool", *network, *image)

    def applies(self, handoff: Handoff) -> str | None:  # noqa: ARG002
        """Always: the hand-off names it."""
        return None

    def run(self, world: World) -> None:
        """Disk, definition, autostart, start; each only when it is not so already."""
        # libvirt does not make it for a console's log; a host that was installed anew has the VM's definition, but no logs.
        world.path(CONSOLE_LOGS).mkdir(mode=0o755, parents=True, exist_ok=True)
        with world.libvirt() as connection:
            domain = self._find(connection)
            if domain is None:
                domain = self._define(world, connection)
            if bool(domain.autostart()) != self.vm.autostart:
                domain.setAutostart(int(self.vm.autostart))
            if self.vm.start and not domain.isActive():
                self._start(world, domain)

    def verify(self, world: World) -> None:
        """State, definition and disk, as libvirt and qemu-img read them back."""
        libvirt = libvirt_module()
        with world.libvirt() as connection:
            domain = self._find(connection)
            if domain is None:
                raise self._error("is not defined", "libvirt does not find it, right after it was made")
            state, reason = domain.state()
            if self.vm.start and state != libvirt.VIR_DOMAIN_RUNNING:
                raise self._error(
                    "does not run",
                    f"libvirt says state {state}, reason {reason} (virDomainState)",
                    domain.name(),
                )
            if bool(domain.autostart()) != self.vm.autostart:
                raise self._error(
                    "does not start with the host as asked", "libvirt reads autostart back otherwise"
                )
            found = ET.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))  # noqa: S314 - libvirt's own words
            self._compare(found)
            pool = self._pool(connection)
            pool.refresh(0)  # libvirt lists only what it has seen
            disk = Path(pool.storageVolLookupByName(self._volume).path())
            size = inspect(world, disk, "qcow2")["virtual-size"]
            if self.vm.disk_size is not None and size < self.vm.disk_size:
                raise self._error(
                    "has a disk that is too small", f"{size} bytes instead of {self.vm.disk_size}"
                )
            world.say(
                f"checked: {self.vm.name} ({found.get('type')}) "
                f"{'runs' if self.vm.start else 'is defined'}, disk {disk}, {size} bytes"
            )

    @property
    def _volume(self) -> str:
        return f"{self.vm.name}.qcow2"

    def _find(self, connection: Any) -> Any | None:
        libvirt = libvirt_module()
        try:
            domain = connection.lookupByName(self.vm.name)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise
        if domain.UUIDString() != domain_uuid(self.hostname, self.vm.name):
            raise self._error(
                "cannot be made",
                f"another VM has that name, with UUID {domain.UUIDString()}",
                remedy=f"Rename the other (`virsh domrename`) and `hv firstrun retry {self.name}`, or skip the job.",
            )
        return domain

    def _pool(self, connection: Any) -> Any:
        pool = find_pool(connection)
        if pool is None:
            raise self._error("has no place for its disk", "there is no pool `default`")
        return pool

    def _define(self, world: World, connection: Any) -> Any:
        if self.vm.network is not None and find_network(connection, self.vm.network) is None:
            raise self._error(
                "has no network",
                f"libvirt knows no network {self.vm.network!r}",
                remedy=f"Define it (`virsh net-define`), then `hv firstrun retry {self.name}`.",
            )
        kvm, emulator = _accelerator(world, connection)
        if not kvm:
            world.warn(
                f"{self.vm.name} runs emulated (TCG), many times slower: KVM cannot be used, see job hardware"
            )
        model = cpu_model(world)
        if kvm and model not in HOST_MODELS:
            self._require_model(connection, emulator, model)
        if self.vm.firmware == "uefi":
            self._require_uefi(connection, emulator)
        pool = self._pool(connection)
        disk = pool_folder(pool) / self._volume
        import_image(world, self.vm, disk, _qemu_owner(connection))
        log = world.path(f"{CONSOLE_LOGS}/{self.vm.name}-console.log")
        world.say(f"defining VM {self.vm.name}; its console is kept in {log}")
        placement = Placement(model if kvm else None, disk, log)
        return connection.defineXML(domain_xml(self.hostname, self.vm, placement))

    def _start(self, world: World, domain: Any) -> None:
        libvirt = libvirt_module()
        world.say(f"starting VM {self.vm.name}")
        try:
            domain.create()
        except libvirt.libvirtError as error:
            raise TransientError(
                f"VM {self.vm.name} does not start.",
                why=str(error),
                remedy=f"See /var/log/libvirt/qemu/{self.vm.name}.log, then `hv firstrun retry {self.name}`.",
            ) from error

    def _require_model(self, connection: Any, emulator: str, model: str) -> None:
        capabilities = ET.fromstring(connection.getDomainCapabilities(emulator, "x86_64", "q35", "kvm", 0))  # noqa: S314
        usable = usable_models(capabilities)
        if model not in usable:
            raise self._error(
                f"cannot have the processor {model}",
                f"with KVM this host can give {', '.join(sorted(usable)) or 'no model by name'}",
                remedy="Set hypervisor.virtualization.cpuModel to one of these, to host-model or to host-passthrough, "
                f"rebuild, then `hv firstrun retry {self.name}`.",
            )

    def _require_uefi(self, connection: Any, emulator: str) -> None:
        capabilities = ET.fromstring(connection.getDomainCapabilities(emulator, "x86_64", "q35", None, 0))  # noqa: S314
        if "efi" not in [value.text for value in capabilities.findall("os/enum[@name='firmware']/value")]:
            raise self._error(
                "needs UEFI, which this host cannot give to guests",
                "libvirt finds no firmware description for it in /etc/qemu/firmware or /usr/share/qemu/firmware",
                remedy=f"Install OVMF (NixOS's QEMU carries it), then `hv firstrun retry {self.name}`.",
            )

    def _compare(self, found: ET.Element) -> None:
        interface, system = found.find("devices/interface/source"), found.find("os")
        uefi = system is not None and (system.get("firmware") == "efi" or system.find("loader") is not None)
        rows = (
            # libvirt keeps memory in KiB, rounded up.
            ("memory", int(found.findtext("memory", "0")), -(-self.vm.memory // 1024)),
            ("vcpus", int(found.findtext("vcpu", "0")), self.vm.vcpus),
            ("network", None if interface is None else interface.get("network"), self.vm.network),
            ("firmware", "uefi" if uefi else "bios", self.vm.firmware),
        )
        wrong = [
            f"{what} is {there!r} instead of {asked!r}" for what, there, asked in rows if there != asked
        ]
        if wrong:
            raise self._error("is not as the hand-off says", "; ".join(wrong))

    def _error(self, what: str, why: str, remedy: str | None = None) -> HyperError:
        return HyperError(
            f"VM {self.vm.name} {what}.",
            why=why,
            remedy=remedy
            or f"See `virsh dominfo {self.vm.name}` and its log in {CONSOLE_LOGS}, then "
            f"`hv firstrun retry {self.name}`, or skip it if it was changed on purpose.",
        )


def _accelerator(world: World, connection: Any) -> tuple[bool, str]:
    """Whether KVM works, and libvirt's QEMU. Found by using it: /dev/kvm and libvirt's capabilities promise too much.

    QEMU makes a paused machine with the host's processor and quits; it aborts where KVM is there but unusable.
    """
    capabilities = ET.fromstring(connection.getDomainCapabilities(None, "x86_64", "q35", None, 0))  # noqa: S314
    emulator = capabilities.findtext("path", "qemu-system-x86_64")
    if not world.path("/dev/kvm").exists():
        return False, emulator
    done = world.attempt(
        (emulator, *KVM_TRIAL),
        stdin="quit\n",
        timeout=30,
    )
    return done.status == 0, emulator


def _qemu_owner(connection: Any) -> Owner:
    """Who guests run as: the DAC label of the host's capabilities, `+UID:+GID`; root where there is none."""
    for model in ET.fromstring(connection.getCapabilities()).findall("host/secmodel"):  # noqa: S314
        label = model.findtext("baselabel")
        if model.findtext("model") == "dac" and label:
            uid, gid = (int(part.lstrip("+")) for part in label.split(":"))
            return Owner(uid, gid)
    return Owner(0, 0)
