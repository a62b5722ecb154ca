"""Builds the fixture's kernel (kernel.c, setup.S) with the compiler that is here."""

import subprocess
import tempfile
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent


def _run(*argv: str | Path) -> None:
    subprocess.run([str(word) for word in argv], check=True, capture_output=True, cwd="/")


@cache
def kernel() -> bytes:
    """The bzImage."""
    with tempfile.TemporaryDirectory() as made:
        elf, flat, setup, head = (Path(made, name) for name in ("elf", "flat", "setup.o", "head"))
        _run(
            *("cc", "-m32", "-Os", "-ffreestanding", "-nostdlib", "-static", "-fno-pie", "-no-pie"),
            *("-fno-stack-protector", "-fcf-protection=none", "-fno-asynchronous-unwind-tables"),
            *("-mgeneral-regs-only", "-Wl,--build-id=none", "-Wl,-T", HERE / "kernel.ld"),
            *("-o", elf, HERE / "kernel.c"),
        )
        _run("objcopy", "-O", "binary", elf, flat)
        body = flat.read_bytes()
        body += bytes(-len(body) % 16)
        _run("cc", "-m32", "-c", f"-DSECTIONS={len(body) // 16}", "-o", setup, HERE / "setup.S")
        _run("ld", "-m", "elf_i386", "-Ttext", "0", "-e", "0", "--oformat", "binary", "-o", head, setup)
        start = head.read_bytes()
    assert len(start) == 5 * 512
    assert start[0x202:0x206] == b"HdrS"
    return start + body
