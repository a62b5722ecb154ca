"""`append-initrd-secrets`: puts files of the host behind an initial RAM disk, in an archive of their own.

Stage 1 finds them below /.initrd-secrets (nixos/modules/system/boot/systemd/initrd-secrets.nix).
"""

import sys
from pathlib import Path

from .initrd import Archive


def main(image: Path, secrets: list[str]) -> None:
    """Add them."""
    with image.open("ab") as stream:
        # An archive begins at a multiple of four bytes (kernel doc, driver-api/early-userspace/buffer-format).
        stream.write(b"\0" * (-stream.tell() % 4))
        archive = Archive(stream)
        for path in secrets:
            archive.file(f"/.initrd-secrets{path}", Path(path).read_bytes())
        archive.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
