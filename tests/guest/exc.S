/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exc.S - exceptions: which, with which error code, frame, stack and flags (SDM vol. 3, ch. 6, 17)
 */
#include "rt.inc"

	.set	NONCANON, 0x0000800000000000

BEGIN_TESTS
	/* --- each exception by its plainest cause --- */
	xor	%edx, %edx
	xor	%ecx, %ecx
	mov	$5, %eax
	TRY_FROM divz
de_at:	div	%ecx
	TRY_TO	divz
	EXPECT_EXC "DE: div by zero", DE
	EXPECT	"DE: rip is at the instruction", exc_frame+F_RIP, "$de_at"
	mov	$0x80000000, %eax
	mov	$-1, %edx
	mov	$-1, %ecx
	TRY	idiv %ecx
	EXPECT_EXC "DE: idiv overflow", DE
	mov	$0x1ff, %eax
	mov	$1, %ecx
	TRY	div %cl
	EXPECT_EXC "DE: 8-bit quotient overflow", DE
	TRY_FROM int3
	int3
bp_at:	nop
	TRY_TO	int3
	EXPECT_EXC "BP: int3", BP
	EXPECT	"BP: rip is after the instruction", exc_frame+F_RIP, "$bp_at"
	TRY	int $4
	EXPECT_EXC "OF: by int 4", OF
	TRY	ud2
	EXPECT_EXC "UD: ud2", UD
	TRY	.byte 0x06
	EXPECT_EXC "UD: push es in 64-bit mode", UD
	TRY	.byte 0xce
	EXPECT_EXC "UD: into in 64-bit mode", UD
	TRY	.byte 0xd4, 0x0a
	EXPECT_EXC "UD: aam in 64-bit mode", UD
	mov	$scratch, %edi
	TRY	.byte 0xf0, 0x89, 0x07
	EXPECT_EXC "UD: lock mov", UD
	TRY	.byte 0xf0, 0x01, 0xc0
	EXPECT_EXC "UD: lock add to a register", UD
	mov	$scratch, %edi
	TRY	.byte 0xf0, 0x3b, 0x07
	EXPECT_EXC "UD: lock cmp", UD
	TRY	.byte 0x0f, 0xff, 0xc0
	EXPECT_EXC "UD: ud0", UD
	TRY	.byte 0x8d, 0xc0
	EXPECT_EXC "UD: lea of a register", UD
	TRY	.byte 0x8e, 0xc8
	EXPECT_EXC "UD: mov to cs", UD
	TRY	.byte 0x0f, 0x20, 0xc8
	EXPECT_EXC "UD: mov from cr1", UD
	mov	$scratch, %edi
	TRY	.byte 0xf3, 0x0f, 0xc7, 0x07
	EXPECT_EXC "UD: vmxon without VMX", UD

	mov	$NONCANON, %rdi
	TRY	mov (%rdi), %eax
	EXPECT_EXC "GP: non-canonical load", GP
	mov	$NONCANON, %rdi
	TRY	mov %eax, (%rdi)
	EXPECT_EXC "GP: non-canonical store", GP
	mov	$NONCANON, %rdi
	TRY	jmp *%rdi
	EXPECT_EXC "GP: non-canonical jump", GP
	mov	%rsp, %rbx
	mov	$NONCANON, %rbp
	TRY	mov (%rbp), %eax
	EXPECT_EXC "SS: non-canonical rbp-based load", SS
	movb	$2, rt_idt + 16 * SS + 4 /* IST2: the old stack cannot take the frame */
	TRY_FROM sspush
	mov	$NONCANON + 0x100, %rsp
	push	%rax
	TRY_TO	sspush
	EXPECT_EXC "SS: push to a non-canonical stack", SS
	movb	$0, rt_idt + 16 * SS + 4
	mov	%rbx, %rsp
	mov	$-1, %rdi
	shr	$1, %rdi
	TRY	mov %fs:(%rdi), %al
	EXPECT_EXC "GP: non-canonical through fs", GP

	/* --- x87 and SSE --- */
	CR_SET	cr0, CR0_TS
	TRY	fnop
	EXPECT_EXC "NM: x87 with TS", NM
	TRY	movaps %xmm0, %xmm1
	EXPECT_EXC "NM: sse with TS", NM
	TRY	fxsave scratch
	EXPECT_EXC "NM: fxsave with TS", NM
	CR_CLEAR cr0, CR0_MP
	TRY	fwait
	EXPECT_NOEXC "fwait with TS and not MP"
	CR_SET	cr0, CR0_MP
	TRY	fwait
	EXPECT_EXC "NM: fwait with TS and MP", NM
	TRY	clts
	EXPECT_NOEXC "clts"
	TRY	fnop
	EXPECT_NOEXC "x87 after clts"
	CR_SET	cr0, CR0_EM
	TRY	fnop
	EXPECT_EXC "NM: x87 with EM", NM
	TRY	movaps %xmm0, %xmm1
	EXPECT_EXC "UD: sse with EM", UD
	CR_CLEAR cr0, CR0_EM
	CR_CLEAR cr4, CR4_OSFXSR
	TRY	movaps %xmm0, %xmm1
	EXPECT_EXC "UD: sse without OSFXSR", UD
	CR_SET	cr4, CR4_OSFXSR
	fninit
	movw	$0x37b, scratch /* ZE unmasked */
	fldcw	scratch
	fld1
	fldz
	fdivrp	%st, %st(1)
	TRY	fwait
	EXPECT_EXC "MF: pending x87 division by zero", MF
	TRY	fld1
	EXPECT_EXC "MF: at the next waiting instruction", MF
	TRY	fnstsw %ax
	EXPECT_NOEXC "fnstsw does not wait"
	fnclex
	TRY	fwait
	EXPECT_NOEXC "no MF after fnclex"
	fninit
	movl	$0x1d80, scratch /* ZM clear */
	ldmxcsr	scratch
	mov	$1, %eax
	cvtsi2ss %eax, %xmm0
	xorps	%xmm1, %xmm1
	TRY	divss %xmm1, %xmm0
	EXPECT_EXC "XM: unmasked sse division by zero", XM
	stmxcsr	scratch
	EXPECT32 "XM: MXCSR says ZE", scratch, $0x1d84
	CR_CLEAR cr4, CR4_OSXMMEXCPT
	TRY	divss %xmm1, %xmm0
	EXPECT_EXC "UD: the same without OSXMMEXCPT", UD
	CR_SET	cr4, CR4_OSXMMEXCPT
	movl	$0x1f80, scratch
	ldmxcsr	scratch
	movl	$0x10000, scratch
	TRY	ldmxcsr scratch
	EXPECT_EXC "GP: reserved bit of MXCSR", GP
	TRY	movaps scratch + 1, %xmm0
	EXPECT_EXC "GP: misaligned movaps", GP
	TRY	movups scratch + 1, %xmm0
	EXPECT_NOEXC "misaligned movups"

	/* --- AC --- */
	pushfq
	orl	$FL_AC, (%rsp)
	popfq
	CR_SET	cr0, CR0_AM
	TRY	mov scratch + 1, %eax
	EXPECT_NOEXC "no AC at CPL 0"
	USER64	u_misaligned, FL_AC | 2
	EXPECT_EXC "AC: misaligned user load", AC
	USER64	u_misaligned, 2
	EXPECT_UEXIT "no AC without EFLAGS.AC"
	CR_CLEAR cr0, CR0_AM
	USER64	u_misaligned, FL_AC | 2
	EXPECT_UEXIT "no AC without CR0.AM"

	/* --- selector error codes --- */
	mov	$0x00cf13000000ffff, %rax /* data, not present */
	mov	%rax, rt_gdt_free
	mov	$SEL_T0, %eax
	TRY	mov %eax, %ds
	EXPECT_EXC "NP: data segment not present", NP, SEL_T0
	mov	$SEL_T0, %eax
	TRY	mov %eax, %ss
	EXPECT_EXC "SS: stack segment not present", SS, SEL_T0
	mov	$0x00cf73000000ffff, %rax /* the same with DPL 3 */
	mov	%rax, rt_gdt_free + 8
	mov	$(SEL_T0 + 8 + 3), %eax
	TRY	mov %eax, %ds
	EXPECT_EXC "NP: the error code has no RPL", NP, SEL_T0+8
	mov	$0x1000, %eax
	TRY	mov %eax, %es
	EXPECT_EXC "GP: beyond the GDT limit", GP, 0x1000
	mov	$0x1004, %eax
	TRY	mov %eax, %es
	EXPECT_EXC "GP: no LDT", GP, 0x1004
	mov	$SEL_TSS, %eax
	TRY	mov %eax, %es
	EXPECT_EXC "GP: a system segment in ES", GP, SEL_TSS
	mov	$(SEL_UD | 3), %eax
	TRY	mov %eax, %ss
	EXPECT_EXC "GP: SS with RPL 3 at CPL 0", GP, SEL_UD
	mov	$(SEL_UD | 3), %eax
	TRY	mov %eax, %ds
	EXPECT_NOEXC "DS with DPL 3 at CPL 0"
	xor	%eax, %eax
	TRY	mov %eax, %ss
	EXPECT_NOEXC "null SS at CPL 0 in 64-bit mode"
	mov	$SEL_KD, %eax
	mov	%eax, %ss
	mov	%eax, %ds
	USER64	u_load_kd
	EXPECT_EXC "GP: user loads a DPL 0 segment", GP, SEL_KD
	USER64	u_null_ss3
	EXPECT_EXC "GP: null SS with RPL 3 at CPL 3", GP, 0

	/* --- gates --- */
	GATE	0x40, rt_stubs+16*0x40, 0x0e00
	TRY	int $0x40
	EXPECT_EXC "NP: gate not present", NP, 0x202
	GATE	0x40, rt_stubs+16*0x40, 0x8c00
	TRY	int $0x40
	EXPECT_EXC "GP: call gate in the IDT", GP, 0x202
	GATE	0x40, rt_stubs+16*0x40
	movw	$SEL_K32, rt_idt + 16 * 0x40 + 2
	TRY	int $0x40
	EXPECT_EXC "GP: gate to a 32-bit code segment", GP, SEL_K32
	movw	$0, rt_idt + 16 * 0x40 + 2
	TRY	int $0x40
	EXPECT_EXC "GP: gate to a null selector", GP, 0
	movw	$SEL_KD, rt_idt + 16 * 0x40 + 2
	TRY	int $0x40
	EXPECT_EXC "GP: gate to a data segment", GP, SEL_KD
	GATE	0x40, NONCANON
	TRY	int $0x40
	EXPECT_EXC "GP: gate to a non-canonical address", GP, 0
	GATE_DEFAULT 0x40
	TRY	int $0x40
	EXPECT_EXC "the gate works again", 0x40
	USER64	u_int40
	EXPECT_EXC "GP: int n at CPL 3 through a DPL 0 gate", GP, 0x202
	USER64	u_int3
	EXPECT_EXC "GP: int3 at CPL 3 through a DPL 0 gate", GP, 0x1a
	USER64	u_ud2
	EXPECT_EXC "a fault at CPL 3 ignores the gate's DPL", UD
	movw	$16 * 0x40 - 1, rt_idtr
	lidt	rt_idtr
	TRY	int $0x40
	EXPECT_EXC "GP: beyond the IDT limit", GP, 0x202
	movw	$4095, rt_idtr
	lidt	rt_idtr
	/* every vector from 0x20 by INT n */
	mov	$0x20, %ebx
	xor	%ebp, %ebp
1:	lea	(%ebx, %ebx, 2), %eax
	add	$int_n - 3 * 0x20, %eax
	TRY_FROM intn
	call	*%rax
	TRY_TO	intn
	cmp	%ebx, exc_code + 4
	jne	2f
	inc	%ebp
2:	inc	%ebx
	cmp	$0x100, %ebx
	jb	1b
	EXPECT	"int n for n = 0x20..0xff", %rbp, "$0xe0"

	/* a trap gate leaves IF */
	GATE	0x41, rt_stubs+16*0x41, 0x8f00
	HANDLER	0x41, save_flags
	HANDLER	0x42, save_flags
	sti
	int	$0x41
	cli
	mov	saved_flags, %rbx
	and	$FL_IF, %ebx
	EXPECT	"a trap gate keeps IF", %rbx, "$FL_IF"
	sti
	int	$0x42
	cli
	mov	saved_flags, %rbx
	and	$FL_IF, %ebx
	EXPECT	"an interrupt gate clears IF", %rbx, "$0"
	pushfq
	orl	$FL_NT, (%rsp)
	popfq
	TRY	int $0x43
	EXPECT	"NT is in the frame", exc_frame+F_FLAGS, "$0x4002"
	jmp	exc2

	/* --- frames and stacks --- */
exc2:
	/* same CPL: the stack is aligned to 16, then SS, RSP, RFLAGS, CS, RIP (6.14.2) */
	mov	%rsp, %rbx
	.irp	off, 0, 1, 7, 8, 15
	lea	-256 - \off(%rbx), %rbp
	and	$~15, %rbp
	sub	$\off, %rbp
	TRY_FROM al\off
	mov	%rbp, %rsp
	ud2
	TRY_TO	al\off
	mov	%rbx, %rsp
	EXPECT	"frame saves rsp (misaligned by \off)", exc_frame+F_RSP, %rbp
	mov	%rbp, %rcx
	and	$~15, %rcx
	sub	$(40 + F_RIP), %rcx
	EXPECT	"frame is aligned (misaligned by \off)", exc_frame_at, %rcx
	.endr
	lea	-256(%rbx), %rbp
	and	$~15, %rbp
	TRY_FROM alerr
	mov	%rbp, %rsp
	mov	$0x1000, %eax
	mov	%eax, %es
	TRY_TO	alerr
	mov	%rbx, %rsp
	lea	-(40 + F_RIP)(%rbp), %rcx
	EXPECT	"the error code lies below the frame", exc_frame_at, %rcx
	EXPECT	"frame: CS", exc_frame+F_CS, "$SEL_K64"
	EXPECT	"frame: SS", exc_frame+F_SS, "$SEL_KD"
	pushfq
	pop	%rcx
	/* SDM vol. 3, 17.3.1.1: faults push RF = 1. */
	TRY	ud2
	mov	exc_frame+F_FLAGS, %rcx
	and	$FL_RF, %ecx
	EXPECT	"a fault pushes RF = 1", %rcx, "$FL_RF"
	TRY	int3
	mov	exc_frame+F_FLAGS, %rcx
	and	$FL_RF, %ecx
	EXPECT	"a trap pushes RF = 0", %rcx, "$0"

	/* from CPL 3: RSP0; SS becomes null in 64-bit mode */
	USER64	u_ud2
	EXPECT	"CPL 3 to 0: frame at RSP0", exc_frame_at, "$rt_rsp0_top - 40 - F_RIP"
	EXPECT	"CPL 3 to 0: RSP saved", exc_frame+F_RSP, "$rt_ustack_top + UBASE"
	EXPECT	"CPL 3 to 0: SS saved", exc_frame+F_SS, "$(SEL_UD|3)"
	EXPECT	"CPL 3 to 0: CS saved", exc_frame+F_CS, "$(SEL_U64|3)"
	EXPECT	"CPL 3 to 0: RIP saved", exc_frame+F_RIP, "$u_ud2 + UBASE"
	GATE	0x44, get_ss, 0xee00
	USER64	u_int44
	EXPECT	"CPL 3 to 0: SS is null", saved_ss, "$0"
	addq	$5, rt_tss + 4
	USER64	u_ud2
	subq	$5, rt_tss + 4
	EXPECT	"CPL 3 to 0: RSP0 is aligned down", exc_frame_at, "$rt_rsp0_top - 40 - F_RIP"

	/* IST */
	GATE	UD, rt_stubs+16*UD, 0x8e03
	TRY	ud2
	EXPECT	"IST3 at CPL 0", exc_frame_at, "$rt_ist3_top - 40 - F_RIP"
	EXPECT	"IST3: old rsp saved", exc_frame+F_RSP, %rsp
	USER64	u_ud2
	EXPECT	"IST3 from CPL 3", exc_frame_at, "$rt_ist3_top - 40 - F_RIP"
	GATE_DEFAULT UD
	GATE	GP, rt_stubs+16*GP, 0x8e02
	mov	$0x1000, %eax
	TRY	mov %eax, %es
	EXPECT	"IST2 with an error code", exc_frame_at, "$rt_ist2_top - 40 - F_RIP"
	GATE_DEFAULT GP

	/* --- faults while delivering (table 6-5) --- */
	movb	$0x0e, rt_idt + 16 * UD + 5 /* not present */
	TRY	ud2
	EXPECT_EXC "benign then NP: NP with EXT", NP, 0x33
	movb	$0x8e, rt_idt + 16 * UD + 5
	movb	$0x0e, rt_idt + 16 * DE + 5
	xor	%ecx, %ecx
	TRY	div %ecx
	EXPECT_EXC "DE then NP: double fault", DF, 0
	EXPECT	"DF: runs on its IST", exc_frame_at, "$rt_ist1_top - 40 - F_RIP"
	movb	$0x8e, rt_idt + 16 * DE + 5
	movb	$0x0e, rt_idt + 16 * GP + 5
	mov	$0x1000, %eax
	TRY	mov %eax, %es
	EXPECT_EXC "GP then NP: double fault", DF, 0
	movb	$0x8e, rt_idt + 16 * GP + 5
	movb	$0x0e, rt_idt + 16 * PF + 5
	mov	$0x7000000000, %rdi
	TRY	mov (%rdi), %eax
	EXPECT_EXC "PF then NP: double fault", DF, 0
	movb	$0x8e, rt_idt + 16 * PF + 5
	mov	%rsp, %rbx
	/* the stack itself does not answer: PF while delivering UD is delivered on IST2 */
	movb	$2, rt_idt + 16 * PF + 4
	TRY_FROM badstk
	mov	$0x7000000000, %rsp
	ud2
	TRY_TO	badstk
	mov	%rbx, %rsp
	EXPECT_EXC "UD then PF on the stack: PF", PF, 2
	EXPECT	"UD then PF: cr2 is the first push", exc_cr2, "$0x7000000000 - 8"
	movb	$0, rt_idt + 16 * PF + 4
	TRY_FROM badstk2
	mov	$0x7000000000, %rsp
	ud2
	TRY_TO	badstk2
	mov	%rbx, %rsp
	EXPECT_EXC "PF then PF: double fault", DF, 0
	TRY_FROM badstk3
	mov	$NONCANON + 0x100, %rsp
	ud2
	TRY_TO	badstk3
	mov	%rbx, %rsp
	EXPECT_EXC "UD then SS then SS: double fault", DF, 0
	TRY	int3
	EXPECT_EXC "delivery works again", BP

	/* --- IRETQ --- */
	mov	%rsp, %rbx
	push	$SEL_KD
	lea	-64(%rbx), %rcx
	push	%rcx
	push	$0x2
	push	$SEL_K64
	push	$1f
	iretq
1:	mov	%rsp, %rbp
	mov	%rbx, %rsp
	EXPECT	"iretq to the same CPL loads RSP", %rbp, %rcx
	push	$0
	push	%rbx
	push	$2
	push	$SEL_K64
	push	$1f
	TRY	iretq
1:	movq	$0, rt_resume
	mov	%rbx, %rsp
	EXPECT_NOEXC "iretq to CPL 0 with a null SS"
	mov	%ss, %ecx
	EXPECT	"SS is null after it", %rcx, "$0"
	mov	$SEL_KD, %eax
	mov	%eax, %ss

	.macro	BAD_IRET name, ss, rip, cs, flags, vec, err
	TRY_FROM ir\@
	push	$\ss
	push	%rbx
	push	$\flags
	push	$\cs
	mov	\rip, %rax
	push	%rax
	iretq
	TRY_TO	ir\@
	mov	%rbx, %rsp
	EXPECT_EXC "iretq: \name", \vec, \err
	.endm
	BAD_IRET "non-canonical rip", SEL_KD, "$NONCANON", SEL_K64, 2, GP, 0
	BAD_IRET "null CS", SEL_KD, "$iret_ok", 0, 2, GP, 0
	BAD_IRET "CS RPL 3 with DPL 0", SEL_KD, "$iret_ok", (SEL_K64|3), 2, GP, SEL_K64
	BAD_IRET "CS is data", SEL_KD, "$iret_ok", SEL_KD, 2, GP, SEL_KD
	BAD_IRET "CS beyond the GDT", SEL_KD, "$iret_ok", 0x2000, 2, GP, 0x2000
	BAD_IRET "SS DPL 0 to CPL 3", SEL_KD, "$iret_ok", (SEL_U64|3), 2, GP, SEL_KD
	BAD_IRET "null SS to CPL 3", 0, "$iret_ok", (SEL_U64|3), 2, GP, 0
	BAD_IRET "SS is code", SEL_K64, "$iret_ok", SEL_K64, 2, GP, SEL_K64
	pushfq
	orl	$FL_NT, (%rsp)
	popfq
	TRY_FROM irnt
	push	$SEL_KD
	push	%rbx
	push	$2
	push	$SEL_K64
	push	$iret_ok
	iretq
	TRY_TO	irnt
	mov	%rbx, %rsp
	EXPECT_EXC "iretq with NT set", GP, 0
	USER64	u_iret_flags
	mov	exc_frame+F_FLAGS, %rcx
	and	$(FL_IOPL | FL_IF), %ecx
	EXPECT	"iretq at CPL 3 leaves IF and IOPL", %rcx, "$0"
	EXPECT	"iretq at CPL 3 loads CF", exc_frame+F_RBX, "$1"
	USER64	u_iret_inner
	EXPECT_EXC "iretq at CPL 3 to CPL 0", GP, SEL_K64
	USER32	u32_start
	EXPECT_UEXIT "iretq to 32-bit compatibility mode"
	EXPECT	"... runs 32-bit code", exc_frame+F_RBX, "$0x55"
	/* IRETQ to CPL 3 makes DS, ES, FS, GS null if their DPL is too low. */
	mov	$SEL_KD, %eax
	mov	%eax, %ds
	mov	%eax, %gs
	mov	$(SEL_UD | 3), %eax
	mov	%eax, %fs
	USER64	u_read_segs
	EXPECT	"iretq to CPL 3: kernel DS becomes null", exc_frame+F_RBX, "$0"
	EXPECT	"iretq to CPL 3: kernel GS becomes null", exc_frame+F_RCX, "$0"
	EXPECT	"iretq to CPL 3: user FS stays", exc_frame+F_RDX, "$(SEL_UD|3)"
	mov	$SEL_KD, %eax
	mov	%eax, %fs
	mov	%eax, %gs
	ret

iret_ok:
	ud2

	/* --- handlers and user code --- */
save_flags:
	pushfq
	pop	saved_flags
	ret
get_ss:
	mov	%ss, %eax
	mov	%rax, saved_ss
	movq	$rt_stubs + 16 * UEXIT_VEC, %rax
	jmp	*%rax

int_n:	.set	n, 0x20
	.rept	0xe0
	.byte	0xcd, n, 0xc3
	.set	n, n + 1
	.endr

u_misaligned:
	mov	scratch + 1(%rip), %eax
	UEXIT
u_load_kd:
	mov	$SEL_KD, %eax
	mov	%eax, %ds
	UEXIT
u_null_ss3:
	mov	$3, %eax
	mov	%eax, %ss
	UEXIT
u_int40:
	int	$0x40
u_int44:
	int	$0x44
u_int3:
	int3
u_ud2:
	ud2
u_iret_flags:
	mov	%rsp, %rcx
	push	$(SEL_UD|3)
	push	%rcx
	push	$(FL_IOPL | FL_IF | 3)
	push	$(SEL_U64|3)
	lea	1f(%rip), %rax
	push	%rax
	iretq
1:	sbb	%ebx, %ebx
	neg	%ebx
	UEXIT
u_iret_inner:
	mov	%rsp, %rcx
	push	$(SEL_UD|3)
	push	%rcx
	push	$2
	push	$SEL_K64
	lea	1f(%rip), %rax
	push	%rax
	iretq
1:	UEXIT
u_read_segs:
	mov	%ds, %ebx
	mov	%gs, %ecx
	mov	%fs, %edx
	UEXIT
	.code32
u32_start:
	xor	%ebx, %ebx
	inc	%ebx /* 0x43: a REX prefix in 64-bit mode */
	imul	$0x55, %ebx
	UEXIT
	.code64

	.data
	.balign	64
scratch: .skip	1024
saved_flags: .quad 0
saved_ss: .quad -1

END_TESTS
