/* SPDX-License-Identifier: Apache-2.0 */
/*
 * paging.S - 4-level paging: error codes, A and D, TLB rules, PCID, accesses that cross a page
 *
 * SDM vol. 3, ch. 4. PML4 slot 2 (TVA = 1 TiB) belongs to the test; the physical pages at `tpage`
 * appear at TVA + tpage. Permissions have their own program, paging_matrix.S.
 */
#include "rt.inc"

	.set	TVA, 0x10000000000
	.set	P, 1
	.set	W, 2
	.set	U, 4
	.set	A, 0x20
	.set	D, 0x40
	.set	PS, 0x80
	.set	G, 0x100
	.set	CANARY, 0x1122334455667788

	/* Sets the entry of tpage + i pages in the 4 KiB table, without any invalidation. */
	.macro	PTE i, val
	movabs	$(\val), %rax
	mov	tpt_at, %rcx
	mov	%rax, 8 * (\i)(%rcx)
	.endm
	.macro	GET_PTE i, reg
	mov	tpt_at, %rcx
	mov	8 * (\i)(%rcx), \reg
	.endm
	.macro	INVL i
	movabs	$(TVA + tpage + 4096 * (\i)), %rax
	invlpg	(%rax)
	.endm
	.macro	MAP i, val
	PTE	\i, "\val"
	INVL	\i
	.endm
	.macro	NX_PTE i, val
	PTE	\i, "\val"
	btsq	$63, 8 * (\i)(%rcx)
	INVL	\i
	.endm

BEGIN_TESTS
	movq	$tpdpt + 7, rt_pml4 + 16
	mov	$tpage, %eax
	shr	$12, %eax
	and	$511, %eax
	lea	tpt(, %rax, 8), %rax
	mov	%rax, tpt_at
	movw	$0x30cd, tpage + 0x100 /* int $UEXIT_VEC, for user fetches */
	movb	$0xc3, tpage + 0x200 /* ret, for kernel fetches */

	/* the plain tree from here on: every level P W U, 4 KiB pages */
	movq	$tpdpt + 7, rt_pml4 + 16
	movq	$tpd + 7, tpdpt
	movq	$tpt + 7, tpd
	mov	%cr3, %rax
	mov	%rax, %cr3

	/* --- not present at each level; cr2 --- */
	MAP	0, 0
	movabs	$(TVA + tpage + 5), %rdi
	TRY	mov (%rdi), %al
	EXPECT_EXC "not present: read", PF, 0
	EXPECT_ADDR "not present: cr2", exc_cr2, "$(TVA + tpage + 5)"
	movabs	$(TVA + tpage + 5), %rdi
	TRY	mov %al, (%rdi)
	EXPECT_EXC "not present: write", PF, 2
	movabs	$(TVA + tpage + 5), %rdi
	TRY	lock addb $1, (%rdi)
	EXPECT_EXC "not present: a locked read-modify-write counts as a write", PF, 2
	movabs	$(TVA + tpage + 5), %rdi
	TRY	lock cmpxchg %cl, (%rdi)
	EXPECT_EXC "not present: lock cmpxchg counts as a write", PF, 2
	movabs	$(TVA + tpage + 0x200), %rdi
	TRY	call *%rdi
	EXPECT_EXC "not present: fetch", PF, 0x10
	EXPECT_ADDR "not present: fetch, rip is the target", exc_frame+F_RIP, "$(TVA + tpage + 0x200)"
	TRY	int3
	EXPECT_ADDR "other exceptions leave cr2", exc_cr2, "$(TVA + tpage + 0x200)"
	MAP	0, tpage + P
	movabs	$(TVA + tpage), %rdi
	TRY	prefetcht0 (%rdi)
	EXPECT_NOEXC "prefetch never faults"
	movq	$0, tpd
	INVL	0
	movabs	$(TVA + tpage), %rdi
	TRY	prefetcht0 (%rdi)
	EXPECT_NOEXC "prefetch never faults (not present)"
	movabs	$(TVA + tpage), %rdi
	TRY	mov (%rdi), %al
	EXPECT_EXC "not present: PDE", PF, 0
	movq	$tpt + 7, tpd
	movq	$0, tpdpt
	INVL	0
	movabs	$(TVA + tpage), %rdi
	TRY	mov (%rdi), %al
	EXPECT_EXC "not present: PDPTE", PF, 0
	movq	$tpd + 7, tpdpt
	movabs	$(TVA + 0x8000000000 - 8), %rdi
	TRY	mov (%rdi), %al
	EXPECT_EXC "not present: another PDPTE", PF, 0
	mov	$0x20000000000, %rdi
	TRY	mov %al, (%rdi)
	EXPECT_EXC "not present: PML4E", PF, 2
	movabs	$(TVA + tpage), %rdi
	TRY	mov (%rdi), %al
	EXPECT_NOEXC "the tree is whole again"

	/* --- reserved bits (the exception says P too) --- */
	MAP	0, tpage + P + W + U + (1 << 51)
	movabs	$(TVA + tpage), %rdi
	TRY	mov (%rdi), %al
	EXPECT_EXC "reserved: PTE bit 51", PF, 9
	movabs	$(TVA + tpage), %rdi
	TRY	mov %al, (%rdi)
	EXPECT_EXC "reserved: PTE bit 51, write", PF, 0xb
	USER64	u_write
	EXPECT_EXC "reserved: PTE bit 51, user write", PF, 0xf
	MAP	0, tpage + P + W + U
	mov	$(tpdpt + 7 + PS), %rax
	mov	%rax, rt_pml4 + 16
	INVL	0
	movabs	$(TVA + tpage), %rdi
	TRY	mov (%rdi), %al
	EXPECT_EXC "reserved: PS in a PML4E", PF, 9
	movq	$tpdpt + 7, rt_pml4 + 16
	movq	$7 + PS + 0x2000, tpd
	INVL	0
	movabs	$(TVA + tpage), %rdi
	TRY	mov (%rdi), %al
	EXPECT_EXC "reserved: bit 13 of a 2 MiB page", PF, 9
	movq	$7 + PS + 0x1000, tpd
	INVL	0
	movabs	$(TVA + tpage), %rdi
	TRY	mov (%rdi), %al
	EXPECT_NOEXC "bit 12 of a 2 MiB page is PAT"
	movq	$tpt + 7, tpd
	movq	$7 + PS + 0x20000000, tpdpt
	INVL	0
	movabs	$(TVA + tpage), %rdi
	TRY	mov (%rdi), %al
	EXPECT_EXC "reserved: bit 29 of a 1 GiB page", PF, 9
	movq	$tpd + 7, tpdpt
	MAP	0, tpage + P + W + U + 0xe00 + (0x7ff << 52)
	movabs	$(TVA + tpage), %rdi
	TRY	mov (%rdi), %al
	EXPECT_NOEXC "ignored bits 9-11 and 52-62 are ignored"
	NX_PTE	0, tpage + P + W + U
	RDMSR64	MSR_EFER
	and	$~0x800, %eax
	wrmsr
	INVL	0
	movabs	$(TVA + tpage), %rdi
	TRY	mov (%rdi), %al
	EXPECT_EXC "reserved: NX while EFER.NXE is 0", PF, 9
	MAP	0, 0
	movabs	$(TVA + tpage + 0x200), %rdi
	TRY	call *%rdi
	EXPECT_EXC "no I bit without NXE and SMEP", PF, 0
	CR_SET	cr4, CR4_SMEP
	movabs	$(TVA + tpage + 0x200), %rdi
	TRY	call *%rdi
	EXPECT_EXC "the I bit with SMEP alone", PF, 0x10
	CR_CLEAR cr4, CR4_SMEP
	RDMSR64	MSR_EFER
	or	$0x800, %eax
	wrmsr

	/* --- A and D --- */
	movq	$tpt + P + W + U, tpd
	movq	$tpd + P + W + U, tpdpt
	movq	$tpdpt + P + W + U, rt_pml4 + 16
	MAP	0, tpage + P + W + U
	movabs	$(TVA + tpage), %rdi
	mov	(%rdi), %al
	GET_PTE	0, %rbx
	EXPECT	"A after a read, not D", %rbx, "$(tpage + P + W + U + A)"
	EXPECT	"A in the PDE", tpd, "$(tpt + P + W + U + A)"
	EXPECT	"A in the PDPTE", tpdpt, "$(tpd + P + W + U + A)"
	EXPECT	"A in the PML4E", rt_pml4+16, "$(tpdpt + P + W + U + A)"
	movabs	$(TVA + tpage), %rdi
	mov	%al, (%rdi)
	GET_PTE	0, %rbx
	EXPECT	"D after a write through a cached clean translation", %rbx, "$(tpage + P + W + U + A + D)"
	EXPECT	"no D in the PDE", tpd, "$(tpt + P + W + U + A)"
	MAP	0, tpage + P + U
	movabs	$(TVA + tpage), %rdi
	TRY	mov %al, (%rdi)
	EXPECT_EXC "write to a read-only page", PF, 3
	GET_PTE	0, %rbx
	and	$D, %ebx
	EXPECT	"no D after a refused write", %rbx, "$0"
	movq	$P + W + PS, tpd
	INVL	0
	movabs	$(TVA + tpage), %rdi
	mov	%al, (%rdi)
	EXPECT	"A and D of a 2 MiB page", tpd, "$(P + W + PS + A + D)"
	movq	$P + W + PS, tpdpt
	INVL	0
	movabs	$(TVA + tpage), %rdi
	mov	(%rdi), %al
	EXPECT	"A of a 1 GiB page", tpdpt, "$(P + W + PS + A)"
	movabs	$(TVA + tpage), %rdi
	incb	(%rdi)
	EXPECT	"D of a 1 GiB page", tpdpt, "$(P + W + PS + A + D)"
	movq	$tpd + 7, tpdpt
	movq	$tpt + 7, tpd
	INVL	0
	/* a failed CMPXCHG and a CMOV still count as write and read */
	MAP	0, tpage + P + W
	movabs	$(TVA + tpage), %rdi
	movb	$1, tpage
	mov	$2, %al
	cmpxchg	%cl, (%rdi)
	GET_PTE	0, %rbx
	EXPECT	"D after a failed cmpxchg", %rbx, "$(tpage + P + W + A + D)"

	/* --- what stays valid in the TLB and what must not --- */
	mov	$CANARY, %rax
	mov	%rax, tpage + 0x800
	not	%rax
	mov	%rax, tpage + 0x1800
	mov	%rax, %r15 /* what page 1 holds */
	not	%rax
	mov	%rax, %r14 /* what page 0 holds */
	movabs	$(TVA + tpage + 0x800), %r12
	MAP	0, tpage + 3
	mov	(%r12), %rbx
	EXPECT	"invlpg: first page", %rbx, %r14
	MAP	0, tpage + 0x1003
	mov	(%r12), %rbx
	EXPECT	"invlpg: the new page", %rbx, %r15
	PTE	0, tpage + 3
	mov	%cr3, %rax
	mov	%rax, %cr3
	mov	(%r12), %rbx
	EXPECT	"cr3 reload: the new page", %rbx, %r14
	/* 4.10.4.3: an entry that was not present is never cached */
	MAP	0, 0
	TRY	mov (%r12), %rbx
	EXPECT_EXC "not present again", PF, 0
	PTE	0, tpage + 3
	TRY	mov (%r12), %rbx
	EXPECT_NOEXC "not present to present needs no invalidation"
	/* a fault drops what it came from: after #PF for a write, a widened entry is seen */
	MAP	0, tpage + 1
	TRY	mov %rax, (%r12)
	EXPECT_EXC "read-only", PF, 3
	PTE	0, tpage + 3
	TRY	mov %r14, (%r12)
	EXPECT_NOEXC "after the fault, read-only to writable needs no invalidation"
	/* CR0.WP counts at the access, not at the walk */
	MAP	0, tpage + 1
	CR_CLEAR cr0, CR0_WP
	TRY	mov %r14, (%r12)
	EXPECT_NOEXC "WP = 0: write to a read-only page"
	CR_SET	cr0, CR0_WP
	TRY	mov %r14, (%r12)
	EXPECT_EXC "WP = 1 again: no", PF, 3
	/* likewise EFLAGS.AC and CR4.SMAP */
	CR_SET	cr4, CR4_SMAP
	MAP	0, tpage + 7
	stac
	TRY	mov (%r12), %rbx
	EXPECT_NOEXC "SMAP: allowed after stac"
	clac
	TRY	mov (%r12), %rbx
	EXPECT_EXC "SMAP: refused without AC", PF, 1
	stac
	TRY_FROM clac
	mov	(%r12), %rbx
	clac
	mov	(%r12), %rbx
	TRY_TO	clac
	EXPECT_EXC "SMAP: refused after clac", PF, 1
	CR_CLEAR cr4, CR4_SMAP
	TRY	stac
	EXPECT_NOEXC "stac without CR4.SMAP"
	/* a supervisor translation must not serve user mode */
	MAP	0, tpage + 3
	mov	(%r12), %rbx
	USER64	u_read
	EXPECT_EXC "user read of a cached supervisor page", PF, 5
	mov	(%r12), %rbx
	MAP	0, tpage + 7
	CR_SET	cr4, CR4_SMEP
	movabs	$(TVA + tpage + 0x200), %rdi
	TRY	call *%rdi
	EXPECT_EXC "SMEP: kernel fetch from a user page", PF, 0x11
	CR_CLEAR cr4, CR4_SMEP
	movabs	$(TVA + tpage + 0x200), %rdi
	TRY	call *%rdi
	EXPECT_NOEXC "without SMEP"

	/* large pages: INVLPG of any address in them */
	movq	$P + W + PS, tpd
	INVL	0
	mov	(%r12), %rbx
	movq	$0, tpd
	mov	$TVA, %rax
	invlpg	0x1ff000(%rax)
	TRY	mov (%r12), %rbx
	EXPECT_EXC "invlpg of another address in the 2 MiB page", PF, 0
	movq	$tpt + 7, tpd
	INVL	0
	mov	$0x0000800000000000, %rdi
	TRY	invlpg (%rdi)
	EXPECT_NOEXC "invlpg of a non-canonical address does nothing"
	USER64	u_invlpg
	EXPECT_EXC "invlpg at CPL 3", GP

	/* --- global pages --- */
	CR_SET	cr4, CR4_PGE
	MAP	0, tpage + 3 + G
	mov	(%r12), %rbx
	PTE	0, tpage + 0x1003 + G
	INVL	0
	mov	(%r12), %rbx
	EXPECT	"global: invlpg drops it", %rbx, %r15
	PTE	0, tpage + 3 + G
	CR_CLEAR cr4, CR4_PGE
	mov	(%r12), %rbx
	EXPECT	"global: clearing PGE drops it", %rbx, %r14
	PTE	0, tpage + 0x1003 + G
	CR_SET	cr4, CR4_PGE
	mov	(%r12), %rbx
	EXPECT	"global: setting PGE drops all", %rbx, %r15
	CR_CLEAR cr4, CR4_PGE
	MAP	0, tpage + 3

	/* the self-mapped write: a page table edited through its own translation */
	MAP	2, tpt + 3
	MAP	1, tpage + 0x1003
	movabs	$(TVA + tpage + 0x1800), %rdi
	mov	(%rdi), %rbx
	EXPECT	"before the edit", %rbx, %r15
	mov	tpt_at, %rax
	and	$0xfff, %eax
	movabs	$(TVA + tpage + 0x2000), %rdi
	movq	$tpage + 3, 8(%rdi, %rax)
	INVL	1
	movabs	$(TVA + tpage + 0x1800), %rdi
	mov	(%rdi), %rbx
	EXPECT	"a page table edited through the mapping it defines", %rbx, %r14

	call	pcid
	call	crossing
	ret

	/* --- PCID ------------------------------------------------------------------------------- */

pcid:
	CPUID_BIT 1, ecx, 17
	jz	.Lno_pcid
	BLOCK	pcid
	mov	$(rt_pml4 + 1), %eax
	mov	%rax, %cr3
	mov	%cr4, %rbx
	or	$CR4_PCIDE, %rbx
	TRY	mov %rbx, %cr4
	EXPECT_EXC "PCIDE with a PCID in cr3", GP
	mov	$rt_pml4, %eax
	mov	%rax, %cr3
	mov	%cr4, %rbx
	or	$CR4_PCIDE, %rbx
	TRY	mov %rbx, %cr4
	EXPECT_NOEXC "PCIDE"
	mov	%cr0, %rbx
	btr	$31, %rbx
	TRY	mov %rbx, %cr0
	EXPECT_EXC "clearing PG with PCIDE", GP
	/* two address spaces that differ in slot 2: PCID 1 sees page 0, PCID 2 page 1 */
	mov	$rt_pml4, %esi
	mov	$pml4_b, %edi
	mov	$512, %ecx
	rep movsq
	movq	$pdpt_b + 7, pml4_b + 16
	movq	$pd_b + 7, pdpt_b
	movq	$pt_b + 7, pd_b
	mov	tpt_at, %rax
	sub	$tpt, %rax
	movq	$tpage + 0x1003, pt_b(%rax)
	MAP	0, tpage + 3
	mov	$(rt_pml4 + 1), %eax
	mov	%rax, %cr3
	mov	(%r12), %rbx
	EXPECT	"PCID 1", %rbx, %r14
	mov	$(pml4_b + 2), %eax
	mov	%rax, %cr3
	mov	(%r12), %rbx
	EXPECT	"PCID 2", %rbx, %r15
	mov	$(rt_pml4 + 1), %eax
	bts	$63, %rax
	mov	%rax, %cr3
	mov	(%r12), %rbx
	EXPECT	"PCID 1 without flush", %rbx, %r14
	mov	%cr3, %rbx
	EXPECT	"cr3 bit 63 reads 0", %rbx, "$(rt_pml4 + 1)"
	mov	$(pml4_b + 2), %eax
	bts	$63, %rax
	mov	%rax, %cr3
	mov	(%r12), %rbx
	EXPECT	"PCID 2 without flush", %rbx, %r15
	/* change PCID 1's page from PCID 2; go back with a flush */
	PTE	0, tpage + 0x1003
	mov	$(rt_pml4 + 1), %eax
	mov	%rax, %cr3
	mov	(%r12), %rbx
	EXPECT	"PCID 1 with flush", %rbx, %r15
	PTE	0, tpage + 3
	INVL	0
	mov	(%r12), %rbx
	EXPECT	"invlpg in PCID 1", %rbx, %r14

	/* INVPCID */
	CPUID_BIT 7, ebx, 10
	jz	.Lno_invpcid
	BLOCK	invpcid
	.irp	type, 0, 1, 2, 3
	PTE	0, tpage + 0x1003
	movq	$1, ipd
	movabs	$(TVA + tpage), %rax
	mov	%rax, ipd + 8
	mov	$\type, %eax
	invpcid	ipd, %rax
	mov	(%r12), %rbx
	EXPECT	"invpcid type \type", %rbx, %r15
	MAP	0, tpage + 3
	mov	(%r12), %rbx
	.endr
	/* another PCID's translation, from here */
	mov	$(pml4_b + 2), %eax
	bts	$63, %rax
	mov	%rax, %cr3
	mov	(%r12), %rbx
	PTE	0, tpage + 0x1003
	movq	$1, ipd
	mov	$1, %eax
	invpcid	ipd, %rax
	mov	$(rt_pml4 + 1), %eax
	bts	$63, %rax
	mov	%rax, %cr3
	mov	(%r12), %rbx
	EXPECT	"invpcid of another PCID", %rbx, %r15
	MAP	0, tpage + 3
	mov	$4, %ebx
	TRY	invpcid ipd, %rbx
	EXPECT_EXC "invpcid type 4", GP
	movq	$0x1000, ipd
	mov	$1, %ebx
	TRY	invpcid ipd, %rbx
	EXPECT_EXC "invpcid with a PCID above 4095", GP
	movq	$1, ipd
	mov	$0x800000000000, %rax
	mov	%rax, ipd + 8
	xor	%ebx, %ebx
	TRY	invpcid ipd, %rbx
	EXPECT_EXC "invpcid type 0 of a non-canonical address", GP
	ENDBLOCK invpcid
	jmp	1f
.Lno_invpcid:
	SKIP_BLOCK invpcid, "CPUID has no INVPCID"
1:	mov	$rt_pml4, %eax
	mov	%rax, %cr3
	CR_CLEAR cr4, CR4_PCIDE
	mov	(%r12), %rbx
	EXPECT	"PCIDE off: the current tables", %rbx, %r14
	mov	$rt_pml4, %ebx
	bts	$63, %rbx
	TRY	mov %rbx, %cr3
	EXPECT_EXC "cr3 bit 63 without PCIDE", GP
	ENDBLOCK pcid
	ret
.Lno_pcid:
	SKIP_BLOCK pcid, "CPUID has no PCID"
	ret

	/* --- accesses that cross a page ------------------------------------------------------------ */

	.macro	CROSS name, insn:vararg
	movabs	$(TVA + tpage + 0xffc), %rdi
	mov	%r14, tpage + 0xff8
	TRY	\insn
	.endm
	.macro	EXPECT_CROSS name, err
	EXPECT_EXC "crossing: \name", PF, \err
	EXPECT_ADDR "crossing: \name: cr2 is in the second page", exc_cr2, "$(TVA + tpage + 0x1000)"
	EXPECT	"crossing: \name: nothing was written", tpage+0xff8, %r14
	.endm
crossing:
	MAP	0, tpage + 7
	MAP	1, 0
	CROSS	"", mov (%rdi), %rax
	EXPECT_CROSS "read", 0
	CROSS	"", mov %r15, (%rdi)
	EXPECT_CROSS "write", 2
	CROSS	"", lock add %r15, (%rdi)
	EXPECT_CROSS "lock add", 2
	CROSS	"", lock xadd %r15, (%rdi)
	EXPECT_CROSS "lock xadd", 2
	CROSS	"", xchg %r15, (%rdi)
	EXPECT_CROSS "xchg", 2
	EXPECT	"crossing: xchg: the register too is unchanged", exc_frame+F_R15, %r15
	CROSS	"", movups %xmm0, (%rdi)
	EXPECT_CROSS "16-byte store", 2
	CROSS	"", movups (%rdi), %xmm0
	EXPECT_CROSS "16-byte load", 0
	CROSS	"", fstpt (%rdi)
	EXPECT_CROSS "80-bit store", 2
	CROSS	"", stosq
	EXPECT_CROSS "stos", 2
	EXPECT_ADDR "crossing: stos: rdi unchanged", exc_frame+F_RDI, "$(TVA + tpage + 0xffc)"
	mov	%rsp, %rbx
	movb	$2, rt_idt + 16 * PF + 4 /* IST2: the stack under test takes no frame */
	TRY_FROM xpush
	movabs	$(TVA + tpage + 0x1004), %rsp
	push	%r15
	TRY_TO	xpush
	EXPECT_CROSS "push", 2
	EXPECT_ADDR "crossing: push: rsp unchanged", exc_frame+F_RSP, "$(TVA + tpage + 0x1004)"
	TRY_FROM xcall
	movabs	$(TVA + tpage + 0x1004), %rsp
	call	xcall_to
xcall_to:
	TRY_TO	xcall
	EXPECT_CROSS "call", 2
	movb	$0, rt_idt + 16 * PF + 4
	MAP	1, tpage + 0x1005
	CROSS	"", mov %r15, (%rdi)
	EXPECT_CROSS "second page read-only", 3
	MAP	0, 0
	CROSS	"", mov %r15, (%rdi)
	EXPECT_EXC "crossing: first page missing", PF, 2
	EXPECT_ADDR "crossing: first page missing: cr2", exc_cr2, "$(TVA + tpage + 0xffc)"
	/* a copy that stops at the edge keeps what it did */
	MAP	0, tpage + 7
	MAP	1, 0
	movabs	$(TVA + tpage + 0xff0), %rdi
	mov	$tpage + 0x100, %esi
	mov	$32, %ecx
	TRY	rep movsb
	EXPECT_EXC "rep movsb into the edge", PF, 2
	EXPECT	"rep movsb: count left", exc_frame+F_RCX, "$16"
	EXPECT_ADDR "rep movsb: rdi", exc_frame+F_RDI, "$(TVA + tpage + 0x1000)"
	EXPECT	"rep movsb: rsi", exc_frame+F_RSI, "$tpage + 0x110"
	/* an instruction that crosses: mov $imm32, %eax; ret, three bytes before the edge */
	mov	$0x0000c344332211b8, %rax
	mov	%rax, tpage + 0xffd
	movabs	$(TVA + tpage + 0xffd), %rdi
	TRY	call *%rdi
	EXPECT_EXC "instruction across the edge: second page missing", PF, 0x10
	EXPECT_ADDR "... cr2", exc_cr2, "$(TVA + tpage + 0x1000)"
	EXPECT_ADDR "... rip", exc_frame+F_RIP, "$(TVA + tpage + 0xffd)"
	NX_PTE	1, tpage + 0x1003
	movabs	$(TVA + tpage + 0xffd), %rdi
	TRY	call *%rdi
	EXPECT_EXC "instruction across the edge: second page NX", PF, 0x11
	MAP	1, tpage + 0x1003
	movabs	$(TVA + tpage + 0xffd), %rdi
	TRY_FROM xinsn
	call	*%rdi
	mov	%rax, %rbx
	TRY_TO	xinsn
	EXPECT	"instruction across the edge: both pages", %rbx, "$0x44332211"
	ret

u_read:
	movabs	$(TVA + tpage), %rdi
	mov	(%rdi), %al
	UEXIT
u_write:
	movabs	$(TVA + tpage), %rdi
	movb	$0, (%rdi)
	UEXIT
u_invlpg:
	invlpg	(%rdi)
	UEXIT

	.bss
	.balign	4096
tpdpt:	.skip	4096
tpd:	.skip	4096
tpt:	.skip	4096
pml4_b:	.skip	4096
pdpt_b:	.skip	4096
pd_b:	.skip	4096
pt_b:	.skip	4096
tpage:	.skip	4096 * 3
tpt_at:	.skip	8
ipd:	.skip	16

END_TESTS
