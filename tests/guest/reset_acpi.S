/* SPDX-License-Identifier: Apache-2.0 */
/* reset_acpi.S - the FADT's reset register: 1 to port 0x604; the machine must reset */
#include "rt.inc"

BEGIN_TESTS
	mov	$0x604, %edx
	xor	%eax, %eax /* another value does nothing */
	out	%al, %dx
	REACHED "still running after another value"
	mov	$0x604, %edx
	mov	$1, %al
	out	%al, %dx
	mov	$1, %eax
	jmp	rt_exit
END_TESTS
