/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exits.S - the guest of test_exits.c: each way out of translated code, several times
 *
 * Copied to CODE. r12: data pages, r13: the page table, r14: the device, r15: see exits.inc.
 */
	.intel_syntax noprefix
	.include "exits.inc"
	.section .rodata
	.globl exits_begin, exits_end
	.balign 16
exits_begin:
	mov	r8d, 6
	mov	ebx, 0x12345678
again:
	/* A TLB miss at every access of a block. */
	mov	rax, cr3
	mov	cr3, rax
	add	qword ptr [r12], r8
	adc	qword ptr [r12 + 0x1000], rax
	xor	rbx, [r12 + 0x2008]
	setc	byte ptr [r12 + 0x2011]
	/* A fault in the middle of a read-modify-write: no page, then a page only for reading. */
	and	qword ptr [r13 + 0x33 * 8], -2
	invlpg	[r12 + 0x3000]
	add	rax, r8
	adc	qword ptr [r12 + 0x3010], rbx
	sbb	rcx, rax
	and	qword ptr [r13 + 0x33 * 8], -3
	invlpg	[r12 + 0x3000]
	stc
	rcl	qword ptr [r12 + 0x3018], 1
	xadd	qword ptr [r12 + 0x3018], rcx
	and	qword ptr [r13 + 0x33 * 8], -3
	invlpg	[r12 + 0x3000]
	sub	ebx, 3
	cmpxchg	qword ptr [r12 + 0x3020], rbx
	xchg	dword ptr [r12 + 0x3024], ecx
	/* The same on the stack, where RSP must not move. */
	and	qword ptr [r13 + 0x34 * 8], -2
	invlpg	[r12 + 0x4000]
	lea	rsp, [r12 + 0x4100]
	push	qword ptr [r12]
	push	rbx
	pop	r10
	pop	r11
	and	qword ptr [r13 + 0x34 * 8], -3
	invlpg	[r12 + 0x4000]
	call	1f
1:	pop	rdx
	/* Across pages: both there, then the second one missing. */
	add	qword ptr [r12 + 0xffd], rdx
	mov	r9d, [r12 + 0x1ffe]
	movq	xmm1, rbx
	movups	xmm0, [r12 + 0xff8]
	paddq	xmm0, xmm1
	movups	[r12 + 0x1ff4], xmm0
	lea	rsp, [r12 + 0x1004]
	push	r9
	pop	rdx
	and	qword ptr [r13 + 0x33 * 8], -2
	invlpg	[r12 + 0x3000]
	add	qword ptr [r12 + 0x2ffc], rdx
	and	qword ptr [r13 + 0x33 * 8], -3
	invlpg	[r12 + 0x3000]
	movups	[r12 + 0x2ff8], xmm0
	/* A device: reads, writes, both, amid other instructions. */
	mov	eax, [r14]
	add	eax, ebx
	mov	[r14 + 8], eax
	add	[r14 + 16], eax
	lahf
	movzx	ecx, byte ptr [r14 + 3]
	push	qword ptr [r14]
	pop	rsi
	movq	xmm2, qword ptr [r14 + 8]
	/* The running block changes itself: later instructions of the same block are new. */
	inc	byte ptr [rip + smc + 1]
	add	rsi, rcx
smc:	mov	ecx, 0x100
	add	rbx, rcx
	add	dword ptr [rip + smc2 + 2], 5
smc2:	add	ebx, 0x01010101
	/* Divisions that fault, and one that does not. */
	lea	r15, [rip + 2f]
	xor	edx, edx
	xor	ecx, ecx
	div	ecx
2:	lea	r15, [rip + 3f]
	mov	edx, 1
	mov	ecx, 1
	cmp	ecx, 2
	div	ecx
3:	mov	ecx, 7
	mov	eax, ebx
	xor	edx, edx
	div	ecx
	/* Addresses and targets that are not canonical, operands that are not aligned. */
	lea	r15, [rip + 4f]
	movabs	rdi, 0x8000000000001000
	cmp	rdi, rbx
	add	[rdi], rbx
4:	lea	r15, [rip + 5f]
	jmp	rdi
5:	lea	r15, [rip + 6f]
	lea	rsp, [r12 + 0x4100]
	push	rdi
	ret
6:	lea	r15, [rip + 7f]
	movaps	xmm3, [r12 + 0x1008]
7:	lea	r15, [rip + 8f]
	ud2
	/* x87 and SSE with a page missing. */
8:	and	qword ptr [r13 + 0x33 * 8], -2
	invlpg	[r12 + 0x3000]
	fld1
	fadd	qword ptr [r12 + 0x3030]
	and	qword ptr [r13 + 0x33 * 8], -3
	invlpg	[r12 + 0x3000]
	fstp	qword ptr [r12 + 0x3030]
	/* Loops inside a page, calls to another and back: links, look-ups, the budget. */
	lea	rsp, [r12 + 0x4100]
	mov	ecx, 9
9:	lea	rdx, [rdx + rcx * 4 + 1]
	test	cl, 1
	jz	10f
	call	far_away
10:	dec	ecx
	jnz	9b
	dec	r8d
	jnz	again
	hlt

	/* An instruction across the page boundary. */
	.org	exits_begin + 0xffb, 0x90
far_away:
	add	rbx, 1
	xor	rbx, 0x11223344
	rol	rbx, 3
	ret

	handlers exits
exits_end:
	.section .note.GNU-stack, "", @progbits
