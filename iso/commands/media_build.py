"""`hv media build`: drives Nix, and writes what is said of the image; or fetches what was published."""

import argparse
import json
import os
import shutil
import sys

from installer.answers.sizes import format_size
from installer.download import Cache, cache_folder
from installer.errors import Exit, HyperError
from iso import manifest, nix_build, published, sbom
from iso.commands.media_verify import build_time
from iso.image import opened

PROCESSORS = ("x86_64", "aarch64")


def attribute(options: argparse.Namespace) -> str:
    """What of the flake is built. Raises HyperError (Exit.usage) for what a medium cannot have."""
    place = f"{options.arch}-linux"
    if options.kind in ("raw", "qcow2") and options.compression != "default":
        raise HyperError(
            f"--compression {options.compression} does not go with {options.kind}",
            why="a disk image has no squashfs: its files are written to",
            remedy="leave it out, or build iso, netboot or kexec",
            code=Exit.usage,
        )
    if options.tier and options.kind != "iso":
        raise HyperError(
            f"--tier {options.tier} does not go with {options.kind}",
            why="only the ISO image carries ready systems",
            remedy="leave it out, or build iso",
            code=Exit.usage,
        )
    if "#" in options.flake:
        raise HyperError(
            f"--flake {options.flake} cannot be used",
            why="what is behind a # names what is built, and that follows from the kind of medium",
            remedy=f"leave it out: --flake {options.flake.partition('#')[0] or '.'}",
            code=Exit.usage,
        )
    if options.compression == "default" and not options.tier:
        return f"packages.{place}.{options.kind}"
    name = f"iso-with-{options.tier}" if options.tier else options.kind
    return f"legacyPackages.{place}.media.{options.compression}.{name}"


def there(builders: list[str]) -> tuple[str, ...]:
    """Nix's options for building on other machines, and on none but them. Raises HyperError (Exit.usage)."""
    if not builders:
        return ()
    if not all(each.strip() for each in builders):
        raise HyperError(
            "--builder names no machine",
            why="it is empty",
            remedy="name one as nix.conf's `builders` does, e.g. --builder 'ssh-ng://builder x86_64-linux'",
            code=Exit.usage,
        )
    return (
        "--builders",
        " ; ".join(builders),
        "--max-jobs",
        "0",
        "--option",
        "builders-use-substitutes",
        "true",
    )


def build(options: argparse.Namespace) -> int:
    """Build it, or fetch what was published."""
    if options.published:
        return fetch(options)
    if options.signers:
        raise HyperError(
            "--signers goes with --published alone",
            why="what is built here is signed by nobody yet",
            remedy="leave it out, or name what was published: --published URL",
            code=Exit.usage,
        )
    installable = f"{options.flake}#{attribute(options)}"
    more = ("--offline",) if options.offline else ()
    more = (*more, *there(options.builder))
    nix = nix_build.find_nix(installable)
    terminal = sys.stderr.isatty()

    def tell(words: str) -> None:
        print(
            f"\r\x1b[K{words[:78]}" if terminal else words,
            end="" if terminal else "\n",
            file=sys.stderr,
            flush=True,
        )

    print(f"building {installable}", file=sys.stderr, flush=True)
    result = nix_build.build(nix, installable, tell, more)
    if terminal:
        print(file=sys.stderr)
    if options.output is None:
        print(result)
        return Exit.ok
    source = nix_build.image_in(result)
    try:
        shutil.copyfile(source, options.output)
        os.chmod(options.output, 0o644)  # noqa: PTH101
    except OSError as error:
        raise HyperError(
            f"{options.output} cannot be written",
            why=error.strerror or str(error),
            remedy=f"the image is {source}; copy it elsewhere",
        ) from error
    print(f"{options.output}: from {source}")
    if source.suffix == ".qcow2":
        return Exit.ok
    facts = {
        "built": {
            "installable": installable,
            "store_path": str(result),
            **nix_build.inputs(nix, options.flake),
        }
    }
    with opened(options.output) as image:
        made = manifest.make(image, facts)
        target = options.output.with_name(options.output.name + ".manifest.json")
        target.write_bytes(manifest.text(made))
        options.output.with_name("SHA256SUMS").write_text(f"{made['sha256']}  {options.output.name}\n")
        print(f"{target}: {len(made['files'])} files")
        if made["label"]:
            paths = sbom.from_image(image)
            for name, kind in (("spdx", sbom.spdx), ("cdx", sbom.cyclonedx)):
                listed = options.output.with_name(f"{options.output.name}.{name}.json")
                listed.write_text(
                    json.dumps(kind(paths, options.output.name, build_time()), indent=1) + "\n"
                )
                print(f"{listed}: {len(paths)} store paths")
    return Exit.ok


def fetch(options: argparse.Namespace) -> int:
    """Fetch it. Raises HyperError."""
    wanted = attribute(options)
    lacking = [name for name in ("output", "signers") if getattr(options, name) is None]
    needless = [name for name in ("builder", "offline") if getattr(options, name)]
    if lacking or needless:
        raise HyperError(
            f"--published does not go {'without' if lacking else 'with'} --{(lacking + needless)[0]}",
            why="what is fetched is checked by whose signature it has, and written somewhere"
            if lacking
            else "nothing is built",
            remedy="hv media build --published URL --signers FILE --output NAME.iso",
            code=Exit.usage,
        )
    cache = Cache(cache_folder().with_name("media"))
    found = published.look(options.published, options.signers, cache)
    built = str(found.told.get("built", {}).get("installable", "")).partition("#")[2]
    if built and built != wanted:
        raise HyperError(
            f"{found.url} is not the medium that was asked for",
            why=f"its manifest says {built}, and asked for was {wanted}",
            remedy="name another image, or what this one is: KIND, --arch, --compression, --tier",
            code=Exit.usage,
        )
    terminal, last = sys.stderr.isatty(), [-1]

    def tell(there: int, total: int | None) -> None:
        tenth = there * 10 // total if total else there >> 26
        if terminal or tenth != last[0]:
            last[0] = tenth
            words = format_size(there) + (f" of {format_size(total)}" if total else "")
            print(f"\r\x1b[K{words}" if terminal else words, end="" if terminal else "\n", file=sys.stderr)

    published.fetch(found, options.output, cache, tell)
    if terminal:
        print(file=sys.stderr)
    print(f"{options.output}: from {found.url}, as {found.by} signed it")
    return Exit.ok


RUN = {"build": build}
"""What the verb runs."""
