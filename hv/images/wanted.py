"""The image that the answers name for a guest of the first run: a template's, known by its vendor's signature, or what is at
a URL, known by the SHA-256 in the answers. What a power cut leaves of a download is gone on with.
"""

import platform
from pathlib import Path

from hv.firstrun.world import TransientError, World
from hv.images.fetching import fetch
from hv.images.template import FOLDER, OWN_FOLDER, template
from hv.images.verify import digest
from installer.answers.guests import TEMPLATE
from installer.download import Cache, Progress
from installer.errors import Exit, HyperError
from installer.handoff import HandoffVm
from installer.web import Client

FETCHED = "/var/lib/hyper-nixos/images/fetched"
"""What was fetched, and parts of it; root's alone."""
STEPS = 4
"""In so many parts a download is told."""
PATIENCE = 120.0
"""Seconds without one new byte before an attempt is given up."""


def fetch_for(world: World, vm: HandoffVm) -> tuple[Path, str]:
    """The verified file, and its SHA-256.

    Raises HyperError; TransientError where trying again may help.
    """
    asked = vm.fetch
    if asked is None:
        raise ValueError(f"the image of {vm.name} is not to be fetched")
    client = Client(patience=PATIENCE, say=world.say)
    if asked.proxy:
        proxies = {"http": asked.proxy, "https": asked.proxy, "no": ",".join(asked.no_proxy)}
        client = Client(patience=PATIENCE, say=world.say, proxies=proxies)
    folder = world.path(FETCHED)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    cache = Cache(folder, client, patience=PATIENCE)
    try:
        if asked.source.startswith(TEMPLATE):
            return _by_template(world, vm, asked.source.removeprefix(TEMPLATE), cache)
        return _by_address(world, vm, asked.source, cache)
    except HyperError as error:
        if error.code is Exit.consent:
            error.remedy = "Name the image's URL and `image_sha256` in the answers instead."
        if error.code is not Exit.fetch:
            raise
        raise TransientError(error.what, why=error.why, remedy=error.remedy, code=error.code) from error


def _by_template(world: World, vm: HandoffVm, name: str, cache: Cache) -> tuple[Path, str]:
    one = template(name, FOLDER, world.path(str(OWN_FOLDER)))
    architecture = platform.machine()
    kind = one.source(architecture).format
    if kind != vm.image_format:
        raise HyperError(
            f"The image of VM {vm.name} has another format than the answers say.",
            why=f"image_format is {vm.image_format}, the image of template {name} is {kind}",
            remedy=f"Mend image_format in the answers, or make the guest by hand: `hv vm create '{vm.name}' --template {name}`.",
        )
    image = fetch(one, architecture, cache, world.programs, say=world.say, progress=_progress(world))
    return image.path, image.sha256


def _by_address(world: World, vm: HandoffVm, url: str, cache: Cache) -> tuple[Path, str]:
    gone_on = cache.begun(url)
    world.say(f"fetching {url}{', from where it stopped' if gone_on else ''}")
    path = cache.fetch(url, _progress(world))
    found = digest(path, "sha256")
    if found == vm.image_sha256:
        world.say(f"{path.name}: SHA-256 as the answers say")
        return path, found
    cache.forget(url)
    # What a power cut left of a part may be damaged: that is no judgement of the server's file.
    kind = TransientError if gone_on else HyperError
    raise kind(
        f"The image of VM {vm.name} is not the one that was asked for.",
        why=f"SHA-256 of what {url} gave is {found}, the answers say {vm.image_sha256}; it was taken away",
        remedy="See with whoever offers it which is right.",
    )


def _progress(world: World) -> Progress:
    told = 0

    def progress(there: int, total: int | None) -> None:
        nonlocal told
        world.remaining()
        if total and (now := there * STEPS // total) > told:
            told = now
            world.say(f"{there} of {total} bytes are here")

    return progress
