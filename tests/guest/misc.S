/* SPDX-License-Identifier: Apache-2.0 */
/*
 * misc.S - CPUID, control registers, MSRs, XSAVE, random numbers, UART and RTC registers
 */
#include "rt.inc"

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
	.macro	HAS name, leaf, reg, bit
	CPUID_BIT \leaf, \reg, \bit
	EXPECT_CC "cpuid: \name", ne
	.endm
	.macro	CR_GP name, cr, set=0, clear=0
	mov	%\cr, %rbx
	mov	$\set, %rcx
	or	%rcx, %rbx
	mov	$\clear, %rcx
	not	%rcx
	and	%rcx, %rbx
	TRY	mov %rbx, %\cr
	mov	%r14, %cr0
	mov	%r15, %cr4
	EXPECT_EXC "\cr: \name", GP
	.endm
	.macro	WRMSR_GP name, msr, lo, hi=0
	mov	$\msr, %ecx
	mov	$\lo, %eax
	mov	$\hi, %edx
	TRY	wrmsr
	EXPECT_EXC "wrmsr: \name", GP
	.endm

BEGIN_TESTS
	/* --- CPUID --- */
	xor	%eax, %eax
	cpuid
	mov	%eax, %r12d
	EXPECT_IN "cpuid: highest basic leaf", %r12, 0xd, 0xff
	mov	$0x80000000, %eax
	cpuid
	mov	%eax, %r13d
	EXPECT_IN "cpuid: highest extended leaf", %r13, 0x80000008, 0x800000ff
	HAS	"FPU", 1, edx, 0
	HAS	"PSE", 1, edx, 3
	HAS	"TSC", 1, edx, 4
	HAS	"MSR", 1, edx, 5
	HAS	"PAE", 1, edx, 6
	HAS	"CX8", 1, edx, 8
	HAS	"APIC", 1, edx, 9
	HAS	"SEP", 1, edx, 11
	HAS	"MTRR", 1, edx, 12
	HAS	"PGE", 1, edx, 13
	HAS	"CMOV", 1, edx, 15
	HAS	"PAT", 1, edx, 16
	HAS	"MMX", 1, edx, 23
	HAS	"FXSR", 1, edx, 24
	HAS	"SSE", 1, edx, 25
	HAS	"SSE2", 1, edx, 26
	HAS	"SSE3", 1, ecx, 0
	HAS	"SSSE3", 1, ecx, 9
	HAS	"CX16", 1, ecx, 13
	HAS	"SSE4.1", 1, ecx, 19
	HAS	"SSE4.2", 1, ecx, 20
	HAS	"POPCNT", 1, ecx, 23
	HAS	"XSAVE", 1, ecx, 26
	HAS	"HYPERVISOR", 1, ecx, 31
	HAS	"SYSCALL", 0x80000001, edx, 11
	HAS	"NX", 0x80000001, edx, 20
	HAS	"1 GiB pages", 0x80000001, edx, 26
	HAS	"RDTSCP", 0x80000001, edx, 27
	HAS	"LM", 0x80000001, edx, 29
	HAS	"LAHF in 64-bit mode", 0x80000001, ecx, 0
	HAS	"FSGSBASE", 7, ebx, 0
	HAS	"SMEP", 7, ebx, 7
	HAS	"SMAP", 7, ebx, 20
	mov	$0x80000008, %eax
	cpuid
	movzbl	%al, %ebx
	EXPECT_IN "cpuid: physical address bits", %rbx, 36, 52
	mov	$0x80000008, %eax
	cpuid
	movzbl	%ah, %ebx
	EXPECT_IN "cpuid: linear address bits", %rbx, 48, 57
	CR_CLEAR cr4, CR4_OSXSAVE
	CPUID_BIT 1, ecx, 27
	EXPECT_CC "cpuid: OSXSAVE mirrors CR4 (0)", e
	TRY	xgetbv
	EXPECT_EXC "xgetbv without OSXSAVE", UD
	TRY	xsave64 area
	EXPECT_EXC "xsave without OSXSAVE", UD
	CR_SET	cr4, CR4_OSXSAVE
	CPUID_BIT 1, ecx, 27
	EXPECT_CC "cpuid: OSXSAVE mirrors CR4 (1)", ne
	/* registers' high halves are zeroed */
	mov	$-1, %rbx
	mov	$-1, %rdx
	xor	%eax, %eax
	cpuid
	shr	$32, %rbx
	shr	$32, %rdx
	or	%rdx, %rbx
	EXPECT	"cpuid clears bits 63-32", %rbx, "$0"

	/* --- control registers --- */
	mov	%cr0, %r14
	mov	%cr4, %r15
	mov	%cr0, %r14
	mov	%r14, %rbx
	or	$0x1ffaffc0, %ebx /* reserved bits of the low half are ignored */
	and	$~0x10000, %ebx
	or	$0x10000, %ebx
	TRY	mov %rbx, %cr0
	EXPECT_NOEXC "cr0: reserved bits 6-15, 17, 19-28 are ignored"
	mov	%r14, %cr0
	mov	%cr0, %rbx
	and	$0x10, %ebx
	EXPECT	"cr0: ET is always 1", %rbx, "$0x10"
	smsw	%rbx
	EXPECT	"smsw is cr0", %rbx, %r14
	mov	$0x8, %eax
	lmsw	%ax
	mov	%cr0, %rbx
	and	$0xf, %ebx
	EXPECT	"lmsw sets TS, clears MP and EM, cannot clear PE", %rbx, "$0x9"
	mov	%r14, %cr0

	/* --- MSRs --- */
	mov	$0x12345, %ecx
	TRY	rdmsr
	EXPECT_EXC "rdmsr: unknown", GP
	WRMSR_GP "unknown", 0x12345, 0
	WRMSR_GP "EFER reserved bits", MSR_EFER, 0xfffff000
	RDMSR64	MSR_EFER
	and	$~0x100, %eax
	mov	%eax, %ebx
	mov	$MSR_EFER, %ecx
	xor	%edx, %edx
	mov	%ebx, %eax
	TRY	wrmsr
	EXPECT_EXC "wrmsr: LME while paging", GP
	RDMSR64	MSR_EFER
	and	$~0x400, %eax
	wrmsr
	RDMSR64	MSR_EFER
	mov	%rax, %rbx
	EXPECT	"wrmsr: LMA is not writable", %rbx, "$0xd01"
	WRMSR_GP "PAT with a reserved type", 0x277, 0x2
	WRMSR_GP "APIC_BASE reserved bits", MSR_APIC_BASE, 0xfee00901
	WRMSR_GP "KERNEL_GS_BASE non-canonical", MSR_KGS_BASE, 0, 0x8000
	WRMSR_GP "SYSENTER_EIP non-canonical", 0x176, 0, 0x8000
	RDMSR64	0x277
	mov	%rax, %rbx
	EXPECT_ADDR "PAT at reset", %rbx, "$0x0007040600070406"
	CPUID_BIT 7, edx, 29
	EXPECT_CC "cpuid: ARCH_CAPABILITIES", ne

	/* --- XSAVE --- */
	xor	%ecx, %ecx
	xgetbv
	mov	%eax, %ebx
	EXPECT	"XCR0 at reset", %rbx, "$1"
	.macro	XSETBV_GP name, n, lo, hi=0
	mov	$\n, %ecx
	mov	$\lo, %eax
	mov	$\hi, %edx
	TRY	xsetbv
	EXPECT_EXC "xsetbv: \name", GP
	.endm
	XSETBV_GP "without x87", 0, 2
	XSETBV_GP "AVX without SSE", 0, 5
	XSETBV_GP "high half", 0, 3, 0x80000000
	XSETBV_GP "another register", 1, 3
	xor	%ecx, %ecx
	mov	$3, %eax
	xor	%edx, %edx
	TRY	xsetbv
	EXPECT_NOEXC "xsetbv: x87 and SSE"
	mov	$0xd, %eax
	xor	%ecx, %ecx
	cpuid
	EXPECT_IN "cpuid: XSAVE size for x87 and SSE", %rbx, 576, 576
	movl	$0x12345678, area + 1024
	movd	area + 1024, %xmm5
	fninit
	fld1
	mov	$area, %edi
	xor	%eax, %eax
	mov	$144, %ecx
	rep stosl
	mov	$3, %eax
	xor	%edx, %edx
	xsave64	area
	pxor	%xmm5, %xmm5
	fninit
	mov	$3, %eax
	xor	%edx, %edx
	xrstor64 area
	movd	%xmm5, %ebx
	EXPECT	"xsave, xrstor: SSE", %rbx, "$0x12345678"
	fnstsw	%ax
	movzwl	%ax, %ebx
	EXPECT	"xsave, xrstor: x87 top", %rbx, "$0x3800"
	EXPECT	"xsave: XSTATE_BV", area+512, "$3"
	andb	$~2, area + 512
	mov	$2, %eax
	xor	%edx, %edx
	xrstor64 area
	movd	%xmm5, %ebx
	EXPECT	"xrstor: a component not in XSTATE_BV is initialized", %rbx, "$0"
	movb	$4, area + 512
	mov	$3, %eax
	xor	%edx, %edx
	TRY	xrstor64 area
	EXPECT_EXC "xrstor: XSTATE_BV outside of XCR0", GP
	movb	$3, area + 512
	movb	$1, area + 520
	mov	$3, %eax
	xor	%edx, %edx
	TRY	xrstor64 area
	EXPECT_EXC "xrstor: XCOMP_BV low bit without compaction", GP
	movb	$0, area + 520
	TRY	xsave64 area + 16
	EXPECT_EXC "xsave: 64-byte alignment", GP
	mov	$3, %eax
	xor	%edx, %edx
	movl	$0x10000, area + 24
	TRY	xrstor64 area
	EXPECT_EXC "xrstor: reserved MXCSR bits", GP
	CR_SET	cr0, CR0_TS
	TRY	xsave64 area
	EXPECT_EXC "xsave with TS", NM
	clts

	/* --- FXSAVE --- */
	TRY	fxsave64 area + 8
	EXPECT_EXC "fxsave: 16-byte alignment", GP
	movl	$0x1f80, area + 24
	ldmxcsr	area + 24
	fninit
	fldpi
	fxsave64 area
	movzwl	area, %ebx
	EXPECT	"fxsave: fcw", %rbx, "$0x37f"
	movzbl	area + 4, %ebx
	EXPECT	"fxsave: abridged tags", %rbx, "$0x80"
	movabs	$0xc90fdaa22168c235, %rbx
	EXPECT	"fxsave: st0 is pi", area+32, %rbx
	EXPECT32 "fxsave: mxcsr", area+24, "$0x1f80"
	movl	$0x10000, area + 24
	TRY	fxrstor64 area
	EXPECT_EXC "fxrstor: reserved MXCSR bits", GP

	/* --- CMPXCHG8B/16B --- */
	mov	$area + 8, %edi
	TRY	cmpxchg16b (%rdi)
	EXPECT_EXC "cmpxchg16b: alignment", GP
	mov	$area + 8, %edi
	TRY	cmpxchg8b 1(%rdi)
	EXPECT_NOEXC "cmpxchg8b: no alignment needed"
	movq	$1, area
	movq	$2, area + 8
	mov	$1, %eax
	mov	$2, %edx
	mov	$3, %ebx
	mov	$4, %ecx
	cmpxchg16b area
	EXPECT_CC "cmpxchg16b: equal", e
	EXPECT	"cmpxchg16b: low", area, "$3"
	EXPECT	"cmpxchg16b: high", area+8, "$4"
	xor	%eax, %eax
	xor	%edx, %edx
	cmpxchg16b area
	mov	%rax, %rbx
	mov	%rdx, %rcx
	EXPECT	"cmpxchg16b: not equal loads rax", %rbx, "$3"
	EXPECT	"cmpxchg16b: not equal loads rdx", %rcx, "$4"

	/* --- random numbers --- */
	CPUID_BIT 1, ecx, 30
	jz	.Lno_rdrand
	BLOCK	rdrand
	rdrand	%rbx
	EXPECT_CC "rdrand: CF", c
	rdrand	%rcx
	cmp	%rbx, %rcx
	EXPECT_CC "rdrand: two differ", ne
	mov	$-1, %rbx
	rdrand	%ebx
	shr	$32, %rbx
	EXPECT	"rdrand of 32 bits zero-extends", %rbx, "$0"
	rdrand	%rbx
	setz	%al
	sets	%ah
	seto	%bl
	or	%ah, %al
	or	%bl, %al
	movzbl	%al, %ebx
	EXPECT	"rdrand clears OF, SF, ZF", %rbx, "$0"
	ENDBLOCK rdrand
	jmp	1f
.Lno_rdrand:
	SKIP_BLOCK rdrand, "CPUID has no RDRAND"
1:	CPUID_BIT 7, ebx, 18
	jz	.Lno_rdseed
	BLOCK	rdseed
	mov	$1000, %ecx
2:	rdseed	%rbx
	jc	3f
	pause
	dec	%ecx
	jnz	2b
3:	EXPECT_CC "rdseed: CF", c
	ENDBLOCK rdseed
	jmp	4f
.Lno_rdseed:
	SKIP_BLOCK rdseed, "CPUID has no RDSEED"
4:
	/* --- UART --- */
	OUTB	0x3ff, 0x5a
	INB	0x3ff
	mov	%eax, %ebx
	OUTB	0x3ff, 0xa5
	INB	0x3ff
	shl	$8, %eax
	or	%eax, %ebx
	EXPECT	"UART: scratch", %rbx, "$0xa55a"
	OUTB	0x3fa, 0x07
	INB	0x3fa
	and	$0xc0, %eax
	mov	%eax, %ebx
	EXPECT	"UART: FIFOs are a 16550A's", %rbx, "$0xc0"
	OUTB	0x3fc, 0x1a /* loop, OUT2, RTS */
	INB	0x3fe
	and	$0xf0, %eax
	mov	%eax, %ebx
	OUTB	0x3f8, 0x77
	mov	$1000, %ecx
5:	INB	0x3fd
	test	$1, %al
	jnz	6f
	pause
	loop	5b
6:	INB	0x3f8
	mov	%eax, %ebp
	OUTB	0x3fc, 0x08
	EXPECT	"UART: loop-back of OUT2 and RTS to MSR", %rbx, "$0x90"
	EXPECT	"UART: loop-back of data", %rbp, "$0x77"
	OUTB	0x3fb, 0x83
	INB	0x3f8
	mov	%eax, %r14d
	OUTB	0x3f8, 0x12
	INB	0x3f8
	mov	%eax, %ebx
	mov	$0x3f8, %edx
	mov	%r14d, %eax
	out	%al, %dx
	OUTB	0x3fb, 0x03
	EXPECT	"UART: divisor latch", %rbx, "$0x12"
	INB	0x3fd
	and	$0x60, %eax
	mov	%eax, %ebx
	EXPECT_IN "UART: LSR THRE", %rbx, 0x20, 0x60

	/* --- RTC --- */
	OUTB	0x70, 0x0d
	INB	0x71
	mov	%eax, %ebx
	and	$0x80, %ebx
	EXPECT	"RTC: register D, valid RAM and time", %rbx, "$0x80"
	OUTB	0x70, 0x0b
	INB	0x71
	and	$0x06, %eax
	mov	%eax, %ebx
	EXPECT_IN "RTC: register B", %rbx, 0, 6
	mov	$100000, %ecx
7:	OUTB	0x70, 0x0a
	INB	0x71
	test	$0x80, %al
	jz	8f
	pause
	dec	%ecx
	jnz	7b
8:	OUTB	0x70, 0x08
	INB	0x71
	mov	%eax, %ebx
	EXPECT_IN "RTC: month", %rbx, 1, 0x12
	OUTB	0x70, 0x07
	INB	0x71
	mov	%eax, %ebx
	EXPECT_IN "RTC: day", %rbx, 1, 0x31
	OUTB	0x70, 0x00
	INB	0x71
	mov	%eax, %ebx
	EXPECT_IN "RTC: seconds", %rbx, 0, 0x59
	OUTB	0x70, 0x50
	OUTB	0x71, 0x3c
	OUTB	0x70, 0x51
	OUTB	0x70, 0x50
	INB	0x71
	mov	%eax, %ebx
	EXPECT	"RTC: CMOS RAM", %rbx, "$0x3c"

	/* --- nobody there --- */
	INB	0x5f0
	mov	%eax, %ebx
	EXPECT	"a port without a device reads all ones", %rbx, "$0xff"
	mov	$0x5f0, %edx
	in	%dx, %eax
	mov	%eax, %ebx
	EXPECT32 "... of 32 bits", %ebx, "$0xffffffff"

	/* QEMU's TCG accepts these and cannot go on from there. */
	mov	$0x40000000, %eax
	cpuid
	cmp	$0x54474354, %ebx /* "TCGT" */
	je	.Ltcg
	mov	%cr0, %r14
	mov	%cr4, %r15
	BLOCK	cr
	CR_GP	"reserved bit 31", cr4, 0x80000000
	CR_GP	"high half", cr4, 0x100000000
	CR_GP	"reserved address bits", cr3, 0x0010000000000000
	CR_GP	"PG without PE", cr0, 0, 1
	CR_GP	"NW without CD", cr0, 0x20000000, 0x40000000
	CR_GP	"high half", cr0, 0x100000000
	CR_GP	"clearing PAE in long mode", cr4, 0, 0x20
	ENDBLOCK cr
	ret
.Ltcg:	SKIP_BLOCK cr, "QEMU TCG does not check these, and hangs or dies"
	ret

	.bss
	.balign	64
area:	.skip	1088
END_TESTS
