/* SPDX-License-Identifier: Apache-2.0 */
/*
 * paging_matrix.S - every combination of page permissions (SDM vol. 3, 4.6 and 4.7)
 *
 * How it works
 * PML4 slot 2 (TVA = 1 TiB) belongs to the test. `tpage` (physical) appears at TVA + tpage by a
 * 4 KiB, 2 MiB or 1 GiB page, so the address is the same for every size. Each combination of leaf
 * bits (P, W, U, NX), upper-level bits (W, U, NX), CR0.WP, CR4.SMEP, CR4.SMAP, EFLAGS.AC and
 * access (kernel or user; read, write, fetch) is tried: 12288 a page size. Error code, A and D are
 * compared with a direct transcription of the manual (matrix_oracle). Comment lines name the
 * first few combinations that fail.
 */
#include "rt.inc"

	.set	TVA, 0x10000000000
	.set	P, 1
	.set	W, 2
	.set	U, 4
	.set	A, 0x20
	.set	D, 0x40
	.set	PS, 0x80

	.macro	MATRIX size, access
	movl	$\size, m_size
	movl	$\access, m_access
	call	matrix_part
	.endm
BEGIN_TESTS
	mov	$tpage, %eax
	shr	$12, %eax
	and	$511, %eax
	lea	tpt(, %rax, 8), %rax
	mov	%rax, tpt_at
	movw	$0x30cd, tpage + 0x100 /* int $UEXIT_VEC, for user fetches */
	movb	$0xc3, tpage + 0x200 /* ret, for kernel fetches */
	.irp	s, 0, 1, 2
	.irp	a, 0, 1, 2, 3, 4, 5
	MATRIX	\s, \a
	EXPECT32 "matrix: size \s (4K 2M 1G), access \a (kernel R W X, user R W X)", m_bad, "$0"
	.endr
	.endr
	ret

	/* R12: leaf P W U NX; R13: upper W U NX; R14: WP SMEP SMAP AC */
matrix_part:
	movl	$0, m_bad
	xor	%r14d, %r14d
1:	CR_CLEAR cr0, CR0_WP
	test	$1, %r14d
	jz	2f
	CR_SET	cr0, CR0_WP
2:	mov	%cr4, %rax
	and	$~(CR4_SMEP | CR4_SMAP), %rax
	mov	%r14d, %ecx
	and	$6, %ecx
	shl	$19, %ecx /* bit 1 to 20, bit 2 to 21 */
	or	%rcx, %rax
	mov	%rax, %cr4
	xor	%r13d, %r13d
3:	xor	%r12d, %r12d
4:	call	matrix_one
	inc	%r12d
	cmp	$16, %r12d
	jb	4b
	inc	%r13d
	cmp	$8, %r13d
	jb	3b
	inc	%r14d
	cmp	$16, %r14d
	jb	1b
	ret

matrix_one:
	/* leaf bits to an entry in RAX, upper bits in RDX */
	mov	%r12d, %eax
	and	$7, %eax
	mov	%r12d, %ecx
	shr	$3, %ecx
	shl	$63, %rcx
	or	%rcx, %rax
	mov	%r13d, %edx
	and	$3, %edx
	lea	1(, %rdx, 2), %edx
	mov	%r13d, %ecx
	shr	$2, %ecx
	shl	$63, %rcx
	or	%rcx, %rdx
	mov	m_size, %ecx
	cmp	$1, %ecx
	ja	2f
	je	1f
	lea	tpage(%rax), %rax
	mov	tpt_at, %rbx
	lea	tpt(%rdx), %rdx
	mov	%rdx, tpd
	movq	$tpd + 7, tpdpt
	movq	$tpdpt + 7, rt_pml4 + 16
	jmp	3f
1:	or	$PS, %rax
	mov	$tpd, %ebx
	lea	tpd(%rdx), %rdx
	mov	%rdx, tpdpt
	movq	$tpdpt + 7, rt_pml4 + 16
	jmp	3f
2:	or	$PS, %rax
	mov	$tpdpt, %ebx
	lea	tpdpt(%rdx), %rdx
	mov	%rdx, rt_pml4 + 16
3:	mov	%rax, (%rbx) /* RBX: where the leaf is */
	movabs	$(TVA + tpage), %rdi
	invlpg	(%rdi)
	mov	%rbx, m_leaf_at
	mov	%r12d, m_r12
	mov	%r13d, m_r13
	mov	%r14d, m_r14

	/* the access, with EFLAGS.AC by bit 3 of R14 */
	mov	m_access, %eax
	mov	%r14d, %ecx
	and	$8, %ecx
	shl	$15, %ecx
	or	$2, %ecx
	movq	$-1, exc_code
	mov	%rsp, rt_resume_sp
	movq	$matrix_back, rt_resume
	cmp	$3, %eax
	jae	4f
	push	%rcx
	popfq
	jmp	*m_kernel(, %rax, 8)
4:	push	$(SEL_UD | 3)
	push	$(rt_ustack_top + UBASE)
	push	%rcx
	push	$(SEL_U64 | 3)
	push	m_user - 24(, %rax, 8)
	iretq
m_krd:	mov	(%rdi), %al
	jmp	matrix_done
m_kwr:	movb	$0, (%rdi)
	jmp	matrix_done
m_kex:	add	$0x200, %rdi
	call	*%rdi
matrix_done:
	movq	$0, rt_resume
matrix_back:
	push	$2
	popfq
	mov	m_r12, %r12d
	mov	m_r13, %r13d
	mov	m_r14, %r14d
	mov	exc_code, %rax
	mov	$(UEXIT_VEC << 32), %rcx
	cmp	%rcx, %rax
	jne	1f
	mov	$-1, %rax
1:	mov	%rax, m_got
	call	matrix_oracle
	cmp	m_got, %rax
	jne	matrix_bad
	/* A and D of the leaf; after a fault only D is certain */
	mov	m_leaf_at, %rcx
	mov	(%rcx), %ecx
	cmp	$-1, %rax
	je	2f
	test	$D, %ecx
	jnz	matrix_bad
	ret
2:	and	$(A | D), %ecx
	mov	m_access, %eax
	mov	m_want_ad(, %rax, 4), %edx
	cmp	%edx, %ecx
	jne	matrix_bad
	ret
matrix_bad:
	incl	m_bad
	cmpl	$4, m_bad
	ja	1f
	mov	$m_msg, %edi
	call	rt_puts
	mov	%r14, %rax
	shl	$4, %rax
	or	%r13, %rax
	shl	$4, %rax
	or	%r12, %rax
	call	rt_puthex
	mov	$m_msg2, %edi
	call	rt_puts
	mov	m_got, %rax
	call	rt_puthex
	mov	$'\n', %eax
	call	rt_putc
1:	ret

	/* RAX: the exc_code that the manual wants. R8: W, R9: U, R10: NX, effective. */
matrix_oracle:
	mov	%r12d, %r8d
	shr	$1, %r8d
	and	%r13d, %r8d /* bit 0: W, bit 1: U (leaf bits 1, 2 over upper bits 0, 1) */
	mov	%r8d, %r9d
	shr	$1, %r9d
	and	$1, %r8d
	and	$1, %r9d
	mov	%r12d, %r10d
	shr	$3, %r10d
	mov	%r13d, %ecx
	shr	$2, %ecx
	or	%ecx, %r10d
	mov	m_access, %ecx
	movzbl	m_err(%rcx), %eax /* error code without P */
	test	$1, %r12d
	jz	.Lfault
	or	$1, %eax
	jmp	*m_rule(, %rcx, 8)
m_rule_ur:
	test	%r9d, %r9d
	jz	.Lfault
	jmp	.Lnone
m_rule_uw:
	test	%r9d, %r9d
	jz	.Lfault
	test	%r8d, %r8d
	jz	.Lfault
	jmp	.Lnone
m_rule_ux:
	test	%r9d, %r9d
	jz	.Lfault
	test	%r10d, %r10d
	jnz	.Lfault
	jmp	.Lnone
m_rule_kx:
	test	%r10d, %r10d
	jnz	.Lfault
	test	$2, %r14d /* SMEP */
	jz	.Lnone
	test	%r9d, %r9d
	jnz	.Lfault
	jmp	.Lnone
m_rule_kw:
	test	%r8d, %r8d
	jnz	m_rule_kr
	test	$1, %r14d /* WP */
	jnz	.Lfault
m_rule_kr:
	test	%r9d, %r9d
	jz	.Lnone
	mov	%r14d, %ecx
	and	$0xc, %ecx
	cmp	$4, %ecx /* SMAP and not AC */
	je	.Lfault
.Lnone:	mov	$-1, %rax
	ret
.Lfault:
	mov	$(PF << 32), %rcx
	or	%rcx, %rax
	ret

u_read:
	movabs	$(TVA + tpage), %rdi
	mov	(%rdi), %al
	UEXIT
u_write:
	movabs	$(TVA + tpage), %rdi
	movb	$0, (%rdi)
	UEXIT

	.section .rodata
m_msg:	.asciz	"# combination (WP SMEP SMAP AC, upper W U NX, leaf P W U NX): "
m_msg2:	.asciz	" got "
	.balign	8
m_kernel: .quad	m_krd, m_kwr, m_kex
m_user:	.quad	u_read + UBASE, u_write + UBASE, TVA + tpage + 0x100
m_rule:	.quad	m_rule_kr, m_rule_kw, m_rule_kx, m_rule_ur, m_rule_uw, m_rule_ux
m_want_ad: .long A, A | D, A, A, A | D, A
m_err:	.byte	0, 2, 0x10, 4, 6, 0x14

	.bss
	.balign	4096
tpdpt:	.skip	4096
tpd:	.skip	4096
tpt:	.skip	4096
tpage:	.skip	4096
tpt_at:	.skip	8
m_leaf_at: .skip 8
m_got:	.skip	8
m_size:	.skip	4
m_access: .skip	4
m_bad:	.skip	4
m_r12:	.skip	4
m_r13:	.skip	4
m_r14:	.skip	4
END_TESTS
