/* SPDX-License-Identifier: Apache-2.0 */
/* poweroff.S - ACPI sleep control register: SLP_TYP 5, SLP_EN; the machine must be off */
#include "rt.inc"

BEGIN_TESTS
	mov	$0x600, %edx
	mov	$5 << 2, %al /* the type alone does nothing */
	out	%al, %dx
	REACHED "still running without SLP_EN"
	mov	$0x600, %edx
	mov	$5 << 2 | 1 << 5, %al
	out	%al, %dx
	mov	$1, %eax
	jmp	rt_exit
END_TESTS
