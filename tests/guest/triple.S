/* SPDX-License-Identifier: Apache-2.0 */
/* triple.S - a fault with an empty IDT: shutdown, which the monitor must report as triple fault */
#include "rt.inc"

BEGIN_TESTS
	lidt	none
	ud2
	mov	$1, %eax
	jmp	rt_exit
	.data
none:	.word	0
	.quad	0
END_TESTS
