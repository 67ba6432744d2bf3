/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor.h - what Orrery can do on this host, and what each lack costs
 */
#ifndef ORR_VM_DOCTOR_H
#define ORR_VM_DOCTOR_H

#include "base/compiler.h"

enum doctor_state {
	DOCTOR_OK,    /* as good as it gets */
	DOCTOR_INFO,  /* so it is; nothing is lost */
	DOCTOR_LACKS, /* something is missing: the cost says what is lost */
	DOCTOR_FAILS, /* Orrery cannot run guests like this */
};

struct doctor_check {
	const char *group, *name; /* static */
	enum doctor_state state;
	char found[384]; /* one line each, without a full stop */
	char cost[256];	 /* "": nothing is lost */
};

#define DOCTOR_CHECKS_MAX 48u

struct doctor_report {
	unsigned n;
	struct doctor_check check[DOCTOR_CHECKS_MAX]; /* by group */
	bool can_run;				      /* guests run here, on some engine */
};

/* Looks at everything; takes a few ms, most of it for measuring KVM. */
void doctor_examine(struct doctor_report *ret);

#endif
