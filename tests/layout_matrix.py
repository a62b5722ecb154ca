"""Every combination of layout, disks, file system, volumes and redundancy in one line: what comes of it, or why not."""

from collections.abc import Iterator
from itertools import product

from installer.answers.model import FilesystemKind, Redundancy, StorageAnswers, VolumesKind
from installer.answers.problems import shown_path
from installer.answers.storage_check import check_storage
from installer.facts.firmware import FirmwareKind
from installer.plan.model import Plan
from installer.plan.planner import make_plan
from tests import plan_cases as cases

LAYOUTS = (
    ("one-disk", 1),
    ("mirror", 1),
    ("mirror", 2),
    ("mirror", 3),
    ("array", 3),
    ("array", 4),
    ("array", 5),
)


def combinations() -> Iterator[tuple[str, str, Plan | None]]:
    """Name, outcome for a person, and the plan, if there is one."""
    for (layout, count), filesystem, volumes in product(LAYOUTS, FilesystemKind, VolumesKind):
        wanted = (None, *Redundancy) if volumes is VolumesKind.none else (None,)
        for redundancy in wanted:
            table = {
                "layout": layout,
                "disk": {"transport": "nvme", "count": count},
                "filesystem": filesystem.value,
                "volumes": volumes.value,
                "redundancy": redundancy,
            }
            words = [layout, str(count), filesystem.value, volumes.value, redundancy or "-"]
            yield " ".join(words), *_outcome(count, table)


def _outcome(count: int, table: dict[str, object]) -> tuple[str, Plan | None]:
    storage = StorageAnswers.model_validate(table)
    if problems := list(check_storage(storage)):
        return "refused: " + "; ".join(f"{shown_path(each.path)} {each.wrong}" for each in problems), None
    plan = make_plan(
        cases.machine(*cases.disks(count), firmware=FirmwareKind.uefi64),
        cases.answers(storage=table),
        cases.medium(),
    )
    contents = [" | ".join(region.content for region in each.after) for each in plan.pictures]
    return "; ".join(dict.fromkeys(contents)), plan


def text() -> str:
    """One line each."""
    return "".join(f"{name}: {outcome}\n" for name, outcome, _ in combinations())
