/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smp.S - application processors: INIT-SIPI-SIPI, real mode, IPIs, atomics between CPUs
 *
 * The APs sleep in HLT. IPI_COUNT makes a CPU count (ipi_seen, by APIC id); IPI_WORK makes it call
 * ap_work and count itself in work_done.
 */
#include "rt.inc"

	.set	IPI_COUNT, 0x60
	.set	IPI_WORK, 0x61
	.set	ROUNDS, 5000
	.set	RM, 0x9000 /* the real-mode test's segment */

	.macro	ICR dest, low
	mov	\dest, %eax
	shl	$24, %eax
	mov	%eax, LAPIC + 0x310
	movl	$\low, LAPIC + 0x300
	.endm
	/* Lets IPIs arrive: a bounded wait until the sum of ipi_seen is n. */
	.macro	SEEN n
	mov	\n, %edi
	call	wait_seen
	.endm
	.macro	WORK fn
	movq	$\fn, ap_work
	call	do_work
	.endm

BEGIN_TESTS
	call	rt_count_cpus
	mov	%eax, %r12d /* CPUs */
	EXPECT_IN "the MADT lists at least two CPUs", %r12, 2, 252
	HANDLER	IPI_COUNT, ipi_count
	HANDLER	IPI_WORK, ipi_work
	HANDLER	2, nmi
	lea	-1(%r12), %edi
	mov	$ap_main, %esi
	call	rt_start_aps
	mov	%eax, %ebx
	inc	%ebx
	EXPECT	"all CPUs started", %rbx, %r12
	mov	rt_ap_count, %ebx
	inc	%ebx
	EXPECT	"the second SIPI started nobody again", %rbx, %r12
	call	wait_ready
	EXPECT32 "APs are not marked BSP", ap_bsp_flags, "$0"
	lea	-1(%r12), %ecx
	EXPECT32 "APIC ids are distinct", ap_ids, %ecx

	movl	$0x1ff, LAPIC + 0xf0
	movl	$0xffffffff, LAPIC + 0xe0
	movl	$0x01000000, LAPIC + 0xd0
	/* --- IPIs --- */
	lea	-1(%r12), %r13d
	call	clear_seen
	movl	$0xc0060, LAPIC + 0x300
	SEEN	%r13d
	EXPECT	"all excluding self", %rbx, %r13
	call	clear_seen
	movl	$0x80060, LAPIC + 0x300
	SEEN	%r12d
	EXPECT	"all including self", %rbx, %r12
	call	clear_seen
	movl	$0x40060, LAPIC + 0x300
	SEEN	$1
	EXPECT	"self", %rbx, "$1"
	mov	LAPIC + 0x20, %ecx
	shr	$24, %ecx
	EXPECT32 "self: it was this CPU", "ipi_seen(,%rcx,4)", "$1"
	call	clear_seen
	ICR	ap_id1, 0x4060
	SEEN	$1
	mov	ap_id1, %ecx
	EXPECT32 "physical destination", "ipi_seen(,%rcx,4)", "$1"
	call	clear_seen
	ICR	$0xff, 0x4060
	SEEN	%r12d
	EXPECT	"physical broadcast", %rbx, %r12
	/* logical, flat: bit 0 is this CPU, bit n is AP n (as each AP set its LDR) */
	call	clear_seen
	ICR	$3, 0x4860
	SEEN	$2
	EXPECT	"logical: two CPUs", %rbx, "$2"
	mov	ap_id1, %ecx
	EXPECT32 "logical: one of them is AP 1", "ipi_seen(,%rcx,4)", "$1"
	call	clear_seen
	ICR	$2, 0x4960
	SEEN	$1
	mov	ap_id1, %ecx
	EXPECT32 "lowest priority, one candidate", "ipi_seen(,%rcx,4)", "$1"
	call	clear_seen
	ICR	$3, 0x4960
	SEEN	$1
	EXPECT	"lowest priority: exactly one of two", %rbx, "$1"
	/* NMI */
	movl	$0, nmi_seen
	ICR	ap_id1, 0x4400
	mov	$nmi_seen, %esi
	mov	$1, %edi
	call	wait_word
	EXPECT32 "NMI to an AP in HLT", nmi_seen, "$1"
	movl	$0, nmi_seen
	movl	$0xc4400, LAPIC + 0x300
	mov	$nmi_seen, %esi
	mov	%r13d, %edi
	call	wait_word
	EXPECT32 "NMI to all others", nmi_seen, %r13d
	/* many in a row, one at a time, none lost */
	call	clear_seen
	mov	$1000, %r14d
	xor	%r15d, %r15d
1:	ICR	ap_id1, 0x4060
	inc	%r15d
	SEEN	%r15d
	cmp	%r15d, %ebx
	jne	2f
	dec	%r14d
	jnz	1b
2:	EXPECT	"a thousand IPIs, none lost", %r15, "$1000"

	/* --- memory: all CPUs at once --- */
	mov	%r12d, %ecx
	imul	$ROUNDS, %rcx, %r15
	WORK	w_inc
	EXPECT	"lock inc", shared, %r15
	movq	$0, shared
	WORK	w_xadd
	EXPECT	"lock xadd", shared, %r15
	movq	$0, shared
	WORK	w_cmpxchg
	EXPECT	"lock cmpxchg", shared, %r15
	movq	$0, shared
	WORK	w_spin
	EXPECT	"counter under an xchg spin lock", shared, %r15
	movq	$0, shared
	movq	$0, shared + 8
	WORK	w_cx16
	EXPECT	"lock cmpxchg16b: low", shared, %r15
	EXPECT	"lock cmpxchg16b: high", shared+8, %r15
	movq	$0, shared
	WORK	w_bts
	EXPECT	"counter under a lock bts", shared, %r15
	/* ping-pong with AP 1 through memory only, PAUSE in between */
	movl	$0, pong
	movq	$w_pong, ap_work
	movl	$0, work_done
	ICR	ap_id1, 0x4061
	xor	%ebx, %ebx
	mov	$1000, %r14d
3:	incl	%ebx
	mov	%ebx, pong
	incl	%ebx
	mov	$pong, %esi
	mov	%ebx, %edi
	call	wait_word
	cmp	%ebx, pong
	jne	4f
	dec	%r14d
	jnz	3b
4:	EXPECT	"two thousand turns of ping-pong", %rbx, "$2000"
	mov	$work_done, %esi
	mov	$1, %edi
	call	wait_word

	call	real_mode
	ret

	/* --- AP 1 again, in real mode --- */
real_mode:
	mov	$rm_code, %esi
	mov	$RM, %edi
	mov	$(rm_end - rm_code), %ecx
	rep movsb
	/* IVT: 13 and 0x40 */
	movw	$(rm_gp - rm_code), 13 * 4
	movw	$(RM >> 4), 13 * 4 + 2
	movw	$(rm_int - rm_code), 0x40 * 4
	movw	$(RM >> 4), 0x40 * 4 + 2
	movl	$0x600df00d, 0x600 /* 0x60:0 */
	movl	$0, rm_done
	ICR	ap_id1, 0x4500
	call	rt_icr_wait
	mov	$10000, %edi
	call	rt_delay_us
	movl	$0x4600 + (RM >> 12), LAPIC + 0x300
	call	rt_icr_wait
	mov	$200, %edi
	call	rt_delay_us
	movl	$0x4600 + (RM >> 12), LAPIC + 0x300
	mov	$rm_done, %esi
	mov	$1, %edi
	call	wait_word
	EXPECT32 "real mode: the AP came through", rm_done, "$1"
	EXPECT	"SIPI: cs:ip", rm_res, "$(RM << 12)"
	/* CD and NW survive INIT, and the runtime had cleared them (SDM vol. 3, table 10-1, note 2) */
	EXPECT	"INIT: cr0", rm_res+8, "$0x10"
	EXPECT	"INIT: flags", rm_res+16, "$2"
	EXPECT	"INIT: ds, ss, es, fs, gs are 0", rm_res+24, "$0"
	EXPECT	"INIT: cr4", rm_res+32, "$0"
	EXPECT	"segment base is the selector times 16", rm_res+40, "$0x600df00d"
	EXPECT	"offset above the limit: GP", rm_res+48, "$1"
	EXPECT	"word at offset 0xffff: GP", rm_res+56, "$1"
	EXPECT	"int 0x40: ip of the next instruction", rm_res+64, "$rm_next - rm_code"
	EXPECT	"int 0x40: cs", rm_res+72, "$(RM >> 4)"
	EXPECT	"int 0x40: IF and TF off in the handler", rm_res+80, "$0"
	EXPECT	"ffff:0010 is 1 MiB", rm_res+88, "$1"
	EXPECT	"big real mode: limit of a 32-bit segment stays", rm_res+96, "$0x600df00d"
	EXPECT	"push of 16 bits wraps in SS", rm_res+104, "$0xfffe"
	EXPECT	"call far, ret far", rm_res+112, "$0x77"
	EXPECT	"mul, 16-bit addressing (bx + si + disp)", rm_res+120, "$0xbeef"
	EXPECT	"INIT: DR7", rm_res+128, "$0x400"
	EXPECT	"edx says family 6 or above", "rm_res+136", "$1"
	ret

	.code16
	.macro	RES i, reg
	mov	\reg, %cs:rm_res16 - rm_code + 8 * \i
	.endm
rm_code:
	mov	%eax, %cs:rm_save - rm_code
	pushfl /* SS:ESP is 0:0 after INIT: this writes the top of segment 0 */
	mov	%cs:rm_save - rm_code, %eax
	RES	17, %edx
	call	rm_here
rm_here:
	pop	%bx
	sub	$(rm_here - rm_code), %bx
	pop	%eax
	RES	2, %eax
	mov	%cs, %ax
	shl	$16, %eax
	mov	%bx, %ax
	RES	0, %eax
	mov	%cr0, %eax
	RES	1, %eax
	xor	%eax, %eax
	mov	%ds, %bx
	or	%bx, %ax
	mov	%ss, %bx
	or	%bx, %ax
	mov	%es, %bx
	or	%bx, %ax
	mov	%fs, %bx
	or	%bx, %ax
	mov	%gs, %bx
	or	%bx, %ax
	RES	3, %eax
	mov	%cr4, %eax
	RES	4, %eax
	mov	%db7, %eax
	RES	16, %eax
	xor	%ax, %ax
	mov	%ax, %ss
	mov	$0x7000, %sp
	mov	$0x60, %ax
	mov	%ax, %ds
	mov	0, %eax
	RES	5, %eax
	mov	$0x10000, %ebx
	movw	$(rm_after1 - rm_code), %cs:rm_resume - rm_code
	mov	(%ebx), %al
rm_after1:
	movzwl	%cs:rm_gps - rm_code, %eax
	RES	6, %eax
	movw	$0, %cs:rm_gps - rm_code
	movw	$(rm_after2 - rm_code), %cs:rm_resume - rm_code
	mov	0xffff, %ax
rm_after2:
	movzwl	%cs:rm_gps - rm_code, %eax
	RES	7, %eax
	sti
	int	$0x40
rm_next:
	cli
	/* ffff:0010 */
	mov	$0xffff, %ax
	mov	%ax, %ds
	mov	0x10, %eax
	xor	%bx, %bx
	mov	%bx, %es
	xor	%ecx, %ecx
	lgdtl	%cs:rm_gdtr - rm_code
	mov	%cr0, %ebx
	or	$1, %bl
	mov	%ebx, %cr0
	mov	$SEL_KD, %bx
	mov	%bx, %es
	and	$~1, %bl
	mov	%cr0, %ebx
	and	$~1, %bl
	mov	%ebx, %cr0
	mov	$0x100000, %ebx
	cmp	%es:(%ebx), %eax
	sete	%cl
	RES	11, %ecx
	/* ES still has a 4 GiB limit: read above 64 KiB */
	movl	$rm_far_word, %ebx
	mov	%es:(%ebx), %eax
	RES	12, %eax
	/* SP wraps in 16 bits */
	mov	$0x8000, %ax
	mov	%ax, %ss
	mov	$0, %esp
	push	%ax
	movzwl	%sp, %eax
	RES	13, %eax
	xor	%ax, %ax
	mov	%ax, %ss
	mov	$0x7000, %sp
	lcall	$(RM >> 4), $(rm_farfn - rm_code)
	RES	14, %eax
	mov	%cs, %ax
	mov	%ax, %ds
	mov	$(rm_word - rm_code - 6), %bx
	mov	$4, %si
	xor	%eax, %eax
	mov	2(%bx, %si), %ax
	RES	15, %eax
	mov	%cs:rm_res16 - rm_code + 8 * 17, %eax
	shr	$8, %eax
	and	$0xf, %eax
	cmp	$6, %al
	setae	%al
	movzbl	%al, %eax
	RES	17, %eax
	/* copy the results to where the 64-bit side looks, through ES (flat) */
	mov	$(rm_res16 - rm_code), %si
	movl	$rm_res, %edi
	mov	$(18 * 2), %cx
1:	lodsl
	mov	%eax, %es:(%edi)
	add	$4, %edi
	loop	1b
	movl	$rm_done, %edi
	movl	$1, %es:(%edi)
2:	cli
	hlt
	jmp	2b
rm_gp:	incw	%cs:rm_gps - rm_code
	add	$6, %sp
	jmp	*%cs:rm_resume - rm_code
rm_int:	push	%bp
	mov	%sp, %bp
	movzwl	2(%bp), %eax
	RES	8, %eax
	movzwl	4(%bp), %eax
	RES	9, %eax
	pushf
	pop	%ax
	and	$0x300, %eax
	RES	10, %eax
	pop	%bp
	iret
rm_farfn:
	mov	$0x77, %eax
	lret
	.balign	8
rm_res16: .fill	18, 8, 0
rm_save: .long	0
rm_gps:	.word	0
rm_resume: .word 0
rm_word: .word	0xbeef
rm_gdtr: .word	0xdf
	.long	rt_gdt
rm_end:
	.code64

	/* --- helpers --- */
clear_seen:
	xor	%eax, %eax
	mov	$256, %ecx
	mov	$ipi_seen, %edi
	rep stosl
	ret
	/* Waits until the sum of ipi_seen is at least EDI, then a little longer; RBX: the sum. */
wait_seen:
	sti
	mov	$30000, %r8d
	mov	$20, %r9d
1:	pause
	xor	%ebx, %ebx
	xor	%ecx, %ecx
2:	add	ipi_seen(, %rcx, 4), %ebx
	inc	%ecx
	cmp	$256, %ecx
	jb	2b
	cmp	%edi, %ebx
	jae	3f
	dec	%r8d
	jnz	1b
	jmp	4f
3:	dec	%r9d
	jnz	1b
4:	cli
	ret
	/* Waits until the dword at RSI is at least EDI, about a second at most. */
wait_word:
	RDTSC64
	lea	(%rax), %r8
	mov	$4000000000, %rax
	add	%rax, %r8
1:	pause
	cmp	%edi, (%rsi)
	jae	2f
	RDTSC64
	cmp	%r8, %rax
	jb	1b
2:	ret
wait_ready:
	mov	$ap_ready, %esi
	lea	-1(%r12), %edi
	jmp	wait_word
do_work:
	movl	$0, work_done
	movl	$0, work_arrived
	movl	$0xc0061, LAPIC + 0x300
	call	work_body
	mov	$work_done, %esi
	mov	%r12d, %edi
	jmp	wait_word
	/* All start together, so that they interleave. */
work_body:
	lock incl work_arrived
	mov	%r12d, %ecx
1:	pause
	cmp	%r12d, work_arrived
	jb	1b
	call	*ap_work
	lock incl work_done
	ret

ap_main:
	mov	$1, %eax
	mov	%ebx, %ecx
	shl	%cl, %eax
	cmp	$7, %ebx /* the flat model has eight bits: later CPUs belong to none */
	jbe	1f
	xor	%eax, %eax
1:	shl	$24, %eax
	movl	$0xffffffff, LAPIC + 0xe0
	mov	%eax, LAPIC + 0xd0
	mov	LAPIC + 0x20, %eax
	shr	$24, %eax
	lock btsl %eax, ap_id_seen
	jc	1f
	lock incl ap_ids
1:	cmp	$1, %ebx
	jne	2f
	mov	%eax, ap_id1
2:	RDMSR64	MSR_APIC_BASE
	and	$0x100, %eax
	lock or	%eax, ap_bsp_flags
	call	rt_count_cpus
	mov	%eax, %r12d
	lock incl ap_ready
3:	sti
	hlt
	jmp	3b

ipi_count:
	mov	LAPIC + 0x20, %eax
	shr	$24, %eax
	lock incl ipi_seen(, %rax, 4)
	movl	$0, LAPIC + 0xb0
	ret
ipi_work:
	movl	$0, LAPIC + 0xb0
	cmpq	$w_pong, ap_work
	jne	work_body
	call	w_pong
	lock incl work_done
	ret
nmi:	lock incl nmi_seen
	ret

w_inc:	mov	$ROUNDS, %ecx
1:	lock incq shared
	dec	%ecx
	jnz	1b
	ret
w_xadd:	mov	$ROUNDS, %ecx
1:	mov	$1, %eax
	lock xadd %rax, shared
	dec	%ecx
	jnz	1b
	ret
w_cmpxchg:
	mov	$ROUNDS, %ecx
1:	mov	shared, %rax
2:	lea	1(%rax), %rdx
	lock cmpxchg %rdx, shared
	jne	2b
	dec	%ecx
	jnz	1b
	ret
w_spin:	mov	$ROUNDS, %ecx
1:	mov	$1, %eax
	xchg	%eax, lock_word
	test	%eax, %eax
	jz	2f
	pause
	jmp	1b
2:	incq	shared
	movl	$0, lock_word
	dec	%ecx
	jnz	1b
	ret
w_bts:	mov	$ROUNDS, %ecx
1:	lock btsl $3, lock_word
	jnc	2f
	pause
	jmp	1b
2:	incq	shared
	lock btrl $3, lock_word
	dec	%ecx
	jnz	1b
	ret
w_cx16:	push	%rbx
	mov	$ROUNDS, %esi
1:	mov	shared, %rax
	mov	shared + 8, %rdx
2:	lea	1(%rax), %rbx
	lea	1(%rdx), %rcx
	lock cmpxchg16b shared
	jne	2b
	dec	%esi
	jnz	1b
	pop	%rbx
	ret
w_pong:	push	%rbx
	mov	$1, %ebx
	mov	$1000, %r9d
1:	mov	$pong, %esi
	mov	%ebx, %edi
	call	wait_word
	cmp	%ebx, pong
	jne	2f
	inc	%ebx
	mov	%ebx, pong
	inc	%ebx
	dec	%r9d
	jnz	1b
2:	pop	%rbx
	ret

	.data
rm_far_word: .long 0x600df00d
	.bss
	.balign	64
shared:	.skip	16
ap_work: .skip	8
rm_res:	.skip	18 * 8
ipi_seen: .skip	1024
ap_id_seen: .skip 32
ap_ids:	.skip	4
ap_id1:	.skip	4
ap_ready: .skip	4
ap_bsp_flags: .skip 4
nmi_seen: .skip	4
work_done: .skip 4
work_arrived: .skip 4
lock_word: .skip 4
pong:	.skip	4
rm_done: .skip	4
END_TESTS
