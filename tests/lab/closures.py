"""A host's system built beforehand, on this machine, and put into a binary cache on a disk image."""

import json
import re
import sys
from pathlib import Path

from installer.medium import Medium, ReadyClosure
from tests.lab import cache, layers
from tests.lab.command import remove_tree, run
from tests.lab.paths import REPOSITORY

MOUNT = "/payload"
"""Where the live system mounts the image."""


def ready(
    hostname: str,
    answers: Path,
    facts: Path,
    scratch: Path,
    *,
    image: tuple[str, ...] | None = None,
    zfs: Path | None = None,
) -> tuple[Path, Medium]:
    """Build the system that the answers make of a machine.

    Args:
        hostname: Of the host.
        answers: What is wanted.
        facts: The machine.
        scratch: A folder for what is in between.
        image: For a disk image: options of `hv media host`, which renders it instead.
        zfs: What the lab has of ZFS (zfs.py), for a host that uses it.

    Returns:
        A squashfs image with the cache in it, and what the live system needs of ZFS; and the medium's description with the
        closure added.
    """
    code = layers.code()
    rendered = scratch / "rendered"
    stand_in = scratch / "flake-answers.toml"
    # What is rendered does not depend on where the system comes from; a plan for a closure wants to know it already.
    stand_in.write_text(re.sub(r"(?m)^(source|closure) = .*$", "", answers.read_text()))
    given: list[str | Path] = ["--medium", code / "medium.json", "--render", rendered]
    if image is None:
        words: list[str | Path] = ["install", "--answers", stand_in, "--facts", facts, *given]
    else:
        words = ["media", "host", stand_in, *image, *given]
    run(["env", "-C", REPOSITORY, sys.executable, "-m", "hv", *words])
    content = cache.key(code.name, rendered, *([zfs.parent.name] if zfs else []))
    folder = cache.built("closure", content, lambda into: _build(into, rendered, hostname, zfs))
    remove_tree(rendered)
    built = json.loads((folder / "closure.json").read_text())
    medium = Medium.model_validate_json((code / "medium.json").read_bytes())
    closure = ReadyClosure(
        name=hostname,
        toplevel=built["toplevel"],
        cache=f"file://{MOUNT}/cache",
        nar_size=built["closureSize"],
    )
    return folder / "payload.squashfs", medium.model_copy(update={"closures": (closure,)})


def _build(into: Path, rendered: Path, hostname: str, zfs: Path | None) -> None:
    upper = into / "upper"
    upper.mkdir()
    run(["cp", "-a", f"{layers.code() / 'tree'}/.", upper], root=True)
    tree = into / "tree"
    tree.mkdir()
    attribute = f'path:{rendered}#nixosConfigurations."{hostname}".config.system.build.toplevel'
    with layers.Overlay(layers.base() / "tree", upper, into) as root:
        command: list[str | Path] = ["nix", "build", "--no-link", "--print-out-paths", attribute]
        if zfs:
            path = root.run("nix", "store", "add-path", "--name", "openzfs", zfs).strip()
            # The stand-in for nixpkgs reads it (nixpkgs/system.nix).
            command = ["env", f"LAB_ZFS={path}", *command, "--impure"]
        toplevel = root.run(*command).strip()
        root.run("nix", "copy", "--to", f"file://{tree}/cache?compression=none", toplevel)
        info = json.loads(root.run("nix", "path-info", "--json", "--closure-size", toplevel))[toplevel]
    (into / "closure.json").write_text(
        json.dumps({"toplevel": toplevel, "closureSize": info["closureSize"]})
    )
    if zfs:
        run(["cp", "-a", "--no-preserve=ownership", zfs, tree / "zfs"], root=True)
    layers.squash(tree, into / "payload.squashfs")
    run(["rm", "-rf", upper, tree], root=True)
