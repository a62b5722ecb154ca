"""VMs with UEFI, which is what `hv vm create` gives: booted to a marker; snapshots with memory and the firmware's variables."""

from collections.abc import Iterator

import libvirt
import pytest

from tests import linux_guest
from tests.broker import BrokerHost, broker_host, wait_for
from tests.test_vm_life import definition, put, shown, state

pytestmark = pytest.mark.libvirt
VARIABLES = "/sys/firmware/efi/efivars"


@pytest.fixture(scope="module")
def host() -> Iterator[BrokerHost]:
    with broker_host() as made:
        put(made, "linux", linux_guest.qcow2())
        made.hv(
            "ada",
            "vm",
            "create",
            "efi",
            "--image",
            "linux",
            "--memory",
            "256M",
            "--network",
            "none",
            "--start",
        )
        yield made


def type_in(host: BrokerHost, line: str) -> None:
    """On the guest's console, as a person would."""
    host.hv("ada", "vm", "console", "efi", stdin=f"{line}\n\x1d")


def says(host: BrokerHost, text: str) -> None:
    """Wait until the guest has."""
    uuid = shown(host, "efi")["uuid"]
    try:
        wait_for(f"the guest to say {text}", lambda: text in host.console(uuid))
    except AssertionError as error:
        raise AssertionError(f"{error}:\n{host.console(uuid)[-2000:]}") from error


def test_a_guest_boots_by_uefi_without_being_asked_to(host: BrokerHost) -> None:
    assert shown(host, "efi")["firmware"] == "uefi"
    assert definition(host, "efi").find("os").get("firmware") == "efi"
    says(host, linux_guest.MARKER)
    type_in(host, "[ -d /sys/firmware/efi ] && echo by-uefi-$((1+1))")
    says(host, "by-uefi-2")


@pytest.mark.uefi_snapshots
def test_a_snapshot_has_memory_and_the_variables_of_the_firmware(host: BrokerHost) -> None:
    says(host, linux_guest.MARKER)
    # Asked of the firmware anew each time: the list itself is in the guest's memory.
    mount = f"umount {VARIABLES} 2>/dev/null; mount -t efivarfs none {VARIABLES}"

    def write(name: str) -> None:
        file = f"{VARIABLES}/{name}-12345678-1234-1234-1234-123456789abc"
        type_in(host, f"{mount}; printf '\\7\\0\\0\\0x' >{file}; echo {name}-written-$((1+1))")
        says(host, f"{name}-written-2")

    def has(title: str, *names: str) -> None:
        look = f"cd {VARIABLES}; echo {title}-$((1+1)) $(ls | grep ^Hv | cut -d- -f1); cd /"
        type_in(host, f"{mount}; {look}")
        says(host, " ".join((f"{title}-2", *names)) + "\n")

    write("HvBefore")
    host.hv("ada", "vm", "snapshot", "efi", "create", "s")
    [kept] = host.hv("ada", "vm", "snapshot", "efi", "list", "--json").json["snapshots"]
    assert kept["memory"] and kept["state"] == "running"
    write("HvLater")
    has("both", "HvBefore", "HvLater")
    host.hv("ada", "vm", "snapshot", "efi", "revert", "s")
    assert state(host, "efi") == libvirt.VIR_DOMAIN_RUNNING
    has("reverted", "HvBefore")

    # Off, and from there: the variables are in the file that it starts from.
    host.hv("ada", "vm", "stop", "efi", "--force")
    assert host.hv("ada", "vm", "snapshot", "efi", "create", "off").err == ""
    host.hv("ada", "vm", "snapshot", "efi", "revert", "off")
    assert state(host, "efi") == libvirt.VIR_DOMAIN_SHUTOFF
    for name in ("s", "off"):
        host.hv("ada", "vm", "snapshot", "efi", "delete", name)
    assert shown(host, "efi")["snapshots"] == 0
    host.hv("ada", "vm", "delete", "efi", "--disks")
    assert list(host.path("/var/lib/libvirt/qemu/nvram").iterdir()) == []
