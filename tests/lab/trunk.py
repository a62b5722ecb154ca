"""A network card on a trunk: what it sends and gets has a VLAN's tag (IEEE 802.1Q), which QEMU's own network knows nothing
of. Frames without that tag go nowhere, in both directions.
"""

import contextlib
import socket
import threading
from pathlib import Path

TAG = b"\x81\x00"
"""EtherType of a tagged frame; it stands after both addresses."""
ADDRESSES = 12
"""Bytes of them."""
LONGEST = 65536


def tagged(frame: bytes, vlan: int) -> bytes:
    """The frame with the VLAN's tag."""
    return frame[:ADDRESSES] + TAG + vlan.to_bytes(2, "big") + frame[ADDRESSES:]


def untagged(frame: bytes, vlan: int) -> bytes | None:
    """The frame without its tag; nothing, if it is not of this VLAN."""
    if frame[ADDRESSES : ADDRESSES + 2] != TAG:
        return None
    # Priority and drop eligibility are the upper four bits.
    if int.from_bytes(frame[ADDRESSES + 2 : ADDRESSES + 4], "big") & 0xFFF != vlan:
        return None
    return frame[:ADDRESSES] + frame[ADDRESSES + 4 :]


class Trunk:
    """Carries frames between a card and QEMU's network, both of which are datagram sockets in a folder."""

    def __init__(self, folder: Path, vlan: int) -> None:
        self._vlan = vlan
        self._folder = folder
        self._card, self._network = (self._socket(name) for name in ("card", "network"))
        for source, target, name in (
            (self._card, self._network, "network"),
            (self._network, self._card, "card"),
        ):
            threading.Thread(target=self._carry, args=(source, target, name), daemon=True).start()

    def words(self, card: str, user: str) -> list[str]:
        """QEMU's command line: `card` is the network that the card is on, `user` the options of QEMU's own."""
        return [
            *("-netdev", f"user,id=inside,{user}", "-netdev", "hubport,id=left,hubid=7,netdev=inside"),
            *("-netdev", f"dgram,id=trunk,{self._ends('network')}"),
            *("-netdev", "hubport,id=right,hubid=7,netdev=trunk"),
            *("-netdev", f"dgram,id={card},{self._ends('card')}"),
        ]

    def close(self) -> None:
        """Pull the cable."""
        for each in (self._card, self._network):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _ends(self, name: str) -> str:
        return (
            f"local.type=unix,local.path={self._folder}/{name}-qemu,"
            f"remote.type=unix,remote.path={self._folder}/{name}"
        )

    def _socket(self, name: str) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.bind(str(self._folder / name))
        return made

    def _carry(self, source: socket.socket, target: socket.socket, name: str) -> None:
        while True:
            try:
                frame = source.recv(LONGEST)
            except OSError:
                return
            if not frame:
                return
            changed = untagged(frame, self._vlan) if source is self._card else tagged(frame, self._vlan)
            if changed is not None:
                # As on a wire: who does not listen yet gets nothing.
                with contextlib.suppress(OSError):
                    target.sendto(changed, str(self._folder / f"{name}-qemu"))
