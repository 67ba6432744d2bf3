/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shell.h - the command `orrery shell`
 */
#ifndef ORR_CMD_SHELL_H
#define ORR_CMD_SHELL_H

int cmd_shell(int argc, char **argv);

#endif
