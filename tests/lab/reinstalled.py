"""An installed host that was lived in is installed anew: its guests and what was to be kept stay, all else is new."""

from base64 import b64encode
from dataclasses import replace

from tests.lab import installed, play
from tests.lab.guest import MARKER
from tests.lab.installed import Host
from tests.lab.patience import patience
from tests.lab.recorder import Recorder
from tests.lab.scenarios import ENCRYPTION, PASSPHRASE, Scenario, combinations, layouts

GUEST = "marker"
BY_HAND = "by-hand"
"""A guest that no answers name."""
IMAGES = "/var/lib/libvirt/images"
KEPT = (f"{IMAGES}/{BY_HAND}.raw", "/home/alice/notes")
GONE = ("/srv/old", "/etc/old", "/root/history")
LOG = f"/var/log/libvirt/qemu/{GUEST}-console.log"
_ADDED = f"""

[[first_run.vms]]
name = "{GUEST}"
image = "medium:marker"
image_format = "raw"
firmware = "bios"
memory = "32MiB"
network = "none"
"""
_DOMAIN = f"""<domain type='qemu'>
  <name>{BY_HAND}</name>
  <memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='{KEPT[0]}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
  </devices>
</domain>
"""
_DEFINE = f"echo {b64encode(_DOMAIN.encode()).decode()} | base64 -d >/root/guest.xml && virsh define /root/guest.xml"


def hosts() -> dict[str, Scenario]:
    """What is installed twice, by name."""
    of = {each.name: each for each in (*combinations(), *layouts())}
    plain, encrypted, pair = of["uefi-ext4-plain"], of["uefi-btrfs-luks"], of["uefi-md-lvm"]
    thin = (*plain.changes, ('filesystem = "ext4"', 'filesystem = "ext4"\nvolumes = "lvm-thin"'))
    shut = pair.answers().replace("[boot]", ENCRYPTION)
    return {
        "ext4": plain,
        "luks-btrfs": encrypted,
        "lvm-thin": replace(plain, changes=thin),
        "md-lvm": replace(pair, given=pair.answers() + _ADDED, guest=GUEST),
        "md-luks-lvm": replace(pair, given=shut + _ADDED, guest=GUEST, encrypted=True),
    }


def play_reinstalled(name: str) -> Recorder:
    """Play it through."""
    summary = "An installed host is used, and installed anew from the medium."
    return installed.played(f"reinstalled-{name}", summary, hosts()[name], _play)


def _play(host: Host) -> None:
    prove = host.recorder.prove
    with host.machine.start("host") as running:
        host.start(running, "after installing")
        host.first_run()
        _says(host, "before")
        with host.recorder.phase("the host is lived in", "host"):
            host.told(f"head -c 300000 /dev/urandom >{KEPT[0]}; chown --reference={IMAGES} {KEPT[0]}")
            host.told(_DEFINE)
            for path in (*KEPT[1:], *GONE):
                host.told(f"mkdir -p $(dirname {path}); head -c 100000 /dev/urandom >{path}")
            host.told(f"rm {LOG}")  # what it says again is to be seen
            host.told("chown -R alice /home/alice; chattr +i /srv/old; sync")
        before = _state(host)
        system, own = host.running(), _identity(host)
        host.off(running)
    folder = host.recorder.folder
    answers = host.what.answers().replace("@ssh-key@", (folder / "key.pub").read_text().strip())
    again = '[storage]\nexisting = "reinstall"\nkeep = ["/home"]\n'
    (folder / "answers.toml").write_text(answers.replace("[storage]\n", again, 1))
    with host.machine.start("live", iso=play.build(host.recorder)) as running:
        with host.recorder.phase("boot the live medium", "firmware"):
            agent = running.live()
        # Its recovery key is not made anew: what opened the disk goes on to.
        play.install(replace(host.what, encrypted=False), host.recorder, running, agent)
        agent.start(["bash", "-c", "sync; reboot -f"])
        running.wait_off(5)
    with host.machine.start("again") as running:
        host.start(running, "after installing anew")
        host.first_run()
        _says(host, "again")
        after = _state(host)
        prove(
            "guests' images and what was to be kept are what they were",
            after == before,
            f"{before}\n{after}",
        )
        found = host.told(f"ls -d {' '.join(GONE)} 2>/dev/null || true")
        prove("what nobody asked to keep is gone", found == "", found)
        now = _identity(host)
        prove("the host's key and machine id are new", not set(now) & set(own), f"{own}\n{now}")
        generations = host.told("ls /nix/var/nix/profiles | grep -c 'system-.*-link'")
        prove("there is one generation, the new one", generations == "1", generations)
        host.recorder.detail(f"{system} before, {host.running()} now")
        if host.what.encrypted:
            host.told(
                f"printf %s '{PASSPHRASE}' | cryptsetup open --test-passphrase --key-file - {_luks(host)}"
            )
        host.off(running)


def _identity(host: Host) -> list[str]:
    """Its SSH key and its machine id."""
    return host.told("cut -d ' ' -f 2 /etc/ssh/ssh_host_ed25519_key.pub; cat /etc/machine-id").split()


def _luks(host: Host) -> str:
    return host.told("blkid -t TYPE=crypto_LUKS -o device | head -n 1")


def _says(host: Host, when: str) -> None:
    """The guest of the answers runs."""
    wait = f"timeout {int(patience(60))} sh -c 'until grep -q {MARKER} {LOG}; do sleep 2; done'; cat {LOG}"
    with host.recorder.phase(f"the guest inside the host, {when}", "host"):
        text = host.root(wait, 80)[1]
    host.recorder.prove(f"the guest of the answers runs {when}", MARKER in text, text)


def _state(host: Host) -> str:
    """Hashes of what must stay, and the guests with their UUIDs."""
    hashes = host.told(f"sha256sum {' '.join(KEPT)}")
    guests = host.told("virsh list --all --name --uuid 2>/dev/null | sort")
    return f"{hashes}\n{guests}"
