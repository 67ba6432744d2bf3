/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel.h - the command `orrery kernel`
 */
#ifndef ORR_CMD_KERNEL_H
#define ORR_CMD_KERNEL_H

/* @argv[0] is "kernel". Prints what it has to say; returns the exit status, 0 or 125. */
int cmd_kernel(int argc, char **argv);

#endif
