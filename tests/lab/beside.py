"""A disk that another system has, or two of them, kept through an installation."""

from tests.lab.channels import Agent
from tests.lab.recorder import Recorder

PREPARE = r"""
set -eu
disk=$(readlink -f /dev/disk/by-id/*HVMAIN01 | sort -u | head -n 1)
sfdisk --quiet "$disk" <<'TABLE'
label: gpt
1 : size=1200MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name="EFI system partition"
2 : size=16MiB, type=E3C9E316-0B5C-4DB8-817D-F92DF00215AE, name="Microsoft reserved partition"
3 : size=64MiB, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, name="Basic data partition"
4 : size=128MiB, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name="data"
TABLE
udevadm settle
part() { echo "${disk}p$1"; }
mkfs.fat -F 32 "$(part 1)" >/dev/null
mkfs.ext4 -q "$(part 4)"
dd if=/dev/urandom of="$(part 2)" bs=1M count=16 status=none
dd if=/dev/urandom of="$(part 3)" bs=1M count=64 status=none
mkdir -p /run/other
mount "$(part 1)" /run/other
mkdir -p /run/other/EFI/Microsoft/Boot /run/other/EFI/BOOT
echo 'MZ the other system' >/run/other/EFI/BOOT/BOOTX64.EFI
head -c 300000 /dev/urandom >/run/other/EFI/Microsoft/Boot/bootmgfw.efi
umount /run/other
mount "$(part 4)" /run/other
echo precious >/run/other/mine
umount /run/other
second=$(readlink -f /dev/disk/by-id/*HVMAIN02 | sort -u | head -n 1)
if [ -b "$second" ]; then
    sfdisk --quiet "$second" <<'TABLE'
label: gpt
1 : size=64MiB, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, name="Basic data partition"
2 : size=128MiB, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name="films"
TABLE
    udevadm settle
    dd if=/dev/urandom of="${second}p1" bs=1M count=64 status=none
    mkfs.ext4 -q "${second}p2"
    mount "${second}p2" /run/other
    echo seen >/run/other/film
    umount /run/other
fi
sync
udevadm settle
"""
DIGESTS = r"""
set -eu
disk=$(readlink -f /dev/disk/by-id/*HVMAIN01 | sort -u | head -n 1)
sha256sum "${disk}p2" "${disk}p3" | cut -d ' ' -f 1
sfdisk --dump "$disk" | grep -E 'p[1-4] :' | sed 's/.*p\([1-4]\) :/\1/'
mkdir -p /run/other
mount -o ro "${disk}p1" /run/other
sha256sum /run/other/EFI/BOOT/BOOTX64.EFI /run/other/EFI/Microsoft/Boot/bootmgfw.efi
umount /run/other
second=$(readlink -f /dev/disk/by-id/*HVMAIN02 | sort -u | head -n 1)
if [ -b "$second" ]; then
    sha256sum "${second}p1" | cut -d ' ' -f 1
    sfdisk --dump "$second" | grep -E 'p[12] :' | sed 's/.*p\([12]\) :/\1/'
fi
"""


def prepare(recorder: Recorder, agent: Agent) -> str:
    """Put another system's partitions onto the disk; digests of what must stay."""
    with recorder.phase("another system's disk"):
        answer = agent.run("bash", "-c", PREPARE, measured=20)
        assert answer.code == 0, answer.text
    return digests(agent)


def digests(agent: Agent) -> str:
    """Of partitions, entries and files that must stay."""
    answer = agent.run("bash", "-c", DIGESTS, measured=10)
    assert answer.code == 0, answer.text
    return answer.text


def kept(recorder: Recorder, agent: Agent, before: str) -> None:
    """After the installation, everything of the other system is what it was."""
    after = digests(agent)
    recorder.prove(
        "the other system's partitions, entries and files are what they were", after == before, after
    )
