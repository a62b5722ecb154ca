"""`hv media write`: an image onto a stick, read back."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from installer.answers.select import title
from installer.answers.sizes import MIB, format_size
from installer.errors import Exit, HyperError
from installer.execute.devices import claim_problem, identity_problem, kernel_name, read_device
from installer.execute.live import LiveSystem
from installer.facts import Facts
from installer.facts.disks import Disk
from installer.facts.systems import InstalledSystem
from installer.plan.losses import losses
from installer.plan.model import DiskIdentity
from iso import sticks
from iso.commands.media_content import wanted
from iso.doctor import diagnose
from iso.image import opened
from iso.stick_writer import Course, DirectDevice, Source, Target, check_size, marks, read_back, write


class Opened(Target, Protocol):
    """A disk that is written to, until it is closed."""

    def close(self) -> None:
        """Let others have it."""


class Computer(Protocol):
    """Whose disks they are."""

    @property
    def disks(self) -> tuple[Disk, ...]:
        """All of them."""

    @property
    def systems(self) -> tuple[InstalledSystem, ...]:
        """Operating systems on them."""

    def name(self, device: Path) -> str:
        """Name of the disk that somebody named."""

    def problem(self, disk: Disk) -> str | None:
        """Why it is not touched, right before the first write: the kernel may have given its name to another since."""

    def open(self, disk: Disk) -> Opened:
        """For us alone; OSError."""

    def release(self, disk: Disk) -> str | None:
        """Once it is written and closed: a line for people, if there is something to be said."""


@dataclass(frozen=True)
class Linux:
    """A computer with Linux, by what the probe found."""

    facts: Facts
    live: LiveSystem

    @property
    def disks(self) -> tuple[Disk, ...]:
        """All of them."""
        return self.facts.disks

    @property
    def systems(self) -> tuple[InstalledSystem, ...]:
        """Operating systems on them."""
        return self.facts.systems

    def name(self, device: Path) -> str:
        """By any of its names."""
        return kernel_name(str(device)) or device.name

    def problem(self, disk: Disk) -> str | None:
        """Its identity is read again, and it is claimed once."""
        identity = DiskIdentity(
            key=disk.name,
            wwn=disk.wwn,
            serial=disk.serial,
            by_id=disk.by_id[0] if disk.by_id else disk.name,
            model=disk.model,
            size=disk.size,
            logical_sector=disk.logical_sector,
        )
        try:
            problem = identity_problem(identity, read_device(self.live, disk.name))
        except OSError as error:
            problem = f"it is gone: {error.strerror}"
        return problem or claim_problem(f"/dev/{disk.name}")

    def open(self, disk: Disk) -> Opened:
        """Past the page cache."""
        return DirectDevice(Path("/dev", disk.name))

    def release(self, disk: Disk) -> str | None:
        """Nothing is to be done."""
        del disk
        return None


def write_stick(options: argparse.Namespace) -> int:
    """Write it."""
    if sys.platform == "darwin":
        from iso.macos import this_computer

        return write_to(options, this_computer(), _typed)
    if sys.platform != "linux":
        raise HyperError(
            "sticks are written on Linux and macOS alone",
            why="disks are recognised by what these tell of them",
            remedy="write the image with another program, and read it back: `hv media verify` takes sticks",
            code=Exit.unsuitable,
        )
    from installer.probe import probe
    from installer.probe.root import LiveRoot

    return onto(options, probe(LiveRoot()), LiveSystem(), _typed)


def _typed(question: str) -> str:
    if not sys.stdin.isatty():
        return ""
    return input(question)


def onto(options: argparse.Namespace, facts: Facts, live: LiveSystem, ask: Callable[[str], str]) -> int:
    """The same on the machine with Linux that is handed in."""
    return write_to(options, Linux(facts, live), ask)


def write_to(options: argparse.Namespace, computer: Computer, ask: Callable[[str], str]) -> int:
    """The same on this computer."""
    everyone = computer.disks
    disk = sticks.choose(computer.name(options.device), everyone)
    with opened(options.image) as image:
        found = diagnose(image)
        size = image.size
        sticks.require_stick(disk, everyone, size)
        config = _config(options)
        writing = sticks.changes(image, disk.size, config)
    broken = [way for way in found.expected if way.medium == "stick" and not way.boots]
    if broken and not options.anyway:
        raise HyperError(
            f"{options.image} would not boot from a stick",
            why="; ".join(f"{way.firmware}: {', '.join(way.problems)}" for way in broken),
            remedy="look at `hv media doctor`; --anyway writes it all the same",
            code=Exit.medium,
        )
    proof = disk.serial or disk.wwn or disk.name
    print(f"{options.image} ({format_size(size)}) goes to\n\n  {title(disk)}, {disk.transport}\n")
    print("Everything on it is lost:")
    for each in losses(disk, disk.name, computer.systems).losses:
        print(f"  {each}")
    given = options.confirm or ask(f"\nType {proof} to go on: ").strip()
    if given != proof:
        raise HyperError(
            "nothing was written",
            why=f"the disk was not confirmed: {given!r} is not {proof!r}"
            if given
            else "the disk was not confirmed",
            remedy=f"run it on a terminal and type {proof}, or add `--confirm '{proof}'`",
            code=Exit.consent,
        )
    if problem := computer.problem(disk):
        raise HyperError(
            f"{title(disk)} is not touched",
            why=f"right before the first write: {problem}",
            remedy="leave it plugged in, unmount it, and run the same command again",
            code=Exit.busy,
        )
    _write(options, disk, computer, size, writing)
    return Exit.ok


def _config(options: argparse.Namespace) -> bytes | None:
    """The file system for answers, made by mkfs.vfat and mtools."""
    if not options.config:
        return None
    content = wanted(options)
    files = sticks.config_files(content.files)
    with TemporaryDirectory(prefix="hv-write-") as made:
        image = Path(made, "fat")
        with image.open("wb") as file:
            file.truncate(sticks.CONFIG_SIZE)
        commands = [["mkfs.vfat", "--invariant", "-n", sticks.CONFIG_LABEL, str(image)]]
        for name, data in files.items():
            Path(made, name).write_bytes(data)
            commands.append(["mcopy", "-i", str(image), str(Path(made, name)), f"::/{name}"])
        for command in commands:
            try:
                subprocess.run(command, check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise HyperError(
                    "the partition for answers cannot be made",
                    why=f"{command[0]}: {error}",
                    remedy="install dosfstools and mtools, or put the answers into the image: `hv media embed`",
                    code=Exit.unsuitable,
                ) from error
        return image.read_bytes()


def _write(
    options: argparse.Namespace, disk: Disk, computer: Computer, size: int, writing: sticks.Writing
) -> None:
    try:
        target = computer.open(disk)
    except OSError as error:
        raise HyperError(
            f"/dev/{disk.name} cannot be opened for writing",
            why=error.strerror or str(error),
            remedy="run it as root, or as a user who may write to the device",
            code=Exit.privilege,
        ) from error
    watch = Watcher()
    descriptor = os.open(options.image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        source = Source(descriptor, size, writing.patches)
        if not options.resume:
            check_size(target, size)
        started = time.monotonic()
        put = marks(target.size, source)
        kept = write(target, source, watch, put, resume=options.resume)
        written = time.monotonic() - started
        read_back(target, source, watch, put)
    except KeyboardInterrupt:
        watch.end()
        print(f"{title(disk)} is half written, and does not boot. Go on with --resume.", file=sys.stderr)
        raise
    finally:
        watch.end()
        os.close(descriptor)
        target.close()
    print(f"{title(disk)}: {format_size(size - kept)} written in {written:.0f} s, read back, the same")
    if kept:
        print(f"  {format_size(kept)} were there already")
    for note in writing.notes:
        print(f"  {note}")
    if said := computer.release(disk):
        print(f"  {said}")


class Watcher:
    """Shows how far it is: on a terminal in one line, else every tenth."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self.open = False
        self._last = ("", -1.0)

    def __call__(self, course: Course) -> None:
        """Show it, not too often."""
        share = course.done / course.total if course.total else 1.0
        step = share if self.terminal else int(share * 10) / 10
        what, last = self._last
        if course.what == what and step - last < (0.002 if self.terminal else 0.1) and share < 1:
            return
        self._last = (course.what, step)
        left = (course.total - course.done) / course.speed if course.speed else 0
        text = f"{course.what:<12} {share:4.0%}  {course.speed / MIB:6.1f} MiB/s  {left:4.0f} s left"
        self.open = self.terminal and share < 1
        start, end = ("\r", "" if self.open else "\n") if self.terminal else ("", "\n")
        print(start + text, end=end, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line."""
        if self.open:
            print(file=sys.stderr)
        self.open = False


RUN = {"write": write_stick}
"""What the verb runs."""
