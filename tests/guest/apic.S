/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apic.S - local APIC and I/O APIC from one CPU (SDM vol. 3, ch. 10; 82093AA)
 *
 * Times are measured by the TSC. Where CPUID leaf 15H gives its rate (and the rate of the APIC
 * timer), a timer must fire at its time or at most TOLERANCE_US late; it may never be early.
 */
#include "rt.inc"

	.set	TOLERANCE_US, 50
	.set	VEC, 0x51

	.macro	LW reg, val
	movl	$\val, LAPIC + \reg
	.endm
	.macro	EOI
	movl	$0, LAPIC + 0xb0
	.endm
	/* Waits, interrupts on, until tick_count reaches n; gives up after a while. */
	.macro	WAIT_TICKS n
	mov	$\n, %edi
	call	wait_ticks
	.endm
	.macro	IO_WRITE reg, val
	movl	$\reg, IOAPIC
	movl	$\val, IOAPIC + 0x10
	.endm
	.macro	IO_READ reg, to
	movl	$\reg, IOAPIC
	mov	IOAPIC + 0x10, \to
	.endm
	.macro	OUTB port, val
	mov	$\port, %edx
	mov	$\val, %al
	out	%al, %dx
	.endm
	.macro	INB port
	mov	$\port, %edx
	in	%dx, %al
	movzbl	%al, %eax
	.endm

BEGIN_TESTS
	HANDLER	VEC, tick
	HANDLER	VEC+1, tick
	HANDLER	0x61, tick
	HANDLER	0x71, tick
	HANDLER	0xff, spurious
	HANDLER	5, illegal /* must not come; a machine that delivers it shall go on */

	/* --- registers --- */
	RDMSR64	MSR_APIC_BASE
	mov	%rax, %rbx
	and	$0xd00, %ebx
	EXPECT	"APIC_BASE: enabled, BSP, xAPIC", %rbx, "$0x900"
	mov	LAPIC + 0x30, %ebx
	and	$0xff, %ebx
	EXPECT_IN "version", %rbx, 0x10, 0x1f
	LW	0xf0, 0x1ff
	LW	0x80, 0
	LW	0xe0, 0xf0000000
	mov	LAPIC + 0xe0, %ebx
	shr	$28, %ebx
	EXPECT	"DFR reads back", %rbx, "$15"
	LW	0xd0, 0x01000000
	mov	LAPIC + 0xd0, %ebx
	EXPECT	"LDR reads back", %rbx, "$0x01000000"
	mov	LAPIC + 0x20, %ebx
	shr	$24, %ebx
	mov	$1, %eax
	mov	%ebx, %r12d
	cpuid
	shr	$24, %ebx
	EXPECT	"APIC id = CPUID.1 EBX[31:24]", %rbx, %r12

	/* --- self-IPI, priorities --- */
	cli
	movl	$0, tick_count
	LW	0x300, 0x40051
	mov	LAPIC + 0x220, %ebx
	EXPECT	"IRR while IF = 0", %rbx, "$0x20000"
	sti
	nop
	nop
	cli
	EXPECT32 "self-IPI", tick_count, "$1"
	mov	LAPIC + 0x220, %ebx
	EXPECT	"IRR is clear after delivery", %rbx, "$0"
	mov	tick_isr, %ebx
	EXPECT	"ISR in the handler", %rbx, "$0x20000"
	mov	LAPIC + 0x120, %ebx
	EXPECT	"ISR is clear after EOI", %rbx, "$0"
	/* twice the same while pending is once */
	movl	$0, tick_count
	LW	0x300, 0x40051
	LW	0x300, 0x40051
	sti
	nop
	nop
	nop
	cli
	EXPECT32 "two of a vector while it is pending are one", tick_count, "$1"
	/* the higher vector first */
	movl	$0, tick_count
	LW	0x300, 0x40051
	LW	0x300, 0x40061
	LW	0x300, 0x40071
	sti
	nop
	nop
	nop
	nop
	cli
	EXPECT32 "three vectors", tick_count, "$3"
	EXPECT	"highest first", vecs, "$0x0051006100710000 >> 16"
	/* TPR and CR8 */
	movl	$0, tick_count
	LW	0x80, 0x60
	mov	%cr8, %rbx
	EXPECT	"TPR shows in CR8", %rbx, "$6"
	LW	0x300, 0x40051
	LW	0x300, 0x40061
	sti
	nop
	nop
	nop
	EXPECT32 "TPR 0x60 holds 0x51 and 0x61", tick_count, "$0"
	mov	$5, %ebx
	mov	%rbx, %cr8
	nop
	nop
	EXPECT32 "CR8 5 lets 0x61 through", tick_count, "$1"
	mov	LAPIC + 0x80, %ebx
	EXPECT	"CR8 shows in TPR", %rbx, "$0x50"
	xor	%ebx, %ebx
	mov	%rbx, %cr8
	nop
	nop
	EXPECT32 "CR8 0 lets 0x51 through", tick_count, "$2"
	cli
	mov	$16, %ebx
	TRY	mov %rbx, %cr8
	EXPECT_EXC "GP: cr8 bit 4", GP
	/* in service: a lower or equal class waits for EOI, a higher one does not */
	movl	$0, tick_count
	HANDLER	0x62, nest
	LW	0x300, 0x40062
	sti
	nop
	nop
	nop
	cli
	EXPECT32 "while 0x62 is in service 0x61 waits", nest_low, "$0"
	EXPECT32 "while 0x62 is in service 0x71 comes", nest_high, "$1"
	EXPECT32 "after EOI both have come", tick_count, "$2"
	mov	nest_ppr, %ebx
	EXPECT	"PPR in service", %rbx, "$0x60"
	/* software disable: a fixed IPI is refused and LVTs are masked */
	LW	0x320, 0x51
	LW	0xf0, 0xff
	mov	LAPIC + 0x320, %ebx
	EXPECT	"software disable masks the LVT", %rbx, "$0x10051"
	LW	0xf0, 0x1ff
	/* illegal vectors */
	LW	0x280, 0
	LW	0x280, 0
	LW	0x300, 0x40005
	LW	0x280, 0
	mov	LAPIC + 0x280, %ebx
	and	$0x60, %ebx
	EXPECT_IN "ESR: send illegal vector", %rbx, 0x20, 0x60
	LW	0x280, 0

	/* --- timer: counts --- */
	cli
	movl	$0, tick_count
	LW	0x3e0, 0xb /* divide by 1 */
	LW	0x320, 0x10051
	LW	0x380, 0xffffffff
	mov	LAPIC + 0x390, %ebx
	mov	$10000, %ecx
1:	pause
	dec	%ecx
	jnz	1b
	mov	LAPIC + 0x390, %ecx
	sub	%ecx, %ebx
	EXPECT_IN "the current count goes down", %rbx, 1, 0x7fffffff
	LW	0x380, 0
	mov	LAPIC + 0x390, %ebx
	EXPECT	"initial count 0 stops it", %rbx, "$0"
	LW	0x380, 100
	call	settle
	EXPECT32 "masked: it does not interrupt", tick_count, "$0"
	mov	LAPIC + 0x390, %ebx
	EXPECT	"one-shot: it stays at 0", %rbx, "$0"
	LW	0x320, 0x51
	LW	0x380, 1000
	WAIT_TICKS 1
	call	settle
	EXPECT32 "one-shot: once", tick_count, "$1"
	movl	$0, tick_count
	LW	0x320, 0x20051
	LW	0x380, 2000
	WAIT_TICKS 5
	EXPECT_IN "periodic: goes on", "tick_count", 5, 1000
	LW	0x380, 0
	call	settle
	movl	$0, tick_count
	call	settle
	EXPECT32 "periodic: initial count 0 stops it", tick_count, "$0"
	/* HLT wakes */
	LW	0x320, 0x51
	LW	0x380, 10000
	sti
	hlt
	cli
	EXPECT32 "hlt ends by the timer", tick_count, "$1"

	call	timing
	call	ioapic
	call	x2apic
	ret

	/* --- timers measured --- */

	/*
	 * Divide configuration \dc (divisor \div): \count counts must take count * div / f, where f
	 * is the APIC timer's input clock by CPUID.15H:ECX.
	 */
	.macro	TIMED name, dc, div, count
	movl	$0, tick_count
	LW	0x320, 0x51
	LW	0x3e0, \dc
	RDTSC64
	mov	%rax, %r12
	LW	0x380, \count
	WAIT_TICKS 1
	mov	tick_tsc, %rbx
	sub	%r12, %rbx
	mov	$(\count * \div), %eax
	mul	%r14 /* TSC kHz */
	div	%r15 /* timer kHz */
	call	lateness
	EXPECT_IN "timer: \name", %rbx, 0, TOLERANCE_US
	.endm
timing:
	call	rt_tsc_khz
	jc	.Lno_rate
	BLOCK	timing
	mov	%rax, %r14
	mov	$0x15, %eax
	xor	%ecx, %ecx
	cpuid
	mov	%ecx, %eax
	xor	%edx, %edx
	mov	$1000, %ecx
	div	%ecx
	mov	%eax, %r15d
	TIMED	"divide by 1, 1 ms", 0xb, 1, 25000
	TIMED	"divide by 2", 0x0, 2, 12500
	TIMED	"divide by 4", 0x1, 4, 6250
	TIMED	"divide by 8", 0x2, 8, 3125
	TIMED	"divide by 16", 0x3, 16, 1600
	TIMED	"divide by 32", 0x8, 32, 800
	TIMED	"divide by 64", 0x9, 64, 400
	TIMED	"divide by 128", 0xa, 128, 200
	/* periodic: the tenth tick at ten periods, so lateness does not add up */
	movl	$0, tick_count
	LW	0x3e0, 0xb
	LW	0x320, 0x20051
	RDTSC64
	mov	%rax, %r12
	LW	0x380, 2500
	WAIT_TICKS 10
	mov	tick_tsc, %rbx
	LW	0x380, 0
	sub	%r12, %rbx
	mov	$25000, %eax
	mul	%r14
	div	%r15
	call	lateness
	EXPECT_IN "timer: ten periods", %rbx, 0, TOLERANCE_US
	ENDBLOCK timing
	jmp	1f
.Lno_rate:
	SKIP_BLOCK timing, "CPUID leaf 15H does not tell the rates"
1:	CPUID_BIT 1, ecx, 24
	jz	.Lno_deadline
	BLOCK	deadline
	movl	$0, tick_count
	LW	0x320, 0x40051
	RDTSC64
	lea	1000000(%rax), %r12
	mov	%r12, %rax
	mov	%r12, %rdx
	shr	$32, %rdx
	mov	$MSR_TSC_DEADLINE, %ecx
	wrmsr
	RDMSR64	MSR_TSC_DEADLINE
	mov	%rax, %rbx
	EXPECT	"TSC deadline reads back while armed", %rbx, %r12
	mov	LAPIC + 0x390, %ebx
	EXPECT	"current count is 0 in TSC-deadline mode", %rbx, "$0"
	WAIT_TICKS 1
	mov	tick_tsc, %rbx
	mov	%r12, %rax
	call	rt_tsc_khz
	mov	%rax, %r14
	mov	%r12, %rax
	call	lateness
	EXPECT_IN "TSC deadline fires at its time", %rbx, 0, TOLERANCE_US
	RDMSR64	MSR_TSC_DEADLINE
	mov	%rax, %rbx
	EXPECT	"TSC deadline is 0 after it fired", %rbx, "$0"
	movl	$0, tick_count
	WRMSR_IMM MSR_TSC_DEADLINE, 1
	WAIT_TICKS 1
	EXPECT32 "a deadline in the past fires at once", tick_count, "$1"
	RDTSC64
	add	$100000, %rax
	mov	%rax, %rdx
	shr	$32, %rdx
	mov	$MSR_TSC_DEADLINE, %ecx
	wrmsr
	WRMSR_IMM MSR_TSC_DEADLINE, 0
	call	settle
	EXPECT32 "deadline 0 disarms", tick_count, "$1"
	LW	0x380, 100
	call	settle
	EXPECT32 "the initial count does nothing in TSC-deadline mode", tick_count, "$1"
	LW	0x320, 0x10000
	WRMSR_IMM MSR_TSC_DEADLINE, 1
	RDMSR64	MSR_TSC_DEADLINE
	mov	%rax, %rbx
	EXPECT	"outside of TSC-deadline mode the MSR stays 0", %rbx, "$0"
	ENDBLOCK deadline
	ret
.Lno_deadline:
	SKIP_BLOCK deadline, "CPUID has no TSC deadline"
	ret

	/* RBX: measured ticks, RAX: wanted, R14: kHz; RBX: microseconds late (huge if early). */
lateness:
	sub	%rax, %rbx
	jc	1f
	mov	%rbx, %rax
	mov	$1000, %ecx
	mul	%rcx
	div	%r14
	mov	%rax, %rbx
1:	ret

	/* --- I/O APIC: the UART (GSI 4) and the RTC (GSI 8) --- */
ioapic:
	HANDLER	0x81, uart_edge
	HANDLER	0x82, uart_level
	IO_READ	1, %ebx
	and	$0xff, %ebx
	EXPECT_IN "version", %rbx, 0x11, 0x20
	IO_READ	1, %ebx
	shr	$16, %ebx
	and	$0xff, %ebx
	EXPECT_IN "entries", %rbx, 23, 239
	IO_READ	0x18, %ebx
	and	$0x10000, %ebx
	EXPECT	"entries are masked at reset", %rbx, "$0x10000"
	mov	LAPIC + 0x20, %ebx
	movl	$0x19, IOAPIC
	mov	%ebx, IOAPIC + 0x10
	/* edge: enabling THRE with an empty transmitter interrupts once */
	OUTB	0x3fc, 0x0b /* OUT2 gates the line */
	IO_WRITE 0x18, 0x81
	cli
	movl	$0, uart_count
	OUTB	0x3f9, 0x02
	call	settle
	OUTB	0x3f9, 0 /* before anything is printed: printing empties the transmitter again */
	EXPECT32 "UART THRE by edge", uart_count, "$1"
	EXPECT32 "... IIR says THRE", uart_iir, "$0x02"
	/* masked: nothing */
	IO_WRITE 0x18, 0x10081
	movl	$0, uart_count
	OUTB	0x3f9, 0x02
	call	settle
	OUTB	0x3f9, 0
	INB	0x3fa
	EXPECT32 "masked: nothing", uart_count, "$0"
	/* level: stays until the cause is gone; the handler removes it at the third time */
	IO_WRITE 0x18, 0x8082
	movl	$0, uart_count
	OUTB	0x3f9, 0x02
	call	settle
	EXPECT32 "UART THRE by level: again after EOI until the cause is gone", uart_count, "$3"
	EXPECT32 "... remote IRR while in service", uart_rirr, "$0x4000"
	EXPECT32 "... TMR says level", uart_tmr, "$0x4"
	IO_READ	0x18, %ebx
	and	$0x5000, %ebx
	EXPECT	"... remote IRR is clear in the end", %rbx, "$0"
	IO_WRITE 0x18, 0x10000
	OUTB	0x3f9, 0
	/* a software-unconnected pin's entry keeps what is written */
	IO_WRITE 0x2a, 0x1a0b3
	IO_READ	0x2a, %ebx
	EXPECT	"an entry reads back", %rbx, "$0x1a0b3"
	IO_WRITE 0x2a, 0x10000
	/* RTC periodic interrupt: 1024 Hz, edge */
	HANDLER	0x83, rtc
	mov	LAPIC + 0x20, %ebx
	movl	$0x21, IOAPIC
	mov	%ebx, IOAPIC + 0x10
	IO_WRITE 0x20, 0x83
	movl	$0, rtc_count
	OUTB	0x70, 0x0c
	INB	0x71
	OUTB	0x70, 0x0a
	OUTB	0x71, 0x26
	OUTB	0x70, 0x0b
	OUTB	0x71, 0x42
	RDTSC64
	mov	%rax, %r12
	sti
1:	hlt
	cmpl	$16, rtc_count
	jb	1b
	cli
	RDTSC64
	mov	%rax, %r13
	OUTB	0x70, 0x0b
	OUTB	0x71, 0x02
	EXPECT_IN "RTC periodic interrupt", "rtc_count", 16, 20
	mov	rtc_flags, %ebx
	and	$0xc0, %ebx
	EXPECT	"RTC register C: IRQF and PF", %rbx, "$0xc0"
	IO_WRITE 0x20, 0x10000
	sub	%r12, %r13
	call	rt_tsc_khz
	jc	.Lno_rtc_rate
	BLOCK	rtc_rate
	mov	%rax, %rcx
	mov	%r13, %rax
	mov	$1000, %edx
	mul	%rdx
	div	%rcx
	mov	%rax, %rbx
	/* 16 periods of 976.6 us, of which the first may be partial */
	EXPECT_IN "RTC: sixteen periods take as long as they should, in us", %rbx, 14600, 15800
	ENDBLOCK rtc_rate
	ret
.Lno_rtc_rate:
	SKIP_BLOCK rtc_rate, "CPUID leaf 15H does not tell the TSC rate"
	ret

	/* --- x2APIC --- */
x2apic:
	CPUID_BIT 1, ecx, 21
	jz	.Lno_x2
	BLOCK	x2
	RDMSR64	MSR_APIC_BASE
	mov	%rax, %r12
	mov	$MSR_X2APIC + 2, %ecx
	TRY	rdmsr
	EXPECT_EXC "x2APIC MSRs in xAPIC mode", GP
	mov	LAPIC + 0x20, %r13d
	shr	$24, %r13d
	mov	$MSR_APIC_BASE, %ecx
	lea	0x400(%r12), %rax
	mov	%rax, %rdx
	shr	$32, %rdx
	TRY	wrmsr
	EXPECT_NOEXC "xAPIC to x2APIC"
	RDMSR64	(MSR_X2APIC + 2)
	mov	%rax, %rbx
	EXPECT	"x2APIC id", %rbx, %r13
	RDMSR64	(MSR_X2APIC + 0xd)
	mov	%rax, %rbx
	mov	%r13d, %ecx
	and	$15, %ecx
	mov	$1, %esi
	shl	%cl, %esi
	mov	%r13d, %ecx
	shr	$4, %ecx
	shl	$16, %ecx
	or	%ecx, %esi
	EXPECT	"x2APIC logical id", %rbx, %rsi
	WRMSR_IMM (MSR_X2APIC + 0xf), 0x1ff
	movl	$0, tick_count
	WRMSR_IMM (MSR_X2APIC + 0x3f), 0x51
	RDMSR64	(MSR_X2APIC + 0x22)
	mov	%rax, %rbx
	EXPECT	"SELF IPI register: IRR", %rbx, "$0x20000"
	HANDLER	0x51, tick_x2
	sti
	nop
	nop
	cli
	EXPECT32 "SELF IPI register: taken", tick_count, "$1"
	mov	%r13, %rax
	shl	$32, %rax
	or	$0x51, %rax
	mov	%rax, %rdx
	shr	$32, %rdx
	mov	$MSR_X2APIC + 0x30, %ecx
	wrmsr
	sti
	nop
	nop
	cli
	EXPECT32 "ICR as one 64-bit write", tick_count, "$2"
	RDMSR64	(MSR_X2APIC + 0xd)
	mov	%rax, %rdx
	mov	$0x851, %eax
	mov	$MSR_X2APIC + 0x30, %ecx
	wrmsr
	sti
	nop
	nop
	cli
	EXPECT32 "logical destination", tick_count, "$3"
	.macro	X2_GP name, msr, val
	mov	$\msr, %ecx
	mov	$\val, %eax
	xor	%edx, %edx
	TRY	wrmsr
	EXPECT_EXC "x2APIC: \name", GP
	.endm
	X2_GP	"EOI of non-zero", MSR_X2APIC + 0xb, 1
	X2_GP	"id is read-only", MSR_X2APIC + 2, 0
	X2_GP	"LDR is read-only", MSR_X2APIC + 0xd, 0
	X2_GP	"ESR of non-zero", MSR_X2APIC + 0x28, 1
	X2_GP	"DFR does not exist", MSR_X2APIC + 0xe, 0
	X2_GP	"ICR2 does not exist", MSR_X2APIC + 0x31, 0
	X2_GP	"reserved TPR bits", MSR_X2APIC + 8, 0x100
	X2_GP	"reserved LVT bits", MSR_X2APIC + 0x32, 0x80000000
	X2_GP	"reserved SVR bits", MSR_X2APIC + 0xf, 0x80000000
	mov	$MSR_X2APIC + 0xb, %ecx
	TRY	rdmsr
	EXPECT_EXC "x2APIC: EOI is write-only", GP
	mov	$MSR_X2APIC + 0x3f, %ecx
	TRY	rdmsr
	EXPECT_EXC "x2APIC: SELF IPI is write-only", GP
	mov	$MSR_APIC_BASE, %ecx
	mov	%r12d, %eax
	xor	%edx, %edx
	TRY	wrmsr
	EXPECT_EXC "x2APIC to xAPIC directly", GP
	mov	$MSR_APIC_BASE, %ecx
	mov	%r12d, %eax
	and	$~0x800, %eax
	or	$0x400, %eax
	xor	%edx, %edx
	TRY	wrmsr
	EXPECT_EXC "x2APIC to EXTD without EN", GP
	mov	$MSR_APIC_BASE, %ecx
	mov	%r12d, %eax
	and	$~0xc00, %eax
	xor	%edx, %edx
	TRY	wrmsr
	EXPECT_NOEXC "x2APIC to disabled"
	CPUID_BIT 1, edx, 9
	EXPECT_CC "CPUID hides a disabled APIC", e
	mov	$MSR_APIC_BASE, %ecx
	mov	%r12d, %eax
	or	$0x400, %eax
	xor	%edx, %edx
	TRY	wrmsr
	EXPECT_EXC "disabled to x2APIC directly", GP
	mov	$MSR_APIC_BASE, %ecx
	mov	%r12d, %eax
	xor	%edx, %edx
	TRY	wrmsr
	EXPECT_NOEXC "disabled to xAPIC"
	ENDBLOCK x2
	ret
.Lno_x2:
	SKIP_BLOCK x2, "CPUID has no x2APIC"
	ret

	/* --- helpers and handlers --- */

	/* Some hundred microseconds with interrupts on, then off. */
settle:
	sti
	mov	$500, %edi
	call	rt_delay_us
	cli
	ret
wait_ticks:
	push	%rbx
	mov	$20000000, %ecx
	sti
1:	pause
	cmp	%edi, tick_count
	jae	2f
	dec	%ecx
	jnz	1b
2:	cli
	pop	%rbx
	ret
tick:	RDTSC64
	mov	%rax, tick_tsc
	mov	LAPIC + 0x120, %eax
	mov	%eax, tick_isr
	EOI
tick_tail:
	mov	tick_count, %eax
	incl	tick_count
	and	$3, %eax
	mov	F_VEC(%rdi), %ecx
	mov	%cx, vecs(, %rax, 2)
	ret
tick_x2: mov	$MSR_X2APIC + 0xb, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
	jmp	tick_tail
illegal:
	EOI
	ret
spurious:
	incl	spurious_count
	ret
nest:	LW	0x300, 0x40061
	LW	0x300, 0x40071
	mov	LAPIC + 0xa0, %eax
	mov	%eax, nest_ppr
	sti
	nop
	nop
	nop
	cli
	mov	tick_count, %eax
	mov	%eax, nest_high
	cmpw	$0x71, vecs
	je	1f
	incl	nest_low
1:	EOI
	ret
uart_edge:
	incl	uart_count
	INB	0x3fa
	and	$0xf, %eax
	mov	%eax, uart_iir
	EOI
	ret
uart_level:
	incl	uart_count
	IO_READ	0x18, %eax
	and	$0x4000, %eax
	mov	%eax, uart_rirr
	mov	LAPIC + 0x1c0, %eax /* TMR of vectors 0x80-0x9f */
	mov	%eax, uart_tmr
	cmpl	$3, uart_count
	jb	1f
	OUTB	0x3f9, 0
1:	EOI
	ret
rtc:	incl	rtc_count
	OUTB	0x70, 0x0c
	INB	0x71
	mov	%eax, rtc_flags
	EOI
	ret

	.bss
	.balign	8
tick_tsc: .skip	8
vecs:	.skip	8
tick_count: .skip 8
tick_isr: .skip	4
nest_low: .skip	4
nest_high: .skip 4
nest_ppr: .skip	4
spurious_count: .skip 4
uart_count: .skip 4
uart_iir: .skip	4
uart_rirr: .skip 4
uart_tmr: .skip	4
rtc_flags: .skip 4
	.balign	8
rtc_count: .skip 8
END_TESTS
