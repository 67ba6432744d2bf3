/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor.h - the command `orrery doctor`
 */
#ifndef ORR_CMD_DOCTOR_H
#define ORR_CMD_DOCTOR_H

/* @argv[0] is "doctor". Returns 0 if guests run here, 1 if not, 125 for bad usage. */
int cmd_doctor(int argc, char **argv);

#endif
