"""`hv media netboot` and `serve`: boot over the network."""

import argparse
import functools
import io
import os
import re
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

from installer.answers.sizes import format_size
from installer.errors import Exit, HyperError
from iso import netboot
from iso.commands.media_content import HIDDEN, wanted


def lay_out(options: argparse.Namespace) -> int:
    """Make a folder to be served."""
    found = netboot.read(options.image)
    content = wanted(options)
    if options.ipxe and not options.ipxe.is_file():
        raise HyperError(
            f"{options.ipxe} is no file",
            why="it should be iPXE as an EFI program",
            remedy="name ipxe.efi of the package ipxe (Debian: /usr/lib/ipxe/snponly.efi)",
            code=Exit.usage,
        )
    store = netboot.Store(options.store) if options.store else None
    made = netboot.lay_out(
        found, Path(options.output), options.url, content, loader=options.ipxe, wanted=store
    )
    print(f"{options.output}: {', '.join(made.names)}")
    where = "is in the RAM disk" if made.store is netboot.Store.ram_disk else "is fetched in stage 1"
    print(f"  the store {where}; machines need at least {format_size(made.memory)} of memory")
    if made.store is netboot.Store.ram_disk and made.memory > 2 * netboot.RAM_DISK_MOST + netboot.BESIDE:
        print("  so large a RAM disk is more than a BIOS takes: --store fetched")
    print(
        f"  serve it: hv media serve {options.output}, and lead machines to {options.url.rstrip('/')}/{netboot.OURS}"
    )
    if any(name.startswith(HIDDEN[0]) for name in content.files) and options.url.startswith("http:"):
        print("  whoever is on that network can read the secrets: wrap them (--recipient, --passphrase)")
    return Exit.ok


class _Handler(SimpleHTTPRequestHandler):
    """Files of a folder, and nothing else: no listing, no hidden files. A file from some byte on, for fetching that goes on
    after an interruption (RFC 9110, 14).
    """

    protocol_version = "HTTP/1.1"

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        """As the class it comes from has it, but for a range up to the end."""
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if wanted is None or not path.is_file():
            return super().send_head()
        start = int(wanted[1])
        try:
            file = path.open("rb")
        except OSError:
            self.send_error(404)
            return None
        size = os.fstat(file.fileno()).st_size
        if start >= size:
            file.close()
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        file.seek(start)
        self.send_response(206)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        return file

    def list_directory(self, path: object) -> None:
        """Nothing is listed."""
        del path
        self.send_error(404)

    def log_message(self, format: str, *words: object) -> None:  # noqa: A002 -- as the class it comes from has it
        """A line each, on standard output."""
        print(f"{self.address_string()} {format % words}".translate(_PLAIN), flush=True)


_RANGE = re.compile(r"bytes=(\d{1,18})-")
_PLAIN = {code: f"\\x{code:02x}" for code in (*range(32), 127)}


def serve(options: argparse.Namespace) -> int:
    """Serve a folder until stopped."""
    if not (options.image / netboot.OURS).is_file():
        raise HyperError(
            f"{options.image} is not served",
            why=f"there is no {netboot.OURS} in it",
            remedy="make it: `hv media netboot`",
            code=Exit.medium,
        )
    host, _, port = options.listen.rpartition(":")
    handler = functools.partial(_Handler, directory=str(options.image))
    try:
        server = ThreadingHTTPServer((host.strip("[]"), int(port)), handler)
    except (OSError, ValueError, OverflowError) as error:
        raise HyperError(
            f"it cannot listen at {options.listen}",
            why=str(error),
            remedy="write --listen ADDRESS:PORT, with an address of this computer",
            code=Exit.usage,
        ) from error
    shown = f"http://{host}:{server.server_address[1]}"
    print(f"{shown}/{netboot.OURS}\n", flush=True)
    loads = (options.image / netboot.LOADER).is_file()
    print(netboot.dnsmasq(shown, options.image if loads else None), flush=True)
    if loads:
        print(netboot.http_boot(shown), flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    finally:
        server.server_close()
    return Exit.ok


RUN = {"netboot": lay_out, "serve": serve}
"""What each verb runs."""
