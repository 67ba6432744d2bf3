/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guests.S - programs of a few instructions for tests of the KVM engine
 *
 * Each runs in flat 32-bit protected mode at RIG_CODE (rig.h) and ends at a label NAME_end. Nothing
 * names an address of this file: code is copied.
 */
	.code32
	.section .rodata

/* rig.h has the same numbers. */
	.set PORT, 0x500		/* recorded */
	.set PORT_STOP, 0x504
	.set PORT_OFF, 0x508
	.set MMIO, 0xd0000000
	.set DATA, 0x8000
	.set ZEROS, 0x8100
	.set APIC, 0xfee00000

	.macro guest name
	.global guest_\name, guest_\name\()_end
guest_\name:
	.endm
	.macro end name
guest_\name\()_end:
	.endm

/* Registers: set here, looked at and changed by the test, told again. */
guest regs
	mov $0x12345678, %ebx
	mov $0x9abcdef0, %ecx
	mov $0x0fedcba9, %esi
	mov $0x87654321, %edi
	mov $0x00c0ffee, %ebp
	mov $PORT_STOP, %edx
	stc
	out %eax, (%dx)
	mov $PORT, %edx
	mov %ebx, %eax
	out %eax, (%dx)
	mov %cr2, %eax
	out %eax, (%dx)
	mov $PORT_STOP, %edx
	out %eax, (%dx)
1:	jmp 1b
	end regs

/* The same for SSE and x87. */
guest vector
	mov $0x600d, %eax
	movd %eax, %xmm3
	fld1
	mov $PORT_STOP, %edx
	out %eax, (%dx)
	mov $PORT, %edx
	movd %xmm3, %eax
	out %eax, (%dx)
	mov $PORT_STOP, %edx
	out %eax, (%dx)
1:	jmp 1b
	end vector

/* Port accesses of all sizes, and strings. */
guest pio
	mov $PORT, %edx
	mov $0xa1b2c3d4, %eax
	out %al, (%dx)
	out %ax, (%dx)
	out %eax, (%dx)
	mov $PORT + 12, %edx
	xor %eax, %eax
	in (%dx), %al
	mov %eax, DATA
	in (%dx), %ax
	mov %eax, DATA + 4
	in (%dx), %eax
	mov %eax, DATA + 8
	mov $0x777, %edx		/* nobody is there */
	in (%dx), %eax
	mov %eax, DATA + 12
	mov $PORT, %edx
	mov $DATA, %esi
	mov $4, %ecx
	cld
	rep outsl
	mov $PORT + 12, %edx
	mov $DATA + 32, %edi
	mov $3, %ecx
	rep insw
	mov $PORT_STOP, %edx
	out %al, (%dx)
1:	jmp 1b
	end pio

guest mmio
	mov $0xa1b2c3d4, %eax
	movb %al, MMIO + 8
	movw %ax, MMIO + 8
	movl %eax, MMIO + 8
	xor %eax, %eax
	movb MMIO + 16, %al
	mov %eax, DATA
	movw MMIO + 16, %ax
	mov %eax, DATA + 4
	movl MMIO + 16, %eax
	mov %eax, DATA + 8
	movl MMIO + 0x800000, %eax	/* nobody is there */
	mov %eax, DATA + 12
	mov $PORT_STOP, %edx
	out %al, (%dx)
1:	jmp 1b
	end mmio

/* Counts in memory, for ever. */
guest spin
1:	incl DATA
	jmp 1b
	end spin

/* Waits for nothing. */
guest halt
	cli
1:	hlt
	jmp 1b
	end halt

/* The same, for an interrupt that might come. */
guest wait
	sti
1:	hlt
	jmp 1b
	end wait

/* Calls a device without end, and halts for nobody. */
guest storm
	mov $PORT + 12, %edx
1:	in (%dx), %eax
	incl DATA
	jmp 1b
	end storm

guest triple
	lidt ZEROS
	int3
	end triple

/* An access of eight bytes. */
guest wide
	mov $0xa1b2c3d4, %eax
	movd %eax, %mm0
	movq %mm0, MMIO + 8
	mov $PORT_STOP, %edx
	out %al, (%dx)
1:	jmp 1b
	end wide

guest off
	mov $PORT_OFF, %edx
	out %al, (%dx)
1:	incl DATA
	jmp 1b
	end off

/* Writes one byte in pages 32, 35 and 64 of memory. */
guest dirty
	movb $1, 0x20000
	movb $1, 0x23123
	movb $1, 0x40fff
	mov $PORT_STOP, %edx
	out %al, (%dx)
	movb $2, 0x23000
	out %al, (%dx)
1:	jmp 1b
	end dirty

/* The queue notification of a virtio device: what an ioeventfd answers, and what it does not. */
guest notify
	movl $1, MMIO + 0x50
	movl $2, MMIO + 0x50
	mov $PORT, %edx
	mov $0x99, %eax
	out %eax, (%dx)
1:	jmp 1b
	end notify

/* Interrupts: the handler is at irq_handler; counts in DATA, and tells the device to be quiet. */
guest irq
	movl $0x1ff, APIC + 0xf0	/* on, spurious vector 255 */
	movl $0, APIC + 0x80		/* every priority */
	mov $PORT, %edx
	mov $1, %eax
	out %eax, (%dx)			/* ready */
	sti
1:	hlt
	jmp 1b
	.global guest_irq_handler
guest_irq_handler:
	incl DATA
	mov $PORT, %edx
	mov $0x40, %eax
	out %eax, (%dx)
	movl $0, APIC + 0xb0		/* EOI */
	iret
	end irq

/* The same in x2APIC mode: registers are MSRs. */
guest irq_x2
	mov $0x80f, %ecx
	mov $0x1ff, %eax
	xor %edx, %edx
	wrmsr
	mov $PORT, %edx
	mov $1, %eax
	out %eax, (%dx)
	sti
1:	hlt
	jmp 1b
	.global guest_irq_x2_handler
guest_irq_x2_handler:
	incl DATA
	mov $PORT, %edx
	mov $0x40, %eax
	out %eax, (%dx)
	mov $0x80b, %ecx
	xor %eax, %eax
	xor %edx, %edx
	wrmsr
	iret
	end irq_x2

/* Reads the time stamp counter for ever. */
guest tsc
1:	rdtsc
	mov %eax, DATA
	mov %edx, DATA + 4
	incl DATA + 8
	jmp 1b
	end tsc

/* Break points: offsets are in test_debug.c. */
guest debug
	nop				/* 0 */
	nop				/* 1 */
	int3				/* 2 */
	nop				/* 3 */
	mov %eax, DATA			/* 4 */
	nop				/* 9 */
	nop				/* 10 */
1:	jmp 1b				/* 11 */
	end debug

	.section .note.GNU-stack,"",@progbits
