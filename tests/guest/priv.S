/* SPDX-License-Identifier: Apache-2.0 */
/*
 * priv.S - privilege transitions, segments, compatibility mode, I/O permission (Intel behaviour)
 *
 * SDM vol. 2 (SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS, LAR, LSL, ...), vol. 3 ch. 3 and 5,
 * vol. 1 ch. 19 (I/O permission).
 */
#include "rt.inc"

	.set	NONCANON, 0x0000800000000000

	/* A descriptor of 8 bytes into free slot n. */
	.macro	DESC n, val
	mov	$\val, %rax
	mov	%rax, rt_gdt_free + 8 * \n
	.endm

BEGIN_TESTS
	/* --- SYSCALL --- */
	WRMSR_IMM MSR_STAR, ((SEL_U32 | 3) << 48) | (SEL_K64 << 32)
	WRMSR_IMM MSR_LSTAR, k_syscall
	WRMSR_IMM MSR_CSTAR, k_syscall /* unused by Intel: SYSCALL is 64-bit only */
	WRMSR_IMM MSR_FMASK, 0x47fd5
	RDMSR64	MSR_EFER
	and	$~1, %eax
	wrmsr
	USER64	u_syscall
	EXPECT_EXC "UD: syscall without SCE", UD
	TRY	sysretq
	EXPECT_EXC "UD: sysret without SCE", UD
	RDMSR64	MSR_EFER
	or	$1, %eax
	wrmsr
	USER64	u_syscall, (FL_AC | FL_DF | 0xd7)
	EXPECT_UEXIT "syscall"
	EXPECT	"syscall: rcx is the next rip", exc_frame+F_RCX, "$u_syscall_next + UBASE"
	EXPECT	"syscall: r11 is rflags", exc_frame+F_R11, "$(FL_AC | FL_DF | 0xd7)"
	EXPECT	"syscall: FMASK is applied", s_flags, "$0x2"
	EXPECT	"syscall: cs", s_cs, "$SEL_K64"
	EXPECT	"syscall: ss", s_ss, "$SEL_KD"
	EXPECT	"syscall: rsp is kept", s_rsp, "$rt_ustack_top + UBASE"
	movl	$1, s_return
	USER64	u_sysret_back
	EXPECT_UEXIT "sysretq comes back"
	EXPECT	"sysretq: cs", exc_frame+F_CS, "$(SEL_U64 | 3)"
	EXPECT	"sysretq: ss", exc_frame+F_SS, "$(SEL_UD | 3)"
	EXPECT	"sysretq: rflags from r11, without RF and VM", exc_frame+F_FLAGS, "$(FL_AC | FL_DF | 0xd7)"
	mov	$(u32_sysret + UBASE), %rcx
	mov	$0x2, %r11d
	TRY	sysretl
	EXPECT_UEXIT "sysretl runs 32-bit code"
	EXPECT	"sysretl: cs", exc_frame+F_CS, "$(SEL_U32 | 3)"
	EXPECT	"sysretl: it was 32-bit code", exc_frame+F_RBX, "$0x55"
	movabs	$NONCANON, %rcx
	mov	$2, %r11d
	TRY	sysretq
	EXPECT_EXC "sysretq to a non-canonical rip faults", GP
	EXPECT	"... still at CPL 0", exc_frame+F_CS, "$SEL_K64"
	USER64	u_sysret
	EXPECT_EXC "sysret at CPL 3", GP
	USER32	u32_syscall
	EXPECT_EXC "UD: syscall in compatibility mode", UD
	mov	$MSR_LSTAR, %ecx
	xor	%eax, %eax
	mov	$0x8000, %edx
	TRY	wrmsr
	EXPECT_EXC "LSTAR refuses a non-canonical address", GP

	/* --- SYSENTER, SYSEXIT --- */
	WRMSR_IMM 0x174, 0
	USER64	u_sysenter
	EXPECT_EXC "sysenter with SYSENTER_CS = 0", GP
	TRY	sysexitl
	EXPECT_EXC "sysexit with SYSENTER_CS = 0", GP
	WRMSR_IMM 0x174, SEL_K64
	WRMSR_IMM 0x175, rt_rsp0_top
	WRMSR_IMM 0x176, k_sysenter
	USER64	u_sysenter, 0xd7
	EXPECT_UEXIT "sysenter from 64-bit mode"
	EXPECT	"sysenter: cs", s_cs, "$SEL_K64"
	EXPECT	"sysenter: ss", s_ss, "$SEL_KD"
	EXPECT	"sysenter: rsp", s_rsp, "$rt_rsp0_top"
	USER32	u32_sysenter
	EXPECT_UEXIT "sysenter from compatibility mode"
	mov	$(u32_sysret + UBASE), %edx
	mov	$(rt_ustack_top + UBASE), %ecx
	TRY	sysexitl
	EXPECT_UEXIT "sysexit to 32-bit code"
	EXPECT	"sysexit: cs", exc_frame+F_CS, "$(SEL_U32 | 3)"
	EXPECT	"sysexit: ss", exc_frame+F_SS, "$(SEL_UD | 3)"
	EXPECT	"sysexit: rsp", exc_frame+F_RSP, "$rt_ustack_top + UBASE"
	mov	$(u_exit + UBASE), %edx
	mov	$(rt_ustack_top + UBASE), %ecx
	TRY	sysexitq
	EXPECT_UEXIT "sysexitq"
	EXPECT	"sysexitq: cs", exc_frame+F_CS, "$(SEL_U64 | 3)"
	EXPECT	"sysexitq: ss", exc_frame+F_SS, "$(SEL_UD2 | 3)"
	movabs	$NONCANON, %rdx
	TRY	sysexitq
	EXPECT_EXC "sysexitq to a non-canonical rip", GP
	USER64	u_sysexit
	EXPECT_EXC "sysexit at CPL 3", GP

	/* --- FS and GS bases --- */
	WRMSR_IMM MSR_GS_BASE, 0x1111
	WRMSR_IMM MSR_KGS_BASE, 0x2222
	swapgs
	RDMSR64	MSR_GS_BASE
	mov	%rax, %rbx
	EXPECT	"swapgs: gs", %rbx, "$0x2222"
	RDMSR64	MSR_KGS_BASE
	mov	%rax, %rbx
	EXPECT	"swapgs: kernel gs", %rbx, "$0x1111"
	USER64	u_swapgs
	EXPECT_EXC "swapgs at CPL 3", GP
	CR_CLEAR cr4, CR4_FSGSBASE
	TRY	rdfsbase %rbx
	EXPECT_EXC "UD: rdfsbase without CR4.FSGSBASE", UD
	CR_SET	cr4, CR4_FSGSBASE
	movabs	$0x123456789000, %rbx
	wrgsbase %rbx
	rdgsbase %rcx
	EXPECT	"wrgsbase, rdgsbase", %rcx, %rbx
	RDMSR64	MSR_GS_BASE
	mov	%rax, %rcx
	EXPECT	"wrgsbase: the MSR agrees", %rcx, %rbx
	wrgsbase %ebx
	rdgsbase %rcx
	EXPECT	"wrgsbase of 32 bits zero-extends", %rcx, "$0x56789000"
	movabs	$NONCANON, %rbx
	TRY	wrfsbase %rbx
	EXPECT_EXC "wrfsbase of a non-canonical address", GP
	USER64	u_fsbase
	EXPECT_UEXIT "wrfsbase at CPL 3"
	EXPECT	"... and its use", exc_frame+F_RBX, "$0x5a5a"
	mov	$(MSR_FS_BASE), %ecx
	xor	%eax, %eax
	mov	$0x8000, %edx
	TRY	wrmsr
	EXPECT_EXC "FS_BASE refuses a non-canonical address", GP
	mov	$0x1234, %ebx
	wrfsbase %rbx
	xor	%eax, %eax
	mov	%eax, %fs
	rdfsbase %rcx
	EXPECT	"a null selector in FS clears the base", %rcx, "$0"
	DESC	0, 0xabcf93123400ffff /* data, base 0xab001234 (descriptor bits 56-63, 16-39) */
	movb	$0x00, rt_gdt_free + 4
	mov	$SEL_T0, %eax
	mov	%eax, %fs
	rdfsbase %rcx
	EXPECT	"a descriptor in FS loads a 32-bit base", %rcx, "$0xab003400"
	xor	%eax, %eax
	mov	%eax, %fs
	mov	%eax, %gs

	/* --- far transfers in 64-bit mode --- */
	movl	$1f, farptr
	movw	$SEL_K64, farptr + 4
	TRY_FROM fj
	ljmpl	*farptr
	ud2
1:	TRY_TO	fj
	EXPECT_NOEXC "ljmp to the same segment"
	.macro	BAD_FAR name, sel, vec, err
	movl	$u_exit, farptr
	movw	$\sel, farptr + 4
	TRY	ljmpl *farptr
	EXPECT_EXC "ljmp: \name", \vec, \err
	.endm
	BAD_FAR	"data segment", SEL_KD, GP, SEL_KD
	BAD_FAR	"null", 0, GP, 0
	BAD_FAR	"beyond the GDT", 0x1000, GP, 0x1000
	BAD_FAR	"DPL 3 code at CPL 0", SEL_U64+3, GP, SEL_U64
	BAD_FAR	"TSS in 64-bit mode", SEL_TSS, GP, SEL_TSS
	DESC	0, 0x00af1b000000ffff /* 64-bit code, not present */
	BAD_FAR	"not present", SEL_T0, NP, SEL_T0
	DESC	0, 0x00ef9b000000ffff /* L and D both */
	BAD_FAR	"L and D", SEL_T0, GP, SEL_T0
	mov	%rsp, %rbx
	movq	$far_fn, farptr
	movw	$SEL_K64, farptr + 8
	TRY_FROM lc
	rex.w lcall *farptr
lc_next:
	TRY_TO	lc
	EXPECT_NOEXC "far call and return"
	EXPECT	"far call pushes rip", s_rip, "$lc_next"
	EXPECT	"far call pushes cs", s_cs, "$SEL_K64"
	EXPECT	"far return takes both", %rsp, %rbx
	TRY_FROM lr
	push	$(SEL_UD | 3)
	push	$(rt_ustack_top + UBASE)
	push	$(SEL_U64 | 3)
	push	$(u_exit + UBASE)
	lretq
	TRY_TO	lr
	EXPECT_UEXIT "far return to CPL 3"
	EXPECT	"... rsp", exc_frame+F_RSP, "$rt_ustack_top + UBASE"
	mov	%rbx, %rsp

	/* --- a call gate from CPL 3 --- */
	mov	$k_callgate, %eax
	movw	%ax, rt_gdt_free + 16
	shr	$16, %eax
	movw	%ax, rt_gdt_free + 22
	movw	$SEL_K64, rt_gdt_free + 18
	movw	$0xec00, rt_gdt_free + 20
	movq	$0, rt_gdt_free + 24
	USER64	u_callgate
	EXPECT_UEXIT "call gate: there and back"
	EXPECT	"call gate: came back to CPL 3", exc_frame+F_CS, "$(SEL_U64 | 3)"
	EXPECT	"call gate: stack is RSP0 less four words", s_rsp, "$rt_rsp0_top - 32"
	EXPECT	"call gate: old rip", s_frame, "$u_callgate_next + UBASE"
	EXPECT	"call gate: old cs", s_frame+8, "$(SEL_U64 | 3)"
	EXPECT	"call gate: old rsp", s_frame+16, "$rt_ustack_top + UBASE"
	EXPECT	"call gate: old ss", s_frame+24, "$(SEL_UD | 3)"
	EXPECT	"call gate: ss is null", s_ss, "$0"
	movw	$0x8c00, rt_gdt_free + 20
	USER64	u_callgate
	EXPECT_EXC "call gate: DPL 0 from CPL 3", GP, SEL_T0+16
	movw	$0x6c00, rt_gdt_free + 20
	USER64	u_callgate
	EXPECT_EXC "call gate: not present", NP, SEL_T0+16
	movw	$0xec00, rt_gdt_free + 20
	movl	$0x100, rt_gdt_free + 28
	USER64	u_callgate
	EXPECT_EXC "call gate: type bits in the upper half", GP, SEL_T0+16
	movl	$0, rt_gdt_free + 28
	movw	$SEL_K32, rt_gdt_free + 18
	USER64	u_callgate
	EXPECT_EXC "call gate: to 32-bit code", GP, SEL_K32

	/* --- compatibility mode: limits, types, 32-bit-only instructions --- */
	DESC	4, 0x0040f20000000fff /* data, bytes, limit 0xfff, base: the array */
	mov	$cseg + UBASE, %eax
	mov	%ax, rt_gdt_free + 34
	shr	$16, %eax
	mov	%al, rt_gdt_free + 36
	mov	%ah, rt_gdt_free + 39
	.macro	COMPAT name, label, vec, err=0
	USER32	\label
	EXPECT_EXC "compat: \name", \vec, \err
	.endm
	COMPAT	"last dword in the limit", c_in, UEXIT_VEC
	EXPECT32 "compat: the base is applied", exc_frame+F_RBX, "$0xcafe"
	COMPAT	"dword across the limit", c_out, GP
	COMPAT	"stack segment limit", c_out_ss, SS
	COMPAT	"null DS", c_null, GP
	COMPAT	"write through CS", c_wcs, GP
	movb	$0xf0, rt_gdt_free + 37 /* read-only */
	COMPAT	"write to a read-only segment", c_write, GP
	COMPAT	"read from it", c_read, UEXIT_VEC
	movb	$0xf6, rt_gdt_free + 37 /* expand-down: valid above 0xfff */
	COMPAT	"expand-down: below", c_read0, GP
	COMPAT	"expand-down: above", c_read1000, UEXIT_VEC
	movb	$0xf8, rt_gdt_free + 37 /* execute-only */
	COMPAT	"an execute-only segment in DS", c_load, GP, SEL_T0+32
	COMPAT	"bound: outside", c_bound_bad, BR
	COMPAT	"bound: inside", c_bound_ok, UEXIT_VEC
	COMPAT	"into with OF through a DPL 0 gate", c_into, GP, 0x22
	movb	$0xee, rt_idt + 16 * OF + 5
	COMPAT	"into with OF", c_into, OF
	movb	$0x8e, rt_idt + 16 * OF + 5
	COMPAT	"into without OF", c_into0, UEXIT_VEC
	COMPAT	"aam by 0", c_aam0, DE
	COMPAT	"daa, das, aaa, aas, aad", c_bcd, UEXIT_VEC
	EXPECT32 "compat: bcd result", exc_frame+F_RBX, "$0x0135"
	COMPAT	"pusha, popa, push cs", c_pusha, UEXIT_VEC
	EXPECT32 "compat: pusha moves esp by 32", exc_frame+F_RBX, "$32"
	EXPECT32 "compat: addresses wrap at 4 GiB", exc_frame+F_RCX, "$0xcafe"
	EXPECT	"compat: cs in the frame", exc_frame+F_CS, "$(SEL_U32 | 3)"
	COMPAT	"far jump to 64-bit code", c_to64, UEXIT_VEC
	EXPECT	"... arrives in 64-bit mode", exc_frame+F_RBX, "$0x100000000"
	DESC	5, 0x0040fa0000000fff /* code, limit 0xfff */
	COMPAT	"EIP beyond the code segment limit", c_cslimit, GP

	/* --- LAR, LSL, VERR, VERW --- */
	mov	$SEL_K64, %ecx
	lar	%ecx, %ebx
	EXPECT_CC "lar of code: ZF", e
	and	$~0xf0000, %ebx /* bits 16-19 are undefined (SDM vol. 2, LAR) */
	EXPECT	"lar of code", %rbx, "$0x00a09b00"
	mov	$SEL_KD, %ecx
	lsl	%ecx, %ebx
	EXPECT_CC "lsl of data: ZF", e
	EXPECT	"lsl of data", %rbx, "$0xffffffff"
	mov	$SEL_TSS, %ecx
	lsl	%ecx, %ebx
	EXPECT	"lsl of the TSS", %rbx, "$0x2068"
	lar	%ecx, %ebx
	EXPECT	"lar of the TSS: busy", %rbx, "$0x8b00"
	xor	%ecx, %ecx
	mov	$77, %ebx
	lar	%ecx, %ebx
	EXPECT_CC "lar of null: not ZF", ne
	EXPECT	"lar of null: register kept", %rbx, "$77"
	mov	$0x1000, %ecx
	lsl	%ecx, %ebx
	EXPECT_CC "lsl beyond the GDT: not ZF", ne
	mov	$SEL_T0 + 16, %ecx
	lar	%ecx, %ebx
	EXPECT_CC "lar of a call gate: ZF", e
	mov	$SEL_T0 + 16, %ecx
	lsl	%ecx, %ebx
	EXPECT_CC "lsl of a call gate: not ZF", ne
	mov	$SEL_KD, %ecx
	verr	%cx
	EXPECT_CC "verr of data", e
	mov	$SEL_KD, %ecx
	verw	%cx
	EXPECT_CC "verw of data", e
	mov	$SEL_K64, %ecx
	verw	%cx
	EXPECT_CC "verw of code", ne
	mov	$SEL_T0 + 32, %ecx
	verr	%cx
	EXPECT_CC "verr of execute-only code", ne
	USER64	u_lar
	EXPECT_UEXIT "lar at CPL 3"
	EXPECT	"lar at CPL 3: DPL 0 is not accessible", exc_frame+F_RBX, "$0"
	EXPECT	"lar at CPL 3: DPL 3 is", exc_frame+F_RCX, "$1"

	/* --- LDT and TR --- */
	mov	$SEL_TSS, %ecx
	TRY	ltr %cx
	EXPECT_EXC "ltr of a busy TSS", GP, SEL_TSS
	mov	$SEL_KD, %ecx
	TRY	ltr %cx
	EXPECT_EXC "ltr of data", GP, SEL_KD
	mov	$SEL_TSS, %ecx
	TRY	lldt %cx
	EXPECT_EXC "lldt of a TSS", GP, SEL_TSS
	mov	$ldt, %eax
	movw	$15, rt_gdt + SEL_LDT
	mov	%ax, rt_gdt + SEL_LDT + 2
	shr	$16, %eax
	mov	%al, rt_gdt + SEL_LDT + 4
	movb	$0x02, rt_gdt + SEL_LDT + 5
	mov	$SEL_LDT, %ecx
	TRY	lldt %cx
	EXPECT_EXC "lldt: not present", NP, SEL_LDT
	movb	$0x82, rt_gdt + SEL_LDT + 5
	mov	$SEL_LDT, %ecx
	TRY	lldt %cx
	EXPECT_NOEXC "lldt"
	sldt	%ecx
	EXPECT	"sldt", %rcx, "$SEL_LDT"
	str	%ecx
	EXPECT	"str", %rcx, "$SEL_TSS"
	mov	$0xf, %ecx /* slot 1 of the LDT, RPL 3 */
	TRY	mov %ecx, %es
	EXPECT_NOEXC "a segment from the LDT"
	mov	$0x14, %ecx
	TRY	mov %ecx, %es
	EXPECT_EXC "beyond the LDT limit", GP, 0x14
	xor	%ecx, %ecx
	TRY	lldt %cx
	EXPECT_NOEXC "lldt of null"
	mov	$0xf, %ecx
	TRY	mov %ecx, %es
	EXPECT_EXC "no LDT any more", GP, 0xc
	mov	$SEL_KD, %ecx
	mov	%ecx, %es

	/* --- I/O permission --- */
	USER64	u_out80
	EXPECT_EXC "out at CPL 3: bitmap says no", GP
	USER64	u_out80, (FL_IOPL | 2)
	EXPECT_UEXIT "out at CPL 3 with IOPL 3"
	btrl	$0, rt_iobitmap + 0x10
	USER64	u_out80
	EXPECT_UEXIT "out at CPL 3: bitmap says yes"
	USER64	u_outw80
	EXPECT_EXC "out of two bytes needs both bits", GP
	btrl	$1, rt_iobitmap + 0x10
	USER64	u_outw80
	EXPECT_UEXIT "out of two bytes with both bits"
	USER64	u_outl7f
	EXPECT_EXC "out of four bytes across bitmap bytes", GP
	movw	$0x2069, rt_tss + 102
	USER64	u_out80
	EXPECT_EXC "bitmap beyond the TSS limit", GP
	movw	$104, rt_tss + 102
	/* the last byte: port 0xffff needs the byte after it in the limit too */
	btrl	$7, rt_iobitmap + 8191
	USER64	u_inffff
	EXPECT_UEXIT "port 0xffff"

	/* --- CPL 3 may not --- */
	.macro	DENIED name, label, vec=GP, fl=2
	USER64	\label, \fl
	EXPECT_EXC "at CPL 3: \name", \vec
	.endm
	DENIED	"cli", u_cli
	DENIED	"sti", u_sti
	DENIED	"cli with IOPL 3 is allowed", u_cli, UEXIT_VEC, (FL_IOPL|2)
	DENIED	"hlt", u_hlt
	DENIED	"mov from cr0", u_cr0
	DENIED	"mov to cr3", u_cr3
	DENIED	"mov to cr8", u_cr8
	DENIED	"rdmsr", u_rdmsr
	DENIED	"wrmsr", u_wrmsr
	DENIED	"lgdt", u_lgdt
	DENIED	"lidt", u_lidt
	DENIED	"lldt", u_lldt
	DENIED	"ltr", u_ltr
	DENIED	"lmsw", u_lmsw
	DENIED	"clts", u_clts
	DENIED	"wbinvd", u_wbinvd
	DENIED	"stac is undefined", u_stac, UD
	DENIED	"smsw, sgdt, sidt, sldt, str are allowed", u_store, UEXIT_VEC
	DENIED	"rdtsc is allowed", u_rdtsc, UEXIT_VEC
	CR_SET	cr4, CR4_TSD
	DENIED	"rdtsc with CR4.TSD", u_rdtsc
	TRY	rdtsc
	EXPECT_NOEXC "at CPL 0: rdtsc with CR4.TSD"
	CR_CLEAR cr4, CR4_TSD
	DENIED	"xsetbv", u_xsetbv, UD

	/* --- POPF --- */
	USER64	u_popf, 2
	mov	exc_frame+F_RBX, %rbx
	EXPECT	"popf at CPL 3, IOPL 0: IF and IOPL stay", %rbx, "$(FL_NT | FL_AC | 0xcd7)"
	USER64	u_popf, (FL_IOPL | 2)
	mov	exc_frame+F_RBX, %rbx
	EXPECT	"popf at CPL 3, IOPL 3: IF changes", %rbx, "$(FL_IOPL | FL_NT | FL_AC | FL_IF | 0xcd7)"
	push	$(FL_IOPL | 0x1b0002) /* IOPL, RF, VM, VIF, VIP */
	popfq
	pushfq
	pop	%rbx
	EXPECT	"popf at CPL 0: RF, VM, VIF, VIP are not loaded", %rbx, "$(FL_IOPL | 2)"
	push	$2
	popfq
	push	$0x20002c
	popfq
	pushfq
	pop	%rbx
	EXPECT	"popf: ID changes, reserved bits do not", %rbx, "$0x200006"
	push	$2
	popfq
	/* last, because a machine that accepts it cannot come back from CPL 3 any more */
	xor	%ecx, %ecx
	TRY	ltr %cx
	EXPECT_EXC "ltr of null", GP
	ret

	/* --- kernel entries --- */
	.pushsection .data
	.balign	8
s_cs:	.quad	0
s_ss:	.quad	0
s_rsp:	.quad	0
s_rip:	.quad	0
s_flags: .quad	0
s_frame: .quad	0, 0, 0, 0
s_return: .long	0
farptr:	.quad	0, 0
	.balign	16
ldt:	.quad	0, 0x00cff3000000ffff
cseg:	.fill	0xffc, 1, 0
	.long	0xcafe
	.fill	0x1000, 1, 0
	.popsection
k_syscall:
	mov	%rsp, s_rsp
	mov	$rt_rsp0_top, %rsp
	pushfq
	pop	s_flags
	push	%rax
	mov	%cs, %eax
	mov	%rax, s_cs
	mov	%ss, %eax
	mov	%rax, s_ss
	pop	%rax
	cmpl	$0, s_return
	je	u_exit
	movl	$0, s_return
	mov	s_rsp, %rsp
	or	$(FL_RF | 0x20000), %r11 /* RF and VM, which SYSRET ignores */
	sysretq
k_sysenter:
	mov	%rsp, s_rsp
	mov	%cs, %eax
	mov	%rax, s_cs
	mov	%ss, %eax
	mov	%rax, s_ss
	jmp	u_exit
k_callgate:
	mov	%rsp, s_rsp
	mov	%ss, %eax
	mov	%rax, s_ss
	mov	%rsp, %rsi
	mov	$s_frame, %edi
	mov	$4, %ecx
	rep movsq
	lretq
far_fn:
	mov	(%rsp), %rax
	mov	%rax, s_rip
	mov	8(%rsp), %rax
	mov	%rax, s_cs
	lretq

	/* --- user code --- */
u_syscall:
	syscall
u_syscall_next:
	UEXIT
u_sysret_back:
	push	$(FL_AC | FL_DF | 0xd7)
	popfq
	syscall
u_exit:	UEXIT
u_sysret: sysretq
u_sysenter: sysenter
u_sysexit: sysexitl
u_swapgs: swapgs
u_fsbase:
	lea	1f(%rip), %rax
	wrfsbase %rax
	mov	%fs:0, %ebx
	UEXIT
1:	.long	0x5a5a
u_callgate:
	rex.w lcall *2f(%rip)
u_callgate_next:
	UEXIT
2:	.quad	0
	.word	SEL_T0 + 16 + 3
u_lar:	mov	$SEL_KD, %eax
	xor	%ebx, %ebx
	lar	%eax, %edx
	sete	%bl
	mov	$SEL_UD, %eax
	xor	%ecx, %ecx
	lar	%eax, %edx
	sete	%cl
	UEXIT
u_out80: out	%al, $0x80
	UEXIT
u_outw80: out	%ax, $0x80
	UEXIT
u_outl7f: out	%eax, $0x7f
	UEXIT
u_inffff: mov	$0xffff, %edx
	in	%dx, %al
	UEXIT
u_cli:	cli
	UEXIT
u_sti:	sti
	UEXIT
u_hlt:	hlt
u_cr0:	mov	%cr0, %rax
	UEXIT
u_cr3:	mov	%rax, %cr3
	UEXIT
u_cr8:	mov	%rax, %cr8
	UEXIT
u_rdmsr: mov	$MSR_TSC, %ecx
	rdmsr
	UEXIT
u_wrmsr: wrmsr
	UEXIT
u_lgdt:	lgdt	2b(%rip)
	UEXIT
u_lidt:	lidt	2b(%rip)
	UEXIT
u_lldt:	lldt	%ax
	UEXIT
u_ltr:	ltr	%ax
	UEXIT
u_lmsw:	lmsw	%ax
	UEXIT
u_clts:	clts
	UEXIT
u_wbinvd: wbinvd
	UEXIT
u_stac:	stac
	UEXIT
u_store: smsw	%eax
	sgdt	-16(%rsp)
	sidt	-16(%rsp)
	sldt	%eax
	str	%eax
	UEXIT
u_rdtsc: rdtsc
	UEXIT
u_xsetbv: xor	%ecx, %ecx
	xsetbv
	UEXIT
u_popf:	push	$(FL_IOPL | FL_NT | FL_AC | FL_IF | 0xcd7)
	popfq
	pushfq
	pop	%rbx
	UEXIT

	.code32
u32_sysret:
	xor	%ebx, %ebx
	inc	%ebx
	imul	$0x55, %ebx
	UEXIT
u32_syscall:
	syscall
	UEXIT
u32_sysenter:
	sysenter
	.set	C_SEL, SEL_T0 + 32 + 3
	.macro	C_DS
	mov	$C_SEL, %eax
	mov	%eax, %ds
	.endm
c_in:	C_DS
	mov	0xffc, %ebx
	UEXIT
c_out:	C_DS
	mov	0xffd, %ebx
	UEXIT
c_out_ss:
	mov	$C_SEL, %eax
	mov	%eax, %ss
	mov	%ss:0xffd, %ebx
	UEXIT
c_null:	xor	%eax, %eax
	mov	%eax, %ds
	mov	0, %ebx
	UEXIT
c_wcs:	movl	$0, %cs:cseg + UBASE
	UEXIT
c_write: C_DS
	movl	$0, 0
	UEXIT
c_read:	C_DS
	mov	0, %eax
	UEXIT
c_read0: C_DS
	mov	0xffc, %eax
	UEXIT
c_read1000: C_DS
	mov	0x1000, %eax
	UEXIT
c_load:	C_DS
	UEXIT
c_bound_bad:
	mov	$SEL_UD + 3, %eax
	mov	%eax, %ds
	mov	$11, %eax
	bound	%eax, c_range + UBASE
	UEXIT
c_bound_ok:
	mov	$SEL_UD + 3, %eax
	mov	%eax, %ds
	mov	$10, %eax
	bound	%eax, c_range + UBASE
	UEXIT
c_range: .long	-5, 10
c_into:	mov	$0x7f, %al
	inc	%al
	into
	UEXIT
c_into0: xor	%eax, %eax
	into
	UEXIT
c_aam0:	.byte	0xd4, 0
	UEXIT
c_bcd:	mov	$0x79, %al
	add	$0x56, %al
	daa /* 0x35, CF */
	sbb	%ah, %ah
	neg	%ah
	movzx	%ax, %ebx
	das
	aaa
	aas
	aad
	UEXIT
c_pusha: mov	$SEL_UD + 3, %eax
	mov	%eax, %ds
	mov	%esp, %ebx
	pusha
	mov	%ebx, %ecx
	sub	%esp, %ecx
	mov	%ecx, 16(%esp) /* EBX of POPA */
	popa
	push	%cs
	pop	%eax
	mov	$cseg + UBASE + 0xffc + 0x80000000, %ecx
	mov	0x80000000(%ecx), %ecx
	UEXIT
c_to64:	ljmp	$(SEL_U64 | 3), $(c_64 + UBASE)
c_cslimit:
	ljmp	$(SEL_T0 + 40 + 3), $0x1000
	.code64
c_64:	mov	$1, %ebx
	shl	$32, %rbx
	UEXIT
END_TESTS
