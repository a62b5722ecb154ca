"""The report page of a run: one HTML file that needs no network. `python -m tests.lab.report RUN_FOLDER`."""

import base64
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from installer.answers.sizes import format_size
from installer.facts import Facts
from installer.facts.disks import Disk, Partition
from installer.facts.pci import Passthrough, PciDevice
from installer.plan.model import Plan
from tests.lab import runrecord

_LANES = {
    "lab": "building",
    "firmware": "firmware and boot",
    "installer": "installer",
    "host": "installed host",
}
_VERDICT = {Passthrough.yes: "yes", Passthrough.with_group: "group", Passthrough.no: "no"}


@dataclass(frozen=True)
class Bar:
    """A phase drawn on the timeline, in percent of the run."""

    name: str
    lane: str
    left: float
    width: float
    seconds: float


@dataclass(frozen=True)
class Segment:
    """A partition, or free space, drawn on its disk."""

    title: str
    detail: str
    css: str
    share: float


@dataclass(frozen=True)
class Drawing:
    """One disk at one time."""

    title: str
    identity: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class GroupMember:
    """A device on the map of IOMMU groups."""

    address: str
    name: str
    verdict: str
    reason: str


def bars(record: runrecord.RunRecord) -> list[Bar]:
    """The phases in percent; a hair's breadth at least, so that none vanishes."""
    total = max(record.seconds, 0.001)
    return [
        Bar(
            phase.name,
            phase.lane,
            100 * phase.start / total,
            max(100 * (phase.end - phase.start) / total, 0.3),
            phase.end - phase.start,
        )
        for phase in record.phases
    ]


def _contents(partition: Partition) -> str:
    words: list[str] = []
    if partition.filesystem:
        words.append("LUKS2" if partition.filesystem.kind == "crypto_LUKS" else partition.filesystem.kind)
    for holder in partition.holders:
        words.append(holder.name)
        words += [layer.name for layer in holder.layers]
    return " → ".join(words) or "empty"


def _segments(disk: Disk) -> tuple[Segment, ...]:
    """Partitions and gaps; widths by the fourth root of the size, so that a boot partition can be read."""
    if not disk.partitions:
        what = disk.filesystem.kind if disk.filesystem else "blank"
        return (Segment(what, format_size(disk.size), "free", 100.0),)
    pieces: list[tuple[str, str, str, int]] = []
    position = 0
    for partition in sorted(disk.partitions, key=lambda part: part.start):
        if partition.start - position > disk.size // 50:
            gap = partition.start - position
            pieces.append(("free", format_size(gap), "free", gap))
        kind = partition.filesystem.kind if partition.filesystem else ""
        css = {"vfat": "esp", "crypto_LUKS": "luks", "swap": "swap"}.get(kind, "data")
        title = partition.label or f"partition {partition.number}"
        pieces.append(
            (title, f"{_contents(partition)} · {format_size(partition.size)}", css, partition.size)
        )
        position = partition.start + partition.size
    if disk.size - position > disk.size // 50:
        pieces.append(("free", format_size(disk.size - position), "free", disk.size - position))
    widths = [max(size, 1) ** 0.25 for *_, size in pieces]
    return tuple(
        Segment(title, detail, css, 100 * width / sum(widths))
        for (title, detail, css, _), width in zip(pieces, widths, strict=True)
    )


def drawings(facts: Facts | None) -> list[Drawing]:
    """Every disk as it was found."""
    if facts is None:
        return []
    return [
        Drawing(
            " ".join(filter(None, (disk.model, format_size(disk.size)))),
            f"{disk.transport} · {disk.serial or disk.wwn or 'without identity'}"
            + (" · install medium" if disk.install_medium else ""),
            _segments(disk),
        )
        for disk in facts.disks
    ]


def _member(device: PciDevice) -> GroupMember:
    verdict = device.passthrough
    return GroupMember(
        device.address,
        device.device_name if device.device_name != device.device_id else device.class_name,
        _VERDICT[verdict.verdict],
        "; ".join(verdict.reasons + verdict.cautions),
    )


def groups(facts: Facts | None) -> list[tuple[int, list[GroupMember]]]:
    """The IOMMU groups with their members, in order."""
    if facts is None:
        return []
    devices = {device.address: device for device in facts.pci}
    return [
        (group.number, [_member(devices[address]) for address in group.members if address in devices])
        for group in facts.iommu.groups
    ]


def _load_facts(folder: Path, name: str | None) -> Facts | None:
    return Facts.model_validate_json((folder / name).read_bytes()) if name else None


def _picture_data(
    folder: Path, pictures: Iterable[runrecord.Picture]
) -> list[tuple[runrecord.Picture, str]]:
    return [
        (picture, base64.b64encode((folder / picture.file).read_bytes()).decode("ascii"))
        for picture in pictures
    ]


def build(folder: Path) -> Path:
    """Write `report.html` into the run's folder and return its path."""
    record = runrecord.read(folder)
    before = _load_facts(folder, record.facts_before)
    after = _load_facts(folder, record.facts_after)
    plan = Plan.model_validate_json((folder / record.plan).read_bytes()) if record.plan else None
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        record=record,
        failed=[proof for proof in record.proofs if not proof.holds],
        bars=bars(record),
        lanes=_LANES,
        before=drawings(before),
        after=drawings(after),
        facts=before,
        groups=groups(before),
        plan=plan,
        pictures=_picture_data(folder, record.pictures),
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
