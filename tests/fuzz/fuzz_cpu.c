/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_cpu.c - millions of random sequences, native, interpreted and translated (make fuzz)
 *
 * The same program as tests/cpu/test_diff.c, which runs fewer; every option of it works here.
 */
#include "../cpu/diff.h"

int main(int argc, char **argv)
{
	return diff_main(argc, argv, 1000000);
}
