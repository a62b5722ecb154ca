/* Both programs of a system so small that it needs no shell: `activate` and `switch-to-configuration boot`.
 * DISK, TOPLEVEL_KERNEL and TOPLEVEL_INITRD are given when compiling. What GRUB would write to the disk is marked
 * only, since nothing boots it here. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROFILE "/nix/var/nix/profiles/system"

static void put(const char *path, const char *text, mode_t mode) {
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    if (file < 0 || write(file, text, strlen(text)) != (ssize_t)strlen(text)) {
        perror(path);
        exit(1);
    }
    fchmod(file, mode);
    close(file);
}

static void copy(const char *from, const char *to) {
    char buffer[65536];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (in < 0 || out < 0) {
        perror(in < 0 ? from : to);
        exit(1);
    }
    for (ssize_t got; (got = read(in, buffer, sizeof buffer)) > 0;)
        if (write(out, buffer, got) != got) exit(1);
    close(in);
    close(out);
}

int main(int argc, char **argv) {
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
    mkdir("/boot", 0755);
    mkdir("/boot/grub", 0755);
    mkdir("/boot/grub/i386-pc", 0755);
    mkdir("/boot/kernels", 0755);
    copy(PROFILE "/kernel", "/boot/kernels/kernel");
    copy(PROFILE "/initrd", "/boot/kernels/initrd");
    put("/boot/grub/i386-pc/normal.mod", "module", 0644);
    copy(PROFILE "/grub.cfg", "/boot/grub/grub.cfg");
    int disk = open(DISK, O_WRONLY), core = open(DISK "-part1", O_WRONLY);
    if (disk < 0 || core < 0 || pwrite(disk, "GRUB", 4, 384) != 4 || pwrite(core, "GRUB core", 9, 0) != 9) {
        perror(DISK);
        return 1;
    }
    fsync(disk);
    return 0;
}
