"""Jobs image-NAME: what a guest starts from, where the answers have the host fetch it itself."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hv.firstrun.state import STATE_FOLDER
from hv.firstrun.world import World, sync_folder, to_json, write_atomically
from installer.errors import HyperError
from installer.handoff import Handoff, HandoffVm


@dataclass(frozen=True)
class ImageJob:
    """Fetches one guest's image. A file gets its name only once it is whole and known to be the right one."""

    vm: HandoffVm | None
    """None: there is nothing to fetch for any guest."""
    requires: tuple[str, ...] = ()
    timeout: float = 6 * 3600.0

    @property
    def name(self) -> str:
        """Name of the job."""
        return job_name(self.vm) if self.vm else "images"

    def applies(self, handoff: Handoff) -> str | None:
        """Only where the answers say so."""
        if self.vm:
            return None
        return "every image came with the installation" if handoff.vms else "the answers name no guest"

    def run(self, world: World) -> None:
        """Fetch it, and give it its name."""
        vm = self._asked()
        target = world.path(vm.image)
        if target.exists():
            if _noted(world, vm) is None:
                world.warn(f"{vm.image} was put there by hand: it is taken as it is")
            world.say(f"{target.name} is here already")
            return
        with _advice(vm):
            path, sha256 = world.image(world, vm)
        write_atomically(_note(world, vm), to_json({"sha256": sha256}))
        partial = target.with_name(f".{target.name}.partial")
        partial.unlink(missing_ok=True)
        # The same file under another name: it takes no room twice, and another guest may start from it too.
        os.link(path, partial)
        partial.chmod(0o600)
        partial.replace(target)
        sync_folder(target.parent)

    def verify(self, world: World) -> None:
        """It is there, and what it was known as."""
        vm = self._asked()
        target = world.path(vm.image)
        wanted = vm.image_sha256 or _noted(world, vm)
        try:
            with target.open("rb") as stream:
                there = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise _wrong(vm, f"{target}: {error.strerror}") from error
        if wanted is not None and there != wanted:
            raise _wrong(vm, f"SHA-256 of {target} is {there}, it should be {wanted}")
        world.say(f"checked: {target.name}, {target.stat().st_size} bytes, SHA-256 {there}")

    def _asked(self) -> HandoffVm:
        if self.vm is None:
            raise ValueError("an image was to be fetched, and none is asked for")
        return self.vm


def image_jobs(vms: tuple[HandoffVm, ...]) -> tuple[ImageJob, ...]:
    """One for each guest whose image is fetched; one that says so where there is none."""
    return tuple(ImageJob(vm) for vm in vms if vm.fetch) or (ImageJob(None),)


def job_name(vm: HandoffVm) -> str:
    """Name of the job that fetches a guest's image."""
    return f"image-{vm.name}"


@contextmanager
def _advice(vm: HandoffVm) -> Iterator[None]:
    """Errors say how the job goes on."""
    try:
        yield
    except HyperError as error:
        error.remedy += (
            f" Then `hv firstrun retry {job_name(vm)}`; an image put at {vm.image} by hand is taken too."
        )
        raise


def _wrong(vm: HandoffVm, why: str) -> HyperError:
    return HyperError(
        f"The image of VM {vm.name} is not the one that was asked for.",
        why=why,
        remedy=f"Remove {vm.image}, then `hv firstrun retry {job_name(vm)}`: it is fetched anew.",
    )


def _note(world: World, vm: HandoffVm) -> Path:
    """Kept before the image gets its name: without it somebody else put it there."""
    return world.path(f"{STATE_FOLDER}/{job_name(vm)}.fetched")


def _noted(world: World, vm: HandoffVm) -> str | None:
    try:
        return str(json.loads(_note(world, vm).read_bytes())["sha256"])
    except (OSError, ValueError, KeyError):
        return None
