"""A guest's serial console on this terminal: raw, both ways, until Ctrl-] or until the guest ends."""

import os
import select
import sys
import termios
import threading
import tty

from hv.client import Client, checked
from installer.errors import Exit

LEAVE = b"\x1d"
"""Ctrl-]."""


def connect(client: Client, where: str, name: str) -> int:
    """Until it ends; the exit code. Raises HyperError."""
    answer = client.open("GET", where, patience=None)
    if answer.status >= 400:
        checked(answer)
    session = answer.headers["console"]
    there = sys.stdin.fileno()
    terminal = os.isatty(there)
    before = termios.tcgetattr(there) if terminal else None
    done = threading.Event()
    if terminal:
        print(f"Connected to {name}; Ctrl-] leaves.", file=sys.stderr)
        tty.setraw(there)

    def show() -> None:
        try:
            for piece in answer.pieces():
                os.write(sys.stdout.fileno(), piece)
        except (OSError, ValueError):
            pass
        done.set()

    threading.Thread(target=show, daemon=True).start()
    try:
        while not done.is_set():
            ready, _, _ = select.select([there], [], [], 0.2)
            if not ready:
                continue
            typed = os.read(there, 4096)
            before_leaving, left, _ = typed.partition(LEAVE)
            if before_leaving:
                sending = client.open("POST", f"/1/consoles/{session}", before_leaving)
                try:
                    checked(sending)
                finally:
                    sending.close()
            if left:
                break
            if not typed:  # a script's input ended: what the guest says goes on
                done.wait()
    finally:
        if before is not None:
            termios.tcsetattr(there, termios.TCSADRAIN, before)
            print(f"\nLeft the console of {name}.", file=sys.stderr)
    return int(Exit.ok)
