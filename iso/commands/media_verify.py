"""Manifests, signatures and lists of contents: `hv media verify`, `manifest`, `sbom`."""

import argparse
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from installer import embed
from installer.errors import Exit, HyperError
from iso import manifest as manifests
from iso import packs
from iso import sbom as lists
from iso import signature as signatures
from iso.carrier import examine
from iso.commands.media_content import listed
from iso.commands.media_pack import listed as pack_lines
from iso.contents import read
from iso.embedding import area_of, embedded
from iso.image import opened


def verify(options: argparse.Namespace) -> int:
    """Check the area, and with a manifest the rest; with signers who signed it."""
    signed_by = None
    manifest = None
    if options.manifest:
        content = read(options.manifest)
        if options.signers:
            signed_by = signer(options.manifest, content, options.signers)
        manifest = manifests.read(content)
    elif options.signers:
        raise HyperError(
            "nothing signed was named",
            why="signers sign manifests",
            remedy="name the image's manifest too: --manifest",
            code=Exit.usage,
        )
    with opened(options.image) as image:
        carrier = examine(image)
        content_ = embedded(image, carrier)
        untouched = manifests.check(image, manifest) if manifest else None
        area = area_of(image, carrier)
        added = packs.of_image(image)
        for pack in added:
            packs.check(image, pack)
    payload = embed.payload_digest(area) if area and content_.files else None
    payload_by = (
        signatures.payload_signer(content_, options.payload_signers) if options.payload_signers else None
    )
    if options.json:
        told = {
            "version": 1,
            "image": str(options.image),
            "files": len(content_.files),
            "manifest": manifest is not None,
            "as_built": untouched,
            "signed_by": signed_by,
            "payload_sha256": payload,
            "payload_signed_by": payload_by,
            "packs": [
                {"systems": [each.name for each in pack.closures], "sha256": pack.sha256.hex()}
                for pack in added
            ],
        }
        print(json.dumps(told))
        return Exit.ok
    print(f"{options.image}: the embed area is whole")
    for line in listed(content_, carrier):
        print(f"  {line}")
    if payload:
        print(f"  SHA-256 of what is embedded: {payload}")
    if payload_by:
        print(f"  what is embedded is signed by {payload_by}")
    elif embed.SIGNATURE in content_.files:
        print("  its signature was not checked: name --payload-signers")
    for line in pack_lines(added):
        print(line)
    if manifest and any(pack.after > manifest["size"] for pack in added):
        print("  these were added later: whole, and nothing that the manifest tells of")
    if manifest is None:
        print("  the rest was not checked: no manifest was named")
    else:
        print("  the rest is as in the manifest" + (", and nothing was put in" if untouched else ""))
        print(
            f"  signed by {signed_by}"
            if signed_by
            else "  the manifest's signature was not checked: no signers named"
        )
    return Exit.ok


def signer(path: Path, content: bytes, signers: Path) -> str:
    """Who signed a file beside which its signature is (`.sig`). Raises HyperError (Exit.medium)."""
    signature = path.with_name(path.name + ".sig")
    if not signature.is_file():
        raise manifests.refused(f"there is no {signature}", "fetch the signature too")
    found = signatures.signer(content, read(signature), signers, manifests.NAMESPACE)
    if found is not None:
        return found
    raise manifests.refused(
        f"the signature of {path} is by none of {signers}, or does not fit",
        f"get both anew; it is made by `ssh-keygen -Y sign -n {manifests.NAMESPACE} -f KEY {path.name}`",
    )


def manifest(options: argparse.Namespace) -> int:
    """Write the manifest, and sign it."""
    with opened(options.image) as image:
        made = manifests.make(image)
    target = options.output or options.image.with_name(options.image.name + ".manifest.json")
    _put(target, manifests.text(made))
    sums = target.with_name("SHA256SUMS") if options.sums else None
    if sums:
        _put(sums, f"{made['sha256']}  {options.image.name}\n".encode())
    print(
        f"{target}: {made['size']} bytes, {len(made['files'])} files, {len(made['regions'])} places that may change"
    )
    if options.key:
        signature = target.with_name(target.name + ".sig")
        signature.unlink(missing_ok=True)
        words = ["-Y", "sign", "-n", manifests.NAMESPACE, "-f", str(options.key), str(target)]
        done = signatures.ssh_keygen(words)
        if done.returncode:
            raise HyperError(
                "the manifest was not signed",
                why=done.stderr.decode(errors="replace").strip(),
                remedy="name a private SSH key, or one that an agent has, with its .pub file",
            )
        print(f"{signature}: signed with {options.key}")
    return Exit.ok


def sbom(options: argparse.Namespace) -> int:
    """Print or write the list of contents."""
    if options.image.is_file() and options.image.name.startswith(lists.REGISTRATION):
        paths = lists.from_file(options.image)
    else:
        with opened(options.image) as image:
            paths = lists.from_image(image)
    when = build_time()
    made = (lists.spdx if options.format == "spdx" else lists.cyclonedx)(paths, options.image.name, when)
    text = json.dumps(made, indent=1) + "\n"
    if options.output:
        _put(options.output, text.encode())
        print(f"{options.output}: {len(paths)} store paths")
    else:
        print(text, end="")
    return Exit.ok


def build_time() -> str:
    """SOURCE_DATE_EPOCH, else now."""
    import os

    stamp = datetime.now(UTC)
    with suppress(KeyError, ValueError):
        stamp = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    return stamp.strftime("%Y-%m-%dT%H:%M:%SZ")


def _put(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise HyperError(
            f"{path} cannot be written",
            why=error.strerror or str(error),
            remedy="name another with --output",
        ) from error


RUN = {"verify": verify, "manifest": manifest, "sbom": sbom}
"""What each verb runs."""
