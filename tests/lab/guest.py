"""The guest that a host starts at its first run: a disk whose boot sector says on the serial line that it runs.

512 bytes assembled by hand, since no assembler is needed for eleven instructions; real mode, as a BIOS starts it.
"""

MARKER = "HYPER-NIXOS-GUEST-IS-RUNNING"
"""What the guest writes to its first serial port (COM1, I/O port 0x3f8)."""
SIZE = 1 << 20
"""Bytes of the image."""
_ORIGIN = 0x7C00


def image() -> bytes:
    """A raw disk image."""
    code = bytes(
        [
            0xFA,  # cli                     nothing may interrupt
            0x31, 0xC0,  # xor ax, ax
            0x8E, 0xD8,  # mov ds, ax        data segment 0, where the BIOS put this sector
            0xBE, 0x00, 0x00,  # mov si, text      (patched below)
            0xFC,  # cld
            0xAC,  # next: lodsb             the next character
            0x84, 0xC0,  # test al, al
            0x74, 0x10,  # jz done
            0x88, 0xC4,  # mov ah, al
            0xBA, 0xFD, 0x03,  # mov dx, 0x3fd     line status register
            0xEC,  # wait: in al, dx
            0xA8, 0x20,  # test al, 0x20     is the transmitter empty?
            0x74, 0xFB,  # jz wait
            0x88, 0xE0,  # mov al, ah
            0xB2, 0xF8,  # mov dl, 0xf8      data register, 0x3f8
            0xEE,  # out dx, al
            0xEB, 0xEA,  # jmp next
            0xF4,  # done: hlt               idle for ever, without using the processor
            0xEB, 0xFD,  # jmp done
        ]
    )  # fmt: skip
    text = _ORIGIN + len(code)
    code = code.replace(b"\xbe\x00\x00", b"\xbe" + text.to_bytes(2, "little"))
    sector = (code + f"\r\n{MARKER}\r\n".encode() + b"\0").ljust(510, b"\0") + b"\x55\xaa"
    return sector.ljust(SIZE, b"\0")
