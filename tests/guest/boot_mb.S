/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_mb.S - what a Multiboot 1 loader hands over (specification 0.6.96, sections 3.2 and 3.3)
 *
 * The image is a 32-bit ELF with a Multiboot header that asks for memory information.
 */
#include "rt.inc"

BEGIN_TESTS
	EXPECT32 "eax: the loader's magic", rt_boot_eax, "$0x2badb002"
	mov	rt_boot_cr0, %ebx
	and	$0x80000001, %ebx
	EXPECT	"protected mode without paging", %rbx, "$1"
	mov	rt_boot_flags, %ebx
	and	$(FL_IF | FL_TF | 0x20000), %ebx
	EXPECT	"IF, TF and VM are clear", %rbx, "$0"
	mov	rt_boot_ebx, %r12d
	mov	(%r12), %ebx
	and	$1, %ebx
	EXPECT	"info: memory sizes are valid", %rbx, "$1"
	mov	4(%r12), %ebx
	EXPECT_IN "info: lower memory, KiB", %rbx, 500, 640
	mov	8(%r12), %ebx
	EXPECT_IN "info: upper memory, KiB", %rbx, 100000, 263000
	mov	(%r12), %ebx
	and	$0x40, %ebx
	EXPECT	"info: the memory map is valid", %rbx, "$0x40"
	/* the map: entries of size + 4 bytes; the one that holds this program must be RAM */
	mov	48(%r12), %esi
	mov	44(%r12), %ecx
	add	%esi, %ecx
	xor	%ebx, %ebx
	xor	%ebp, %ebp
1:	cmp	%ecx, %esi
	jae	3f
	inc	%ebp
	mov	4(%rsi), %r8
	mov	12(%rsi), %r9
	add	%r8, %r9
	cmp	$main, %r8
	ja	2f
	cmp	$main, %r9
	jbe	2f
	mov	20(%rsi), %ebx
2:	mov	(%rsi), %eax
	lea	4(%rsi, %rax), %esi
	jmp	1b
3:	EXPECT	"the map ends at its length", %rsi, %rcx
	EXPECT_IN "the map has entries", %rbp, 2, 128
	EXPECT	"the program lies in RAM", %rbx, "$1"
	mov	(%r12), %ebx
	and	$4, %ebx
	EXPECT	"info: the command line is valid", %rbx, "$4"
	mov	16(%r12), %ebx
	EXPECT_IN "the command line lies below 4 GiB and not at 0", %rbx, 1, 0xffffffff
	ret
END_TESTS
