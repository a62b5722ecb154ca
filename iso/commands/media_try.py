"""`hv media try`: boots an image in QEMU."""

import argparse
import json
import platform
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from installer.errors import Exit, HyperError
from iso import qemu
from iso.doctor import diagnose
from iso.image import opened
from iso.qemu import Attached, Firmware, Machine

EMULATED = 10
"""How many times longer an emulated machine may take."""


def try_image(options: argparse.Namespace) -> int:
    """Ends with Exit.failed when what was expected did not come."""
    firmware = Firmware(options.firmware or "uefi")
    attached = Attached(options.attached or "cd")
    processor = "x86_64" if attached is Attached.pxe else _processor(options.image)
    machine = Machine(
        image=options.image,
        firmware=firmware,
        attached=attached,
        processor=processor,
        memory=options.memory,
        disks=tuple(options.disk),
        tpm=options.tpm,
        answers=options.answers,
        network=not options.no_network,
    )
    tools = qemu.find_tools(machine)
    patience = options.timeout * (EMULATED if tools.accelerator == "tcg" else 1)
    _say(
        options,
        f"{options.image}: {firmware}, {attached}, {tools.accelerator}"
        + (" (KVM runs no guest here: about ten times slower)" if tools.accelerator == "tcg" else ""),
    )
    if not options.expect and not options.screenshot and not options.serial:
        return _watched(machine, tools)
    with ExitStack() as stack:
        log = stack.enter_context(options.serial.open("wb")) if options.serial else None

        def hear(data: bytes) -> None:
            if log:
                log.write(data)
            elif not options.json:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()

        trial = qemu.run(
            machine,
            tools,
            expect=options.expect,
            patience=patience,
            hear=hear,
            screenshot=options.screenshot,
        )
    missed = options.expect[len(trial.found) :]
    if options.json:
        told = {
            "version": 1,
            "firmware": firmware,
            "attached": attached,
            "accelerator": tools.accelerator,
            "seconds": round(trial.seconds, 1),
            "found": trial.found,
            "missed": missed,
            "ended": trial.ended,
        }
        print(json.dumps(told))
    if missed:
        last = trial.serial.decode(errors="replace").strip().splitlines()[-8:]
        raise HyperError(
            f"{missed[0]!r} did not come over the serial line",
            why=(
                f"the machine {'switched itself off' if trial.ended else 'was given'} after {trial.seconds:.0f} s"
                if trial.ended
                else f"it was waited for {trial.seconds:.0f} s"
            )
            + "; the last lines:\n"
            + "\n".join(last),
            remedy="look at what it says (--serial FILE, --screenshot FILE), and at `hv media doctor`",
        )
    _say(options, f"\n{len(trial.found)} of {len(options.expect)} texts came, after {trial.seconds:.1f} s")
    if options.screenshot and not options.screenshot.exists():
        raise HyperError(
            "there is no picture of the screen",
            why="the machine had switched itself off",
            remedy="name a text with --expect: the picture is taken when it comes",
        )
    return Exit.ok


def _processor(path: Path) -> str:
    if qemu.is_qcow2(path):  # what is in it cannot be looked at from here
        return "aarch64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
    with opened(path) as image:
        return "aarch64" if diagnose(image).processors == ("aarch64",) else "x86_64"


def _say(options: argparse.Namespace, text: str) -> None:
    if not options.json:
        print(text, flush=True)


def _watched(machine: Machine, tools: qemu.Tools) -> int:
    """With its serial line here, until it is switched off: Ctrl-A X ends it."""
    with TemporaryDirectory(prefix="hv-try-") as made:
        folder = Path(made)
        qemu.prepare(machine, tools, folder)
        print("Ctrl-A X ends it", flush=True)
        argv = [*qemu.arguments(machine, tools, folder), "-serial", "mon:stdio"]
        if not _has_display():
            argv += ["-display", "none"]
        tpm = qemu.start_tpm(tools, folder) if machine.tpm else None
        try:
            return subprocess.run(argv, check=False).returncode
        finally:
            if tpm:
                tpm.kill()
                tpm.wait()


def _has_display() -> bool:
    import os

    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) or sys.platform == "darwin"


RUN = {"try": try_image}
"""What the verb runs."""
