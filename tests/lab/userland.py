"""The Debian userland: one bootstrapped tree that serves as tool box, live system and installed system's programs.

One tree for three uses costs one download and one bootstrap, and the installed system's closure gets the size of
a real one. It is Debian trixie without documentation and translations, unpacked by mmdebstrap.
"""

from functools import cache as once
from pathlib import Path

from tests.lab import cache
from tests.lab.command import run
from tests.lab.paths import DEBS

SUITE = "trixie"
PACKAGES: dict[str, str] = {
    # What boots and runs.
    "systemd-sysv": "PID 1 of the installed system",
    "dbus": "systemctl and libvirt talk over it",
    "udev": "device links; the live system starts it by hand",
    "kmod": "modprobe and depmod",
    "login": "the serial login",
    "sudo": "what an administrator is checked with",
    "openssh-server": "logins, and `sshd -T` for the check of a plan",
    "openssh-client": "the lab's own SSH logins and key generation",
    "iproute2": "network, for people who look around",
    "procps": "processes, for people who look around",
    "bash-static": "Debian's Nix puts it into its sandbox as /bin/sh",
    "busybox-static": "stage 1 and the first lines of activation, before /usr exists",
    "zstd": "compresses initial RAM disks",
    "kbd": "loads the keymap in which a passphrase is typed",
    "console-data": "keymaps",
    # The installer and its libraries.
    "python3": "the installer is written in it",
    "python3-pydantic": "types of facts, answers and plans",
    "python3-jinja2": "rendering",
    "python3-pyudev": "probing",
    "python3-parted": "partition tables",
    "python3-rich": "progress",
    "python3-dnspython": "answers whose address a name server gives",
    "python3-questionary": "the guided installer's questions",
    "python3-tomli-w": "the answer file that it writes",
    "python3-cryptography": "first run: the host's certificate",
    "python3-merge3": "hv setup: a person's lines and ours",
    "python3-tomlkit": "hv setup: the declaration's comments",
    "python3-urllib3": "keys and answers from elsewhere",
    "whois": "mkpasswd hashes passwords",
    "python3-libvirt": "first run, and the broker",
    "python3-fastapi": "the broker's interface",
    "python3-uvicorn": "serves it",
    "python3-sqlalchemy": "what the broker keeps",
    "python3-lxml": "definitions of guests",
    "python3-pycdlib": "guests' first settings, as a CD",
    "polkitd": "keeps everybody but root and the broker from libvirt",
    "nix-bin": "evaluates, builds and copies the installed system",
    "age": "recovery keys for those who shall have them",
    "cryptsetup-bin": "LUKS",
    "systemd-cryptsetup": "systemd-cryptenroll: a TPM that opens disks",
    "libtss2-esys-3.0.2-0t64": "its words to the TPM",
    "libtss2-rc0t64": "what the TPM answers, in words",
    "libtss2-tcti-device0t64": "the way to the kernel's TPM",
    "auditd": "keeps the kernel's audit log",
    "btrfs-progs": "btrfs",
    "xfsprogs": "xfs",
    "e2fsprogs": "ext4",
    "dosfstools": "the ESP",
    "gdisk": "sgdisk reads partition tables back",
    "fdisk": "sfdisk saves them",
    "parted": "partition tables, for people who look around",
    "lvm2": "stacks on disks are recognised",
    "mdadm": "stacks on disks are recognised",
    "efibootmgr": "boot entries in the firmware",
    "systemd-boot-efi": "boot loader for UEFI",
    "systemd-boot-tools": "bootctl",
    "systemd-boot": "systemd-bless-boot, which makes a counted boot entry a good one",
    "kexec-tools": "the installed system started without the firmware",
    "grub2-common": "grub-install",
    "grub-pc-bin": "boot loader for BIOS, of the medium and of the installed system",
    "grub-efi-amd64-bin": "boot loader of the medium on UEFI",
    "pciutils": "ids and names of PCI devices",
    "hwdata": "vendor names",
    "lshw": "what `hv probe` is measured against",
    # The hypervisor.
    "qemu-system-x86": "runs the lab's machines, and guests in the installed host",
    "qemu-utils": "disk images",
    "ovmf": "UEFI firmware",
    "seabios": "BIOS firmware",
    "swtpm": "TPM 2",
    "libvirt-daemon-system": "libvirtd",
    "libvirt-clients": "virsh",
    "dnsmasq-base": "libvirt's network",
    "nftables": "libvirt's network",
    "iptables": "libvirt's network",
    # What makes the medium.
    "squashfs-tools": "layers of the medium",
    "xorriso": "the ISO image",
    "mtools": "its EFI partition",
    "ca-certificates": "certificates of the live system",
}
KERNEL = "linux-image-amd64"
"""Its image is fetched and unpacked beside the userland: installing it would run initramfs-tools twice."""
_LEAVE_OUT = (
    "man",
    "doc",
    "locale",
    "info",
    "lintian",
    "bug",
    "doc-base",
    "gtk-doc",
    "sounds",
    "fonts",
    "icons",
)
_SKIPPED = ("essential/unlink", "download/empty", "cleanup/reproducible")


@once
def build() -> Path:
    """A folder with `root` (the tree) and `kernel` (the unpacked kernel package); built once per package list."""
    # Where the folders lie changes nothing in what is built: a cache that was copied elsewhere is as good there.
    command = [word.replace(str(DEBS), "DEBS") for word in _command(Path("FOLDER"))]
    return cache.built("userland", cache.key(command), _bootstrap)


def _bootstrap(folder: Path) -> None:
    DEBS.mkdir(parents=True, exist_ok=True)
    run(_command(folder), root=True)


def shared_archives() -> tuple[str, str]:
    """Hooks of mmdebstrap, before and after packages are fetched, so that each is fetched once for all that is made."""
    archives = '"$1"/var/cache/apt/archives'
    return (
        f"mkdir -p {archives}; cp -l {DEBS}/*.deb {archives}/ 2>/dev/null || cp {DEBS}/*.deb {archives}/ || true",
        f"cp -n {archives}/*.deb {DEBS}/",
    )


def _command(folder: Path) -> list[str]:
    share, keep = shared_archives()
    kernel = (
        f'cd "$1"/tmp && name=$(chroot "$1" apt-cache depends --important {KERNEL} | '
        "sed -n 's/.*Depends: \\(linux-image-[^ ]*\\)/\\1/p' | head -n 1) && "
        f'{{ ls {DEBS}/"$name"_*.deb >/dev/null 2>&1 || {{ chroot "$1" sh -c "cd /tmp && apt-get -qq download $name" '
        f'&& cp -n "$1"/tmp/"$name"_*.deb {DEBS}/; }}; }} && '
        f'dpkg-deb -x "$(ls -t {DEBS}/"$name"_*.deb | head -n 1)" {folder}/kernel && rm -f "$1"/tmp/*.deb'
    )
    return [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        '--aptopt=Apt::Install-Recommends "false"',
        '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEAVE_OUT),
        f"--setup-hook={share}",
        f"--customize-hook={keep}",
        f"--customize-hook={kernel}",
        # libvirt starts every emulator it finds to ask what it can do: seconds each, in an emulated machine.
        '--customize-hook=rm -f "$1"/usr/bin/qemu-system-i386 "$1"/usr/bin/qemu-system-x86_64-microvm',
        '--customize-hook=rm -rf "$1"/var/cache/apt "$1"/var/lib/apt/lists/* "$1"/var/log/*',
        f"--skip={','.join(_SKIPPED)}",
        SUITE,
        f"{folder}/root",
    ]
