/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.h - the command `orrery run`
 */
#ifndef ORR_CMD_RUN_H
#define ORR_CMD_RUN_H

/* @argv[0] is "run". Returns the exit status. */
int cmd_run(int argc, char **argv);

#endif
