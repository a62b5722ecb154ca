"""Builds the system's toplevel: the folder that NixOS calls `config.system.build.toplevel`, with the same names in it."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from . import initrd_systemd, network, openzfs, units

SCRIPT = """#!{busybox} sh
# The links that programs of the userland need; what NixOS has no need of, and the stand-in's only trick.
export PATH=/usr/sbin:/usr/bin
for each in /proc /sys /dev /run /tmp /var /home /mnt /etc; do
    [ -d $each ] || {busybox} mkdir -p $each
done
link() {{
    [ "$({busybox} readlink "$2")" = "$1" ] || {busybox} ln -sfn "$1" "$2"
}}
link {userland}/usr /usr
for each in bin sbin lib lib64; do link usr/$each /$each; done
"""
INIT = """{busybox} echo
{busybox} echo "<<< NixOS-shaped stage 2 >>>"
{toplevel}/activate || {busybox} echo "activation failed" >/dev/console
{busybox} ln -sfn {toplevel} /run/booted-system
exec /usr/lib/systemd/systemd "$@"
"""
PREPARE = """{busybox} mountpoint -q /dev || {busybox} mount -t devtmpfs dev /dev
{busybox} mountpoint -q /proc || {busybox} mount -t proc proc /proc
{busybox} mountpoint -q /sys || {busybox} mount -t sysfs sysfs /sys
{busybox} echo "<<< NixOS-shaped stage 2 >>>" >/dev/console
{toplevel}/activate || {busybox} echo "activation failed" >/dev/console
{busybox} ln -sfn {toplevel} /run/booted-system
"""
"""What systemd in stage 1 runs in the host's root before it goes over to it (nixos/modules/system/boot/stage-2-init.sh)."""
SECRETS = """# Adds what is secret, and read here and now, to a copy of the initial RAM disk: an archive of its own behind it.
export PYTHONPATH={code}
exec /usr/bin/python3 -B -m builder.secrets_added "$1" {secrets}
"""
LISTS_WITH_COMMAS = ("Ciphers", "KexAlgorithms", "Macs", "HostKeyAlgorithms", "PubkeyAcceptedAlgorithms")


def main() -> None:
    """Read the input that Nix wrote, write `$out`."""
    given = json.loads(Path(os.environ["inputPath"]).read_text())  # noqa: SIM112 (Nix's names)
    Toplevel(given, Path(os.environ["out"])).build()  # noqa: SIM112 (Nix's names)


class Toplevel:
    """One toplevel in the making."""

    def __init__(self, given: dict[str, Any], out: Path) -> None:
        self.given = given
        self.out = out
        self.config: dict[str, Any] = given["config"]
        self.userland = Path(given["userland"])
        self.linux = Path(given["linux"])
        self.programs = Path(given["withZfs"]) if "zfs" in given else self.userland
        """What the host has as `/usr`, below this."""

    def build(self) -> None:
        """Everything, in the order in which later parts read earlier ones."""
        self.out.mkdir()
        parameters = ["loglevel=4", *self.config["boot"].get("kernelParams", [])]
        for name, target in {
            "kernel": self.linux / "bzImage",
            "kernel-modules": self.linux,
            "initrd": Path(self.given["initrd"]),
            "systemd": self.userland / "usr",
        }.items():
            (self.out / name).symlink_to(target)
        self._text("kernel-params", " ".join(parameters))
        self._text("nixos-version", self.given["label"])
        self._text("system", self.given["system"])
        self._text("init-interface-version", "systemd 2")
        self._software()
        self._etc()
        self._text("lab.json", json.dumps(self._activation(), indent=1, sort_keys=True))
        self._boot_document(parameters)
        start = SCRIPT.format(busybox=self.userland / "usr/bin/busybox", userland=self.programs)
        here = {"busybox": self.userland / "usr/bin/busybox", "toplevel": self.out}
        self._script("init", start + INIT.format(**here))
        self._script("prepare-root", start + PREPARE.format(**here))
        if self.given["secrets"]:
            code, secrets = Path(__file__).parents[1], " ".join(self.given["secrets"])
            self._script("append-initrd-secrets", start + SECRETS.format(code=code, secrets=secrets))
        for name, module in (("activate", "activate"), ("bin/switch-to-configuration", "switch")):
            code = Path(__file__).with_name(f"{module}.py")
            self._script(name, f'{start}exec /usr/bin/python3 -I -B {code} {self.out} "$@"\n')

    def _text(self, name: str, text: str) -> None:
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def _script(self, name: str, text: str) -> None:
        self._text(name, text)
        (self.out / name).chmod(0o755)

    def _software(self) -> None:
        programs = self.out / "sw/bin"
        programs.mkdir(parents=True)
        for folder in ("usr/sbin", "usr/bin"):
            for program in (self.programs / folder).iterdir():
                link = programs / program.name
                if not link.is_symlink():
                    link.symlink_to(program)
        if self.given["hyperNixos"]:
            (programs / "hv").symlink_to(Path(self.given["hyperNixos"]) / "bin/hv")

    def _boot_document(self, parameters: list[str]) -> None:
        """Bootspec v1 (NixOS RFC 125)."""
        specialisations = {}
        for name, path in self.given["specialisations"].items():
            (self.out / "specialisation").mkdir(exist_ok=True)
            (self.out / "specialisation" / name).symlink_to(path)
            specialisations[name] = json.loads((Path(path) / "boot.json").read_text())
        document = {
            "org.nixos.bootspec.v1": {
                "system": self.given["system"],
                "init": f"{self.out}/init",
                "initrd": self.given["initrd"],
                "kernel": str(self.linux / "bzImage"),
                "kernelParams": parameters,
                "label": f"NixOS {self.given['label']} (stand-in, Linux {self._kernel_version()})",
                "toplevel": str(self.out),
                **({"initrdSecrets": f"{self.out}/append-initrd-secrets"} if self.given["secrets"] else {}),
            },
            "org.nixos.specialisation.v1": specialisations,
        }
        self._text("boot.json", json.dumps(document, indent=2))

    def _kernel_version(self) -> str:
        return next((self.linux / "lib/modules").iterdir()).name

    def _activation(self) -> dict[str, Any]:
        """What activate.py and switch.py read."""
        return {
            "userland": str(self.userland),
            "users": self.config["users"],
            "loader": self.config["boot"].get("loader", {}),
            "hostName": self.config["networking"]["hostName"],
        }

    def _etc(self) -> None:
        config = self.config
        files: dict[str, str] = {
            "fstab": self._fstab(),
            "hostname": config["networking"]["hostName"] + "\n",
            "hosts": f"127.0.0.1 localhost\n::1 localhost\n127.0.0.2 {config['networking']['hostName']}\n",
            "os-release": f'ID=nixos\nNAME=NixOS\nVARIANT_ID=lab\nVERSION_ID="{self.given["label"]}"\n'
            'PRETTY_NAME="Hyper-NixOS lab: NixOS-shaped, with a Debian userland"\n',
            "vconsole.conf": f"KEYMAP={config['console'].get('keyMap', 'us')}\n",
            "locale.conf": f"LANG={config['i18n'].get('defaultLocale', 'C.UTF-8')}\n",
            "environment": 'PATH="/run/wrappers/bin:/run/current-system/sw/bin"\n',
            "profile": "export PATH=/run/wrappers/bin:/run/current-system/sw/bin\n",
            "issue": "Hyper-NixOS lab: \\n \\l\n\n",
            "ssh/sshd_config": self._sshd(),
            "sudoers": self._sudo(),
            "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
            "login.defs": "UID_MIN 1000\nGID_MIN 1000\nUMASK 077\n"
            "ENV_PATH PATH=/run/wrappers/bin:/run/current-system/sw/bin\n"
            "ENV_SUPATH PATH=/run/wrappers/bin:/run/current-system/sw/bin\n",
            "modprobe.d/nixos.conf": self._modprobe(),
            "modules-load.d/nixos.conf": "".join(
                f"{name}\n" for name in config["boot"].get("kernelModules", [])
            ),
            "sysctl.d/60-nixos.conf": "".join(
                f"{name} = {int(value) if isinstance(value, bool) else value}\n"
                for name, value in sorted(config["boot"].get("kernel", {}).get("sysctl", {}).items())
            ),
            "tmpfiles.d/00-nixos.conf": "".join(
                f"{rule}\n" for rule in config["systemd"].get("tmpfiles", {}).get("rules", [])
            ),
        }
        for name, user in config["users"].get("users", {}).items():
            keys = user.get("openssh", {}).get("authorizedKeys", {}).get("keys", [])
            if keys:
                files[f"ssh/authorized_keys.d/{name}"] = "".join(f"{key}\n" for key in keys)
        files |= network.files(config["systemd"].get("network", {}))
        for name, text in files.items():
            self._text(f"etc/{name}", text)
        (self.out / "etc/localtime").symlink_to(
            f"/usr/share/zoneinfo/{config['time'].get('timeZone') or 'UTC'}"
        )
        self._asked_for(config["environment"].get("etc", {}))
        trigger = hashlib.sha256(files["ssh/sshd_config"].encode()).hexdigest()
        if "zfs" in self.given:
            config = config | {"units": config["units"] | self._pools()}
            (self.out / "etc/hostid").write_bytes(openzfs.host_id(self.given["hostId"]))
        units.write(self.out / "etc/systemd/system", config, ssh_trigger=trigger)

    def _pools(self) -> dict[str, Any]:
        """Units that bring up pools in stage 2, and tell them when the host goes down, with what they run."""
        given = {
            "filesystems": self.config["filesystems"],
            "luks": self.given["luks"],
            "nodes": self.given["nodes"],
        }
        golden = openzfs.golden(Path(__file__).parents[1] / "stage1", given)["pools"]
        for name, text in golden["scripts"].items():
            self._script(f"unit-scripts/{name}", initrd_systemd.INTERPRETER + initrd_systemd.debian(text))
        place = f"/{initrd_systemd.SCRIPTS}/"
        return {
            name: unit
            | {"text": initrd_systemd.debian(unit["text"]).replace(place, f"{self.out}/unit-scripts/")}
            for name, unit in golden["units"].items()
        }

    def _asked_for(self, entries: dict[str, Any]) -> None:
        """`environment.etc`."""
        for name, entry in entries.items():
            path = self.out / "etc" / (entry.get("target") or name)
            if not entry.get("enable", True):
                continue
            path.unlink(missing_ok=True)
            if "text" in entry:
                self._text(f"etc/{entry.get('target') or name}", entry["text"])
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(entry["source"])

    def _fstab(self) -> str:
        lines = ["# Generated from fileSystems and swapDevices."]
        filesystems = self.config["filesystems"]
        for point in sorted(filesystems, key=lambda path: (path.count("/") if path != "/" else 0, path)):
            entry = filesystems[point]
            options = ",".join(entry.get("options") or ["defaults"])
            check = (
                "0" if entry["fsType"] in ("btrfs", "xfs", "tmpfs", "zfs") else "1" if point == "/" else "2"
            )
            lines.append(f"{entry['device']} {point} {entry['fsType']} {options} 0 {check}")
        for entry in self.config["swapDevices"]:
            if not entry.get("randomEncryption", {}).get("enable"):  # units.py makes that swap
                options = ",".join(entry.get("options") or ["defaults"])
                lines.append(f"{entry['device']} none swap {options} 0 0")
        return "\n".join(lines) + "\n"

    def _sudo(self) -> str:
        sudo = self.config["security"].get("sudo-rs", {})
        tag = "" if sudo.get("wheelNeedsPassword", True) else "NOPASSWD: "
        lines = [
            'Defaults secure_path="/run/wrappers/bin:/run/current-system/sw/bin"',
            "root ALL=(ALL:ALL) ALL",
            f"%wheel ALL=(ALL:ALL) {tag}ALL",
        ]
        for rule in sudo.get("extraRules", []):
            names = [*rule.get("users", []), *(f"%{group}" for group in rule.get("groups", []))]
            for command in rule["commands"]:
                options = "".join(f"{option}:" for option in command.get("options", []))
                lines += [f"{name} ALL=(ALL:ALL) {options} {command['command']}" for name in names]
        return "\n".join(lines) + "\n"

    def _modprobe(self) -> str:
        boot = self.config["boot"]
        blocked = "".join(f"blacklist {name}\n" for name in boot.get("blacklistedKernelModules", []))
        return f"{blocked}{boot.get('extraModprobeConfig', '')}"

    def _sshd(self) -> str:
        openssh = self.config["services"]["openssh"]
        keys = openssh.get("hostKeys") or [{"path": "/etc/ssh/ssh_host_ed25519_key"}]
        lines = [
            "UsePAM yes",
            *(f"Port {port}" for port in openssh.get("ports") or [22]),
            *(f"HostKey {key['path']}" for key in keys),
            "AuthorizedKeysFile %h/.ssh/authorized_keys /etc/ssh/authorized_keys.d/%u"
            if openssh.get("authorizedKeysInHomedir", True)
            else "AuthorizedKeysFile /etc/ssh/authorized_keys.d/%u",
            "Subsystem sftp internal-sftp",
        ]
        for name, value in sorted(openssh.get("settings", {}).items()):
            if isinstance(value, list):
                text = ("," if name in LISTS_WITH_COMMAS else " ").join(map(str, value))
            else:
                text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
            lines.append(f"{name} {text}")
        return "\n".join([*lines, openssh.get("extraConfig", "")]) + "\n"


if __name__ == "__main__":
    main()
