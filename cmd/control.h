/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.h - the commands that look at and change a VM that is running
 */
#ifndef ORR_CMD_CONTROL_H
#define ORR_CMD_CONTROL_H

int cmd_ps(int argc, char **argv);
int cmd_pause(int argc, char **argv);
int cmd_resume(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_reset(int argc, char **argv);
int cmd_balloon(int argc, char **argv);
int cmd_stats(int argc, char **argv);

#endif
