"""A server of files as mirrors are: ranges, validators, and connections that break."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Mirror:
    """What it has and how it behaves; may change while it runs."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Path to content."""
    cuts: list[int] = field(default_factory=list)
    """After so many bytes the next answers break off, one each."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of each request."""
    versions: dict[str, int] = field(default_factory=dict)
    """Path to a number that its ETag has."""
    url: str = ""
    ranges: bool = True
    """Whether it begins in the middle when asked."""
    slow: threading.Event | None = None
    """When set, answers wait for it before their last byte."""


@contextmanager
def mirror() -> Iterator[Mirror]:
    """One at work until the block ends."""
    kept = Mirror()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            wanted = self.headers.get("Range")
            kept.asked.append((path, wanted))
            body = kept.files.get(path)
            if body is None:
                self.send_error(404)
                return
            tag = f'"{kept.versions.get(path, 0)}"'
            begin = 0
            if (
                wanted
                and kept.ranges
                and self.headers.get("If-Range", tag) == tag
                and (match := re.match(r"bytes=(\d+)-$", wanted))
            ):
                begin = int(match[1])
            if begin >= len(body) > 0:
                self.send_error(416)
                return
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
            self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(body) - begin))
            self.end_headers()
            rest = body[begin:]
            if kept.cuts:
                self.wfile.write(rest[: kept.cuts.pop(0)])
                self.close_connection = True
                return
            self.wfile.write(rest[:-1])
            if kept.slow is not None:
                kept.slow.wait(30)
            self.wfile.write(rest[-1:])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kept.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
