"""What the live medium carries: `/etc/hyper-nixos/medium.json`, read before planning."""

from typing import Any, ClassVar

from pydantic import Field, JsonValue

from installer.frozen import Frozen, Sparse

MEDIUM_PATH = "/etc/hyper-nixos/medium.json"
PACKS_PATH = "/run/hyper-nixos/packs.json"
"""Ready closures that were added behind the medium (iso/pack_mounts.py): a list, there only where there are some."""


class FlakeSource(Frozen):
    """One flake input: where a rendered host finds it later, and the copy that the medium holds."""

    url: str
    """The reference written into the host's flake.nix, e.g. `github:NixOS/nixpkgs/nixos-26.05`."""
    locked: dict[str, JsonValue]
    """The `locked` node of flake.lock (type, owner, repo, rev, lastModified, narHash, or type=path, path, narHash)."""
    original: dict[str, JsonValue]
    """The `original` node of flake.lock that `url` stands for."""
    store_path: str
    """The source in the medium's store, `/nix/store/…-source`; Nix takes it when `narHash` fits, without a network."""


class ReadyClosure(Sparse):
    """A system that was built beforehand, for hosts that need no evaluation."""

    sparse: ClassVar[frozenset[str]] = frozenset(("tier", "modules"))

    name: str
    """What answers call it (`system.closure`)."""
    toplevel: str
    """`/nix/store/…-nixos-system-…`."""
    cache: str | None = None
    """A binary cache that holds it, e.g. `file:///payload/cache`; none when it is in the medium's own store."""
    nar_size: int = Field(ge=0)
    """Bytes of the whole closure, unpacked (`nix path-info -S`)."""
    tier: str | None = None
    """It is for any host of this tier, which finds its own data in files; none: for the one host it was rendered for."""
    modules: tuple[str, ...] = ()
    """With a tier: the kernel modules that its stage 1 can load."""


class Medium(Sparse):
    """The medium's own description of itself."""

    sparse: ClassVar[frozenset[str]] = frozenset(("sources_only",))

    version: int = 1
    """Format of this file."""
    label: str
    """What people call this medium, e.g. `Hyper-NixOS 0.1.0`."""
    release: str
    """NixOS release that hosts are made for, `26.05`; becomes `system.stateVersion`."""
    system: str = "x86_64-linux"
    """Nix system double of hosts."""
    nixpkgs: FlakeSource
    """The nixpkgs that hosts are pinned to."""
    hyper_nixos: FlakeSource
    """Our flake, with the NixOS modules."""
    estimated_closure: int = Field(ge=0)
    """Bytes that a standard host's closure needs on the target, used to say how large a disk must be."""
    closures: tuple[ReadyClosure, ...] = ()
    """Systems ready to be installed without evaluation."""
    sources_only: bool = False
    """Whether it carries the sources of hosts' own systems without what these are built of: building needs a cache."""
    images: dict[str, str] = {}
    """Guest images on the medium, name to path; first-run VMs name them (`image = "medium:NAME"`)."""


RELEASE = "26.05"
"""The release that media of this version are built from; the flake has it too, and a test compares."""


def assumed(system: str) -> Medium:
    """A medium of this version where none is at hand, to try with and not to install from: no revision of its sources is
    known, and neither ready systems nor images are on it.

    Args:
        system: Nix system double of the machine.
    """
    unknown = "/nix/store/00000000000000000000000000000000-source"

    def source(url: str) -> FlakeSource:
        return FlakeSource(url=url, locked={}, original={}, store_path=unknown)

    return Medium(
        label="a medium of this version",
        release=RELEASE,
        system=system,
        nixpkgs=source(f"github:NixOS/nixpkgs/nixos-{RELEASE}"),
        hyper_nixos=source("path:/etc/hyper-nixos/flake"),
        estimated_closure=1 << 30,
    )


def flake_lock(medium: Medium) -> dict[str, Any]:
    """The host's flake.lock (version 7, see `nix flake lock` in the Nix manual) for the two inputs."""
    return {
        "version": 7,
        "root": "root",
        "nodes": {
            "root": {"inputs": {"hyper-nixos": "hyper-nixos", "nixpkgs": "nixpkgs"}},
            "nixpkgs": {"locked": medium.nixpkgs.locked, "original": medium.nixpkgs.original},
            "hyper-nixos": {
                "inputs": {"nixpkgs": ["nixpkgs"]},
                "locked": medium.hyper_nixos.locked,
                "original": medium.hyper_nixos.original,
            },
        },
    }
