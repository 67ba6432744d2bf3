/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topo.h - the command `orrery topo`
 */
#ifndef ORR_CMD_TOPO_H
#define ORR_CMD_TOPO_H

/* @argv[0] is "topo". Returns the exit status, 0 or 125. */
int cmd_topo(int argc, char **argv);

#endif
