"""Devices of an installed host that its guests get: a network card, an NVMe disk, a USB controller and a graphics card
with its sound, all behind the machine's emulated IOMMU, so that the kernel's VFIO, libvirt and QEMU are real.
"""

import json
import re
import shlex
from dataclasses import dataclass, replace
from typing import Any

from tests.lab import installed
from tests.lab.devices_guest import BLOCK, MARKER, SIZE, WRITTEN, image
from tests.lab.installed import Host
from tests.lab.machine import SECOND_MAC, THIRD_MAC, Disk, Running
from tests.lab.patience import patience
from tests.lab.people import REFUSED
from tests.lab.recorder import Recorder
from tests.lab.scenarios import Scenario
from tests.lab.session import Ssh

CARD, DISK, USB, GPU, SOUND = "8086:10d3", "1b36:0010", "1b36:000d", "1002:5046", "8086:2668"
"""Ids of QEMU's e1000e, NVMe, xHCI, Radeon and HD Audio."""
TABLET = "056a:0000"
"""Of QEMU's Wacom tablet, which hangs on the USB controller."""
SERIAL = "HVSPARE3"
"""Of the NVMe disk that a guest gets."""
WRITTEN_HERE = "WRITTEN-BY-THE-HOST"
HARMS = 10
"""Exit code of `hv` where it would harm the host."""


def scenario() -> Scenario:
    """UEFI, not encrypted; a graphics card is declared, all else is moved while the host runs."""
    plain = installed.scenario()
    guest = re.search(r"\[\[first_run\.vms\]\][^\[]*", plain.answers())
    assert guest is not None
    wanted = (
        f'[[hypervisor.passthrough]]\nids = "{GPU}"\n\n'
        '[[users]]\nname = "ada"\ngroups = ["hv-owners"]\nssh_keys = ["@ssh-key@"]\n\n'
    )
    disks = (*plain.hardware.disks, Disk(SERIAL, size="64M", bus="nvme"))
    return replace(
        plain,
        name="uefi-ext4-given",
        summary="UEFI, ext4; a host whose network card, NVMe disk, USB controller and graphics card go to guests.",
        hardware=replace(plain.hardware, disks=disks, second_gpu=True, second_card=True),
        guest=None,
        changes=(*plain.changes, (guest[0], wanted)),
    )


@dataclass
class Giving:
    """One host, and what it gives."""

    host: Host
    devices: list[dict[str, Any]]
    """As `hv passthrough list --json` has them."""

    def at(self, ids: str) -> str:
        """Address of the device with these ids that is behind a port of its own."""
        found = [each["address"] for each in self.devices if each["ids"] == ids]
        return str(next(address for address in found if not address.startswith("0000:00:")))

    def other(self) -> str:
        """The card's second function."""
        return self.at(CARD).replace(".0", ".1")

    def macs(self) -> list[str]:
        """Those of the card's functions that the host has interfaces of."""
        text = self.host.ssh.run("cat /sys/class/net/*/address", measured=15)[1]
        return [mac for mac in (SECOND_MAC, THIRD_MAC) if mac in text]

    def driver(self, address: str) -> str:
        """Which driver has it."""
        code, text = self.host.ssh.run(f"readlink /sys/bus/pci/devices/{address}/driver", measured=15)
        return text.strip().rpartition("/")[2] if code == 0 else ""

    def prove(self, claim: str, holds: bool, evidence: str) -> None:
        """Keep it in the record."""
        self.host.recorder.prove(claim, holds, evidence)

    def vm(self, words: str, ssh: Ssh | None = None, measured: float = 60) -> tuple[int, str]:
        """`hv vm` of somebody without sudo; the administrator if nobody is named."""
        code, text = (ssh or self.host.ssh).run(f"hv vm {words}", measured=measured)
        self.host.recorder.excerpt(f"hv vm {words}", text)
        for line in text.splitlines():
            self.host.recorder.detail(line)
        return code, " ".join(text.split())  # as it is without a terminal's width

    def does(self, words: str, claim: str) -> str:
        """The same, which must succeed."""
        code, text = self.vm(words)
        self.prove(claim, code == 0, f"status {code}: {text}")
        return text

    def says(self, name: str, what: str, claim: str) -> str:
        """Wait until the guest has said this, a regular expression, on its serial line."""
        seconds = int(patience(10))
        look = f"until hv vm logs {name} | grep -q -- {shlex.quote(what)}; do sleep 2; done"
        wait = f"timeout {seconds} sh -c {shlex.quote(look)}; hv vm logs {name} | tail -n 20"
        text = self.host.ssh.run(wait, measured=20)[1]
        state = ""
        said = re.search(what, text) is not None
        if not said:  # for who looks into it
            look = f"virsh -c qemu:///system domstate --reason {name}; tail -n 40 /var/log/libvirt/qemu/*.log; dmesg | tail"
            state = self.host.root(look)[1]
        self.prove(claim, said, text + state)
        return text

    def returned(self, address: str, driver: str, claim: str) -> None:
        """A driver of the host has the device again."""
        wait = f"timeout {int(patience(10))} sh -c 'until readlink /sys/bus/pci/devices/{address}/driver | grep -q /{driver}$; do sleep 1; done'"
        code, _ = self.host.ssh.run(wait, measured=20)
        self.prove(claim, code == 0, f"{address} has the driver {self.driver(address) or 'none'}")

    # ---- what is tried ----

    def looked_at(self) -> None:
        """Verdicts of what is really there."""
        with self.host.recorder.phase("hv passthrough list", "host"):
            text = self.host.hv("passthrough list")[1]
        by_address = {each["address"]: each for each in self.devices}
        for ids, name in ((CARD, "network card"), (DISK, "NVMe disk"), (USB, "USB controller")):
            verdict = by_address[self.at(ids)]
            self.prove(f"a guest can have the second {name}", verdict["allowed"], json.dumps(verdict))
        gpu = by_address[self.at(GPU)]
        self.prove("the graphics card goes with its sound", gpu["companions"] == [self.at(SOUND)], text)
        root = [each for each in self.devices if "carries the root disk" in each["reason"]]
        self.prove("the root disk stays with the host", len(root) == 1 and not root[0]["allowed"], text)
        routed = [each for each in self.devices if "default route" in each["reason"]]
        self.prove(
            "the card with the default route stays with the host",
            len(routed) == 1 and not routed[0]["allowed"],
            text,
        )

    def moved(self) -> None:
        """By hand: a card leaves the host and comes back."""
        card = self.at(CARD)
        with self.host.recorder.phase("hv passthrough plan, bind, release", "host"):
            code, text = self.host.hv(f"passthrough plan {card}")
            self.prove(
                "the plan says that the host loses the card", code == 0 and "network card" in text, text
            )
            self.prove("a plan changes nothing", self.driver(card) == "e1000e", self.driver(card))
            code, text = self.host.hv(f"passthrough bind {card}")
            drivers = self.driver(card), self.driver(self.other())
            self.prove(
                "bind takes the card, both functions", code == 0 and set(drivers) == {"vfio-pci"}, text
            )
            self.prove("the host has that card no longer", not self.macs(), text)
            code, text = self.host.hv(f"passthrough release {card}")
            drivers = self.driver(card), self.driver(self.other())
            self.prove("release gives it back", code == 0 and set(drivers) == {"e1000e"}, text)
            self.prove("the host has its network card again", len(self.macs()) == 2, text)
            root = next(each["address"] for each in self.devices if "root disk" in each["reason"])
            code, text = self.host.hv(f"passthrough bind {root}")
            self.prove(
                "bind refuses the root disk",
                code != 0 and "carries the root disk" in " ".join(text.split()),
                text,
            )

    def refused(self) -> None:
        """What would hurt, and who may not."""
        ada = replace(self.host.ssh, user="ada")
        with self.host.recorder.phase("what hv vm attach --pci refuses", "host"):
            code, text = self.vm("create hers --size 64M --memory 64MiB --firmware bios --network none", ada)
            self.prove("ada has a guest of her own", code == 0, text)
            code, text = self.vm(f"attach hers --pci {self.at(CARD)}", ada)
            self.prove(
                "who is no administrator gets no device",
                code == REFUSED and "devices" in text,
                f"{code}: {text}",
            )
            for what in ("carries the root disk", "carries the default route"):
                address = next(each["address"] for each in self.devices if what in each["reason"])
                code, text = self.vm(f"attach dev --pci {address}")
                self.prove(f"what {what} is not given", code == HARMS and what in text, f"{code}: {text}")

    def disk_of_one_that_is_off(self) -> None:
        """Given before its start, and read by it."""
        disk = self.at(DISK)
        with self.host.recorder.phase("an NVMe disk for a guest that is off", "host"):
            self.does(f"attach dev --pci {disk}", "the NVMe disk is given to a guest")
            self.prove("until it starts the host keeps it", self.driver(disk) == "nvme", self.driver(disk))
            self.does("start dev", "the guest starts")
            self.prove("while it runs the disk is the guest's", self.driver(disk) == "vfio-pci", disk)
            text = self.says("dev", MARKER, "the guest is up")
            self.prove(
                "the guest's own driver reads what the host wrote to the disk",
                f"{DISK} disk={WRITTEN_HERE} disk-written" in text,
                text,
            )

    def usb_device(self) -> None:
        """Given while it runs."""
        with self.host.recorder.phase("a USB device for a guest that runs", "host"):
            self.does(f"attach dev --usb {TABLET}", "the USB device is given while the guest runs")
            # One is plugged in from the beginning: the tablet that QEMU itself makes, for the screen.
            self.says("dev", f"{USB} usb=2", "the guest's USB controller has one more device")
            self.does(f"detach dev --usb {TABLET}", "it is taken back")

    def card_of_one_that_runs(self) -> None:
        """Both functions, given and taken back while it runs; and a USB controller."""
        card, usb = self.at(CARD), self.at(USB)
        with self.host.recorder.phase("a card and a USB controller for a guest that runs", "host"):
            self.does(f"attach dev --pci {card[5:]}", "the network card is given while the guest runs")
            self.says(
                "dev",
                f"mac={SECOND_MAC}.* mac={THIRD_MAC}",
                "the guest's own driver reads the card's addresses",
            )
            code, text = self.vm(f"attach other --pci {card}")
            self.prove("no second guest gets it", code != 0 and "dev has it" in text, f"{code}: {text}")
            code, text = self.host.hv(f"passthrough release {card}")
            self.prove(
                "it is not taken from under the guest",
                code != 0 and "in use" in " ".join(text.split()),
                f"{code}: {text}",
            )
            self.does(f"attach dev --pci {usb}", "the USB controller is given while the guest runs")
            self.says(
                "dev",
                f"{USB} usb=. {USB} usb=1",
                "the guest has two USB controllers, its own and the host's",
            )
        with self.host.recorder.phase("detach", "host"):
            text = self.does(f"detach dev --pci {card}", "the card is taken back while the guest runs")
            self.prove("both of its functions are", card in text and self.other() in text, text)
            self.returned(card, "e1000e", "the host's driver has the card again")
            self.returned(self.other(), "e1000e", "and its other function")
            self.prove("the host has the card's interfaces again", len(self.macs()) == 2, str(self.macs()))

    def all_come_back(self) -> None:
        """When it is ended."""
        disk, usb = self.at(DISK), self.at(USB)
        with self.host.recorder.phase("stop", "host"):
            self.does("stop dev --force", "the guest is ended")
            self.returned(disk, "nvme", "the host's driver has the disk again")
            self.returned(usb, "xhci_hcd", "the host's driver has the USB controller again")
            told = self.host.told(
                f"timeout {int(patience(5))} sh -c 'until ls /dev/disk/by-id/nvme-*{SERIAL}; do sleep 1; done'; "
                f"dd if=$(ls /dev/disk/by-id/nvme-*{SERIAL} | head -n 1) bs={BLOCK} skip=1 count=1 status=none | tr -d '\\0'"
            )
            self.prove("the host reads what the guest wrote to the disk", WRITTEN in told, told)
            self.does(f"detach dev --pci {disk}", "the disk is taken out of the guest's definition")
            self.does(f"detach dev --pci {usb}", "so is the USB controller")

    def graphics(self) -> None:
        """The card that was declared, with its sound."""
        gpu, sound = self.at(GPU), self.at(SOUND)
        with self.host.recorder.phase("a graphics card with its sound", "host"):
            drivers = self.driver(gpu), self.driver(sound)
            self.prove(
                "what is declared was kept from the host", drivers == ("vfio-pci", "vfio-pci"), str(drivers)
            )
            text = self.does(f"attach dev --pci {gpu}", "the graphics card is given to a guest")
            self.prove("its sound goes along, and that is said", sound in text, text)
            self.does("start dev", "the guest starts with it")
            self.says("dev", f"{GPU}.* {SOUND}", "the guest has both functions")
            self.does("stop dev --force", "that guest is ended")
            drivers = self.driver(gpu), self.driver(sound)
            self.prove(
                "what is declared stays for guests", drivers == ("vfio-pci", "vfio-pci"), str(drivers)
            )
            self.does(f"detach dev --pci {gpu}", "the graphics card is taken out")
            text = self.vm("show dev --json")[1]
            self.prove("and its sound with it", sound not in text, text)


def play() -> Recorder:
    """Play it through."""
    return installed.played(
        "given", "An installed host that gives its devices to guests.", scenario(), _play
    )


def _play(host: Host) -> None:
    host.machine.sticks = (image(),)
    with host.machine.start("host") as running:
        host.start(running, "after installing")
        host.first_run()
        # As the broker's module has it made: this host's first run started no guest.
        host.told("install -d -m 0700 /var/log/libvirt/qemu")
        _prepare(host)
        _route(host)
        found = installed.documents(host.root("hv passthrough list --json", 40)[1])["devices"]
        assert isinstance(found, list)
        it = Giving(host, found)
        failed: list[AssertionError] = []
        for part in (
            it.looked_at,
            it.moved,
            it.refused,
            it.disk_of_one_that_is_off,
            it.usb_device,
            it.card_of_one_that_runs,
            it.all_come_back,
            it.graphics,
        ):
            try:  # one run tells of everything
                part()
            except AssertionError as error:
                failed.append(error)
        if failed:
            raise AssertionError("\n\n".join(map(str, failed)))
        _end(host, running)


def _prepare(host: Host) -> None:
    """An image, two guests on it, and a mark on the disk that one of them gets."""
    stick = "$(ls /dev/disk/by-id/usb-*-0:0 | head -n 1)"
    with host.recorder.phase("a guest that says which devices it has", "host"):
        host.told(
            f"dd if={stick} of=/home/alice/devices.raw bs={SIZE} count=1 status=none && chown alice /home/alice/devices.raw",
            60,
        )
        host.told(
            f"echo {WRITTEN_HERE} | dd of=$(ls /dev/disk/by-id/nvme-*{SERIAL} | head -n 1) bs={BLOCK} conv=sync,fsync status=none"
        )
        code, text = host.ssh.run("hv image import devices.raw --name devices", measured=120)
        host.recorder.prove("the administrator imports an image", code == 0, text)
        for name in ("dev", "other"):
            words = (
                f"hv vm create {name} --image devices --memory 64MiB --cpus 1 --firmware bios --network none"
            )
            code, text = host.ssh.run(words, measured=90)
            host.recorder.prove(f"the guest {name} is made", code == 0, text)


def _route(host: Host) -> None:
    """Both cards got a default route from their networks: a card that carries one is not given."""
    with host.recorder.phase("two cards with a default route", "host"):
        found = installed.documents(host.root("hv passthrough list --json", 40)[1])["devices"]
        assert isinstance(found, list)
        cards = [each for each in found if each["ids"] == CARD]
        host.recorder.prove(
            "a card with a default route stays with the host",
            len(cards) == 2 and all("default route" in each["reason"] for each in cards),
            str(cards),
        )
        # From now on nobody asks that network for an address, also after the card has come back.
        unit = f"[Match]\\nMACAddress={SECOND_MAC} {THIRD_MAC}\\n[Link]\\nUnmanaged=yes\\n"
        host.told(
            f"umask 022; mkdir -p /run/systemd/network; printf '{unit}' >/run/systemd/network/00-given.network; networkctl reload"
        )
        for mac in (SECOND_MAC, THIRD_MAC):
            name = f"$(basename $(dirname $(grep -l {mac} /sys/class/net/*/address)))"
            host.told(
                f"card={name}; ip link set $card down; ip address flush dev $card; ip route flush dev $card; "
                "ip -6 route flush dev $card; true"
            )


def _end(host: Host, running: Running) -> None:
    text = host.root("journalctl -b --no-pager -u hvd -u hv-hostd -u libvirtd | tail -n 80")[1]
    host.recorder.excerpt("journal of broker, helper and libvirt", text)
    host.off(running)
