/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connect.h - the command `orrery connect`
 */
#ifndef ORR_CMD_CONNECT_H
#define ORR_CMD_CONNECT_H

/* @argv[0] is "connect". Returns the exit status. */
int cmd_connect(int argc, char **argv);

#endif
