"""What is embedded in a medium: shown, changed, compared, taken out."""

import argparse
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from installer import embed
from installer.answers.sizes import format_size
from installer.errors import Exit, HyperError
from iso import contents
from iso.carrier import Carrier, Kind, examine
from iso.contents import Content
from iso.embedding import Change, change, embedded
from iso.image import Image, opened
from iso.login import FOLDER
from iso.patches import apply, copy, stream

HIDDEN = (f"{embed.SECRETS}/", embed.WRAPPED)


def show(options: argparse.Namespace) -> int:
    """Show it."""
    with opened(options.image) as image:
        carrier = examine(image)
        content = embedded(image, carrier)
    answers = redacted(content.files) if options.answers else None
    if options.json:
        told = {
            "version": 1,
            "image": str(options.image),
            "kind": carrier.kind,
            "label": carrier.volume.label if carrier.volume else None,
            "has_area": carrier.area is not None,
            "kernel_arguments": list(content.arguments),
            "boot_configurations": [pad.place for pad in carrier.pads],
            "files": [
                {"name": name, "size": len(data)}
                | ({} if name.startswith(HIDDEN) else {"sha256": hashlib.sha256(data).hexdigest()})
                for name, data in content.files.items()
            ],
            **({"answers": answers} if options.answers else {}),
        }
        print(json.dumps(told, indent=2))
        return Exit.ok
    label = f" {carrier.volume.label}" if carrier.volume else ""
    print(f"{options.image}: {carrier.kind}{label}, {format_size(image.size)}")
    for line in listed(content, carrier):
        print(f"  {line}")
    if answers:
        print(f"\n{answers}", end="")
    return Exit.ok


def listed(content: Content, carrier: Carrier) -> list[str]:
    """What is embedded, a line each."""
    lines = [f"{name:<28} {len(data):>8} bytes" for name, data in content.files.items()]
    if carrier.area is None and carrier.kind is not Kind.initrd:
        lines.append("no place for answers")
    lines += [f"kernel argument {word}" for word in content.arguments]
    return lines or ["nothing embedded"]


def redacted(files: Mapping[str, bytes]) -> str | None:
    """The answers without what nobody else should see."""
    from installer.support.scrub import Scrub

    if embed.ANSWERS not in files:
        return None
    secrets = [data for name, data in files.items() if name.startswith(HIDDEN[0])]
    return Scrub(secrets)(files[embed.ANSWERS].decode("utf-8", "replace"))


def wanted(options: argparse.Namespace, kept: Content | None = None) -> Content:
    """What the command line names, checked. Raises HyperError."""
    # A signature is for exactly what it was made for.
    files = {name: data for name, data in kept.files.items() if name != embed.SIGNATURE} if kept else {}
    if options.folder:
        files |= contents.folder(options.folder)
    for name, path in ((embed.ANSWERS, options.answers), (embed.SIGNERS, options.signers)):
        if path:
            files[name] = contents.read(path)
    for name, paths in ((embed.KEYS, options.key), (embed.CA, options.ca)):
        if paths:
            files[name] = b"".join(contents.read(path).rstrip(b"\n") + b"\n" for path in paths)
    for place, paths in ((embed.NETWORK, options.network), (embed.HOOKS, options.hook)):
        files |= {f"{place}/{path.name}": contents.read(path) for path in paths}
    for pair in options.secret:
        name, equals, path = pair.partition("=")
        if not equals:
            raise contents.wrong(
                f"--secret {name} names no file", "it takes NAME=SECRET", f"write --secret {name}=FILE"
            )
        files[f"{embed.SECRETS}/{name}"] = contents.read(Path(path)).removesuffix(b"\n")
    arguments = tuple(options.kernel_argument) or (kept.arguments if kept else ())
    contents.check(files, arguments)
    content = Content(wrapped(files, options), arguments)
    if not options.sign:
        return content
    from iso.signature import sign

    return sign(content, options.sign)


def wrapped(files: dict[str, bytes], options: argparse.Namespace) -> dict[str, bytes]:
    """The same with secrets wrapped, where that was asked for."""
    if not options.recipient and not options.passphrase:
        return files
    from iso import age

    if options.recipient and options.passphrase:
        raise contents.wrong(
            "the secrets cannot be wrapped so",
            "age takes recipients or a passphrase, not both",
            "leave one of them away",
        )
    secrets = {name: data for name, data in files.items() if name.startswith(HIDDEN[0])}
    if not secrets:
        raise contents.wrong(
            "there is nothing to wrap", "no secret was named", "name secrets with --secret NAME=FILE"
        )
    inner = embed.archive(secrets)
    if options.passphrase:
        phrase = contents.read(options.passphrase).rstrip(b"\r\n")
        if not phrase:
            raise contents.wrong(
                "the passphrase is empty", f"{options.passphrase} has none", "write one into it"
            )
        sealed = age.wrap(inner, passphrase=phrase)
    else:
        sealed = age.wrap(inner, recipients=options.recipient)
    return {name: data for name, data in files.items() if name not in secrets} | {embed.WRAPPED: sealed}


def embed_into(options: argparse.Namespace) -> int:
    """Put it in."""
    with opened(options.image) as image:
        carrier = examine(image)
        content = wanted(options, embedded(image, carrier) if options.add else None)
        if not content.files and not content.arguments:
            raise contents.wrong(
                "nothing was named to embed",
                "no answers, key or other file was given",
                "name something (`hv media embed --help`), or take out what is there: `hv media reset`",
            )
        made = change(image, carrier, content)
        return _write(options, image, made, [*listed(content, carrier), *unfound(content)])


def unfound(content: Content) -> list[str]:
    """What answers refer to on the live system and is not in the medium: it may come from elsewhere, and mostly does not."""
    if embed.WRAPPED in content.files:
        return []
    named = _REFERENCES.findall(content.files.get(embed.ANSWERS, b"").decode("utf-8", "replace"))
    missing = [name for name in dict.fromkeys(named) if name not in content.files]
    return [f"the answers name {name}, which is not in the medium" for name in missing]


_REFERENCES = re.compile(rf"/{re.escape(FOLDER)}/((?:{embed.SECRETS}|{embed.HOOKS})/[A-Za-z0-9_.-]+)")


def reset(options: argparse.Namespace) -> int:
    """Take it out."""
    with opened(options.image) as image:
        made = change(image, examine(image), Content({}))
        return _write(options, image, made, ["as it was built"])


def _write(options: argparse.Namespace, image: Image, made: Change, lines: list[str]) -> int:
    if options.output == "-":
        if sys.stdout.isatty():
            raise contents.wrong(
                "an image is not shown on a terminal", "it is binary", "redirect the output: `> new.iso`"
            )
        stream(image, made.patches, sys.stdout.buffer.write, made.size)
        return Exit.ok
    target = options.image
    if options.output and not (
        Path(options.output).exists() and Path(options.output).samefile(options.image)
    ):
        target = Path(options.output)
        copy(options.image, target, made.patches, made.size)
    else:
        apply(options.image, made.patches, made.size)
    written = sum(len(patch.content) for patch in made.patches)
    print(f"{target}: {format_size(written)} changed, and read back")
    for line in lines:
        print(f"  {line}")
    return Exit.ok


def extract(options: argparse.Namespace) -> int:
    """Write it into a folder."""
    with opened(options.image) as image:
        content = embedded(image, examine(image))
    if not content.files:
        raise HyperError(
            f"nothing is embedded in {options.image}",
            why="its area is empty, or it has none",
            remedy="look at it: `hv media doctor`",
            code=Exit.nothing,
        )
    try:
        options.folder.mkdir(mode=0o700)
        for name, data in content.files.items():
            path = options.folder / name
            path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
    except OSError as error:
        raise HyperError(
            f"{options.folder} cannot be written",
            why=error.strerror or str(error),
            remedy="name a folder that does not exist yet",
        ) from error
    print(f"{options.folder}: {', '.join(content.files)}")
    return Exit.ok


def diff(options: argparse.Namespace) -> int:
    """Compare two. Ends with 1 when they differ, as diff(1) does."""
    import difflib

    left, right = (_either(path) for path in (options.image, options.other))
    names = sorted({*left.files, *right.files})
    different = False
    for name in names:
        one, two = left.files.get(name), right.files.get(name)
        if one == two:
            continue
        different = True
        if one is None or two is None:
            print(f"{name}: only in {options.other if one is None else options.image}")
        elif name.startswith((*HIDDEN, embed.NETWORK, embed.HOOKS, embed.HOST_KEYS)):
            print(f"{name}: differs")
        else:
            before, after = (
                (redacted({**of.files, embed.ANSWERS: data}) or "").splitlines()
                for data, of in ((one, left), (two, right))
            )
            titles = (f"{options.image}: {name}", f"{options.other}: {name}")
            print("\n".join(difflib.unified_diff(before, after, *titles, lineterm="")))
    for words, path in (
        (set(left.arguments) - set(right.arguments), options.image),
        (set(right.arguments) - set(left.arguments), options.other),
    ):
        for word in sorted(words):
            different = True
            print(f"kernel argument {word}: only in {path}")
    if not different:
        print("the same is embedded in both")
    return Exit.failed if different else Exit.ok


def _either(path: Path) -> Content:
    if path.is_dir():
        return Content(contents.folder(path))
    with opened(path) as image:
        return embedded(image, examine(image))


RUN = {
    "show": show,
    "embed": embed_into,
    "extract": extract,
    "diff": diff,
    "reset": reset,
}
"""What each verb runs."""
