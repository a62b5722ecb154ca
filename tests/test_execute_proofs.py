"""What is proved before rebooting: the boot entries, the initrd, and that somebody gets in."""

import gzip
import json
import lzma
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from installer.execute.boot_proof import (
    BootSpec,
    _boot_loader_entries,
    _check_entry,
    _check_modules,
    _check_systemd_boot,
    boot_specs,
)
from installer.execute.evidence import Wrong
from installer.execute.files import within
from installer.execute.initrd import list_initrd, module_names
from installer.execute.live import LiveSystem
from installer.execute.log import Log, Redactor
from installer.execute.login_proof import prove_login
from installer.execute.runner import Runner
from installer.plan.checks import LoginProof
from tests.execute.rig import newc
from tests.plan_cases import HASH, KEY

TOP = "/nix/store/11111111111111111111111111111111-nixos-system-x"


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(Log(tmp_path / "log", Redactor()), LiveSystem.search_path)


# ---- initrd ----

PLAIN = newc({"kernel/x86/microcode/GenuineIntel.bin": b"code", "etc/crypttab": b"cryptroot\n"})
MAIN = newc(
    {"lib/modules/6.12/kernel/virtio-blk.ko.xz": b"m" * 5000, "nix/store/x/lib/ext4.ko": b"m", "init": b"#!"}
)


def _tool(name: str, data: bytes) -> bytes:
    return subprocess.run([name, "-c", "-q"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    "data",
    [
        PLAIN + MAIN,
        PLAIN + bytes(512) + gzip.compress(MAIN),
        PLAIN + lzma.compress(MAIN),
        PLAIN + bytes(4) + _tool("zstd", MAIN),
        gzip.compress(PLAIN) + gzip.compress(MAIN),
        _tool("zstd", PLAIN + MAIN),
        _tool("zstd", PLAIN + MAIN) + bytes(3),
        _tool("zstd", MAIN) + bytes(2) + PLAIN,
        _tool("zstd", PLAIN) + _tool("zstd", MAIN),
    ],
)
def test_initrd_is_listed_in_every_compression(runner: Runner, data: bytes) -> None:
    found = list_initrd(runner, data)
    assert {"kernel/x86/microcode/GenuineIntel.bin", "init"} <= set(found)
    assert found["etc/crypttab"] == b"cryptroot\n"
    assert module_names(iter(found)) == {"virtio_blk", "ext4"}


def test_initrd_that_cpio_made(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/nvme.ko.zst").write_bytes(b"module")
    (tmp_path / "tree/link").symlink_to("nvme.ko.zst")
    made = subprocess.run(
        ["cpio", "--create", "--format=newc", "--quiet"],
        input=b"nvme.ko.zst\nlink\n",
        cwd=tmp_path / "tree",
        capture_output=True,
        check=True,
    ).stdout
    found = list_initrd(runner, made)
    assert found["link"] == b"nvme.ko.zst"
    assert module_names(iter(found)) == {"nvme"}


@pytest.mark.parametrize(
    "data",
    [
        MAIN[:-200],
        gzip.compress(MAIN)[:-20],
        lzma.compress(MAIN)[:-30],
        _tool("zstd", MAIN)[:-30],
        b"nothing",
    ],
)
def test_broken_initrd_is_found(runner: Runner, data: bytes) -> None:
    with pytest.raises(Wrong):
        list_initrd(runner, data)


# ---- boot entries ----


def spec_json(name: str, kernel: str = "kernel") -> dict[str, object]:
    return {
        "system": "x86_64-linux",
        "init": f"{TOP}{name}/init",
        "kernel": f"/nix/store/22222222222222222222222222222222-linux/{kernel}",
        "initrd": "/nix/store/33333333333333333333333333333333-initrd/initrd",
        "kernelParams": ["console=ttyS0", "quiet"],
        "label": "x",
        "toplevel": TOP + name,
    }


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A target as systemd-boot-builder leaves it: default and `hardened`, files named by their store path."""
    root = tmp_path / "mnt"
    for spec in (spec_json(""), spec_json("-hardened")):
        for key in ("kernel", "initrd"):
            path = root / str(spec[key])[1:]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"MZkernel" * 900 if key == "kernel" else MAIN)
    top = root / TOP[1:]
    top.mkdir(parents=True)
    hardened = {"org.nixos.bootspec.v1": spec_json("-hardened")}
    document = {
        "org.nixos.bootspec.v1": spec_json(""),
        "org.nixos.specialisation.v1": {"hardened": hardened | {"org.nixos.specialisation.v1": {}}},
    }
    (top / "boot.json").write_text(json.dumps(document))
    profiles = root / "nix/var/nix/profiles"
    profiles.mkdir(parents=True)
    (profiles / "system-1-link").symlink_to(TOP)
    (profiles / "system").symlink_to("system-1-link")
    esp = root / "boot"
    (esp / "EFI/nixos").mkdir(parents=True)
    for folder, file in (("BOOT", "BOOTX64.EFI"), ("systemd", "systemd-bootx64.efi")):
        (esp / "EFI" / folder).mkdir()
        (esp / "EFI" / folder / file).write_bytes(b"MZloader")
    shutil.copy(root / str(spec_json("")["kernel"])[1:], esp / "EFI/nixos/2-linux-kernel.efi")
    (esp / "EFI/nixos/3-initrd.efi").write_bytes(MAIN)
    (esp / "loader/entries").mkdir(parents=True)
    for name in ("", "-hardened"):
        (esp / f"loader/entries/nixos-abc{name}.conf").write_text(
            "title NixOS\nversion Generation 1\nlinux /EFI/nixos/2-linux-kernel.efi\n"
            f"initrd /EFI/nixos/3-initrd.efi\noptions init={TOP}{name}/init console=ttyS0 quiet\nsort-key nixos\n"
        )
    (esp / "loader/loader.conf").write_text("timeout 5\ndefault nixos-abc.conf\nconsole-mode keep\n")
    return root


def prove(root: Path, runner: Runner, modules: tuple[str, ...] = ("ext4", "virtio_blk")) -> list[BootSpec]:
    specs = boot_specs(root)
    entries = tuple(_boot_loader_entries(root / "boot"))
    _check_systemd_boot(root / "boot", entries, specs)
    for spec in specs:
        _check_entry(root, spec, entries)
    assert list(_check_modules(runner, root, specs, modules))
    return list(specs)


def test_target_of_systemd_boot_is_proved(target: Path, runner: Runner) -> None:
    assert [spec.name for spec in prove(target, runner)] == ["default", "hardened"]


def test_module_built_into_the_kernel_counts(target: Path, runner: Runner) -> None:
    with pytest.raises(Wrong, match="without nvme"):
        prove(target, runner, ("nvme",))
    modules = target / TOP[1:] / "kernel-modules/lib/modules/6.12"
    modules.mkdir(parents=True)
    (modules / "modules.builtin").write_text("kernel/drivers/nvme/host/nvme.ko\n")
    hardened = target / (TOP[1:] + "-hardened")
    hardened.mkdir()
    (hardened / "kernel-modules").symlink_to(f"{TOP}/kernel-modules")
    assert prove(target, runner, ("nvme",))


def test_secrets_appended_to_the_initrd_are_no_fault(target: Path, runner: Runner) -> None:
    initrd = target / "boot/EFI/nixos/3-initrd.efi"
    initrd.write_bytes(initrd.read_bytes() + newc({"secret": b"x"}))
    assert prove(target, runner)


def test_counted_entry_is_the_default(target: Path, runner: Runner) -> None:
    entries = target / "boot/loader/entries"
    (entries / "nixos-abc.conf").rename(entries / "nixos-abc+3-0.conf")
    assert prove(target, runner)


def _spoil_kernel(root: Path) -> None:
    path = root / "boot/EFI/nixos/2-linux-kernel.efi"
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def _spoil_options(root: Path) -> None:
    path = root / "boot/loader/entries/nixos-abc.conf"
    path.write_text(path.read_text().replace("console=ttyS0 ", ""))


def _drop(*names: str) -> object:
    def drop(root: Path) -> None:
        for name in names:
            (root / "boot" / name).unlink()

    return drop


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_spoil_kernel, "other content"),
        (_spoil_options, "without console=ttyS0"),
        (_drop("EFI/nixos/3-initrd.efi"), "no such file"),
        (_drop("EFI/BOOT/BOOTX64.EFI"), "no EFI program"),
        (_drop("loader/loader.conf"), "no such file"),
        (_drop("loader/entries/nixos-abc-hardened.conf"), "hardened"),
        (_drop("loader/entries/nixos-abc.conf"), "nixos-abc.conf"),
    ],
)
def test_what_keeps_it_from_booting_is_found(
    target: Path, runner: Runner, spoil: object, words: str
) -> None:
    spoil(target)  # type: ignore[operator]
    with pytest.raises(Wrong) as caught:
        prove(target, runner)
    assert words in str(caught.value)


def test_links_are_followed_inside_the_target(tmp_path: Path) -> None:
    (tmp_path / "nix/store/a").mkdir(parents=True)
    (tmp_path / "nix/store/a/file").write_text("inside")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/file").symlink_to("/nix/store/a/file")
    (tmp_path / "etc/up").symlink_to("../../../../nix/store/a/file")
    (tmp_path / "etc/circle").symlink_to("circle")
    assert within(tmp_path, "/etc/file").read_text() == "inside"
    assert within(tmp_path, "/etc/up").read_text() == "inside"
    with pytest.raises(Wrong, match="circle"):
        within(tmp_path, "/etc/circle")


# ---- login ----

SSHD = "Port 22\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nAuthorizedKeysFile /etc/ssh/authorized_keys.d/%u\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A target with this machine's own sshd in it, phases `setup` and `hardened`, and the administrator alice."""
    root = tmp_path / "mnt"
    sshd = shutil.which("sshd", path=LiveSystem.search_path)
    keygen = shutil.which("ssh-keygen")
    assert sshd
    assert keygen
    top = root / TOP[1:]
    (top / "sw/bin").mkdir(parents=True)
    for program, name in ((sshd, "sshd"), (keygen, "ssh-keygen"), ("/bin/sh", "bash")):
        libraries = re.findall(
            r"(/\S+) \(0x",
            subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout,
        )
        for file in (program, *libraries):
            place = root / file[1:]
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(file).resolve(), place)
        (top / "sw/bin" / name).symlink_to(program)
    for etc in (top / "etc", top / "specialisation/hardened/etc"):
        (etc / "ssh/authorized_keys.d").mkdir(parents=True)
        (etc / "ssh/sshd_config").write_text(SSHD)
        (etc / "ssh/authorized_keys.d/alice").write_text(KEY + "\n")
        (etc / "sudoers").write_text("%wheel ALL=(ALL:ALL) NOPASSWD:SETENV: ALL\n")
    (top / "specialisation/hardened/sw").symlink_to(f"{TOP}/sw")
    profiles = root / "nix/var/nix/profiles"
    profiles.mkdir(parents=True)
    (profiles / "system").symlink_to(TOP)
    (root / "etc").mkdir(exist_ok=True)
    (root / "run").mkdir()
    (root / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nsshd:x:70:70::/run/sshd:/bin/false\n"
        "alice:x:1000:100::/home/alice:/run/current-system/sw/bin/bash\n"
    )
    (root / "etc/group").write_text("root:x:0:\nwheel:x:1:alice\nusers:x:100:\nsshd:x:70:\n")
    (root / "etc/shadow").write_text("root:!:1::::::\nalice:!:1::::::\n")
    (root / "dev").mkdir()
    return root


def login(root: Path, runner: Runner) -> tuple[str, ...]:
    return prove_login(runner, LoginProof(root=str(root), administrators=("alice",)))


def phases(root: Path, file: str) -> list[Path]:
    return [root / TOP[1:] / f"{folder}etc/{file}" for folder in ("", "specialisation/hardened/")]


@pytest.mark.root
def test_administrator_with_a_key_gets_in(home: Path, runner: Runner) -> None:
    found = login(home, runner)
    assert [line.split(":")[0] for line in found] == ["setup", "hardened"]
    assert all("over SSH, with 1 key(s)" in line for line in found)
    assert not list((home / "run").iterdir())


@pytest.mark.root
def test_password_at_the_console_is_a_way(home: Path, runner: Runner) -> None:
    (home / "etc/shadow").write_text(f"alice:{HASH}:1::::::\n")
    for path in (*phases(home, "ssh/authorized_keys.d/alice"), *phases(home, "ssh/sshd_config")):
        path.unlink()
    assert all("console" in line for line in login(home, runner))


def _hardened(file: str, text: str) -> object:
    def write(root: Path) -> None:
        phases(root, file)[1].write_text(text)

    return write


def _etc(file: str, old: str, new: str) -> object:
    def change(root: Path) -> None:
        path = root / "etc" / file
        path.write_text(path.read_text().replace(old, new))

    return change


@pytest.mark.root
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_hardened("ssh/sshd_config", SSHD + "AllowUsers bob\n"), "AllowUsers leaves it out"),
        (_hardened("ssh/sshd_config", SSHD + "DenyGroups wheel\n"), "DenyGroups names it"),
        (_hardened("ssh/sshd_config", SSHD + "Match User alice\n  PubkeyAuthentication no\n"), "hardened"),
        (
            _hardened("ssh/sshd_config", SSHD + "AuthenticationMethods publickey,password\n"),
            "publickey,password",
        ),
        (_hardened("ssh/sshd_config", SSHD + "NoSuchOption yes\n"), "NoSuchOption"),
        (_hardened("ssh/authorized_keys.d/alice", "ssh-ed25519 AAAA broken\n"), "no usable key"),
        (_hardened("sudoers", "%wheel ALL=(ALL:ALL) SETENV: ALL\n"), "could not become root"),
        (_etc("passwd", "/run/current-system/sw/bin/bash", "/sbin/nologin"), "shell"),
        (_etc("passwd", "alice", "bob"), "no such account"),
        (_etc("group", "wheel:x:1:alice", "wheel:x:1:"), "wheel"),
        (_etc("shadow", "alice:!", "alice:"), "empty password"),
        (_etc("shadow", "alice:!", "alice:$1$abc$def"), "$1$"),
    ],
)
def test_lockout_is_found(home: Path, runner: Runner, spoil: object, words: str) -> None:
    spoil(home)  # type: ignore[operator]
    with pytest.raises(Exception) as caught:
        login(home, runner)
    assert words in f"{caught.value} {getattr(caught.value, 'why', '')}"


def test_bad_boot_description(target: Path) -> None:
    (target / TOP[1:] / "boot.json").write_text("{")
    with pytest.raises(Wrong, match=r"boot\.json"):
        boot_specs(target)


def test_spec_is_a_value() -> None:
    spec = BootSpec("default", "i", "k", "r", (), "x86_64-linux")
    assert replace(spec, name="x") != spec
