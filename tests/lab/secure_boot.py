"""Secure Boot on an installed host: signed by its own hand, and given to a firmware in setup mode.

What the firmware then starts and refuses, tests/test_secure_boot_machine.py shows with a kernel whose modules are signed;
this host's are not, for they are stripped, and Debian's kernel takes none of them where Secure Boot is on.
"""

import base64
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from shutil import which

from hv.secure_boot.settings import SETTINGS_FILE, SecureBootSettings
from tests.lab import installed
from tests.lab.installed import Host
from tests.lab.recorder import Recorder
from tests.lab.scenarios import Scenario

TOOLS = ("sbsign", "sbverify", "sbsiglist", "sbvarsign")
"""Of sbsigntool, which the host gets from this machine: its module names them by their place in the Nix store."""
FOLDER = "/var/lib/signing-tools"
SYSTEMD = "/usr/lib/systemd/boot/efi"
SETTINGS = SecureBootSettings(
    esp="/boot",
    boot="/boot",
    loader=f"{SYSTEMD}/systemd-bootx64.efi",
    stub=f"{SYSTEMD}/linuxx64.efi.stub",
    tools=FOLDER,
)


def scenario() -> Scenario:
    """The host that other trials begin with, in a machine whose firmware can enforce Secure Boot."""
    plain = installed.scenario()
    return replace(plain, hardware=replace(plain.hardware, secure_boot=True))


def play() -> Recorder:
    """Play it through."""
    summary = "An installed host makes keys for Secure Boot, signs, and gives them to its firmware."
    return installed.played("secure-boot", summary, scenario(), _play)


def _play(host: Host) -> None:
    prove = host.recorder.prove
    with host.machine.start("host") as running:
        host.start(running, "after installing")
        host.first_run()
        _equip(host)
        code, text = host.hv("secure-boot enrol --only-own-keys --yes", 60)
        prove("nothing is given to the firmware while nothing is signed", code == 8, text)
        with host.recorder.phase("hv secure-boot sign", "host"):
            code, text = host.hv("secure-boot sign --make-keys", 180)
        prove("the host signs what it starts from", code == 0 and "is started next" in text, text)
        menu = host.told("efibootmgr --verbose")
        first = menu.split("BootOrder: ")[1][:4]
        entry = menu.split(f"Boot{first}")[1].splitlines()[0]
        prove("the signed loader is first in the firmware's menu", "\\EFI\\hyper-nixos\\" in entry, menu)
        host.off(running)
    with host.machine.start("signed") as running:
        host.start(running, "from the signed image")
        booted = host.told("cat /sys/firmware/efi/efivars/LoaderEntrySelected-* | tr -d '\\0'")
        prove("the host starts from the signed image", "nixos-generation-1.efi" in booted, booted)
        code, text = host.hv("secure-boot status --json", 60)
        before = installed.documents(text)
        prove("all is signed", code == 0 and before["ready"] is True and before["setup_mode"] is True, text)
        with host.recorder.phase("hv secure-boot enrol", "host"):
            code, text = host.hv("secure-boot enrol --yes", 60)
            prove("without its vendor's keys the firmware gets none unasked", code == 5, text)
            code, text = host.hv("secure-boot enrol --only-own-keys --yes", 60)
            prove(
                "the firmware takes the host's keys",
                code == 0 and "PK: the owner is this host" in text,
                text,
            )
        code, text = host.hv("secure-boot status --json", 60)
        after = installed.documents(text)
        prove("setup mode is over", after["setup_mode"] is False and after["enrolled"] is True, text)
        code, text = host.hv("secure-boot enrol --only-own-keys --yes", 60)
        prove("a firmware that has an owner is left alone", code == 5, text)
        host.off(running)


def _equip(host: Host) -> None:
    """The tools and the settings, as the host's module would have them."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in TOOLS:
            program = which(name, path="/usr/bin:/bin")
            assert program, f"{name} is not here: make setup-lab"
            archive.add(Path(program), name)
        settings = json.dumps(SETTINGS.model_dump()).encode()
        told = tarfile.TarInfo("secure-boot.json")
        told.size = len(settings)
        archive.addfile(told, io.BytesIO(settings))
    code, text = host.ssh.run(
        "base64 -d >tools.tar.gz", stdin=base64.b64encode(packed.getvalue()).decode(), measured=20
    )
    assert code == 0, text
    place = f"mkdir -p {FOLDER} /etc/hyper-nixos && tar -xzf /home/*/tools.tar.gz -C {FOLDER}"
    host.told(f"{place} && mv {FOLDER}/secure-boot.json {SETTINGS_FILE}")
