/* SPDX-License-Identifier: Apache-2.0 */
/*
 * paging32.S - 32-bit and PAE paging, and the way out of long mode and back (SDM vol. 3, 4.3, 4.4,
 * 9.8.5)
 *
 * How it works
 * The program leaves long mode (compatibility code segment, PG off, LME off), turns on the paging
 * under test with its own tables, IDT and TSS, stores one result a probe in res[], returns to long
 * mode and compares there. A result is (vector << 16 | error code), or -1 for no exception.
 *
 * Both kinds of tables give the same map: [0, 4 MiB) identical, supervisor, large pages; [4 MiB,
 * 6 MiB) by one page table, the test's; [8 MiB, 10 MiB) physical 0 for user mode, a large page.
 */
#include "rt.inc"

	.set	TEST, 0x400000
	.set	USER, 0x800000
	.set	TSS32, SEL_T0
	.set	P, 1
	.set	W, 2
	.set	U, 4
	.set	A, 0x20
	.set	D, 0x40
	.set	PS, 0x80

	.macro	ENTER_LEGACY fn
	mov	%rsp, saved_rsp
	ljmpl	*1f
	.pushsection .data
1:	.long	\fn
	.word	SEL_K32
	.popsection
	.endm
	.macro	R name, i, want
	EXPECT32 "\name", res+4*\i, "$\want"
	.endm
	.macro	COMMON kind
	R	"\kind: read", 0, -1
	R	"\kind: read of a missing page", 1, 0xe0000
	R	"\kind: ... cr2", 2, TEST+0x5123
	R	"\kind: write to a missing page", 3, 0xe0002
	R	"\kind: write to a read-only page", 4, 0xe0003
	R	"\kind: the same with WP = 0", 5, -1
	R	"\kind: user read of a supervisor page", 6, 0xe0005
	R	"\kind: user write to a read-only page", 7, 0xe0007
	R	"\kind: user read", 8, 0x300000
	R	"\kind: user write", 9, 0x300000
	R	"\kind: A and D after a read", 10, A
	R	"\kind: A and D after a write", 11, A+D
	R	"\kind: A and D of a large page after a write", 12, A+D
	R	"\kind: invlpg shows the new page", 13, 0x22222222
	R	"\kind: cr3 reload shows the new page", 14, 0x11111111
	R	"\kind: crossing write: the second page is missing", 15, 0xe0002
	R	"\kind: crossing write: cr2", 16, TEST+0x5000
	R	"\kind: crossing write: nothing written", 17, 0x11111111
	R	"\kind: reserved bit", 18, 0xe0009
	R	"\kind: user frame: old ss", 19, SEL_UD+3
	R	"\kind: user frame: old cs", 20, SEL_U32+3
	.endm

	.macro	GATE32 vec, fn, attr
	mov	$\fn, %eax
	mov	%ax, idt32 + 8 * \vec
	movw	$SEL_K32, idt32 + 8 * \vec + 2
	movw	$\attr, idt32 + 8 * \vec + 4
	shr	$16, %eax
	mov	%ax, idt32 + 8 * \vec + 6
	.endm

BEGIN_TESTS
	GATE32	GP, exc32_gp, 0x8e00
	GATE32	PF, exc32_pf, 0x8e00
	GATE32	UEXIT_VEC, exc32_30, 0xee00
	ENTER_LEGACY legacy_32
back1:	COMMON	"32-bit"
	ENTER_LEGACY legacy_pae
back2:	COMMON	"PAE"
	R	"PAE: NX fetch", 21, 0xe0011
	R	"PAE: PDPTEs are read when cr3 is loaded", 22, -1
	R	"PAE: reserved PDPTE bits fault at mov to cr3", 23, 0xd0000
	RDMSR64	MSR_EFER
	mov	%rax, %rbx
	and	$0x500, %ebx
	EXPECT	"long mode is back: LME and LMA", %rbx, "$0x500"
	EXPECT	"... LMA was 0 in legacy mode", "legacy_efer", "$0"
	ret

	.code32
	/* Out of long mode: paging off (the code is identity-mapped), then LME. EBP: return label. */
	.macro	LEAVE_LONG
	mov	%cr0, %eax
	and	$0x7fffffff, %eax
	mov	%eax, %cr0
	mov	$MSR_EFER, %ecx
	rdmsr
	and	$~0x100, %eax
	wrmsr
	rdmsr
	and	$0x500, %eax
	mov	%eax, legacy_efer
	.endm
	.macro	SEGS
	mov	$SEL_KD, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	.endm
	/* Paging by tables at \cr3, with CR4 bits \cr4. */
	.macro	PAGING_ON cr3, cr4
	mov	$\cr4, %eax
	mov	%eax, %cr4
	mov	$\cr3, %eax
	mov	%eax, %cr3
	mov	%cr0, %eax
	or	$0x80010000, %eax
	mov	%eax, %cr0
	lidt	idtr32
	mov	$tss32, %eax
	movw	$103, rt_gdt_free
	mov	%ax, rt_gdt_free + 2
	shr	$16, %eax
	mov	%al, rt_gdt_free + 4
	movb	$0x89, rt_gdt_free + 5
	movb	$0, rt_gdt_free + 6
	mov	%ah, rt_gdt_free + 7
	mov	$TSS32, %eax
	ltr	%ax
	.endm
	.macro	RETURN_LONG to
	mov	%cr0, %eax
	and	$0x7fffffff, %eax
	mov	%eax, %cr0
	mov	$(CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT), %eax
	mov	%eax, %cr4
	mov	$rt_pml4, %eax
	mov	%eax, %cr3
	mov	$MSR_EFER, %ecx
	rdmsr
	or	$0x100, %eax
	wrmsr
	mov	%cr0, %eax
	or	$0x80000000, %eax
	mov	%eax, %cr0
	ljmp	$SEL_K64, $1f
	.code64
1:	SEGS
	mov	saved_rsp, %rsp
	lidt	rt_idtr
	andb	$~2, rt_gdt + SEL_TSS + 5 /* not busy */
	mov	$SEL_TSS, %eax
	ltr	%ax
	jmp	\to
	.code32
	.endm

	/* TRY in 32 bits; the result goes to res[i]. */
	.macro	PROBE i, insn:vararg
	movl	$1f, resume32
	mov	%esp, resume_sp32
	movl	$-1, got
	\insn
1:	mov	got, %eax
	mov	%eax, res + 4 * \i
	.endm
	.macro	USER_PROBE i, entry
	movl	$1f, resume32
	mov	%esp, resume_sp32
	push	$(SEL_UD | 3)
	push	$(rt_ustack_top + USER)
	push	$2
	push	$(SEL_U32 | 3)
	push	$(\entry + USER)
	iret
1:	mov	got, %eax
	mov	%eax, res + 4 * \i
	.endm
	.macro	STORE i, from
	mov	\from, %eax
	mov	%eax, res + 4 * \i
	.endm
	/* The page-table entry of test page n: EBX is the table, EDX the log2 of the entry size. */
	.macro	SET n, val
	mov	$\n, %eax
	xchg	%ecx, %edx
	shl	%cl, %eax
	xchg	%ecx, %edx
	movl	$(\val), (%ebx, %eax)
	mov	$(TEST + 0x1000 * \n), %eax
	invlpg	(%eax)
	.endm
	.macro	GET_AD n
	mov	$\n, %eax
	xchg	%ecx, %edx
	shl	%cl, %eax
	xchg	%ecx, %edx
	mov	(%ebx, %eax), %eax
	and	$(A | D), %eax
	.endm

	/* EBX: the test's page table, EDX: 2 or 3, ESI: the PDE of [2 MiB or 0, ...). */
probes:
	movl	$0x11111111, page_a
	movl	$0x11111111, page_a + 0xffc
	movl	$0x22222222, page_b
	SET	0, page_a + P + W
	PROBE	0, mov TEST, %eax
	PROBE	1, mov TEST + 0x5123, %eax
	STORE	2, got_cr2
	PROBE	3, mov %eax, TEST + 0x5123
	SET	1, page_a + P
	PROBE	4, mov %eax, TEST + 0x1000
	mov	%cr0, %eax
	and	$~0x10000, %eax
	mov	%eax, %cr0
	movl	$0x11111111, %edi
	PROBE	5, mov %edi, TEST + 0x1000
	mov	%cr0, %eax
	or	$0x10000, %eax
	mov	%eax, %cr0
	USER_PROBE 6, u_rd0
	STORE	19, frame_ss
	STORE	20, frame_cs
	SET	1, page_a + P + U
	USER_PROBE 7, u_wr1
	SET	1, page_a + P + U + W
	USER_PROBE 8, u_rd1
	movl	$0x11111111, page_a
	USER_PROBE 9, u_wr1
	SET	2, page_a + P + W
	mov	TEST + 0x2000, %eax
	GET_AD	2
	mov	%eax, res + 40
	movl	$0x11111111, TEST + 0x2000
	GET_AD	2
	mov	%eax, res + 44
	andl	$~(A | D), (%esi)
	mov	%cr3, %eax
	mov	%eax, %cr3
	incl	large_word
	mov	(%esi), %eax
	and	$(A | D), %eax
	mov	%eax, res + 48
	SET	3, page_a + P + W
	mov	TEST + 0x3000, %eax
	SET	3, page_b + P + W
	STORE	13, TEST+0x3000
	mov	$3, %eax
	xchg	%ecx, %edx
	shl	%cl, %eax
	xchg	%ecx, %edx
	movl	$(page_a + P + W), (%ebx, %eax)
	mov	%cr3, %eax
	mov	%eax, %cr3
	STORE	14, TEST+0x3000
	SET	4, page_a + P + W
	mov	$0x33333333, %edi
	PROBE	15, mov %edi, TEST + 0x4ffe
	STORE	16, got_cr2
	STORE	17, page_a+0xffc
	ret

legacy_32:
	LEAVE_LONG
	mov	$rt_stack_top - 4096, %esp
	PAGING_ON pd_32, CR4_PSE
	SEGS
	mov	$pt_32, %ebx
	mov	$2, %edx
	mov	$pd_32, %esi
	call	probes
	/* bit 21 of a 4 MiB page is reserved (bits 13-20 are address bits 32-39, PSE-36) */
	movl	$0x200000 + PS + P, pd_32 + 12
	PROBE	18, mov 0xc00000, %eax
	RETURN_LONG back1

legacy_pae:
	LEAVE_LONG
	mov	$rt_stack_top - 4096, %esp
	PAGING_ON pdpt_pae, CR4_PAE
	SEGS
	mov	$pt_pae, %ebx
	mov	$3, %edx
	mov	$pd_pae, %esi
	call	probes
	movl	$0x00080000, pt_pae + 6 * 8 + 4 /* bit 51 */
	movl	$(page_a + P), pt_pae + 6 * 8
	PROBE	18, mov TEST + 0x6000, %eax
	movb	$0xc3, page_b + 0x10
	movl	$(page_b + P + W), pt_pae + 7 * 8
	movl	$0x80000000, pt_pae + 7 * 8 + 4
	mov	$TEST + 0x7010, %eax
	PROBE	21, call *%eax
	/*
	 * PDPTE 1 (1 GiB). Intel reads PDPTEs when cr3 is loaded, AMD at each walk; so what is seen
	 * before the load is not checked.
	 */
	movl	$(pd_pae + P), pdpt_pae + 8
	mov	%cr3, %eax
	mov	%eax, %cr3
	PROBE	22, mov 0x40000000, %eax
	movl	$(pd_pae + P + W), pdpt_pae + 8 /* bit 1 is reserved */
	mov	%cr3, %edi
	PROBE	23, mov %edi, %cr3
	movl	$0, pdpt_pae + 8
	RETURN_LONG back2

	/* user mode, at + USER */
u_rd0:	mov	$(SEL_UD | 3), %eax
	mov	%eax, %ds
	mov	TEST, %eax
	UEXIT
u_rd1:	mov	$(SEL_UD | 3), %eax
	mov	%eax, %ds
	mov	TEST + 0x1000, %eax
	UEXIT
u_wr1:	mov	$(SEL_UD | 3), %eax
	mov	%eax, %ds
	movl	$0x11111111, TEST + 0x1000
	UEXIT

	/* exceptions: [ESP] error code, EIP, CS, EFLAGS (, ESP, SS) */
exc32_gp:
	push	$GP
	jmp	exc32
exc32_pf:
	push	$PF
	jmp	exc32
exc32_30:
	push	$0
	push	$UEXIT_VEC
exc32:	push	%eax
	SEGS
	mov	4(%esp), %eax
	shl	$16, %eax
	or	8(%esp), %eax
	mov	%eax, got
	mov	%cr2, %eax
	mov	%eax, got_cr2
	mov	16(%esp), %eax
	mov	%eax, frame_cs
	mov	28(%esp), %eax
	mov	%eax, frame_ss
	pop	%eax
	mov	resume_sp32, %esp
	jmp	*resume32
	.code64

	.data
	.balign	4096
pd_32:	.long	P + W + PS, pt_32 + P + W + U, P + W + U + PS
	.fill	1021, 4, 0
pt_32:	.fill	1024, 4, 0
pd_pae:	.quad	P + W + PS, 0x200000 + P + W + PS, pt_pae + P + W + U, 0, P + W + U + PS
	.fill	507, 8, 0
pt_pae:	.fill	512, 8, 0
page_a:	.skip	4096
page_b:	.skip	4096
	.balign	32
pdpt_pae: .quad	pd_pae + P, 0, 0, 0
tss32:	.long	0, rt_rsp0_top, SEL_KD
	.fill	23, 4, 0
	.balign	8
idt32:	.fill	256, 8, 0
idtr32:	.word	. - idt32 - 1
	.long	idt32
	.balign	8
saved_rsp: .quad 0
res:	.fill	32, 4, 0xee
legacy_efer: .quad 0
resume32: .long	0
resume_sp32: .long 0
got:	.long	0
got_cr2: .long	0
frame_cs: .long	0
frame_ss: .long	0
large_word: .long 0
END_TESTS
