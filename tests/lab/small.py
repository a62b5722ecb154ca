"""Stage 1 by itself: QEMU starts its kernel and initial RAM disk without a boot loader, with a small encrypted disk.

It is the one that the example `encrypted-remote` evaluates to. What it goes over to says so, tells the TPM's PCR 7, and
switches the machine off. A minute, where a host that is installed first takes a quarter of an hour.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from installer.plan.planner import make_plan
from installer.render.disks import disks
from installer.render.network import networkd
from installer.render.unlock import unlocking
from tests.lab import layers, userland
from tests.lab.command import run
from tests.lab.machine import OVMF_VARIABLES, Disk, Hardware, Machine
from tests.lab.nixpkgs.builder import initrd_systemd, stage1
from tests.lab.nixpkgs.builder.initrd import Archive, Modules
from tests.lab.session import make_key
from tests.lab.tools import entered, tool
from tests.nixeval.cases import MEDIUM, inputs

CASE = "encrypted-remote"
TOPLEVEL = "/nix/store/00000000000000000000000000000000-nixos-system-small"
SHELL = "#!/usr/bin/busybox sh\nexport PATH=/usr/bin\n"
PREPARE = f"{SHELL}busybox touch /etc/os-release\n"
STAGE_2 = f"""{SHELL}echo "small stage 2 on $(busybox grep ' / ' /proc/mounts)" >/dev/console
echo "PCR 7: $(busybox cat /sys/class/tpm/tpm0/pcr-sha256/7)" >/dev/console
busybox poweroff -f
"""
ARRIVED = r"small stage 2 on /dev/mapper/cryptroot[\s\S]*PCR 7: ([0-9A-F]{64})"
SECTOR = 512
ENROL = """set -e
place=$(mktemp -d)
trap 'rm -r "$place"' EXIT
swtpm socket --tpm2 --tpmstate dir="$1" --server type=unixio,path="$place/s" \\
    --ctrl type=unixio,path="$place/s.ctrl" --flags not-need-init,startup-clear --daemon
systemd-cryptenroll --unlock-key-file="$3" --tpm2-device=swtpm:path="$place/s" --tpm2-pcrs="7:sha256=$4" $5 "$2"
"""
"""TPM's state, disk, passphrase, PCR 7, and whether there is a PIN: as the host's first run does it. What was started ends
with the namespace that all of it is in.
"""


def given(case: str) -> dict[str, Any]:
    """What the lab's evaluation hands to its builder of a rendered host."""
    facts, answers = inputs(case)
    plan = make_plan(facts, answers, MEDIUM)
    options = cast("Any", disks(plan))
    network: dict[str, Any] = {"links": networkd(answers.network).get("links", {})}
    initrd: dict[str, Any] = {}
    if unlock := plan.host.unlock:
        initrd = cast("Any", unlocking(answers, unlock))["boot"]["initrd"]
    return {
        "luks": options["boot"].get("initrd", {}).get("luks", {}).get("devices", {}),
        "filesystems": options["fileSystems"],
        "keymap": answers.keymap,
        "hostName": answers.hostname,
        "ssh": initrd.get("network", {}).get("ssh", {}),
        "systemd": {"enable": True, "network": network | initrd.get("systemd", {}).get("network", {})},
        "loaded": initrd.get("kernelModules", []),
    }


def on_linux(host: dict[str, Any]) -> dict[str, Any]:
    """The same with the lab's programs and kernel."""
    below = layers.base()
    paths = json.loads((below / "paths.json").read_text())
    names = {"userland": "debian-userland", "linux": "linux-lab"}
    return host | {name: str(below / "tree" / paths[path][1:]) for name, path in names.items()}


def write_initrd(target: Path, host: dict[str, Any], filesystem: str, case: str | None = None) -> None:
    """The initial RAM disk of a host, made of what nixpkgs evaluates to for a case."""
    modules = Modules(next(Path(host["linux"], "lib/modules").iterdir()))
    names = (
        *(*stage1.CHECKSUMS, *stage1.FILESYSTEM_MODULES[filesystem], *stage1.LUKS_MODULES),
        *(*stage1.SYSTEMD_MODULES, *host["loaded"]),
    )
    plain = target.with_suffix(".plain")
    with plain.open("wb") as stream:
        known = [name for name in names if modules.known(name)]
        initrd_systemd.write(stream, host, known, layers.STAGE1, case)
    tool("zstd", "-q", "-f", "-3", plain, "-o", target)
    plain.unlink()


class Small:
    """The machine, in a folder."""

    def __init__(self, folder: Path, passphrase: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.host = on_linux(given(CASE))
        # A file system that may be small.
        self.host["filesystems"]["/"] |= {"fsType": "ext4"}
        self.passphrase = folder / "passphrase"
        self.passphrase.write_text(passphrase)
        self.passphrase.chmod(0o600)
        self._userland, self._linux = Path(self.host["userland"]), Path(self.host["linux"])
        self.host["ssh"]["authorizedKeys"] = [f"restrict,pty {make_key(folder)}"]
        shutil.copyfile(userland.build() / "root" / OVMF_VARIABLES, folder / "variables.fd")
        (folder / "tpm").mkdir()
        self._host_key()
        self._initrd()
        self._disk()

    def machine(self, firmware: str = "bios", *, tpm: bool = True, drivers: bool = True) -> Machine:
        """The machine with its network as the example has it. Without drivers its kernel has no use of the TPM."""
        (address,) = self.host["systemd"]["network"]["networks"]["40-manage"]["networkConfig"]["Address"]
        mac = self.host["systemd"]["network"]["links"]["10-lan0"]["matchConfig"]["PermanentMACAddress"]
        hardware = Hardware(
            firmware="uefi" if firmware == "uefi" else "bios",
            disks=(Disk("SMALL1", bus="virtio"),),
            memory=1536,
            tpm=tpm,
            mac=mac,
            vlan=self.host["systemd"]["network"]["netdevs"]["20-manage"]["vlanConfig"]["Id"],
            address=address.removesuffix("/24"),
        )
        parameters = f"console=tty0 console=ttyS0,115200 no_timer_check root=fstab init={TOPLEVEL}/init"
        if not drivers:
            # Debian's kernel has it built in.
            parameters += " initcall_blacklist=crb_acpi_driver_init"
        started = (
            "-kernel",
            self._linux / "bzImage",
            "-initrd",
            self.folder / "initrd",
            "-append",
            parameters,
        )
        return Machine(
            hardware, self.folder, unlock=self.host["ssh"]["port"], further=tuple(map(str, started))
        )

    def enrol(self, pcr: str, pin: str | None = None) -> None:
        """Have the TPM open the disk, as the host's first run does it."""
        raw, state = self.folder / "disk.raw", self.folder / "tpm"
        self._convert("qcow2", self.folder / "SMALL1.qcow2", "raw", raw)
        script: list[str | Path] = ["sh", "-c", ENROL, "enrol", state, raw, self.passphrase, pcr]
        words = ["env", f"NEWPIN={pin or ''}"]
        run(
            entered(
                userland.build() / "root",
                [*words, *script, "--tpm2-with-pin=yes" if pin else ""],
                keep_user=True,
            )
        )
        self._convert("raw", raw, "qcow2", self.folder / "SMALL1.qcow2")

    def renew(self) -> None:
        """The disk as it was made."""
        self._convert("raw", self.folder / "luks.img", "qcow2", self.folder / "SMALL1.qcow2")

    def fingerprint(self) -> str:
        """Of the host key of its stage 1."""
        argv = ["ssh-keygen", "-l", "-f", str(self.host_key)]
        return run(entered(userland.build() / "root", argv, keep_user=True)).split()[1]

    def _host_key(self) -> None:
        self.host_key = self.folder / "host_key"
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.host_key)]
        run(entered(userland.build() / "root", argv, keep_user=True))

    def _initrd(self) -> None:
        write_initrd(self.folder / "initrd", self.host, "ext4")
        secrets = self.folder / "secrets"
        with secrets.open("wb") as stream:
            archive = Archive(stream)
            (path,) = self.host["ssh"]["hostKeys"]
            archive.file(f"/.initrd-secrets{path}", self.host_key.read_bytes())
            archive.close()
        packed = secrets.with_suffix(".zst")
        tool("zstd", "-q", "-f", secrets, "-o", packed)
        with (self.folder / "initrd").open("ab") as stream:
            stream.write(packed.read_bytes())

    def _disk(self) -> None:
        """LUKS around a small root. No device-mapper: its sectors are encrypted here, as dm-crypt does it (aes-xts-plain64)."""
        root = self.folder / "root"
        for name in ("dev", "proc", "sys", "run", "etc", "usr/bin", "usr/lib/systemd", TOPLEVEL[1:]):
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "usr/bin/busybox").write_bytes((self._userland / "usr/bin/busybox").read_bytes())
        for name, text in (
            (f"{TOPLEVEL[1:]}/prepare-root", PREPARE),
            (f"{TOPLEVEL[1:]}/init", STAGE_2),
            ("usr/lib/systemd/systemd", STAGE_2),
        ):
            (root / name).write_text(text)
        for path in (root / "usr").rglob("*"):
            path.chmod(0o755)
        for name in ("prepare-root", "init"):
            (root / TOPLEVEL[1:] / name).chmod(0o755)
        plain, luks, key = (self.folder / name for name in ("plain.img", "luks.img", "volume-key"))
        tool("mke2fs", "-q", "-t", "ext4", "-d", root, plain, "48M")
        luks.write_bytes(b"")
        os.truncate(luks, 64 << 20)
        (uuid,) = (each["device"].rpartition("/")[2] for each in self.host["luks"].values())
        cheap = ("--pbkdf-memory", "32768", "--pbkdf-force-iterations", "4", "--pbkdf-parallel", "1")
        opened = ("--key-file", self.passphrase)
        tool(
            *("cryptsetup", "luksFormat", "-q", "--type", "luks2", "--uuid", uuid, *cheap),
            *("--sector-size", str(SECTOR), *opened, luks),
        )
        tool("cryptsetup", "luksDump", "-q", "--dump-volume-key", "--volume-key-file", key, *opened, luks)
        header = json.loads(tool("cryptsetup", "luksDump", "--dump-json-metadata", luks))
        secret, content = key.read_bytes(), plain.read_bytes()
        key.unlink()
        with luks.open("r+b") as stream:
            stream.seek(int(header["segments"]["0"]["offset"]))
            for number in range(len(content) // SECTOR):
                cipher = Cipher(algorithms.AES(secret), modes.XTS(number.to_bytes(16, "little"))).encryptor()
                piece = content[number * SECTOR : (number + 1) * SECTOR]
                stream.write(cipher.update(piece) + cipher.finalize())
        plain.unlink()
        self.renew()

    def _convert(self, kind: str, source: Path, other: str, target: Path) -> None:
        argv: list[str | Path] = ["qemu-img", "convert", "-f", kind, "-O", other, source, target]
        run(entered(userland.build() / "root", argv, keep_user=True))
