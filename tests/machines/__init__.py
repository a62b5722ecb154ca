"""Recorded machines: each folder holds one, named by what is special about it."""

from functools import cache
from pathlib import Path

from installer.facts import Facts
from installer.probe import facter, probe
from installer.probe.record import Record, ReplayRoot
from installer.probe.record import load as load_record

MACHINES = Path(__file__).parent


def names() -> list[str]:
    """All recorded machines."""
    return sorted(path.parent.name for path in MACHINES.glob("*/machine.json"))


def record(name: str) -> Record:
    """The record of a machine."""
    return load_record(str(MACHINES / name))


@cache
def load(name: str) -> Facts:
    """The facts of a recorded machine."""
    return probe(ReplayRoot(record(name)))


def reports() -> list[str]:
    """All nixos-facter reports."""
    return sorted(path.stem for path in MACHINES.glob("facter/*.json"))


def report(name: str) -> facter.FacterRoot:
    """A machine as nixos-facter reports it."""
    return facter.load(str(MACHINES / "facter" / f"{name}.json"))
