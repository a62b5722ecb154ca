/*
 * A kernel that only says how it was booted: firmware, command line, size and CRC-32 of the initial RAM disk. Boot
 * loaders take it for Linux (Linux kernel documentation, arch/x86/boot.rst), and it is there within a second where
 * emulated. It writes to the first serial port and switches off.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

asm(".section .start\n .globl start\n start: cli\n mov $0x18, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n"
    " mov $0x180000, %esp\n push %esi\n call tell\n");

static void out8(u16 port, u8 value) { asm volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static void out16(u16 port, u16 value) { asm volatile("outw %0, %1" ::"a"(value), "Nd"(port)); }
static u8 in8(u16 port) { u8 value; asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port)); return value; }

static void put(char letter) {
    while (!(in8(0x3fd) & 0x20))
        ;
    out8(0x3f8, letter);
}
static void say(const char *text) { while (*text) put(*text++); }
static void number(u32 value, int base) {
    char digits[11];
    int at = 10;
    digits[10] = 0;
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    say(digits + at);
}

__attribute__((used)) void tell(u8 *parameters) {
    u32 line = *(u32 *)(parameters + 0x228), disk = *(u32 *)(parameters + 0x218), size = *(u32 *)(parameters + 0x21c);
    u32 sum = ~0u;
    const u8 *at = (const u8 *)disk;
    for (u32 left = size; left; left--, at++) {
        sum ^= *at;
        for (int bit = 0; bit < 8; bit++)
            sum = sum >> 1 ^ (0xedb88320 & -(sum & 1));
    }
    const char *shown = "HV-FIXTURE IS RUNNING";
    for (volatile u16 *screen = (u16 *)0xb8000; *shown; screen++, shown++)
        *screen = 0x1f00 | *shown;
    say("\r\nHV-FIXTURE firmware=");
    say(*(u32 *)(parameters + 0x1c0) == 0x34364c45 ? "uefi" : "bios"); /* EL64: GRUB hands over EFI's system table */
    say("\r\nHV-FIXTURE cmdline=");
    say((const char *)line);
    say("\r\nHV-FIXTURE initrd=");
    number(size, 10);
    say(" crc=");
    number(~sum, 16);
    say("\r\nHV-FIXTURE end\r\n");
    out16(0x604, 0x2000); /* switches QEMU off: the q35 as UEFI sets it up, and as SeaBIOS does */
    out16(0xb004, 0x2000);
    for (;;)
        asm volatile("hlt");
}
