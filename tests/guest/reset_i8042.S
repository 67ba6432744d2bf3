/* SPDX-License-Identifier: Apache-2.0 */
/* reset_i8042.S - command 0xFE pulses the reset line; the machine must reset */
#include "rt.inc"

BEGIN_TESTS
	mov	$1000, %ecx
1:	in	$0x64, %al
	test	$2, %al /* input buffer full */
	jz	2f
	loop	1b
2:	EXPECT_IN "the controller takes commands", %rcx, 1, 1000
	mov	$0xfe, %al
	out	%al, $0x64
	mov	$100000, %ecx
3:	pause
	loop	3b
	mov	$1, %eax
	jmp	rt_exit
END_TESTS
