/* SPDX-License-Identifier: Apache-2.0 */
/*
 * time.S - one time for all CPUs: the TSC never runs backwards, on one CPU or between them
 *
 * How it works
 * Three ways to catch a clock that is not one: reading it under a ticket lock and comparing with
 * the reading before (which another CPU made); the same in strict turns; and without any lock, one
 * CPU publishes readings in memory, the others read the publication first and their own TSC
 * second. A smaller value anywhere is a violation, and violations are counted. Ordering: LFENCE
 * after the lock or the load keeps RDTSC behind it (SDM vol. 2, RDTSC).
 */
#include "rt.inc"

	.set	IPI_WORK, 0x61
	.set	ROUNDS, 5000
	.set	TURNS, 2000
	.set	READS, 100000

	.macro	WORK fn
	movq	$\fn, ap_work
	movl	$0, work_done
	movl	$0, work_arrived
	movl	$0xc0061, LAPIC + 0x300
	call	work_body
	mov	$work_done, %esi
	call	wait_all
	.endm

BEGIN_TESTS
	call	rt_count_cpus
	mov	%eax, cpus
	HANDLER	IPI_WORK, ipi_work
	mov	cpus, %edi
	dec	%edi
	mov	$ap_main, %esi
	call	rt_start_aps
	lea	1(%rax), %ebx
	EXPECT32 "all CPUs started", %ebx, cpus
	movl	$0x1ff, LAPIC + 0xf0
	mov	$ap_ready, %esi
	mov	cpus, %edi
	dec	%edi
	call	wait_word

	/* --- one CPU --- */
	xor	%ebx, %ebx /* violations */
	RDTSC64
	mov	%rax, %r14
	mov	%rax, %r13
	mov	$READS, %ebp
1:	RDTSC64
	cmp	%r13, %rax
	jae	2f
	inc	%ebx
2:	mov	%rax, %r13
	dec	%ebp
	jnz	1b
	EXPECT	"one CPU: never backwards", %rbx, "$0"
	sub	%r14, %r13
	EXPECT_IN "one CPU: it advances, by no absurd amount", %r13, READS/100, READS*100000
	/* a block of instructions takes some time */
	RDTSC64
	mov	%rax, %r14
	mov	$100000, %ecx
3:	dec	%ecx
	jnz	3b
	RDTSC64
	sub	%r14, %rax
	EXPECT_IN "200000 instructions take between 10 us and 1 s", %rax, 10000, 4000000000
	/* RDTSCP */
	CPUID_BIT 0x80000001, edx, 27
	jz	.Lno_rdtscp
	BLOCK	rdtscp
	WRMSR_IMM MSR_TSC_AUX, 0x12345678
	RDTSC64
	mov	%rax, %r14
	rdtscp
	mov	%ecx, %ebx
	shl	$32, %rdx
	or	%rdx, %rax
	cmp	%r14, %rax
	EXPECT_CC "rdtscp is the same clock", ae
	EXPECT	"rdtscp: TSC_AUX", %rbx, "$0x12345678"
	RDMSR64	MSR_TSC_AUX
	mov	%rax, %rbx
	EXPECT	"TSC_AUX reads back", %rbx, "$0x12345678"
	ENDBLOCK rdtscp
	jmp	4f
.Lno_rdtscp:
	SKIP_BLOCK rdtscp, "CPUID has no RDTSCP"
4:	RDTSC64
	mov	%rax, %r14
	RDMSR64	MSR_TSC
	sub	%r14, %rax
	EXPECT_IN "the TSC MSR is the same clock", %rax, 0, 100000000
	/* TSC_ADJUST */
	CPUID_BIT 7, ebx, 1
	jz	.Lno_adjust
	BLOCK	adjust
	RDMSR64	MSR_TSC_ADJUST
	mov	%rax, %rbx
	EXPECT	"TSC_ADJUST is 0 at reset", %rbx, "$0"
	RDTSC64
	mov	%rax, %r14
	WRMSR_IMM MSR_TSC_ADJUST, 1000000000000
	RDTSC64
	sub	%r14, %rax
	EXPECT_IN "TSC_ADJUST moves the TSC", %rax, 1000000000000, 1001000000000
	WRMSR_IMM MSR_TSC_ADJUST, 0
	RDTSC64
	sub	%r14, %rax
	EXPECT_IN "... and back", %rax, 0, 1000000000
	WRMSR_IMM MSR_TSC, 5000000000000
	RDTSC64
	mov	$5000000000000, %rcx
	sub	%rcx, %rax
	EXPECT_IN "writing the TSC sets it", %rax, 0, 1000000000
	RDMSR64	MSR_TSC_ADJUST
	mov	%rax, %rbx
	neg	%rbx
	RDTSC64
	lea	(%rax, %rbx), %rcx /* what the TSC would be without */
	sub	%r14, %rcx
	EXPECT_IN "... and TSC_ADJUST follows", %rcx, 0, 1000000000
	WRMSR_IMM MSR_TSC_ADJUST, 0
	ENDBLOCK adjust
	jmp	5f
.Lno_adjust:
	SKIP_BLOCK adjust, "CPUID has no TSC_ADJUST"
5:
	/* --- all CPUs --- */
	movq	$0, last
	WORK	w_ticket
	EXPECT	"ticket lock: violations", violations, "$0"
	mov	cpus, %ebx
	imul	$ROUNDS, %rbx, %rbx
	EXPECT	"ticket lock: rounds", rounds, %rbx
	movq	$0, last
	movq	$0, rounds
	movl	$0, turn
	WORK	w_turns
	EXPECT	"strict turns: violations", violations, "$0"
	mov	cpus, %ebx
	imul	$TURNS, %rbx, %rbx
	EXPECT	"strict turns: rounds", rounds, %rbx
	movq	$0, last
	movq	$0, rounds
	movl	$0, publisher_done
	WORK	w_publish
	EXPECT	"publication without a lock: violations", violations, "$0"
	EXPECT_IN "publication: values seen", "rounds", 1, 1000000000
	/* each CPU its own TSC_AUX */
	CPUID_BIT 0x80000001, edx, 27
	jz	.Lno_aux
	BLOCK	aux
	WORK	w_aux
	EXPECT	"TSC_AUX is per CPU", violations, "$0"
	ENDBLOCK aux
	ret
.Lno_aux:
	SKIP_BLOCK aux, "CPUID has no RDTSCP"
	ret

	/* --- workers: each gets its number (0..) in R10D --- */

	/* Takes a reading in RAX after everything before it. */
	.macro	READING
	lfence
	RDTSC64
	.endm
	/* RAX must not be below the last one; stores it. The caller holds the lock. */
	.macro	COMPARE_LAST
	cmp	last, %rax
	jae	.Lge\@
	incq	violations
.Lge\@:	mov	%rax, last
	incq	rounds
	.endm
w_ticket:
	mov	$ROUNDS, %r8d
1:	mov	$1, %ecx
	lock xadd %ecx, ticket_next
2:	cmp	%ecx, ticket_now
	je	3f
	pause
	jmp	2b
3:	READING
	COMPARE_LAST
	incl	ticket_now
	dec	%r8d
	jnz	1b
	ret
w_turns:
	mov	$TURNS, %r8d
1:	cmp	%r10d, turn
	je	2f
	pause
	jmp	1b
2:	READING
	COMPARE_LAST
	lea	1(%r10), %ecx
	cmp	cpus, %ecx
	jb	3f
	xor	%ecx, %ecx
3:	mov	%ecx, turn
	dec	%r8d
	jnz	1b
	ret
w_publish:
	mov	$READS, %r8d
	test	%r10d, %r10d
	jnz	2f
1:	READING
	mov	%rax, last
	dec	%r8d
	jnz	1b
	movl	$1, publisher_done
	ret
2:	mov	last, %r9
	READING
	cmp	%r9, %rax
	jae	3f
	lock incq violations
3:	lock incq rounds
	cmpl	$0, publisher_done
	jne	4f
	dec	%r8d
	jnz	2b
4:	ret
w_aux:	mov	$MSR_TSC_AUX, %ecx
	lea	100(%r10), %eax
	xor	%edx, %edx
	wrmsr
	lock incl aux_set
1:	pause
	mov	aux_set, %eax
	cmp	cpus, %eax
	jb	1b
	rdtscp
	sub	$100, %ecx
	cmp	%r10d, %ecx
	je	2f
	lock incq violations
2:	ret

	/* --- helpers --- */
ap_main:
	mov	%ebx, %r10d
	lock incl ap_ready
1:	sti
	hlt
	jmp	1b
ipi_work:
	movl	$0, LAPIC + 0xb0
	mov	F_R10(%rdi), %r10
	jmp	work_all
work_body:
	xor	%r10d, %r10d
work_all:
	lock incl work_arrived
1:	pause
	mov	work_arrived, %eax
	cmp	cpus, %eax
	jb	1b
	call	*ap_work
	lock incl work_done
	ret
wait_all:
	mov	cpus, %edi
	/* Waits until the dword at RSI is at least EDI; the runner's time-out is the bound. */
wait_word:
	pause
	cmp	%edi, (%rsi)
	jb	wait_word
	ret

	.bss
	.balign	64
last:	.skip	8
violations: .skip 8
rounds:	.skip	8
ap_work: .skip	8
cpus:	.skip	4
turn:	.skip	4
ticket_next: .skip 4
ticket_now: .skip 4
publisher_done: .skip 4
aux_set: .skip	4
ap_ready: .skip	4
work_done: .skip 4
work_arrived: .skip 4
END_TESTS
