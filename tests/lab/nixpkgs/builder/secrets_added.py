"""`append-initrd-secrets`: puts files of the host behind an initial RAM disk, in an archive of their own.

Stage 1 finds them below /.initrd-secrets (nixos/modules/system/boot/systemd/initrd-secrets.nix). As nixpkgs does it, the
archive is compressed like what it stands behind.
"""

import io
import subprocess
import sys
from pathlib import Path

from .initrd import Archive


def main(image: Path, secrets: list[str]) -> None:
    """Add them."""
    plain = io.BytesIO()
    archive = Archive(plain)
    for path in secrets:
        archive.file(f"/.initrd-secrets{path}", Path(path).read_bytes())
    archive.close()
    packed = subprocess.run(("zstd", "-q", "-3"), input=plain.getvalue(), capture_output=True, check=True)
    with image.open("ab") as stream:
        stream.write(packed.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
