/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rt.S - runtime of the bare-metal guest tests: boot, exceptions, checks, console, processors
 *
 * How it works
 * The image starts in 32-bit protected mode without paging, by the PVH entry (EBX: start info,
 * magic 0x336ec578 first) or by Multiboot 1 (EAX = 0x2BADB002). See rt.inc for what the tests get.
 * Console: COM1, polled. Exit: port 0xF4, 0 if every check passed, else 1.
 */
#include "rt.inc"

	.section .head, "ax"
#ifdef MULTIBOOT
	/* Multiboot 1: magic, flags (memory information), checksum */
	.balign	4
	.long	0x1badb002, 0x2, -(0x1badb002 + 0x2)
#endif

#ifndef MULTIBOOT
	.section .note.pvh, "a", @note
	.balign	4
	.long	4, 8, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz	"Xen"
	.quad	rt_entry
#endif

	.text
	.code32
	.globl	rt_entry
rt_entry:
	cli
	cld
	mov	%eax, rt_boot_eax
	mov	%ebx, rt_boot_ebx
	mov	$rt_stack_top, %esp
	mov	%cr0, %eax
	mov	%eax, rt_boot_cr0
	mov	%cs, rt_boot_cs
	pushfl
	popl	rt_boot_flags
	mov	%esp, rt_boot_esp
	call	rt_long_mode
	ljmp	$SEL_K64, $bsp64

	/* 32-bit: turns on PAE paging with the runtime's tables, long mode, and loads the GDT. */
rt_long_mode:
	mov	$(CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT), %eax
	mov	%eax, %cr4
	mov	$rt_pml4, %eax
	mov	%eax, %cr3
	mov	$MSR_EFER, %ecx
	mov	$0x901, %eax /* NXE, LME, SCE */
	xor	%edx, %edx
	wrmsr
	mov	$0x80010033, %eax /* PG WP NE ET MP PE */
	mov	%eax, %cr0
	lgdt	rt_gdtr
	ret

	.code64
	.globl	bsp64
bsp64:
	mov	$SEL_KD, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	%eax, %fs
	mov	%eax, %gs
	mov	$rt_stack_top, %esp
	call	rt_idt_init
	lidt	rt_idtr
	/* The TSS descriptor's base is split; it fits 32 bits here. */
	mov	$rt_tss, %eax
	mov	%ax, rt_gdt + SEL_TSS + 2
	shr	$16, %eax
	mov	%al, rt_gdt + SEL_TSS + 4
	mov	%ah, rt_gdt + SEL_TSS + 7
	mov	$SEL_TSS, %eax
	ltr	%ax
	/* A PC with legacy interrupt controllers (not ours) has its timer running: mask them. */
	mov	$0xff, %al
	out	%al, $0x21
	out	%al, $0xa1
	fninit
	call	main
	call	rt_done

	/* Fills the IDT: vector v to rt_stubs + 16 v, interrupt gates, DPL 0 but for UEXIT. */
rt_idt_init:
	xor	%ebx, %ebx
1:	mov	%ebx, %edi
	call	rt_gate_default
	inc	%ebx
	cmp	$256, %ebx
	jb	1b
	ret

	/* EDI: vector. Back to the runtime's stub. */
	.globl	rt_gate_default
rt_gate_default:
	mov	%edi, %esi
	shl	$4, %esi
	add	$rt_stubs, %esi
	mov	$0x8e00, %edx
	cmp	$UEXIT_VEC, %edi
	jne	1f
	mov	$0xee00, %edx
1:	cmp	$DF, %edi
	jne	rt_set_gate
	mov	$0x8e01, %edx /* IST1: the stack may be what broke */

	/* EDI: vector, RSI: handler, EDX: bits 32..47 of the gate (type, DPL, P, IST). Keeps regs. */
	.globl	rt_set_gate
rt_set_gate:
	push	%rdi
	push	%rsi
	shl	$4, %edi
	add	$rt_idt, %edi
	mov	%si, (%rdi)
	movw	$SEL_K64, 2(%rdi)
	mov	%dx, 4(%rdi)
	shr	$16, %rsi
	mov	%si, 6(%rdi)
	shr	$16, %rsi
	mov	%esi, 8(%rdi)
	movl	$0, 12(%rdi)
	pop	%rsi
	pop	%rdi
	ret

	.balign	16
	.globl	rt_stubs
rt_stubs:
	.set	v, 0
	.rept	256
	.balign	16
	.if	(v != 8) && (v < 10 || v > 14) && (v != 17) && (v != 21)
	push	$0
	.endif
	.byte	0x68
	.long	v
	jmp	exc_common
	.set	v, v + 1
	.endr

	.macro	POP_REGS
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rbp
	pop	%rdi
	pop	%rsi
	pop	%rdx
	pop	%rcx
	pop	%rbx
	pop	%rax
	.endm

	.balign	16
exc_common:
	push	%rax
	push	%rbx
	push	%rcx
	push	%rdx
	push	%rsi
	push	%rdi
	push	%rbp
	push	%r8
	push	%r9
	push	%r10
	push	%r11
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	cld
	mov	%rsp, %rdi
	mov	F_VEC(%rdi), %rax
	mov	rt_handlers(, %rax, 8), %rcx
	test	%rcx, %rcx
	jz	exc_record
	call	*%rcx
	POP_REGS
	add	$16, %rsp
	iretq

exc_record:
	mov	%rdi, exc_frame_at
	mov	%rdi, %r8
	mov	%rdi, %rsi
	mov	$exc_frame, %edi
	mov	$(F_SIZE / 8), %ecx
	rep movsq
	mov	%cr2, %rax
	mov	%rax, exc_cr2
	mov	exc_frame + F_VEC, %rax
	shl	$32, %rax
	mov	exc_frame + F_ERR, %ecx
	or	%rcx, %rax
	mov	%rax, exc_code
	mov	$SEL_KD, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	cmp	$rt_ap_stacks, %rsp /* a TRY belongs to the boot CPU */
	jb	1f
	cmp	$rt_ap_stacks_end, %rsp
	jbe	exc_unexpected
1:	mov	rt_resume, %rcx
	test	%rcx, %rcx
	jz	exc_unexpected
	mov	%rcx, rt_resume_at
	movq	$0, rt_resume
	mov	%r8, %rsp /* the registers are as the exception found them, except RSP and RFLAGS */
	POP_REGS
	mov	rt_resume_sp, %rsp
	push	$2
	popfq
	jmp	*rt_resume_at

exc_unexpected:
	mov	$rt_stack_top, %esp
	push	$2
	popfq
	mov	$.Lunexp, %edi
	call	rt_puts
	mov	exc_code, %rax
	call	rt_puthex
	mov	$.Lat, %edi
	call	rt_puts
	mov	exc_frame + F_RIP, %rax
	call	rt_puthex
	mov	$.Lcr2, %edi
	call	rt_puts
	mov	exc_cr2, %rax
	call	rt_puthex
	mov	$'\n', %eax
	call	rt_putc
	mov	$1, %eax
	jmp	rt_exit

	.globl	rt_exit
rt_exit: /* EAX: value for the exit port */
	mov	$0xf4, %edx
	out	%eax, %dx
1:	cli
	hlt
	jmp	1b

	/* --- console ------------------------------------------------------------------------ */

	.globl	rt_putc
rt_putc: /* AL; keeps registers */
	push	%rax
	push	%rdx
	mov	$0x3fd, %edx
	push	%rax
1:	in	%dx, %al
	test	$0x20, %al
	jz	1b
	pop	%rax
	mov	$0x3f8, %edx
	out	%al, %dx
	pop	%rdx
	pop	%rax
	ret

	.globl	rt_puts
rt_puts: /* RDI: string; keeps registers */
	push	%rdi
	push	%rax
1:	mov	(%rdi), %al
	test	%al, %al
	jz	2f
	call	rt_putc
	inc	%rdi
	jmp	1b
2:	pop	%rax
	pop	%rdi
	ret

	.globl	rt_puthex
rt_puthex: /* RAX; keeps registers */
	push	%rax
	push	%rcx
	push	%rdx
	mov	%rax, %rdx
	mov	$16, %ecx
1:	rol	$4, %rdx
	mov	%edx, %eax
	and	$15, %eax
	mov	.Lhex(%rax), %al
	call	rt_putc
	dec	%ecx
	jnz	1b
	pop	%rdx
	pop	%rcx
	pop	%rax
	ret

	.globl	rt_putdec
rt_putdec: /* EAX; keeps registers */
	push	%rax
	push	%rcx
	push	%rdx
	xor	%edx, %edx
	mov	$10, %ecx
	div	%ecx
	test	%eax, %eax
	jz	1f
	call	rt_putdec
1:	lea	'0'(%rdx), %eax
	call	rt_putc
	pop	%rdx
	pop	%rcx
	pop	%rax
	ret

	/* --- checks ------------------------------------------------------------------------- */

	/* RDI: name, RAX: actual, RDX: expected. Keeps all but RAX, RDX, RDI. */
	.globl	rt_check
rt_check:
	incq	rt_checks
	cmp	%rdx, %rax
	jne	1f
rt_pass:
	push	%rdi
	mov	$.Lpass, %edi
	call	rt_puts
	pop	%rdi
	call	rt_puts
	mov	$'\n', %eax
	jmp	rt_putc
1:	call	rt_fail_head
	mov	$.Lexp, %edi
	call	rt_puts
	xchg	%rax, %rdx
	call	rt_puthex
	mov	$.Lgot, %edi
	call	rt_puts
	mov	%rdx, %rax
	call	rt_puthex
	mov	$'\n', %eax
	jmp	rt_putc

rt_fail_head:
	incq	rt_fails
	push	%rdi
	mov	$.Lfail, %edi
	call	rt_puts
	pop	%rdi
	jmp	rt_puts

	/* RDI: name, RAX: actual, 16(%rsp): low, 8(%rsp): high bound */
	.globl	rt_check_in
rt_check_in:
	incq	rt_checks
	cmp	16(%rsp), %rax
	jb	1f
	cmp	8(%rsp), %rax
	jbe	rt_pass
1:	call	rt_fail_head
	mov	%rax, %rdx
	mov	$.Lexp, %edi
	call	rt_puts
	mov	16(%rsp), %rax
	call	rt_puthex
	mov	$.Ldots, %edi
	call	rt_puts
	mov	8(%rsp), %rax
	call	rt_puthex
	mov	$.Lgot, %edi
	call	rt_puts
	mov	%rdx, %rax
	call	rt_puthex
	mov	$'\n', %eax
	jmp	rt_putc

	/* RDI: reason, ESI: how many checks it stands for */
	.globl	rt_skip
rt_skip:
	test	%esi, %esi
	jz	1f
	incq	rt_checks
	push	%rdi
	mov	$.Lskip, %edi
	call	rt_puts
	pop	%rdi
	call	rt_puts
	mov	$'\n', %eax
	call	rt_putc
	dec	%esi
	jmp	rt_skip
1:	ret

	.globl	rt_done
rt_done:
	mov	$.Lplan, %edi
	call	rt_puts
	mov	rt_plan, %eax
	call	rt_putdec
	mov	$'\n', %eax
	call	rt_putc
	xor	%eax, %eax
	mov	rt_plan, %rdx
	cmp	%rdx, rt_checks
	setne	%al
	cmpq	$0, rt_fails
	je	rt_exit
	mov	$1, %eax
	jmp	rt_exit

	/* --- processors --------------------------------------------------------------------- */

	/*
	 * Returns in EAX the number of enabled processors that the ACPI MADT lists, or 1 if there
	 * are no tables. Keeps RBX, RBP, R12-R15.
	 */
	.globl	rt_count_cpus
rt_count_cpus:
	mov	$0xe0000, %esi
	mov	$0x2052545020445352, %rax /* "RSD PTR " */
1:	cmp	%rax, (%rsi)
	je	2f
	add	$16, %esi
	cmp	$0x100000, %esi
	jb	1b
	/* Not in the BIOS area: the PVH start info may know (offset 32). */
	mov	rt_boot_ebx, %edx
	cmpl	$0x336ec578, (%rdx)
	jne	.Lone
	mov	32(%rdx), %rsi
	test	%rsi, %rsi
	jz	.Lone
2:	mov	$8, %r8d /* entry size of the XSDT */
	mov	24(%rsi), %rdi
	cmpb	$2, 15(%rsi)
	jae	3f
	mov	$4, %r8d
	mov	16(%rsi), %edi
3:	mov	4(%rdi), %ecx
	add	%rdi, %rcx /* end */
	lea	36(%rdi), %rsi
4:	cmp	%rcx, %rsi
	jae	.Lone
	mov	(%rsi), %edx
	cmp	$8, %r8d
	jne	5f
	mov	(%rsi), %rdx
5:	add	%r8, %rsi
	cmpl	$0x43495041, (%rdx) /* "APIC" */
	jne	4b
	mov	4(%rdx), %ecx
	add	%rdx, %rcx
	lea	44(%rdx), %rsi
	xor	%eax, %eax
6:	cmp	%rcx, %rsi
	jae	8f
	movzbl	(%rsi), %edx
	lea	4(%rsi), %rdi
	cmp	$0, %edx /* local APIC: flags at 4 */
	je	7f
	lea	8(%rsi), %rdi
	cmp	$9, %edx /* local x2APIC: flags at 8 */
	jne	9f
7:	testb	$1, (%rdi)
	jz	9f
	inc	%eax
9:	movzbl	1(%rsi), %edx
	add	%rdx, %rsi
	test	%edx, %edx
	jnz	6b
8:	test	%eax, %eax
	jz	.Lone
	ret
.Lone:	mov	$1, %eax
	ret

	/*
	 * Starts all application processors by broadcast INIT-SIPI-SIPI and waits until EDI of them
	 * (or, after one second of TSC at 4 GHz, fewer) have called the function RSI, each with its
	 * number (1..) in EDI, on its own stack, interrupts off. Returns their count in EAX. An AP
	 * whose function returns halts with interrupts off.
	 */
	.globl	rt_start_aps
rt_start_aps:
	push	%rbx
	push	%r12
	mov	%edi, %r12d
	mov	%rsi, rt_ap_fn
	movl	$0, rt_ap_count
	movl	$0, rt_ap_running
	mov	$ap_tramp, %esi
	mov	$0x8000, %edi
	mov	$(ap_tramp_end - ap_tramp), %ecx
	rep movsb
	mov	$LAPIC, %rbx
	movl	$0x1ff, 0xf0(%rbx) /* software enable, spurious vector 0xff */
	movl	$0x000c4500, 0x300(%rbx) /* INIT, all excluding self, assert */
	call	rt_icr_wait
	mov	$10000, %edi
	call	rt_delay_us
	movl	$0x000c4608, 0x300(%rbx) /* SIPI at 0x8000 */
	call	rt_icr_wait
	mov	$200, %edi
	call	rt_delay_us
	movl	$0x000c4608, 0x300(%rbx) /* a CPU that runs ignores the second one */
	call	rt_icr_wait
	RDTSC64
	mov	$4000000000, %rcx
	lea	(%rax, %rcx), %r8
1:	pause
	cmp	%r12d, rt_ap_running
	jae	2f
	RDTSC64
	cmp	%r8, %rax
	jb	1b
2:	mov	rt_ap_running, %eax
	pop	%r12
	pop	%rbx
	ret

	.globl	rt_icr_wait
rt_icr_wait:
	mov	$LAPIC, %rax
1:	testl	$0x1000, 0x300(%rax)
	jz	2f
	pause
	jmp	1b
2:	ret

	/* EDI: microseconds, by the TSC at rt_tsc_khz (1 GHz if CPUID does not tell). Keeps RBX... */
	.globl	rt_delay_us
rt_delay_us:
	push	%rbx
	mov	%edi, %edi
	push	%rdi
	call	rt_tsc_khz
	pop	%rdi
	imul	%rdi, %rax
	mov	$1000, %ecx
	xor	%edx, %edx
	div	%rcx
	mov	%rax, %rdi
	RDTSC64
	add	%rax, %rdi
1:	pause
	RDTSC64
	cmp	%rdi, %rax
	jb	1b
	pop	%rbx
	ret

	/* RAX: TSC kHz by CPUID leaf 15H; 1000000 and CF if the leaf does not say. Keeps RBX. */
	.globl	rt_tsc_khz
rt_tsc_khz:
	push	%rbx
	xor	%eax, %eax
	cpuid
	cmp	$0x15, %eax
	jb	1f
	mov	$0x15, %eax
	xor	%ecx, %ecx
	cpuid
	test	%eax, %eax
	jz	1f
	test	%ebx, %ebx
	jz	1f
	test	%ecx, %ecx
	jz	1f
	mov	%eax, %edi
	mov	%ecx, %eax
	imul	%rbx, %rax
	xor	%edx, %edx
	div	%rdi
	xor	%edx, %edx
	mov	$1000, %ecx
	div	%rcx
	pop	%rbx
	clc
	ret
1:	mov	$1000000, %eax
	pop	%rbx
	stc
	ret

	/* The trampoline is copied to 0x8000; it starts in real mode with CS = 0x800, IP = 0. */
	.code16
	.globl	ap_tramp, ap_tramp_end
ap_tramp:
	cli
	mov	%cs, %ax
	mov	%ax, %ds
	lgdtl	ap_gdtr - ap_tramp
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmpl	$SEL_K32, $(ap32 - ap_tramp + 0x8000)
	.balign	4
ap_gdtr:
	.word	0xdf
	.long	rt_gdt
	.code32
ap32:
	mov	$SEL_KD, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$1, %eax
	lock xadd %eax, rt_ap_count
	inc	%eax /* number, from 1 */
	mov	%eax, %ebp
	shl	$12, %eax
	lea	rt_ap_stacks(%eax), %esp
	mov	$rt_long_mode, %eax
	call	*%eax
	ljmp	$SEL_K64, $ap64
ap_tramp_end:

	.code64
ap64:
	mov	$SEL_KD, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	%eax, %fs
	mov	%eax, %gs
	lidt	rt_idtr
	mov	$LAPIC, %rax
	movl	$0x1ff, 0xf0(%rax)
	mov	%ebp, %edi
	mov	%ebp, %ebx
	lock incl rt_ap_running
	call	*rt_ap_fn
1:	cli
	hlt
	jmp	1b

	.section .rodata
.Lpass:	.asciz	"PASS "
.Lfail:	.asciz	"FAIL "
.Lskip:	.asciz	"SKIP "
.Lexp:	.asciz	": expected "
.Lgot:	.asciz	" got "
.Ldots:	.asciz	".."
.Lplan:	.asciz	"PLAN "
.Lunexp: .asciz	"FAIL unexpected exception (vector, error code) "
.Lat:	.asciz	" at rip "
.Lcr2:	.asciz	" cr2 "
.Lhex:	.ascii	"0123456789abcdef"

	.data
	.balign	4096
	.globl	rt_pml4, rt_pdpt, rt_pd0
rt_pml4:
	.quad	rt_pdpt + 7
	.fill	510, 8, 0
	.quad	rt_pdpt_top + 3
rt_pdpt_top: /* the last GiB again, where sign-extended 32-bit displacements reach it */
	.fill	511, 8, 0
	.quad	rt_pd3 + 3
rt_pdpt:
	.quad	rt_pd0 + 3, rt_pd_user + 7, rt_pd2 + 3, rt_pd3 + 3
	.fill	508, 8, 0
	.macro	PD first, bits
	.set	i, 0
	.rept	512
	.quad	((\first + i) << 21) | (\bits)
	.set	i, i + 1
	.endr
	.endm
rt_pd0:	PD	0, 0x83
rt_pd_user: PD	0, 0x87
rt_pd2:	PD	1024, 0x83
rt_pd3:	PD	1536, 0x9b /* device registers: uncached */

	.balign	16
	.globl	rt_gdt, rt_gdtr, rt_gdt_free, rt_idtr
rt_gdt:
	.quad	0
	.quad	0x00cf9b000000ffff /* K32 */
	.quad	0x00af9b000000ffff /* K64 */
	.quad	0x00cf93000000ffff /* KD */
	.quad	0x00cffb000000ffff /* U32 */
	.quad	0x00cff3000000ffff /* UD */
	.quad	0x00affb000000ffff /* U64 */
	.quad	0x00cff3000000ffff /* UD2 */
	.quad	0x0000890000002068, 0 /* TSS: 104 bytes + 8 KiB bitmap + 1; base at boot */
	.quad	0, 0 /* LDT: for tests */
rt_gdt_free:
	.fill	16, 8, 0
rt_gdtr:
	.word	. - rt_gdt - 1
	.quad	rt_gdt
	.balign	8
rt_idtr:
	.word	4095
	.quad	rt_idt

	.balign	16
	.globl	rt_tss
rt_tss:	/* SDM vol. 3, figure 8-11; unaligned by design, so one field after the other */
	.long	0
	.quad	rt_rsp0_top, 0, 0
	.quad	0
	.quad	rt_ist1_top, rt_ist2_top, rt_ist3_top, 0, 0, 0, 0
	.quad	0
	.word	0
	.word	104 /* I/O bitmap follows */
	.globl	rt_iobitmap
rt_iobitmap:
	.fill	8193, 1, 0xff

	.bss
	.balign	4096
	.globl	rt_idt, rt_ap_stacks, rt_ap_stacks_end, rt_stack_top, rt_rsp0_top
	.globl	rt_ist1_top, rt_ist2_top, rt_ist3_top, rt_ustack_top
rt_idt:	.skip	4096
	.skip	16384
rt_stack_top:
	.skip	4096
rt_rsp0_top:
	.skip	4096
rt_ist1_top:
	.skip	4096
rt_ist2_top:
	.skip	4096
rt_ist3_top:
	.skip	4096
rt_ustack_top:
	.skip	64
	.balign	4096
rt_ap_stacks:
	.skip	4096 * 65
rt_ap_stacks_end:
	.globl	rt_handlers, exc_frame, exc_code, exc_cr2, exc_frame_at, rt_resume, rt_resume_sp
	.globl	rt_boot_eax, rt_boot_ebx, rt_boot_cr0, rt_boot_cs, rt_boot_flags, rt_boot_esp
	.globl	rt_checks, rt_fails, rt_ap_count, rt_ap_running
rt_handlers: .skip 8 * 256
exc_frame: .skip F_SIZE
exc_code: .skip	8
exc_cr2: .skip	8
exc_frame_at: .skip 8
rt_resume: .skip 8
rt_resume_sp: .skip 8
rt_resume_at: .skip 8
rt_checks: .skip 8
rt_fails: .skip	8
rt_ap_fn: .skip	8
rt_ap_count: .skip 4
rt_ap_running: .skip 4
rt_boot_eax: .skip 4
rt_boot_ebx: .skip 4
rt_boot_cr0: .skip 4
rt_boot_cs: .skip 4
rt_boot_flags: .skip 4
rt_boot_esp: .skip 4
