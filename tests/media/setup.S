/* Boot sector and real-mode part: the header that boot loaders read, and the way into 32 bits. */
        .code16
        .text
        .org 0x1f1
        .byte 4                 /* sectors of this part */
        .word 0
        .long SECTIONS          /* size of what follows, in 16 bytes */
        .word 0, 0xffff, 0
        .word 0xaa55
        .byte 0xeb, start - 1f  /* jump over the header */
1:      .ascii "HdrS"
        .word 0x020c
        .long 0
        .word 0, version - 0x200
        .byte 0, 1              /* loaded high */
        .word 0
        .long 0x100000, 0, 0, 0
        .word 0xde00
        .byte 0, 0
        .long 0
        .long 0x7fffffff        /* the RAM disk's highest address */
        .long 0x1000
        .byte 1, 12             /* may be moved */
        .word 0
        .long 2047              /* characters of the command line */
        .long 0
        .quad 0
        .long 0, 0
        .quad 0
        .quad 0x100000
        .long 0x100000          /* memory that it needs */
        .long 0
start:  cli
        in $0x92, %al           /* address line 20: boot loaders leave it to the kernel */
        or $2, %al
        and $0xfe, %al
        out %al, $0x92
        xor %eax, %eax
        mov %ds, %ax
        shl $4, %eax
        mov %eax, %esi
        lea table(%esi), %ebx
        mov %ebx, pointer + 2
        lgdt pointer
        mov %cr0, %eax
        or $1, %al
        mov %eax, %cr0
        ljmpl $0x10, $0x100000
        .balign 8
table:  .quad 0, 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
pointer: .word 31
        .long 0
version: .asciz "6.12.0 (fixture)"
        .org 2560
