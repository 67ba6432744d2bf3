/* SPDX-License-Identifier: Apache-2.0 */
/*
 * debug.S - single step, breakpoints, interrupt shadows, NMI (SDM vol. 3, 6.7, 6.8 and ch. 17)
 *
 * The #DB handler logs RIP and DR6 of each hit in db_log, sets RF so that an instruction
 * breakpoint lets its instruction pass, and clears DR6.
 */
#include "rt.inc"

	.macro	DB_START
	movl	$0, db_count
	.endm
	/* The \i-th logged hit: RIP and the low bits of DR6 (BS 0x4000, BD 0x2000, B0-B3). */
	.macro	EXPECT_DB name, i, rip, dr6
	EXPECT	"\name: rip", db_log+16*\i, "$\rip"
	EXPECT	"\name: dr6", db_log+16*\i+8, "$\dr6"
	.endm
	.macro	TF_ON
	pushfq
	orl	$FL_TF, (%rsp)
	popfq
	.endm
	.macro	TF_OFF
	pushfq
	andl	$~FL_TF, (%rsp)
	popfq
	.endm
	.macro	DR reg, val
	mov	$\val, %rax
	mov	%rax, %\reg
	.endm

BEGIN_TESTS
	HANDLER	DB, db_handler

	/* --- ICEBP --- */
	DB_START
	TRY_FROM icebp
	.byte	0xf1
icebp_next:
	TRY_TO	icebp
	EXPECT32 "icebp: one hit", db_count, "$1"
	EXPECT_DB "icebp", 0, icebp_next, 0

	/* --- TF: the step after POPF's next instruction --- */
	DB_START
	TF_ON
step1:	nop
step2:	mov	$3, %ecx
step3:	mov	$scratch, %edi
step4:	rep stosb
step5:	TF_OFF
step6:	EXPECT	"TF: first hit is after the instruction after popf", db_log, "$step2"
	EXPECT	"TF: second", db_log+16, "$step3"
	EXPECT	"TF: third", db_log+32, "$step4"
	EXPECT	"TF: rep stops at each iteration (1)", db_log+48, "$step4"
	EXPECT	"TF: rep stops at each iteration (2)", db_log+64, "$step4"
	EXPECT	"TF: rep is over", db_log+80, "$step5"
	EXPECT	"TF: dr6 is BS", db_log+8, "$0x4000"
	/* pushfq, and, popf: popf clears TF but the trap of popf itself is still taken? No: the
	 * value of TF when an instruction begins counts, so popf does trap (17.3.1.4). */
	EXPECT32 "TF: hits", db_count, "$9"
	EXPECT	"TF: the last is after popf", db_log+16*8, "$step6"

	/* IRETQ that sets TF: first trap after the target's first instruction */
	DB_START
	mov	%rsp, %rbx
	push	$SEL_KD
	push	%rbx
	push	$(FL_TF | 2)
	push	$SEL_K64
	push	$irt0
	iretq
irt0:	nop
irt1:	TF_OFF
	EXPECT	"TF by iretq: first hit", db_log, "$irt1"

	/* INT n with TF: the handler runs without TF, no trap for the INT itself (6.8.1 note) */
	DB_START
	HANDLER	0x41, empty_handler
	TF_ON
	int	$0x41
intt1:	nop
intt2:	TF_OFF
	EXPECT	"TF and int n: next hit is after the next instruction", db_log, "$intt2"

	/* MOV SS holds the trap back for one instruction */
	DB_START
	mov	$SEL_KD, %ecx
	TF_ON
	mov	%ecx, %ss
mss1:	nop
mss2:	TF_OFF
	EXPECT	"TF and mov ss: no trap between", db_log, "$mss2"

	/* a fault while stepping: the frame holds TF, the handler runs without */
	DB_START
	HANDLER	UD, skip_ud
	TF_ON
	ud2
tfud1:	nop
tfud2:	TF_OFF
	NOHANDLER UD
	EXPECT	"TF and a fault: the frame holds TF", saved_flags, "$0x102"
	EXPECT	"TF and a fault: next hit", db_log, "$tfud2"

	/* --- instruction breakpoint: a fault; RF lets it pass --- */
	DB_START
	DR	db0, ibp
	DR	db7, 0x401
	mov	$0, %ecx
ibp:	inc	%ecx
	DR	db7, 0x400
	EXPECT32 "instruction breakpoint: one hit", db_count, "$1"
	EXPECT_DB "instruction breakpoint", 0, ibp, 1
	EXPECT	"instruction breakpoint: executed once", %rcx, "$1"
	/* without RF it hits again: the handler counts to 3 before it sets RF */
	DB_START
	movl	$2, db_no_rf
	DR	db7, 0x401
	mov	$ibp_again, %eax
	mov	%rax, %db0
ibp_again:
	nop
	DR	db7, 0x400
	EXPECT32 "instruction breakpoint without RF: hits again", db_count, "$3"
	/* RF is cleared by the next instruction: a loop hits each time */
	DB_START
	DR	db0, ibp_loop
	DR	db7, 0x401
	mov	$3, %ecx
ibp_loop:
	dec	%ecx
	jnz	ibp_loop
	DR	db7, 0x400
	EXPECT32 "instruction breakpoint in a loop: three hits", db_count, "$3"

	/* --- data breakpoints: traps --- */
	.macro	DATA_BP name, dr7, addr, insn, hits
	DB_START
	DR	db1, \addr
	DR	db7, (0x404 | \dr7)
	\insn
	nop
	DR	db7, 0x400
	EXPECT32 "data breakpoint: \name", db_count, "$\hits"
	.endm
	DATA_BP	"write, 4 bytes", 0xd00000, scratch, "movl $1, scratch", 1
	EXPECT	"data breakpoint: dr6", db_log+8, "$2"
	DATA_BP	"write watch ignores reads", 0xd00000, scratch, "mov scratch, %eax", 0
	DATA_BP	"read/write watch sees reads", 0xf00000, scratch, "mov scratch, %eax", 1
	DATA_BP	"read/write watch sees writes", 0xf00000, scratch, "mov %eax, scratch", 1
	DATA_BP	"one byte of four", 0xd00000, scratch, "movb $1, scratch + 3", 1
	DATA_BP	"just after four", 0xd00000, scratch, "movb $1, scratch + 4", 0
	DATA_BP	"one byte watched, wide write", 0x100000, scratch+5, "movq $1, scratch", 1
	DATA_BP	"eight bytes", 0x900000, scratch, "movb $1, scratch + 7", 1
	DATA_BP	"two bytes", 0x500000, scratch+2, "movb $1, scratch + 3", 1
	DATA_BP	"two bytes, before", 0x500000, scratch+2, "movb $1, scratch + 1", 0
	DATA_BP	"read-modify-write", 0xd00000, scratch, "incl scratch", 1
	DATA_BP	"unaligned overlap", 0xd00000, scratch+4, "movl $1, scratch + 1", 1
	mov	%rsp, %rbx
	DATA_BP	"push", 0x900000, dbstack-8, "mov $dbstack, %esp; push %rax; mov %rbx, %rsp", 1
	DB_START
	DR	db2, scratch
	DR	db7, 0xd000410
	movl	$1, scratch
dbp_next:
	DR	db7, 0x400
	EXPECT_DB "data breakpoint is a trap", 0, dbp_next, 4

	/* --- DR access --- */
	DR	db0, 0x123456789abc
	mov	%db0, %rbx
	EXPECT	"dr0 keeps 64 bits", %rbx, "$0x123456789abc"
	DR	db7, 0x400
	mov	%db7, %rbx
	EXPECT	"dr7: bit 10 reads 1", %rbx, "$0x400"
	xor	%eax, %eax
	mov	%rax, %db6
	mov	%db6, %rbx
	EXPECT	"dr6: reserved bits read 1", %rbx, "$0xffff0ff0"
	mov	$0x100000000, %rbx
	TRY	mov %rbx, %db7
	EXPECT_EXC "GP: high half of dr7", GP
	mov	$0x100000000, %rbx
	TRY	mov %rbx, %db6
	EXPECT_EXC "GP: high half of dr6", GP
	TRY	mov %db4, %rbx
	EXPECT_NOEXC "dr4 is dr6 without CR4.DE"
	CR_SET	cr4, CR4_DE
	TRY	mov %db4, %rbx
	EXPECT_EXC "UD: dr4 with CR4.DE", UD
	TRY	mov %rbx, %db5
	EXPECT_EXC "UD: dr5 with CR4.DE", UD
	CR_CLEAR cr4, CR4_DE
	USER64	u_dr
	EXPECT_EXC "GP: mov dr at CPL 3", GP
	/* GD: any access traps before it happens; delivery clears GD */
	DB_START
	DR	db7, 0x2400
gd_at:	mov	%db0, %rbx
	EXPECT32 "GD: one hit", db_count, "$1"
	EXPECT_DB "GD", 0, gd_at, 0x2000
	DR	db7, 0x400

	/* --- interrupt shadow of STI: a self-IPI is already pending --- */
	movl	$0x1ff, LAPIC + 0xf0
	HANDLER	0x50, log_rip
	movl	$0x50, LAPIC + 0x310
	call	self_ipi
	sti
shadow1: nop
shadow2: nop
	cli
	EXPECT	"sti: the interrupt comes one instruction later", saved_rip, "$shadow2"
	movq	$0, saved_rip
	call	self_ipi
	sti
	cli
	nop
	EXPECT	"sti; cli: never enabled", saved_rip, "$0"
	sti
	hlt
sh_hlt:	cli
	EXPECT	"sti; hlt: the interrupt wakes", saved_rip, "$sh_hlt"
	movq	$0, saved_rip
	call	self_ipi
	pushfq
	orl	$FL_IF, (%rsp)
	popfq
sh_popf: nop
	cli
	EXPECT	"popf has no shadow", saved_rip, "$sh_popf"
	/* IF is already 1: sti gives no shadow */
	movq	$0, saved_rip
	sti
	nop
	movl	$0x40050, LAPIC + 0x300
	nop
	nop
	nop
	cli
	EXPECT	"self-IPI with IF set is taken", "saved_vec", "$0x50"

	/* --- NMI --- */
	HANDLER	2, nmi_handler
	movl	$0, nmi_count
	movl	$0, nmi_depth_max
	movl	$1, nmi_resend
	/* Only a fixed interrupt may use the self shorthand (10.6.1): send to the own id. */
	mov	LAPIC + 0x20, %eax
	and	$0xff000000, %eax
	mov	%eax, LAPIC + 0x310
	movl	$0, nmi_count
	movl	$1, nmi_resend
	movl	$0x4400, LAPIC + 0x300
	call	wait_nmi2
	EXPECT32 "NMI: a second one waits for IRET, then comes", nmi_count, "$2"
	EXPECT32 "NMI: handlers do not nest", nmi_depth_max, "$1"
	/* an exception's IRET inside the handler unblocks NMI */
	HANDLER	BP, empty_handler
	movl	$0, nmi_count
	movl	$0, nmi_depth_max
	movl	$2, nmi_resend
	movl	$0x4400, LAPIC + 0x300
	call	wait_nmi2
	EXPECT32 "NMI: an iret inside the handler unblocks", nmi_depth_max, "$2"
	/* INT 2 does not block */
	movl	$0, nmi_count
	movl	$0, nmi_depth_max
	movl	$1, nmi_resend
	int	$2
	call	wait_nmi2
	EXPECT32 "int 2 does not block NMI", nmi_depth_max, "$2"
	cli
	movl	$0, nmi_count
	movl	$0, nmi_resend
	movl	$0x4400, LAPIC + 0x300
	call	wait_nmi1
	EXPECT32 "NMI comes with IF = 0", nmi_count, "$1"
	ret

self_ipi:
	movl	$0x40050, LAPIC + 0x300
	mov	$100, %ecx
1:	pause
	mov	LAPIC + 0x220, %eax /* IRR of vectors 0x40-0x5f */
	test	$0x10000, %eax
	jnz	2f
	dec	%ecx
	jnz	1b
2:	ret
wait_nmi1:
	mov	$1000, %ecx
1:	pause
	cmpl	$1, nmi_count
	jae	2f
	dec	%ecx
	jnz	1b
2:	ret
wait_nmi2:
	mov	$1000, %ecx
1:	pause
	cmpl	$2, nmi_count
	jae	2f
	dec	%ecx
	jnz	1b
2:	ret

db_handler:
	mov	db_count, %eax
	cmp	$63, %eax
	ja	1f
	incl	db_count
	shl	$4, %eax
	mov	F_RIP(%rdi), %rcx
	mov	%rcx, db_log(%rax)
	mov	%db6, %rcx
	and	$0xe00f, %ecx
	mov	%rcx, db_log + 8(%rax)
1:	xor	%eax, %eax
	mov	%rax, %db6
	cmpl	$0, db_no_rf
	je	2f
	decl	db_no_rf
	ret
2:	test	$1, %cl
	jz	3f
	orl	$FL_RF, F_FLAGS(%rdi)
3:	ret
skip_ud:
	mov	F_FLAGS(%rdi), %rax
	and	$~FL_RF & 0xfffff702, %eax /* not the arithmetic flags */
	mov	%rax, saved_flags
	addq	$2, F_RIP(%rdi)
empty_handler:
	ret
log_rip:
	mov	F_RIP(%rdi), %rax
	mov	%rax, saved_rip
	mov	F_VEC(%rdi), %rax
	mov	%rax, saved_vec
	movl	$0, LAPIC + 0xb0
	ret
nmi_handler:
	incl	nmi_count
	incl	nmi_depth
	mov	nmi_depth, %eax
	cmp	nmi_depth_max, %eax
	jbe	1f
	mov	%eax, nmi_depth_max
1:	mov	nmi_resend, %ecx
	test	%ecx, %ecx
	jz	3f
	movl	$0, nmi_resend
	movl	$0x4400, LAPIC + 0x300
	cmp	$2, %ecx
	jne	2f
	int3
2:	mov	$200, %ecx /* room for a wrongly nested one */
4:	pause
	dec	%ecx
	jnz	4b
3:	decl	nmi_depth
	ret
u_dr:
	mov	%db0, %rax
	UEXIT

	.bss
	.balign	64
scratch: .skip	64
db_log:	.skip	64 * 16 + 16
	.skip	64
dbstack: .skip	8
saved_flags: .skip 8
saved_rip: .skip 8
saved_vec: .skip 8
db_count: .skip	4
db_no_rf: .skip	4
nmi_count: .skip 4
nmi_depth: .skip 4
nmi_depth_max: .skip 4
nmi_resend: .skip 4

END_TESTS
