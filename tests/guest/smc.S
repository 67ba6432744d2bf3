/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smc.S - code that is written while it runs (SDM vol. 3, 8.1.3 and 11.6)
 *
 * Functions under test are small: B8 imm32 C3 (mov $imm, %eax; ret). They are called often before
 * each change, so that an engine with a cache of decoded or translated code has them in it.
 */
#include "rt.inc"

	.set	HOT, 2000
	.set	TVA, 0x10000000000
	.set	IPI_SYNC, 0x62

	/* Calls the function at \fn HOT times. */
	.macro	HEAT fn
	mov	$\fn, %edi
	call	heat
	.endm
	.macro	CALL_EAX fn
	mov	$\fn, %edi
	call	*%rdi
	mov	%eax, %ebx
	.endm

BEGIN_TESTS
	/* --- a function is patched again and again, cold and hot --- */
	xor	%r12d, %r12d
	xor	%r13d, %r13d
1:	mov	%r12d, fn_a + 1
	mov	$fn_a, %edi
	call	*%rdi
	cmp	%r12d, %eax
	je	2f
	inc	%r13d
2:	inc	%r12d
	cmp	$1000, %r12d
	jb	1b
	EXPECT	"a thousand patches, each seen at once", %r13, "$0"
	movl	$1, fn_a + 1
	HEAT	fn_a
	movl	$2, fn_a + 1
	CALL_EAX fn_a
	EXPECT	"a hot function, patched by mov", %rbx, "$2"
	.macro	PATCH_BY name, want, insns:vararg
	HEAT	fn_a
	\insns
	CALL_EAX fn_a
	EXPECT	"patched by \name", %rbx, "$\want"
	.endm
	PATCH_BY "movb", 0x102, movb $1, fn_a+2
	PATCH_BY "lock inc", 0x103, lock incl fn_a+1
	mov	$0x200, %ecx
	PATCH_BY "xchg", 0x200, xchg %ecx, fn_a+1
	mov	$0x200, %eax
	movl	$0x200, fn_a + 1
	HEAT	fn_a
	mov	$0x200, %eax
	mov	$0x201, %ecx
	lock cmpxchg %ecx, fn_a + 1
	CALL_EAX fn_a
	EXPECT	"patched by cmpxchg", %rbx, "$0x201"
	HEAT	fn_a
	mov	$0x000000c300000333, %rax
	shl	$8, %rax
	mov	$0xb8, %al
	movq	%rax, %xmm0
	movq	%xmm0, fn_a
	CALL_EAX fn_a
	EXPECT	"patched by an SSE store", %rbx, "$0x333"
	HEAT	fn_a
	mov	$fn_a + 1, %edi
	mov	$imm_444, %esi
	mov	$4, %ecx
	rep movsb
	CALL_EAX fn_a
	EXPECT	"patched by rep movsb", %rbx, "$0x444"
	HEAT	fn_a
	mov	%rsp, %rbp
	mov	$fn_a + 9, %esp /* the push stores fn_a + 1 .. fn_a + 8 */
	push	$0x555
	mov	%rbp, %rsp
	movb	$0xc3, fn_a + 5
	CALL_EAX fn_a
	EXPECT	"patched by push", %rbx, "$0x555"
	HEAT	fn_a
	mov	$(fn_a + UBASE), %rdi
	movl	$0x666, 1(%rdi)
	xor	%eax, %eax
	cpuid /* another linear address: serialize (11.6) */
	CALL_EAX fn_a
	EXPECT	"patched through another linear address", %rbx, "$0x666"
	mov	$(fn_a + UBASE), %rdi
	call	*%rdi
	mov	%eax, %ebx
	EXPECT	"the alias runs the new code too", %rbx, "$0x666"
	HEAT	fn_a
	movl	$0x777, smc_val
	fildl	smc_val
	fistpl	fn_a + 1
	CALL_EAX fn_a
	EXPECT	"patched by an x87 store", %rbx, "$0x777"

	/* --- the block that is running --- */
	movb	$0x22, 1f + 1
1:	mov	$0x11, %bl
	movzbl	%bl, %ebx
	EXPECT	"the next instruction", %rbx, "$0x22"
	xor	%ebx, %ebx
	mov	$3, %ecx
2:	incb	3f + 2
	nop
3:	add	$0, %ebx /* 83 c3 ib: 1, 2, 3 */
	dec	%ecx
	jnz	2b
	EXPECT	"a loop that changes itself", %rbx, "$6"
	/* STOSB over the instructions behind it: five INC EBX become NOPs at once */
	xor	%ebx, %ebx
	mov	$4f, %edi
	mov	$5 * 2, %ecx
	mov	$0x90, %al
	rep stosb
4:	.rept	5
	inc	%ebx
	.endr
	EXPECT	"rep stosb over the code behind it", %rbx, "$0"
	/* an instruction that overwrites itself runs as it was */
	mov	$0x9090, %eax
	mov	%ax, 5f
5:	nop
	nop
	mov	$6f, %edi
	mov	$0x90909090, %eax
6:	mov	%eax, (%rdi) /* 89 07, then two NOPs: all four replaced */
	nop
	nop
	EXPECT32 "an instruction that overwrites itself", 6b, "$0x90909090"
	/* a jump's displacement */
	xor	%ebx, %ebx
	HEAT	fn_jump
	movb	$2, fn_jump + 6 /* from 0 to 2: skip the first INC */
	CALL_EAX fn_jump
	EXPECT	"a patched jump", %rbx, "$1"
	/* instruction boundaries move: B8 imm32 becomes two other instructions */
	HEAT	fn_b
	movl	$0x90909090, fn_b + 1
	movb	$0x90, fn_b
	mov	$0x1234, %eax
	mov	$fn_b, %edi
	call	*%rdi
	mov	%eax, %ebx
	EXPECT	"other instruction boundaries", %rbx, "$0x1234"
	/* INT3 over the first byte and back, as kernels patch */
	HEAT	fn_c
	movb	$0xcc, fn_c
	mov	$fn_c, %edi
	TRY	call *%rdi
	EXPECT_EXC "int3 over the first byte", BP
	movl	$0x99, fn_c + 1
	movb	$0xb8, fn_c
	CALL_EAX fn_c
	EXPECT	"... and the new instruction", %rbx, "$0x99"

	/* --- data beside code: the counter is in the page of the function that is called --- */
	movl	$0, data_by_code
	mov	$20000, %r12d
	xor	%r13d, %r13d
7:	incl	data_by_code
	call	fn_beside
	add	%eax, %r13d
	dec	%r12d
	jnz	7b
	EXPECT	"data in a code page: the data", data_by_code, "$20000"
	EXPECT	"data in a code page: the code", %r13, "$60000"

	/* --- an instruction across two pages; each side is patched --- */
	HEAT	cross
	movb	$0x01, cross + 4
	CALL_EAX cross
	EXPECT	"across pages: second page patched", %rbx, "$0x01332211"
	HEAT	cross
	movb	$0x02, cross + 1
	CALL_EAX cross
	EXPECT	"across pages: first page patched", %rbx, "$0x01332202"
	/* and a function that runs on into the next page */
	HEAT	run_on
	movl	$0x31, run_on_imm + 1
	CALL_EAX run_on
	EXPECT	"a block that runs on into a patched page", %rbx, "$0x31"

	/* --- another page under the same address --- */
	movq	$tpdpt + 3, rt_pml4 + 16
	movq	$tpd + 3, tpdpt
	movq	$tpt + 3, tpd
	movq	$page_x + 3, tpt
	mov	%cr3, %rax
	mov	%rax, %cr3
	movl	$0xd1b8, page_x
	movl	$0xc30000, page_x + 3
	movl	$0xd2b8, page_y
	movl	$0xc30000, page_y + 3
	movabs	$TVA, %r12
	mov	$HOT, %ebp
8:	call	*%r12
	dec	%ebp
	jnz	8b
	mov	%eax, %ebx
	EXPECT	"remap: the first page", %rbx, "$0xd1"
	movq	$page_y + 3, tpt
	invlpg	(%r12)
	call	*%r12
	mov	%eax, %ebx
	EXPECT	"remap: the second page", %rbx, "$0xd2"
	movq	$page_x + 3, tpt
	invlpg	(%r12)
	movb	$0xd3, page_x + 1 /* by physical identity */
	call	*%r12
	mov	%eax, %ebx
	EXPECT	"remap back and patched elsewhere", %rbx, "$0xd3"
	btsq	$63, tpt
	invlpg	(%r12)
	TRY	call *%r12
	EXPECT_EXC "hot code, now NX", PF, 0x11
	movq	$0, tpt
	invlpg	(%r12)
	TRY	call *%r12
	EXPECT_EXC "hot code, now gone", PF, 0x10

	/* --- another CPU runs what this one patches --- */
	call	rt_count_cpus
	cmp	$2, %eax
	jb	.Lone_cpu
	BLOCK	cross_cpu
	HANDLER	IPI_SYNC, ipi_sync
	mov	$1, %edi
	mov	$ap_main, %esi
	call	rt_start_aps
	movl	$0x1ff, LAPIC + 0xf0
	movl	$0, fn_s + 1
	xor	%r12d, %r12d
	xor	%r13d, %r13d
9:	inc	%r12d
	mov	%r12d, fn_s + 1
	/* every AP serializes by the IPI's IRET and says so */
	movl	$0, synced
	movl	$0xc0062, LAPIC + 0x300
10:	pause
	mov	synced, %eax
	cmp	rt_ap_running, %eax
	jb	10b
	/* from now on AP 1 may only see the new value */
	mov	ap_calls, %ecx
	add	$2, %ecx
11:	pause
	cmp	%ecx, ap_calls
	jb	11b
	cmp	%r12d, ap_value
	je	12f
	inc	%r13d
12:	cmp	$200, %r12d
	jb	9b
	EXPECT	"cross-CPU: two hundred patches, each seen after the IPI", %r13, "$0"
	EXPECT32 "cross-CPU: AP 1 never saw anything but a value written", ap_bad, "$0"
	ENDBLOCK cross_cpu
	ret
.Lone_cpu:
	SKIP_BLOCK cross_cpu, "one CPU"
	ret

ap_main:
	cmp	$1, %ebx
	jne	2f
	sti
	nop
1:	call	fn_s
	cmp	ap_value, %eax
	jae	3f
	lock incl ap_bad /* values only grow */
3:	mov	%eax, ap_value
	lock incl ap_calls
	pause
	jmp	1b
2:	sti
	hlt
	jmp	2b
ipi_sync:
	movl	$0, LAPIC + 0xb0
	lock incl synced
	ret

heat:	mov	$HOT, %ebp
1:	mov	%rdi, %rsi
	call	*%rdi
	mov	%rsi, %rdi
	dec	%ebp
	jnz	1b
	ret

	.data
	.balign	16
imm_444: .long	0x444
smc_val: .long	0
	.balign	4096
fn_a:	mov	$0, %eax
	ret
	.balign	16
fn_b:	mov	$0, %eax
	ret
	.balign	16
fn_c:	mov	$0, %eax
	ret
	.balign	16
fn_s:	mov	$0, %eax
	ret
	.balign	16
fn_jump:
	mov	$0, %eax
	.byte	0xeb, 0 /* jmp to the next instruction */
	.byte	0xff, 0xc0 /* inc %eax */
	.byte	0xff, 0xc0
	ret
	.balign	64
fn_beside:
	mov	$3, %eax
	ret
	.balign	8
data_by_code: .quad 0
	.balign	4096
	.skip	4094
cross:	.byte	0xb8, 0x11 /* mov $0x44332211, %eax across the edge */
	.byte	0x22, 0x33, 0x44, 0xc3
	.balign	4096
	.skip	4090
run_on:	xor	%eax, %eax
	xor	%eax, %eax
	nop
	nop
run_on_imm:
	mov	$0x30, %eax
	ret
	.balign	4096
page_x:	.skip	4096
page_y:	.skip	4096
tpdpt:	.skip	4096
tpd:	.skip	4096
tpt:	.skip	4096
	.bss
	.balign	8
ap_value: .skip	4
ap_calls: .skip	4
ap_bad:	.skip	4
synced:	.skip	4
END_TESTS
