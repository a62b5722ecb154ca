/* A BIOS starts this sector in real mode; it loads what follows it and goes on in protected mode, without paging. */
    .code16
    .globl start
start:
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7c00, %sp
    movw $packet, %si
    movb $0x42, %ah                 /* Enhanced Disk Drive Specification: extended read, of the drive in dl */
    int $0x13
    jc stop
    lgdt table
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmp $8, $flat
stop:
    hlt
    jmp stop

    .code32
flat:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $0x90000, %esp
    xorl %eax, %eax
    movl $__bss_start, %edi
    movl $_end, %ecx
    subl %edi, %ecx
    rep stosb
    call guest

    .balign 8
segments:
    .quad 0
    .quad 0x00cf9a000000ffff        /* code: 4 GiB from 0 */
    .quad 0x00cf92000000ffff        /* data: the same */
table:
    .word 23
    .long segments
packet:
    .byte 16, 0
    .word SECTORS
    .word 0x7e00, 0                 /* right behind this sector */
    .quad 1
    .org 510
    .word 0xaa55
