/* Both programs of a system so small that it needs no shell: `activate` and `switch-to-configuration boot`.
 * DISKS, the quoted paths of the disks that boot, is given when compiling. What GRUB would write to the disk is marked
 * only, since nothing boots it here; CORE, the number of its partition, is 1 unless given. With UEFI the loader is
 * systemd-boot, which takes EFI/BOOT for itself as `bootctl install` does. With ESPS, the quoted
 * places of EFI system partitions, they get the same. With PREBUILT it is a system for many hosts: activation makes groups and no people,
 * and `systemd-sysusers` is this machine's own, with its libraries beside it. With NODEV no disk gets GRUB's code. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROFILE "/nix/var/nix/profiles/system"

#ifndef CORE
#define CORE "1"
#endif

static const char *disks[] = {DISKS};

/* A file that is there is replaced, not written over: the stand-in for FAT cannot shorten one. */
static void put(const char *path, const char *text, mode_t mode) {
    unlink(path);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    if (file < 0 || write(file, text, strlen(text)) != (ssize_t)strlen(text)) {
        perror(path);
        exit(1);
    }
    if (fchmod(file, mode)) mode = 0; /* FAT has no modes */
    close(file);
}

static void copy(const char *from, const char *to) {
    char buffer[65536];
    unlink(to);
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (in < 0 || out < 0) {
        perror(in < 0 ? from : to);
        exit(1);
    }
    for (ssize_t got; (got = read(in, buffer, sizeof buffer)) > 0;)
        if (write(out, buffer, got) != got) {
            perror(to);
            exit(1);
        }
    close(in);
    close(out);
}

#ifdef ESPS
static const char *esps[] = {ESPS};

/* What one EFI system partition holds. */
static int install_esp(const char *esp) {
    char path[512];
    const char *folders[] = {"", "/EFI", "/EFI/systemd", "/EFI/BOOT", "/EFI/nixos", "/loader", "/loader/entries"};
    const char *loaders[] = {"/EFI/systemd/systemd-bootx64.efi", "/EFI/BOOT/BOOTX64.EFI"};
    for (size_t each = 0; each < sizeof folders / sizeof *folders; each++) {
        snprintf(path, sizeof path, "%s%s", esp, folders[each]);
        mkdir(path, 0755);
    }
    for (size_t each = 0; each < 2; each++) {
        snprintf(path, sizeof path, "%s%s", esp, loaders[each]);
        put(path, "MZ loader", 0644);
    }
    snprintf(path, sizeof path, "%s/EFI/nixos/kernel.efi", esp);
    copy(PROFILE "/kernel", path);
    snprintf(path, sizeof path, "%s/EFI/nixos/initrd.efi", esp);
    copy(PROFILE "/initrd", path);
    snprintf(path, sizeof path, "%s/loader/entries/nixos-generation-1.conf", esp);
    put(path, "title tiny\nlinux /EFI/nixos/kernel.efi\ninitrd /EFI/nixos/initrd.efi\noptions init=" PROFILE "/init quiet\n", 0644);
    snprintf(path, sizeof path, "%s/loader/loader.conf", esp);
    put(path, "default nixos-generation-1.conf\n", 0644);
    return 0;
}
#endif

/* What one disk boots from: its own folder of kernels, and marks where GRUB's code goes. */
static int install(const char *disk, size_t number) {
#ifdef UEFI
    const char *efi[] = {ESP "/EFI", ESP "/EFI/BOOT", ESP "/EFI/systemd", ESP "/loader", "/boot/EFI", "/boot/EFI/nixos", "/boot/loader", "/boot/loader/entries"};
    for (size_t each = 0; each < sizeof efi / sizeof *efi; each++) mkdir(efi[each], 0755);
    put(ESP "/EFI/systemd/systemd-bootx64.efi", "MZ systemd-boot", 0755);
    put(ESP "/EFI/BOOT/BOOTX64.EFI", "MZ systemd-boot", 0755);
    put(ESP "/loader/loader.conf", "default nixos-generation-1.conf\n", 0644);
    put("/boot/loader/entries/nixos-generation-1.conf", "title tiny\nlinux /EFI/nixos/kernel\ninitrd /EFI/nixos/initrd\noptions init=" PROFILE "/init quiet\n", 0644);
    copy(PROFILE "/kernel", "/boot/EFI/nixos/kernel");
    copy(PROFILE "/initrd", "/boot/EFI/nixos/initrd");
    (void)disk, (void)number;
    return 0;
#endif
    char boot[32] = "/boot", path[512];
    if (number) snprintf(boot, sizeof boot, "/boot%zu", number + 1);
    const char *folders[] = {"", "/grub", "/grub/i386-pc", "/kernels"};
    for (size_t each = 0; each < sizeof folders / sizeof *folders; each++) {
        snprintf(path, sizeof path, "%s%s", boot, folders[each]);
        mkdir(path, 0755);
    }
    snprintf(path, sizeof path, "%s/kernels/kernel", boot);
    copy(PROFILE "/kernel", path);
    snprintf(path, sizeof path, "%s/kernels/initrd", boot);
    copy(PROFILE "/initrd", path);
    snprintf(path, sizeof path, "%s/grub/i386-pc/normal.mod", boot);
    put(path, "module", 0644);
    snprintf(path, sizeof path, "%s/grub/grub.cfg", boot);
    copy(PROFILE "/grub.cfg", path);
#ifdef NODEV
    return 0;
#endif
    snprintf(path, sizeof path, "%s-part" CORE, disk);
    int whole = open(disk, O_WRONLY), core = open(path, O_WRONLY);
    if (whole < 0 || core < 0 || pwrite(whole, "GRUB", 4, 384) != 4 || pwrite(core, "GRUB core", 9, 0) != 9) {
        perror(disk);
        return 1;
    }
    fsync(whole);
    return 0;
}

int main(int argc, char **argv) {
    if (strstr(argv[0], "systemd-sysusers")) {
        char *words[] = {"ld.so", "--library-path", PROFILE "/lib", PROFILE "/lib/systemd-sysusers", argv[1], NULL};
        execv(PROFILE "/lib/ld.so", words);
        perror("ld.so");
        return 1;
    }
#ifdef PREBUILT
    if (strstr(argv[0], "activate")) {
        put("/etc/passwd", "root:x:0:0::/root:/bin/sh\n", 0644);
        put("/etc/group", "root:x:0:\nwheel:x:1:\nsystemd-journal:x:62:\nusers:x:100:\nhv-admins:x:991:\nhv-users:x:992:\n", 0644);
        put("/etc/shadow", "root:!:1::::::\n", 0640);
        return 0;
    }
#endif
    if (strstr(argv[0], "activate")) {
        char hash[512] = "", line[1024];
        int secret = open("/var/lib/hyper-nixos/secrets/passwords/alice", O_RDONLY);
        ssize_t got = secret < 0 ? 0 : read(secret, hash, sizeof hash - 1);
        hash[got > 0 ? got : 0] = 0;
        put("/etc/passwd", "root:x:0:0::/root:/bin/sh\nalice:x:1000:100::/home/alice:" PROFILE "/sw/bin/shell\n", 0644);
        put("/etc/group", "root:x:0:\nwheel:x:1:alice\nusers:x:100:\n", 0644);
        snprintf(line, sizeof line, "root:!:1::::::\nalice:%s:1::::::\n", hash);
        put("/etc/shadow", line, 0600);
        return 0;
    }
    if (argc < 2 || strcmp(argv[1], "boot") || !getenv("NIXOS_INSTALL_BOOTLOADER") || access("/etc/NIXOS", F_OK))
        return 64;
#ifdef ESPS
    for (size_t number = 0; number < sizeof esps / sizeof *esps; number++)
        if (install_esp(esps[number])) return 1;
    return 0;
#endif
    for (size_t number = 0; number < sizeof disks / sizeof *disks; number++)
        if (install(disks[number], number)) return 1;
    return 0;
}
