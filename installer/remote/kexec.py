"""Our live system takes the place of whatever runs on a machine (kexec(8)), and is reached as that was: by the same host
key and the same people's keys.

They come to it in an embed area behind its initial RAM disk. So nobody has to stand before the machine's screen, and the
key that was pinned before is still what tells it from any other.
"""

import subprocess
import sys
import time
from pathlib import Path

from installer import embed
from installer.errors import Exit, HyperError
from installer.initrd import appended
from installer.remote.connection import LOST, Connection
from installer.remote.network import Carried, carry, parse
from installer.remote.target import LOOK, Seen, parse_look

KERNEL, RAM_DISK, SCRIPT = "bzImage", "initrd.gz", "kexec-boot"
"""What nixpkgs' `kexecTree` has."""
THERE = '"$HOME/hyper-nixos-kexec"'
"""On the disk of the system that ends: memory for it, too, is more than small machines have."""
KINDS = ("ed25519", "ecdsa", "rsa")
AUTHORIZED = (
    'cat "$HOME/.ssh/authorized_keys" "$HOME/.ssh/authorized_keys2" "/etc/ssh/authorized_keys.d/$(id -un)" 2>/dev/null; '
    "true"
)
NETWORK = (
    "ip -json -details address",
    "ip -json -4 route show table main",
    "ip -json -6 route show table main",
    "cat /run/systemd/resolve/resolv.conf || cat /etc/resolv.conf",
    'echo "$SSH_CONNECTION"',
    'cd /sys/class/net && for each in */wireless; do [ ! -d "$each" ] || echo "${each%/*}"; done',
)
"""What the machine's network is asked with, in the order that `parse` takes."""
STARTED = 600.0
"""Seconds in which the live system has to answer. Firmware has no part in it; a slow network card may take a minute."""


def start_kexec(connection: Connection, seen: Seen, tree: Path, *, network: bool = True) -> None:
    """Send the tree, start it, and wait until the live system answers in the other one's place. `network`: whether the
    answers say what network the installed host has.

    Raises:
        HyperError: the tree is none, the machine cannot start it, nobody confirmed that what runs there ends
            (Exit.consent), or the live system did not answer.
    """
    missing = [name for name in (KERNEL, RAM_DISK, SCRIPT) if not (tree / name).exists()]
    if missing:
        raise HyperError(
            f"{tree} is no kexec tree",
            why=f"it has no {', '.join(missing)}",
            remedy="build one with `nix build .#kexec`, and name its result",
            code=Exit.usage,
        )
    host = connection.target.host
    _require_able(connection, seen)
    files = _ways_in(connection)
    carried = _network(connection)
    files |= {f"{embed.NETWORK}/{name}": content for name, content in carried.files.items()}
    print(
        f"{host} runs {seen.system}. It ends at once, with everything that runs on it; nothing is installed yet.\n"
        "The live system in its place needs about 4 GB of memory. Its network is that of now:"
    )
    for line in carried.lines:
        print(f"  {line}")
    if carried.answers and not network:
        print(
            "The answers say nothing of the network: the installed host would ask for another address, by DHCP. To have "
            f"it keep this one, put it into them:\n{carried.answers}"
        )
    print(
        "It has the same host key, and whoever logs in by key now does so then."
        if embed.KEYS in files
        else "It has the same host key. Nobody logs in by key now: its password will be on the machine's own screen."
    )
    sys.stdout.flush()
    if not sys.stdin.isatty() or input(f"Type its name, {host}, to go on: ").strip() != host:
        raise HyperError(
            "not started; everything there runs on",
            why="nobody typed the machine's name",
            remedy="run it at a terminal, and type the name",
            code=Exit.consent,
        )
    _send(connection, tree, files)
    connection.output(
        f"chmod +x {THERE}/{SCRIPT} && (setsid sh -c 'sleep 1; {THERE}/{SCRIPT}' >{THERE}/said 2>&1 &)"
    )
    print("It starts. This may take some minutes …", flush=True)
    _wait(connection)


def _require_able(connection: Connection, seen: Seen) -> None:
    if not seen.kexec:
        raise HyperError(
            f"{connection.target.host} cannot start another kernel",
            why="it has no program kexec",
            remedy="install kexec-tools there (Debian: `apt install kexec-tools`), and run it again",
            code=Exit.unsuitable,
        )
    if connection.output("id -u").strip() != "0":
        raise HyperError(
            f"{connection.target.user} may not start another kernel on {connection.target.host}",
            why="that is root's alone",
            remedy="name root in the target: `--target ssh://root@HOST`",
            code=Exit.privilege,
        )
    locked = connection.output(
        "cat /sys/kernel/security/lockdown /proc/sys/kernel/kexec_load_disabled 2>/dev/null; true"
    )
    if "[integrity]" in locked or "[confidentiality]" in locked or locked.split()[-1:] == ["1"]:
        raise HyperError(
            f"{connection.target.host} starts no other kernel",
            why="its kernel is locked down, by Secure Boot or by kernel.kexec_load_disabled",
            remedy="switch Secure Boot off or restart it without that setting; or start it from our medium",
            code=Exit.unsuitable,
        )


def _ways_in(connection: Connection) -> dict[str, bytes]:
    """How the machine is reached now, for the live system: who may log in, and the host keys. Kept in memory only."""
    known = connection.known_hosts.read_text()
    public = connection.output("cat /etc/ssh/ssh_host_*_key.pub 2>/dev/null; true")
    if not any(line.split()[1] in known for line in public.splitlines() if len(line.split()) > 1):
        raise HyperError(
            f"nobody could tell {connection.target.host} from another machine afterwards",
            why="the key by which it proves itself is not among /etc/ssh/ssh_host_*_key, so it cannot be taken along",
            remedy="copy it there, with its .pub file; or start the machine from our medium",
            code=Exit.unsuitable,
        )
    files = {}
    if keys := connection.output(AUTHORIZED).strip():
        files[embed.KEYS] = f"{keys}\n".encode()
    for kind in KINDS:
        path = f"/etc/ssh/ssh_host_{kind}_key"
        if key := connection.output(f"cat {path} 2>/dev/null; true"):
            files[f"{embed.HOST_KEYS}/ssh_host_{kind}_key"] = key.encode()
    return files


def _network(connection: Connection) -> Carried:
    """The network of the machine, for the live system. Raises HyperError."""
    asked = (f"PATH=$PATH:/usr/sbin:/sbin; {{ {words}; }} 2>/dev/null; true" for words in NETWORK)
    there = parse([connection.output(words) for words in asked])
    if there is None:
        return Carried({}, ("not known, since its ip(8) prints no JSON; so all by DHCP",), "")
    return carry(there)


def _send(connection: Connection, tree: Path, files: dict[str, bytes]) -> None:
    connection.output(f"umask 077 && rm -rf {THERE} && mkdir -p {THERE}")
    for name in (KERNEL, RAM_DISK, SCRIPT):
        with (tree / name).open("rb") as content:
            done = subprocess.run([*connection.argv(), f"cat > {THERE}/{name}"], stdin=content, check=False)
        if done.returncode:
            raise HyperError(
                f"{name} could not be sent to {connection.target.host}",
                why=f"ssh ended with {done.returncode}",
                remedy="is there room in its home folder? Run it again",
                code=Exit.step,
            )
    connection.output(
        f"cat >> {THERE}/{RAM_DISK}", appended((tree / RAM_DISK).stat().st_size, embed.pack(files))
    )


def _wait(connection: Connection) -> None:
    """Until our live system answers there."""
    deadline = time.monotonic() + STARTED
    said = ""
    while time.monotonic() < deadline:
        connection.close()
        status, answer = connection.try_output(LOOK)
        if status == 0 and parse_look(answer).medium:
            print("The live system runs there now.", flush=True)
            return
        if status == 0:
            # The old system is still there: what kexec said tells why.
            said = connection.try_output(f"cat {THERE}/said 2>/dev/null; true")[1].strip()
        time.sleep(2.0 if status != LOST else 5.0)
    raise HyperError(
        f"our live system does not answer on {connection.target.host}",
        why=said
        or f"{STARTED:.0f} seconds passed; nothing else runs there any more, or it has another address now",
        remedy="look at the machine's own screen; a restart brings back what ran there",
        code=Exit.failed,
    )
