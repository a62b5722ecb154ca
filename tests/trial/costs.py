"""What installing costs over a shell script of the same programs, of one layout after the other.

The script is made from the log of an installation: every program that the installer ran from its first write on, with
the same arguments and in the same order, and side by side what went side by side. What the installer does without a
program is done as a script does it: the partition table by sfdisk from a dump, files by cp, comparisons by cmp.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import unified_diff
from typing import NamedTuple

from installer.errors import Exit
from tests.lab.timing import WRITES
from tests.trial.cuts import CLEAR
from tests.trial.layouts import SECRETS, Layout
from tests.trial.site import Session, installing

GOAL = 1.05
"""Ours to theirs, at most."""
PLACE = "/run/cost"
"""Folder of the live system with what the script puts in place by cp."""
_LINE = re.compile(r"^(?P<time>\S+) (?:\[(?P<lane>[^\]]+)\] )?(?P<kind>[$=#]) (?P<text>.*)$")
_SECRET = next(path for path in SECRETS if path.endswith("passphrase"))
_HASH = next(path for path in SECRETS if path.endswith(".hash"))


class Cost(NamedTuple):
    """Seconds of each round."""

    ours: tuple[float, ...]
    """From the first write to the end, by the installer's log."""
    theirs: tuple[float, ...]
    """The same, by the script's own clock, which is the same machine's."""
    our_work: float
    """Of the processors that emulate the machine, in all rounds, less what planning alone takes: what else the computer
    has to do changes it little."""
    their_work: float
    """The same of the script."""

    @property
    def ratio(self) -> float:
        """Ours to theirs, all rounds together."""
        return sum(self.ours) / sum(self.theirs)

    def __str__(self) -> str:
        ours, theirs = (" and ".join(f"{each:.1f}" for each in side) for side in (self.ours, self.theirs))
        return (
            f"hv install {ours} s, a script of the same programs {theirs} s: {self.ratio:.3f}; "
            f"processor time {self.our_work:.0f} s, {self.their_work:.0f} s"
        )


@dataclass
class _Entry:
    """A program, or something that was done without one."""

    lane: str | None
    """What it goes side by side with others as; none: alone."""
    text: str
    """The program with its arguments, quoted for a shell; or the log's words, `step: what stands`."""
    program: bool
    status: int = 0
    """How the program ended."""


def cost(session: Session, layout: Layout, rounds: int = 2) -> Cost:
    """Install by turns, each time on blank disks, and look whether both leave the same on them.

    The first installation is not counted: it loads the kernel's modules, and brings programs into memory, for all others.
    """
    ours: list[float] = []
    theirs: list[float] = []
    work = {"ours": 0.0, "theirs": 0.0}
    session.shell(f"mkdir -p {PLACE}/log", measured=5)
    words = (*installing(layout)[:-2], "--render", f"{PLACE}/{layout.name}")
    assert session.hv(*words).status == Exit.ok
    began = session.running.work()
    assert session.hv(*words[:-2], "--plan").status == Exit.ok
    planning = session.running.work() - began
    log = ""
    sides = ["ours"]
    for number in range(rounds):
        sides += ["theirs", "ours"] if number % 2 == 0 else ["ours", "theirs"]
    for number, side in enumerate(sides):
        session.shell(CLEAR, measured=30)
        if number == 1:
            ours.clear()
            work["ours"] = 0.0
        work[side] -= session.running.work()
        if side == "ours":
            done = session.install(layout, "--fresh")
            assert done.status == Exit.ok, done.text
            work[side] += session.running.work() - planning
            log = session.shell("cat /run/hyper-nixos/install/install.log", measured=10)
            ours.append(_whole(log))
            session.shell(f"cp /run/hyper-nixos/install/*.json* {PLACE}/log/; {_dump()}", measured=10)
            left = session.shell(_left(layout), measured=10)
        else:
            session.agent.write(f"{PLACE}/install.sh", script(log, layout), 0o755)
            said = session.agent.run("bash", f"{PLACE}/install.sh", measured=120)
            assert said.code == 0, said.text
            work[side] += session.running.work()
            theirs.append(float(re.findall(r"^seconds (\S+)$", said.text, re.MULTILINE)[-1]))
            same(left, session.shell(_left(layout), measured=10))
    return Cost(tuple(ours), tuple(theirs), work["ours"], work["theirs"])


def same(ours: str, theirs: str) -> None:
    """Raise AssertionError with what only one of both has left."""
    differ = list(
        unified_diff(ours.splitlines(), theirs.splitlines(), "hv install", "the script", "", "", 0)
    )
    assert not differ, "\n".join(differ)


def _left(layout: Layout) -> str:
    """What is on its disks, as far as it is not made up by programs anew each time; read from them, not from udev."""
    disks = " ".join(f"/dev/disk/by-id/*{serial}" for serial in layout.disks)
    return (
        f"for disk in {disks}; do sfdisk --dump $disk | grep start=; done; "
        f"for disk in {disks}; do for each in $disk-part*; do "
        'echo "$each" $(blkid -p -s TYPE -s LABEL -s LABEL_FATBOOT -o value "$each"); done; done'
    )


def _dump() -> str:
    return (
        "for disk in $(lsblk --nodeps --noheadings --output NAME); do "
        f'sfdisk --dump "/dev/$disk" >"{PLACE}/$disk.dump" 2>/dev/null || rm "{PLACE}/$disk.dump"; done'
    )


def _whole(log: str) -> float:
    """Seconds from the first program that writes to the log's last line."""
    lines = log.splitlines()
    first = next(line for line in lines if WRITES.search(line))
    begin, end = (datetime.fromisoformat(line.split(" ", 1)[0]).timestamp() for line in (first, lines[-1]))
    return end - begin


def script(log: str, layout: Layout) -> str:
    """The shell script that does what this log of an uninterrupted installation tells."""
    logged = log.splitlines()
    first = next(number for number, line in enumerate(logged) if WRITES.search(line))
    lines = "\n".join(_stretches(list(_entries(logged[first:])), layout))
    return f"""set -eEuo pipefail
trap 'echo "$BASH_COMMAND: $?"; tail -n 20 {PLACE}/said' ERR
begin=$EPOCHREALTIME
{lines}
end=$EPOCHREALTIME
echo "seconds $(awk "BEGIN {{ print $end - $begin }}")"
"""


def _entries(lines: Sequence[str]) -> Iterator[_Entry]:
    running: dict[str | None, _Entry] = {}
    for line in lines:
        if not (found := _LINE.match(line)):
            continue
        lane, text = found["lane"], found["text"]
        match found["kind"]:
            case "$":
                running[lane] = entry = _Entry(lane, text, program=True)
                yield entry
            case "=" if lane in running:  # known when the next one is asked for
                running.pop(lane).status = int(text.split()[0])
            case "#":
                yield _Entry(lane, text, program=False)


def _stretches(entries: Sequence[_Entry], layout: Layout) -> Iterator[str]:
    """Lines of shell; the lanes of a stretch are subshells in the background."""
    lanes: dict[str, list[str]] = {}
    compared = False
    for entry in (*entries, None):
        if lanes and (entry is None or entry.lane is None):
            yield from ("(\n" + "\n".join(lines) + "\n) &\nlanes+=($!)" for lines in lanes.values())
            yield 'for lane in "${lanes[@]}"; do wait "$lane"; done; lanes=()'
            lanes = {}
        if entry is None:
            return
        if entry.program:
            line = _program(entry)
        else:
            line = _without(entry.text, layout)
            if entry.text.startswith("boot-loader:"):
                line, compared = ("" if compared else _COMPARE), True
        if line and entry.lane is not None:
            lanes.setdefault(entry.lane, []).append(line)
        elif line:
            yield line


_COMPARE = """system=/mnt$(readlink -f /mnt/nix/var/nix/profiles/system | sed 's,^/mnt,,')
for copy in $(find /mnt/boot* -type f -size +1k -name '*kernel*' -o -type f -size +1k -name '*initrd*'); do
    cmp -s "$copy" "$system/kernel" || cmp -s "$copy" "$system/initrd"
done"""


_INSTALLED = "touch /mnt/etc/NIXOS\nln -sfn /proc/mounts /mnt/etc/mtab"
"""What switch-to-configuration and GRUB look for."""


def _program(entry: _Entry) -> str:
    """One program as a line of shell."""
    words = shlex.split(entry.text)
    line, given = entry.text, "/dev/null"
    match words:
        case ["cryptsetup", *more] if "-" in more:
            given = _SECRET + ".raw"
        case ["zstd", *_]:
            given = (
                '"$(ls /mnt/boot*/EFI/nixos/*initrd* /mnt/boot*/kernels/*initrd* 2>/dev/null | head -n 1)"'
            )
        case ["udevadm", "trigger", *_, partition]:
            disk = re.sub(r"(?<=\D)\d+$", "", partition.rpartition("/")[2])
            disk = disk[:-1] if re.search(r"\dp$", disk) else disk
            table = f"sfdisk --quiet --wipe never /dev/{disk} <{PLACE}/{disk}.dump"
            # udev reads a table again when its disk was closed (60-block.rules, OPTIONS+="watch").
            line = f"{table}\nudevadm settle\n{line}"
        case ["wipefs", *_, device]:
            line = f"until [ -b {device} ]; do sleep 0.02; done\n{line}"
        case ["mount", *_, target]:
            line = f"mkdir -p {target}\n{line}"
        case [*_, "boot"] if words[-2].endswith("switch-to-configuration"):
            line = f"{_INSTALLED}\nNIXOS_INSTALL_BOOTLOADER=1 {line}"
    ended = f" || [ $? = {entry.status} ]" if entry.status else ""
    return f"{line} <{given} >{PLACE}/said 2>&1{ended}"


def _without(text: str, layout: Layout) -> str:
    """What was done without a program, by what the log says stands after it; nothing to do: an empty line."""
    step, _, what = text.partition(": ")
    path = what.partition(": ")[0]
    match step:
        case "write-secrets":
            return f"install -D -m 0600 {_HASH} {path}\ncmp -s {_HASH} {path}"
        case "write-configuration":
            given = f"{PLACE}/{layout.name}"
            return f"mkdir -p {path}\ncp -r {given}/. {path}/\ndiff -r {given} {path}"
        case "write-handoff":
            return f"cp {PLACE}/log/plan.json /mnt/var/lib/hyper-nixos/handoff.json"
        case "save-log":
            return f"mkdir -p {path}\ncp {PLACE}/log/* {path}/"
    return ""
