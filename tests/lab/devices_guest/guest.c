/* Says on the first serial line which PCI devices there are, and drives three kinds of them, by polling: NVMe disks,
 * e1000e network cards and xHCI controllers. What the host wants back it lets go.
 *
 * Sources: PCI Local Bus 3.0; NVM Express 1.4; Intel 82574 datasheet; xHCI 1.2; QEMU docs/specs/acpi_pci_hotplug.rst.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

static void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static void out32(u16 port, u32 value) { __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port)); }
static u8 in8(u16 port) { u8 value; __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static u32 in32(u16 port) { u32 value; __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port)); return value; }

/* ---- what is said ---- */

#define LINE ((char *)0x100000)
#define LAST ((char *)0x110000)
static u32 length;

static void letter(char what) { if (length < 4000) LINE[length++] = what; LINE[length] = 0; }
static void text(const char *what) { while (*what) letter(*what++); }
static void hex(u32 value, int digits) {
    while (digits--) letter("0123456789abcdef"[value >> (4 * digits) & 15]);
}

static void serial(const char *what) {
    for (; *what; what++) {
        for (u32 patience = 100000; patience && !(in8(0x3fd) & 0x20); patience--);
        out8(0x3f8, *what);
    }
}

/* ---- PCI: configuration mechanism 1 ---- */

static u32 read(u32 at, u32 reg) { out32(0xcf8, 0x80000000u | at | reg); return in32(0xcfc); }
static void write(u32 at, u32 reg, u32 value) { out32(0xcf8, 0x80000000u | at | reg); out32(0xcfc, value); }

static u32 window[256]; /* where memory behind the bridge to a bus begins */

/* Its registers, in the memory that the firmware gave it; or what is plugged in later: in that of its bridge. */
static volatile u32 *registers(u32 at) {
    u32 bar = read(at, 0x10), wide = (bar & 6) == 4;
    if (!(bar & ~15u) && (!wide || !read(at, 0x14))) {
        u32 base = window[at >> 16 & 255];
        if (!base) return 0;
        write(at, 0x10, base);
        if (wide) write(at, 0x14, 0);
    }
    if (wide && read(at, 0x14)) return 0;
    write(at, 4, (read(at, 4) & 0xffff) | 6); /* answers memory accesses, and makes its own */
    return (volatile u32 *)(read(at, 0x10) & ~15u);
}

/* ---- NVMe ---- */

#define BLOCK 4096
#define DATA ((volatile u8 *)0x208000)
static u32 tail[2], head[2], phase[2], stride;

static int command(volatile u32 *nvme, u32 queue, u32 opcode, u32 space, u32 page, u32 ten, u32 eleven, u32 twelve) {
    volatile u32 *entry = (volatile u32 *)(0x200000 + queue * 0x2000) + 16 * tail[queue];
    volatile u32 *done = (volatile u32 *)(0x201000 + queue * 0x2000) + 4 * head[queue];
    for (int each = 0; each < 16; each++) entry[each] = 0;
    entry[0] = opcode | 7 << 16;
    entry[1] = space;
    entry[6] = page;
    entry[10] = ten;
    entry[11] = eleven;
    entry[12] = twelve;
    tail[queue] = (tail[queue] + 1) % 16;
    nvme[(0x1000 + 2 * queue * stride) / 4] = tail[queue];
    for (u32 patience = 20000000; patience && (done[3] >> 16 & 1) != phase[queue]; patience--);
    if ((done[3] >> 16 & 1) != phase[queue]) return 0;
    u32 status = done[3] >> 17;
    if (++head[queue] == 16) { head[queue] = 0; phase[queue] ^= 1; }
    nvme[(0x1000 + (2 * queue + 1) * stride) / 4] = head[queue];
    return status == 0;
}

static int ready(volatile u32 *nvme, u32 wanted) {
    for (u32 patience = 20000000; patience; patience--) if ((nvme[7] & 1) == wanted) return 1;
    return 0;
}

static int moved(volatile u32 *nvme, u32 opcode, u32 block, u32 sectors) {
    return command(nvme, 1, opcode, 1, (u32)DATA, block * sectors, 0, sectors - 1);
}

/* What its first block says; and to its second it writes. */
static void disk(volatile u32 *nvme) {
    for (u32 each = 0; each < 0x8000; each += 4) *(volatile u32 *)(0x200000 + each) = 0;
    stride = 4u << (nvme[1] & 15);
    for (int queue = 0; queue < 2; queue++) tail[queue] = head[queue] = 0, phase[queue] = 1;
    nvme[5] = 0;
    if (!ready(nvme, 0)) { text(" disk-does-not-stop"); return; }
    nvme[9] = 15 << 16 | 15;
    nvme[10] = 0x200000; nvme[11] = 0;
    nvme[12] = 0x201000; nvme[13] = 0;
    nvme[5] = 1 | 6 << 16 | 4 << 20;
    if (!ready(nvme, 1)) { text(" disk-does-not-start"); return; }
    if (!command(nvme, 0, 6, 1, (u32)DATA, 0, 0, 0)) { text(" disk-not-identified"); return; }
    u32 format = DATA[128 + 4 * (DATA[26] & 15) + 2], sectors = BLOCK >> format;
    if (!command(nvme, 0, 5, 0, 0x203000, 15 << 16 | 1, 1, 0) || !command(nvme, 0, 1, 0, 0x202000, 15 << 16 | 1, 1 << 16 | 1, 0)) {
        text(" disk-has-no-queues"); return;
    }
    if (!moved(nvme, 2, 0, sectors)) { text(" disk-not-read"); return; }
    text(" disk=");
    for (int each = 0; each < 64 && DATA[each] > ' ' && DATA[each] < 127; each++) letter(DATA[each]);
    static const char said[] = WRITTEN;
    for (int each = 0; each < BLOCK; each++) DATA[each] = each < (int)sizeof said - 1 ? said[each] : 0;
    text(moved(nvme, 1, 1, sectors) && command(nvme, 1, 0, 1, 0, 0, 0, 0) ? " disk-written" : " disk-not-written");
}

/* ---- network cards and USB ---- */

static void card(volatile u32 *e1000e) {
    u32 low = e1000e[0x5400 / 4], high = e1000e[0x5404 / 4];
    text(" mac=");
    for (int each = 0; each < 6; each++) {
        if (each) letter(':');
        hex((each < 4 ? low >> 8 * each : high >> 8 * (each - 4)) & 255, 2);
    }
}

/* How many of its ports have something plugged in. */
static void usb(volatile u32 *xhci) {
    u32 operational = *(volatile u32 *)xhci & 255, ports = xhci[1] >> 24, plugged = 0;
    for (u32 port = 0; port < ports; port++) plugged += xhci[(operational + 0x400 + 16 * port) / 4] & 1;
    text(" usb=");
    hex(plugged, 1);
}

/* ---- all of them ---- */

#define MOST 64
static u32 places[MOST], ids[MOST], count;
static char known[MOST][160]; /* what a disk said when it came: it is asked once */
static u32 known_at[MOST], known_count;

static void remember(u32 at, u32 from) {
    if (known_count == MOST) known_count = 0;
    u32 each = 0;
    for (; each < 159 && LINE[from + each]; each++) known[known_count][each] = LINE[from + each];
    known[known_count][each] = 0;
    known_at[known_count++] = at;
}

static void look(void) {
    count = 0;
    for (u32 bus = 0; bus < 32; bus++)
        for (u32 slot = 0; slot < 32; slot++)
            for (u32 function = 0, functions = 1; function < functions; function++) {
                u32 at = bus << 16 | slot << 11 | function << 8, id = read(at, 0);
                if (id == 0xffffffffu || id == 0) continue;
                u32 kind = read(at, 12) >> 16;
                if (kind & 0x80) functions = 8;
                if ((kind & 0x7f) == 1) window[read(at, 0x18) >> 8 & 255] = (read(at, 0x20) & 0xfff0) << 16;
                else if (count < MOST) {
                    u32 place = count++;
                    id = id << 16 | id >> 16; /* vendor first */
                    for (; place && ids[place - 1] > id; place--) ids[place] = ids[place - 1], places[place] = places[place - 1];
                    ids[place] = id, places[place] = at;
                }
            }
    for (u32 each = 0; each < known_count; each++) {
        u32 there = 0;
        for (u32 other = 0; other < count; other++) there |= places[other] == known_at[each];
        if (!there) known_at[each] = 0xffffffffu;
    }
    length = 0;
    for (u32 each = 0; each < count; each++) {
        u32 at = places[each], kind = read(at, 8) >> 8, from, found;
        volatile u32 *its;
        letter(' ');
        hex(ids[each] >> 16, 4);
        letter(':');
        hex(ids[each] & 0xffff, 4);
        if (kind == 0x010802) {
            for (found = 0; found < known_count && known_at[found] != at; found++);
            if (found < known_count) text(known[found]);
            else if ((its = registers(at))) { from = length; disk(its); remember(at, from); }
        } else if (ids[each] == 0x808610d3 && (its = registers(at))) card(its);
        else if (kind == 0x0c0330 && (its = registers(at))) usb(its);
    }
}

/* The host asks for devices back: they are let go. */
static void let_go(void) {
    for (u32 bus = 0; bus < 32; bus++) {
        out32(0xcd0, bus);
        u32 slots = in32(0xcc4);
        if (slots && slots != 0xffffffffu) out32(0xcc8, slots);
    }
}

void guest(void) {
    u32 first = 1, each;
    LAST[0] = 0;
    for (;;) {
        look();
        for (each = 0; LINE[each] && LINE[each] == LAST[each]; each++);
        if (LINE[each] != LAST[each]) {
            serial(first ? "\r\n" MARKER : "NOW");
            serial(LINE);
            serial("\r\n");
            for (each = 0; (LAST[each] = LINE[each]); each++);
            first = 0;
        }
        let_go();
    }
}
