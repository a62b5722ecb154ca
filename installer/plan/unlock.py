"""The network that stage 1 needs for a passphrase to be typed over SSH: pure."""

from fnmatch import fnmatchcase

from installer.answers.model import Answers, Ethernet
from installer.answers.unlocking import unlock_keys
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.nics import Nic
from installer.plan.initrd import modules_of
from installer.plan.model import HostUnlock

HOST_KEY = "/var/lib/hyper-nixos/secrets/initrd/ssh_host_ed25519_key"
"""On the host. Its own, never the host's: whoever has the disk can read it out of the initial RAM disk."""
BESIDE = {"r8169": ("realtek",), "lan78xx": ("microchip",), "smsc95xx": ("smsc",)}
"""Drivers that need a PHY's module, which they ask for only while they run."""


def unlock(facts: Facts, answers: Answers) -> HostUnlock | None:
    """What stage 1 needs; none: nobody asked.

    Raises:
        HyperError: no wired card that this host's network uses is there, or none has a known driver (Exit.unsuitable).
    """
    asked = answers.storage.encryption.ssh
    if not (answers.storage.encryption.enable and asked.enable):
        return None
    return HostUnlock(
        port=asked.port,
        keys=unlock_keys(answers),
        host_key=HOST_KEY,
        drivers=_drivers(facts, answers),
        kinds=tuple(
            module
            for module, made in (
                ("8021q", answers.network.vlans),
                ("bonding", answers.network.bonds),
                ("bridge", answers.network.bridges),
            )
            if made
        ),
    )


def _drivers(facts: Facts, answers: Answers) -> tuple[str, ...]:
    wired = [nic for nic in facts.nics if not nic.wireless]
    ethernets = answers.network.ethernets
    used = [nic for nic in wired if not ethernets or any(_is(nic, each) for each in ethernets)]
    if not used:
        asked = ", ".join(each.match.mac or each.match.name or each.name for each in ethernets)
        raise HyperError(
            "the passphrase could not be typed over SSH",
            why=f"this machine has no network card {asked}"
            if asked
            else "this machine has no wired network card",
            remedy="name its cards in `network.ethernets` (`hv probe nics` lists them), or write "
            "storage.encryption.ssh.enable = false",
            code=Exit.unsuitable,
        )
    lacking = [nic for nic in used if not _modules(facts, nic)]
    if lacking:
        raise HyperError(
            "the passphrase could not be typed over SSH",
            why="; ".join(f"no driver for {nic.name} ({nic.mac}) is known" for nic in lacking),
            remedy="use a card that this live system drives, or write storage.encryption.ssh.enable = false",
            code=Exit.unsuitable,
        )
    return tuple(sorted({module for nic in used for module in _modules(facts, nic)}))


def _is(nic: Nic, ethernet: Ethernet) -> bool:
    if ethernet.match.mac:
        return ethernet.match.mac.lower() == nic.mac
    name = ethernet.match.name or ethernet.name
    return any(fnmatchcase(each, name) for each in (nic.name, nic.permanent_name) if each)


def _modules(facts: Facts, nic: Nic) -> tuple[str, ...]:
    """By its PCI function, which knows what virtio carries, else by its driver."""
    device = next((each for each in facts.pci if each.address == nic.pci_address), None)
    found = modules_of(device) if device else ()
    if not found and nic.driver:
        found = (nic.driver.replace("-", "_"),)
    return (*found, *(more for module in found for more in BESIDE.get(module, ())))
