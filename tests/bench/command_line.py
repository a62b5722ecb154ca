"""What a person or a shell waits for at the keyboard."""

import compileall
import json
import sys
from pathlib import Path

from installer import VERSION
from installer.errors import HyperError
from tests.bench.contest import Contest

HV = str(Path(sys.executable).with_name("hv"))
BARE = (sys.executable, "-c", "pass")
REPOSITORY = Path(__file__).resolve().parents[2]
FACTS = {"version", "cpu", "memory", "firmware", "iommu", "pci", "gpus", "disks", "nics", "systems"}


def contests() -> list[Contest]:
    """Every contest of the command line.

    Raises:
        HyperError: lshw is not installed, or hv is not where it should be.
    """
    lshw = next((path for path in ("/usr/bin/lshw", "/usr/sbin/lshw") if Path(path).exists()), None)
    if lshw is None or not Path(HV).exists():
        raise HyperError(
            "bench: a command to measure is missing",
            why=f"lshw: {lshw or 'not found'}; hv: {HV}",
            remedy="run it through: make bench",
        )
    # An installed hv has its byte code (Nix's and pip's packages alike); a fresh checkout, or a shell that forbids
    # Python to write any, would measure the compiler.
    for package in ("installer", "hv"):
        if not compileall.compile_dir(REPOSITORY / package, quiet=1):
            raise HyperError(
                "bench: hv cannot be compiled to byte code",
                why=f"compileall failed in {REPOSITORY / package}",
                remedy="see its output; the folder must be writable",
            )
    return [
        Contest("hv --version", (HV, "--version"), BARE, 2.5, lambda out: out == f"hv {VERSION}\n"),
        Contest("hv completion bash", (HV, "completion", "bash"), BARE, 2.5, lambda out: "complete" in out),
        Contest(
            "hv completion --jobs", (HV, "completion", "--jobs"), BARE, 2.5, lambda out: out.endswith("\n")
        ),
        Contest("hv --help", (HV, "--help"), BARE, 6, lambda out: out.startswith("usage: hv")),
        probing("hv probe --json", HV, lshw, rounds=11),
    ]


def probing(name: str, hv: str, lshw: str, rounds: int) -> Contest:
    """Our probe against lshw's."""
    return Contest(
        name,
        (hv, "probe", "--json"),
        (lshw, "-json"),
        0.5,
        lambda out: json.loads(out).keys() >= FACTS,
        rounds,
    )
