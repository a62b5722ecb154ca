"""The smallest guest there is: one sector that writes a marker to the serial port and halts.

Assembled by hand for a BIOS, which loads the sector to 0x7c00 and jumps there in real mode when its last two bytes
are 55 AA (SeaBIOS, src/boot.c). COM1 is a 16550 at port 0x3f8; bit 5 of its line status register, five above, says
that the next byte may be sent (PC16550D data sheet, table II).
"""

LOADED_AT = 0x7C00
SECTOR = 512
"""Bytes."""
DISK = 1024**2
"""Bytes; SeaBIOS addresses the first sector by cylinder, so a disk needs at least one: 16 heads of 63 sectors."""
CODE = bytes.fromhex(
    "31c0"  #    00        xor  ax, ax
    "8ed8"  #    02        mov  ds, ax         segment 0, where the BIOS put us
    "fc"  #      04        cld                 lodsb goes upwards
    "be217c"  #  05        mov  si, 0x7c21     the text right behind this code
    "ac"  #      08 next:  lodsb               al = [si], si += 1
    "84c0"  #    09        test al, al
    "7411"  #    0b        jz   halt           the zero at the end of the text
    "88c4"  #    0d        mov  ah, al         kept, since `in` needs al
    "bafd03"  #  0f        mov  dx, 0x3fd      line status register
    "ec"  #      12 wait:  in   al, dx
    "a820"  #    13        test al, 0x20       room for a byte?
    "74fb"  #    15        jz   wait
    "88e0"  #    17        mov  al, ah
    "b2f8"  #    19        mov  dl, 0xf8       dx = 0x3f8, transmitter
    "ee"  #      1b        out  dx, al
    "ebea"  #    1c        jmp  next
    "f4"  #      1e halt:  hlt
    "ebfd"  #    1f        jmp  halt           an interrupt wakes the processor
)
TEXT_AT = CODE.index(bytes.fromhex("217c"))
"""Where the code holds the address of the text."""
assert int.from_bytes(CODE[TEXT_AT : TEXT_AT + 2], "little") == LOADED_AT + len(CODE)


def boot_disk(marker: str) -> bytes:
    """A raw disk image that boots and writes `marker`, on a line of its own, to COM1."""
    return boot_sector(marker).ljust(DISK, b"\0")


def boot_sector(marker: str) -> bytes:
    """Its first sector, which writes `marker`."""
    text = f"\r\n{marker}\r\n\0".encode("ascii")
    room = SECTOR - 2 - len(CODE)
    if len(text) > room:
        raise ValueError(f"the marker may have {room - 5} characters, it has {len(marker)}")
    return (CODE + text).ljust(SECTOR - 2, b"\0") + b"\x55\xaa"
