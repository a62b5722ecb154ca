"""A rig that is ready to be installed on, with a second disk that nobody chose and nothing may touch."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from installer.answers.model import Answers
from installer.answers.sizes import MIB
from installer.execute.journal import Journal
from installer.facts.disks import Partition
from installer.plan.naming import Names
from installer.plan.planner import make_plan
from tests.execute.rig import (
    LoopDisk,
    Namespace,
    Rig,
    add_nix,
    namespace,
    prepare,
    rig,
    run,
    tiny_system,
    with_closure,
)
from tests.plan_cases import HASH


def answers_for(disk: LoopDisk, **changes: Any) -> dict[str, Any]:
    """Answers for a small host on this disk."""
    selector = {"serial": disk.serial} if disk.serial else {"transport": "virtio"}
    return {
        "version": 1,
        "hostname": "loop",
        "storage": {"disk": selector, "destroy": "matched", "swap": {"kind": "none"}},
        "users": [{"name": "alice", "admin": True, "password_hash": HASH}],
        "ssh": {"enable": False},
        "system": {"source": "closure", "closure": "tiny", "offline": True},
    } | changes


class Ready:
    """A rig with a disk, a system for it, and a namespace to install in."""

    def __init__(
        self,
        made: Rig,
        space: Namespace,
        disk: LoopDisk | None = None,
        old: Callable[[LoopDisk], tuple[Partition, ...]] = lambda _: (),
        prepared: bool = True,
        **facts: Any,
    ) -> None:
        self.rig, self.space = made, space
        self.disk = disk or made.add_disk()
        self.bystander = made.add_disk(64 * MIB)
        run("mkfs.ext4", "-q", self.bystander.device)
        with self.bystander.file.open("r+b") as file:
            file.write(os.urandom(512))  # where a boot sector would be
        self.bystanding = self.bystander.digest()
        self.facts = made.facts(self.disk, partitions=old(self.disk), **facts)
        if prepared:
            self.prepare()

    def prepare(self, *, system: dict[str, Any] | None = None, **changes: Any) -> None:
        """Make the system, and everything that the installing process reads."""
        made, given = self.rig, answers_for(self.disk, **changes)
        draft = make_plan(
            self.facts, Answers.model_validate(given), with_closure("/nix/store/" + "0" * 32 + "-x")
        )
        uuid = Names("loop", (draft.disks[0],)).uuid("root")
        self.toplevel = tiny_system(made, self.disk, uuid, **(system or {}))
        self.medium = with_closure(self.toplevel)
        prepare(made, self.facts, given, self.medium)
        self.plan = make_plan(self.facts, Answers.model_validate(given), self.medium)

    @property
    def journal(self) -> Journal:
        """As it is on disk now."""
        return Journal(self.rig.live.journal)

    def file(self, path: str, partition: int = 2) -> str:
        """A file of the installed disk, mounted anew."""
        self.space.run("mount", "-o", "ro", f"{self.disk.link}-part{partition}", "/mnt")
        try:
            return self.space.run("cat", f"/mnt{path}")
        finally:
            self.space.run("umount", "/mnt")


@contextmanager
def ready_rig(
    folder: Path,
    *,
    old: Callable[[LoopDisk], tuple[Partition, ...]] = lambda _: (),
    prepared: bool = True,
    facts: dict[str, Any] | None = None,
    **disk: Any,
) -> Iterator[Ready]:
    """A ready rig; at the end the other disk must be what it was, whatever happened.

    Args:
        folder: Where everything of it is.
        old: Puts something on the disk, and says which partitions it then has.
        prepared: Make system and answers for it too, which a test that wants others does by itself.
        facts: What the machine is besides.
        disk: As `Rig.add_disk` takes it.
    """
    with rig(folder) as made, namespace() as space:
        add_nix(made)
        ready = Ready(made, space, made.add_disk(**disk), old, prepared=prepared, **(facts or {}))
        yield ready
        assert ready.bystander.digest() == ready.bystanding, "a disk that nobody chose was written to"
