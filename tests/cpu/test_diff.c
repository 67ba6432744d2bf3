/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_diff.c - a few ten thousand random sequences, native, interpreted and translated
 */
#include "diff.h"

int main(int argc, char **argv)
{
	return diff_main(argc, argv, 40000);
}
