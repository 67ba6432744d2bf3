/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loops.S - another guest of test_exits.c: the ways out of translated code inside loops of many blocks
 *
 * Copied to CODE, all in one page but for a subroutine. Flags are set in one block and read in
 * another, with memory operands between that miss, fault, straddle or hit a device. r12: data
 * pages, r13: the page table, r14: the device, r15: see exits.inc.
 */
	.intel_syntax noprefix
	.include "exits.inc"
	.section .rodata
	.globl loops_begin, loops_end
	.balign 16
loops_begin:
	mov	r8d, 4
	mov	ebx, 0x12345678
again:
	lea	rsp, [r12 + 0x4100]
	/* An empty TLB, pages neither accessed nor dirty. */
	and	qword ptr [r13 + 0x31 * 8], -0x61
	and	qword ptr [r13 + 0x32 * 8], -0x61
	mov	rax, cr3
	mov	cr3, rax

	/* Loops in each other; CF goes through INC, DEC and memory operands. */
	mov	ecx, 3
outer:
	mov	edx, 3
inner:
	add	[r12 + rcx * 8], rbx
	jc	1f
	inc	dword ptr [r12 + 0x1008]
1:	adc	rbx, [r12 + 0x2010]
	setc	byte ptr [r12 + 0x2021]
	rcl	byte ptr [r12 + 0x1020], cl
	dec	edx
	jnz	inner
	test	cl, 2
	jz	2f
	call	near_by
2:	pushfq
	pop	r10
	cmovs	r11, rbx
	loop	outer

	/* A page first read, in another block written: it becomes dirty then. */
	and	qword ptr [r13 + 0x31 * 8], -0x61
	invlpg	[r12 + 0x1000]
	mov	ecx, 4
3:	cmp	rbx, [r12 + 0x1100]
	ja	4f
	add	rbx, 0x1111
4:	cmp	ecx, 2
	jne	5f
	sbb	[r12 + 0x1100], rbx
5:	dec	ecx
	jnz	3b

	/* A fault in the middle of a read-modify-write, in some rounds; flags from before it. */
	mov	ecx, 6
6:	test	cl, 1
	jz	7f
	and	qword ptr [r13 + 0x33 * 8], -2
	invlpg	[r12 + 0x3000]
	jmp	8f
7:	test	cl, 2
	jz	8f
	and	qword ptr [r13 + 0x33 * 8], -3
	invlpg	[r12 + 0x3000]
8:	add	bl, 0x7f
	adc	qword ptr [r12 + 0x3010], rbx
	jo	9f
	lahf
	shl	dword ptr [r12 + 0x3020 + rcx * 4], cl
9:	setp	byte ptr [r12 + 0x3000 + rcx]
	neg	word ptr [r12 + 0x3100]
	push	qword ptr [r12 + 0x3100]
	pop	qword ptr [r12 + 0x3108]
	dec	ecx
	jnz	6b

	/* Across a page boundary, a few bytes further each time; the second page not always there. */
	lea	rdi, [r12 + 0x2ff4]
10:	add	[rdi], rbx
	jnc	11f
	xor	rbx, [rdi - 2]
11:	movq	xmm1, rbx
	movups	xmm0, [rdi - 4]
	paddq	xmm0, xmm1
	movups	[rdi - 4], xmm0
	add	rdi, 3
	test	dil, 4
	jz	12f
	and	qword ptr [r13 + 0x33 * 8], -3
	invlpg	[r12 + 0x3000]
12:	lea	rax, [r12 + 0x3002]
	cmp	rdi, rax
	jb	10b

	/* A device in one branch of a loop. */
	mov	ecx, 5
13:	sub	ebx, 0x77777777
	jle	14f
	adc	eax, [r14]
	add	[r14 + 8], eax
	jc	15f
14:	sbb	eax, ebx
15:	xchg	[r14 + 16], eax
	dec	ecx
	jnz	13b

	/* Code that changes: the running block, a block that the loop branches to, one it falls into. */
	mov	ecx, 7
16:	test	ecx, 1
	jz	17f
	inc	byte ptr [rip + there + 1]
	add	rbx, 5
	jmp	18f
17:	sub	rbx, 9
there:	mov	eax, 0x100
	add	rbx, rax
18:	inc	byte ptr [rip + here + 1]
	adc	rbx, 0
here:	mov	eax, 0x200
	xor	rbx, rax
	rol	rbx, 7
	dec	ecx
	jnz	16b

	/* In one round a block changes that another one, which does not, has branched to before. */
	mov	ecx, 9
19:	cmp	ecx, 4
	jne	20f
	xor	byte ptr [rip + behind], 0x28	/* ADD, SUB */
20:	bt	rbx, rcx
	jc	behind
	sbb	rbx, 1
	stc
	jmp	behind
	ud2
behind:	add	ebx, ecx
	jc	32f
	rol	rbx, 7
32:	sub	rax, rcx
	jmp	33f
	ud2
33:	adc	rbx, 0
	dec	ecx
	jnz	19b

	/* No instruction, by its third byte, which changes. */
	lea	r15, [rip + 21f]
bad:	.byte	0x2e, 0x4c, 0xce
21:	xor	byte ptr [rip + bad + 2], 0xce ^ 0x98

	/* One jump to several places, one return to several callers, a call through memory. */
	mov	ecx, 6
	lea	rsi, [rip + 23f]
	lea	rdi, [rip + 24f]
22:	test	ecx, ecx
	cmovp	rsi, rdi
	cmp	rbx, rcx
	jmp	rsi
23:	adc	rbx, 3
	call	near_by
	lea	rdi, [rip + 23b]
	jmp	25f
24:	sbb	rbx, 7
	call	near_by
	lea	rsi, [rip + 23b]
	lea	rax, [rip + near_by]
	mov	[r12 + 0x4200], rax
	call	qword ptr [r12 + 0x4200]
25:	dec	ecx
	jnz	22b

	/* Vector and x87 state, and conditions from them. */
	mov	ecx, 4
	fldz
26:	fld1
	fadd	qword ptr [r12 + 0x400 + rcx * 8]
	fcomi	st, st(1)
	fstp	qword ptr [r12 + 0x408 + rcx * 8]
	jbe	27f
	cvtsi2sd xmm2, ecx
	ucomisd	xmm2, [r12 + 0x400]
	jp	28f
27:	movupd	[r12 + 0x1ff8], xmm2
	inc	ebx
28:	cmpxchg	[r12 + 0x2040], rbx
	jz	29f
	fnstcw	word ptr [r12 + 0x440]
	stmxcsr	dword ptr [r12 + 0x444]
29:	dec	ecx
	jnz	26b
	fstp	st(0)

	/* A subroutine whose page is not there at first; strings. */
	and	qword ptr [r13 + 0x11 * 8], -2
	invlpg	[rip + far_away]
	cmp	rbx, rax
	call	far_away
	lea	rsi, [r12 + 0xff0]
	lea	rdi, [r12 + 0x1ff8]
	mov	ecx, 20
	rep movsb
	mov	ecx, 12
	lea	rsi, [r12 + 0xff0]
	repe cmpsb
	setb	byte ptr [r12 + 0x500]
	dec	r8d
	jnz	again
	hlt

near_by:
	lea	rbx, [rbx + rbx * 2 + 1]
	jc	30f
	ret
30:	ror	rbx, 5
	ret
	handlers loops

	/* An instruction across the page boundary. */
	.org	loops_begin + 0xffe, 0x90
far_away:
	adc	rbx, 0x11223344
	jno	31f
	xor	rbx, 0x11
31:	ret
loops_end:
	.section .note.GNU-stack, "", @progbits
