"""`hv media build`: drives Nix, and writes what is said of the image."""

import argparse
import json
import os
import shutil
import sys

from installer.errors import Exit, HyperError
from iso import manifest, nix_build, sbom
from iso.commands.media_verify import build_time
from iso.image import opened

PROCESSORS = ("x86_64", "aarch64")


def build(options: argparse.Namespace) -> int:
    """Build it."""
    nix = nix_build.find_nix()
    installable = f"{options.flake}#packages.{options.arch}-linux.{options.kind}"
    terminal = sys.stderr.isatty()

    def tell(words: str) -> None:
        print(
            f"\r\x1b[K{words[:78]}" if terminal else words,
            end="" if terminal else "\n",
            file=sys.stderr,
            flush=True,
        )

    print(f"building {installable}", file=sys.stderr, flush=True)
    result = nix_build.build(nix, installable, tell, ("--offline",) if options.offline else ())
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


RUN = {"build": build}
"""What the verb runs."""
