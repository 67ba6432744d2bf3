/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec.h - the command `orrery exec`
 */
#ifndef ORR_CMD_EXEC_H
#define ORR_CMD_EXEC_H

/* @argv[0] is "exec". Returns the exit status. */
int cmd_exec(int argc, char **argv);

#endif
