"""Install media: embedding, copying, repacking, writing and reading back."""

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import nullcontext
from math import inf
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from installer.answers.sizes import GIB, MIB
from iso.carrier import examine
from iso.contents import Content
from iso.embedding import change
from iso.image import opened
from iso.patches import apply, copy
from iso.stick_writer import Course, DirectDevice, Source, marks, read_back, write
from tests.bench.contest import Result
from tests.bench.throttled import UnthrottledError, throttled
from tests.media import fixture

STICK = 1_000_000_000
"""Bytes a second: about what a link of USB 3.2 Gen 2 carries (10 Gbit/s), and more than sticks write."""
IN_PLACE = 0.05
"""Seconds that embedding in place may take."""
CONTENT = Content(
    {"answers.toml": b"version = 1\n" * 200, "authorized_keys": b"ssh-ed25519 AAAA\n"}, ("a.b=c",)
)


def rounds(many: int, *sides: Callable[[], object]) -> list[tuple[float, ...]]:
    """Seconds of each side in each round, in turn; the first round is not counted."""
    times: list[list[float]] = [[] for _ in sides]
    for number in range(many + 1):
        for side, taken in zip(sides, times, strict=True):
            start = time.perf_counter()
            side()
            if number:
                taken.append(time.perf_counter() - start)
    return [tuple(each) for each in times]


def run(*argv: str | Path) -> None:
    """A program of theirs."""
    subprocess.run([str(word) for word in argv], check=True, capture_output=True)


def put(path: Path, content: Content, output: Path | None = None) -> None:
    """Embed, in place or into a copy."""
    with opened(path) as image:
        made = change(image, examine(image), content)
    if output:
        copy(path, output, made.patches)
    else:
        apply(path, made.patches)


def both(path: Path) -> Callable[[], None]:
    """Put something in, and take it out."""

    def change_twice() -> None:
        put(path, CONTENT)
        put(path, Content({}))

    return change_twice


def measure() -> list[Result]:
    """Every contest of media. Needs root for the one that writes to a loop device; without, it is left out."""
    results = []
    with TemporaryDirectory(prefix="hv-bench-") as made:
        folder = Path(made)
        small = fixture.build(fixture.STYLES["ours"], folder / "small.iso")
        large = fixture.build(fixture.STYLES["ours"], folder / "large.iso", padding=2 * GIB)
        # Twice in a round: in, and out again.
        in_large, in_small = rounds(15, both(large), both(small))
        results.append(Result("embed 2 GiB : small", in_large, in_small, 2.0))
        halves = tuple(each / 2 for each in in_large)
        results.append(Result("embed 2 GiB : 50 ms", halves, (IN_PLACE,) * len(halves), 1.0))
        copied, cp = rounds(
            3,
            lambda: put(large, CONTENT, folder / "ours.iso"),
            lambda: run("cp", large, folder / "theirs.iso"),
        )
        results.append(Result("embed to a new : cp", copied, cp, 1.1))
        (folder / "theirs.iso").unlink()
        (folder / "file").write_bytes(b"x" * 4096)
        again = ("-boot_image", "any", "replay", "-map", folder / "file", "/hyper-nixos/file")

        def repack() -> None:
            (folder / "theirs.iso").unlink(missing_ok=True)
            run("xorriso", "-indev", large, "-outdev", folder / "theirs.iso", *again)

        ours, theirs = rounds(2, lambda: put(large, CONTENT, folder / "ours.iso"), repack)
        results.append(Result("embed : xorriso repacks", ours, theirs, 1.0))
        for name in ("ours.iso", "theirs.iso"):
            (folder / name).unlink()
        if os.geteuid() == 0:
            try:
                results.append(_stick("stick : dd, dd", folder, large, STICK))
            except UnthrottledError as error:
                print(f"stick: not measured, as no loop device can be held to its speed ({error})")
            results.append(_stick("in memory : dd, dd", folder, large, None))
    return results


def _stick(name: str, folder: Path, image: Path, speed: int | None) -> Result:
    """Write and read back, against dd that writes and reads the same; held to a speed, or as fast as memory."""
    size = image.stat().st_size
    backing = folder / "stick"
    with backing.open("wb") as file:
        file.truncate(size + 64 * MIB)
    done = subprocess.run(
        ["losetup", "--find", "--show", backing], capture_output=True, text=True, check=True
    )
    device = Path(done.stdout.strip())

    def nothing(_: Course) -> None:
        """Nobody watches."""

    def ours() -> None:
        target = DirectDevice(device)
        descriptor = os.open(image, os.O_RDONLY)
        try:
            source = Source(descriptor, size, ())
            written = marks(target.size, source)
            write(target, source, nothing, written)
            read_back(target, source, nothing, written)
        finally:
            os.close(descriptor)
            target.close()

    def theirs() -> None:
        run("dd", f"if={image}", f"of={device}", "bs=4M", "oflag=direct", "conv=fsync")
        run("dd", f"if={device}", "of=/dev/null", "bs=4M", "iflag=direct,count_bytes", f"count={size}")

    try:
        with throttled(device, speed) if speed else nullcontext():
            mine, dd = rounds(5 if speed else 15, ours, theirs)
    finally:
        run("losetup", "--detach", device)
        backing.unlink()
    return Result(name, mine, dd, 1 / 0.95 if speed else inf)


def told(results: list[Result]) -> str:
    """A sentence about what is in no table."""
    return f"embedding in place takes {1000 * median(results[1].ours):.1f} ms on an image of 2 GiB"


if __name__ == "__main__":
    for each in measure():
        print(
            each.name,
            f"{median(each.ours):.4f} {median(each.theirs):.4f} {each.ratio:.2f} goal {each.goal:.2f}",
        )
