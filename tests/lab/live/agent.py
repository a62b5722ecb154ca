"""Runs commands in the live system for the lab, over a virtio-serial port.

One JSON object a line. In: `{"id", "argv"}` starts a command, with `"input"` as its standard input and `"screen"`
true if its lines should be seen on the machine's screen too; `{"id", "write": path, "text", "mode"}` writes a file.
Out: `{"id", "line"}` for each line of output, `{"id", "code", "seconds"}` at the end.
"""

import json
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

PORT = Path("/dev/virtio-ports/lab")
_writing = threading.Lock()


def main() -> None:
    """Serve for ever."""
    while not PORT.exists():
        subprocess.run(["udevadm", "trigger", "--action=add", "--subsystem-match=virtio-ports"], check=False)
        subprocess.run(["udevadm", "settle"], check=False)
    with PORT.open("r+b", buffering=0) as port:
        send(port, {"id": 0, "ready": True})
        pending = b""
        while True:
            pending += port.read(65536) or b""
            *lines, pending = pending.split(b"\n")
            for line in lines:
                if line.strip():
                    threading.Thread(target=serve, args=(port, json.loads(line)), daemon=True).start()


def send(port: BinaryIO, message: dict[str, Any]) -> None:
    """One whole line at a time."""
    data = json.dumps(message).encode() + b"\n"
    with _writing:
        while data:
            data = data[port.write(data) :]


def serve(port: BinaryIO, request: dict[str, Any]) -> None:
    """One request."""
    number, start = request["id"], time.monotonic()
    try:
        code = write(request) if "write" in request else command(port, request)
    except OSError as error:
        send(port, {"id": number, "line": str(error)})
        code = 127
    send(port, {"id": number, "code": code, "seconds": round(time.monotonic() - start, 3)})


def write(request: dict[str, Any]) -> int:
    """A file with its mode, whole or not at all."""
    path = Path(request["write"])
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, request.get("mode", 0o644))
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(request["text"])
    return 0


def command(port: BinaryIO, request: dict[str, Any]) -> int:
    """A command, its output line by line as it comes."""
    given: str | None = request.get("input")
    with subprocess.Popen(
        request["argv"],
        stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if request.get("merge", True) else subprocess.DEVNULL,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        if process.stdin is not None and given is not None:
            process.stdin.write(given)
            process.stdin.close()
        assert process.stdout is not None
        for line in process.stdout:
            send(port, {"id": request["id"], "line": line.rstrip("\n")})
            if request.get("screen"):
                Path("/dev/tty0").write_text(line[:300])
    return process.returncode


if __name__ == "__main__":
    main()
