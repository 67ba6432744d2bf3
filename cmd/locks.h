/* SPDX-License-Identifier: Apache-2.0 */
/*
 * locks.h - the command `orrery locks`
 */
#ifndef ORR_CMD_LOCKS_H
#define ORR_CMD_LOCKS_H

/* @argv[0] is "locks". Returns the exit status, 0 or 125. */
int cmd_locks(int argc, char **argv);

#endif
