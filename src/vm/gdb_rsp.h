/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdb_rsp.h - GDB's remote serial protocol, the stub's side: bytes in, bytes out
 *
 * Knows neither sockets nor machines: a transport gives it what it received, a target answers for
 * the vCPUs. The client is not trusted: whatever it sends, the memory used and the time taken are
 * bounded by what is here. Specification: "Debugging with GDB", appendix E.
 */
#ifndef ORR_VM_GDB_RSP_H
#define ORR_VM_GDB_RSP_H

#include "base/compiler.h"

struct rsp;

#define RSP_PACKET 0x4000u   /* the longest packet either side sends */
#define RSP_REG_MAX 16u	     /* bytes of the largest register */
#define RSP_REGS_BYTES 2048u /* of all of them */

enum rsp_break {
	RSP_BREAK_SOFT,
	RSP_BREAK_HARD,
	RSP_WATCH_WRITE,
	RSP_WATCH_READ,
	RSP_WATCH_ACCESS
};

/* Why the vCPUs stand still. */
struct rsp_stop {
	enum { RSP_ON_SIGNAL, RSP_ON_SOFT, RSP_ON_HARD, RSP_ON_WRITE, RSP_ON_ACCESS } what;
	unsigned signal; /* 2: asked to stop; 5: all others */
	unsigned cpu;	 /* the one that did it */
	u64 addr;	 /* of a watched place */
};

/*
 * What the vCPUs, numbered from 0, answer. Only @interrupt is called while they run. Functions
 * return >= 0 or a negative errno.
 */
struct rsp_ops {
	/* In order: the first registers make up the packet `g`. 0: there is no register @reg. */
	unsigned (*reg_size)(void *o, unsigned reg);
	int (*reg_get)(void *o, unsigned cpu, unsigned reg, u8 *ret);
	int (*reg_set)(void *o, unsigned cpu, unsigned reg, const u8 *val);
	/* By linear address. How many of @len bytes could be read, at least 1, or an error. */
	int (*mem_read)(void *o, unsigned cpu, u64 addr, u8 *ret, size_t len);
	int (*mem_write)(void *o, unsigned cpu, u64 addr, const u8 *val, size_t len);
	/* -ENOTSUP: there is no such kind. */
	int (*insert)(void *o, enum rsp_break kind, u64 addr, u64 len);
	int (*remove)(void *o, enum rsp_break kind, u64 addr, u64 len);
	/* What a vCPU is doing, for people. */
	void (*describe)(void *o, unsigned cpu, char *ret, size_t size);
	/* A command for people; answers through rsp_say. */
	void (*monitor)(void *o, struct rsp *r, const char *words);
	/* All vCPUs run, or (@step >= 0) this one executes one instruction. Then rsp_stopped. */
	void (*run)(void *o, int step);
	void (*interrupt)(void *o);
	void (*detach)(void *o);
	void (*kill)(void *o);
	void (*send)(void *o, const u8 *bytes, size_t n);
};

struct rsp_cfg {
	const struct rsp_ops *ops;
	void *opaque;
	unsigned cpus;
	const char *xml;	  /* the target's description; borrowed */
	const unsigned *expedite; /* registers that every stop tells, ended by ~0u; borrowed */
	bool running;		  /* the vCPUs run: nothing is answered until rsp_stopped */
};

/* One connection; its vCPUs stand still because of @why, or still run. 0 or -ENOMEM. */
int rsp_new(const struct rsp_cfg *cfg, const struct rsp_stop *why, struct rsp **ret);
void rsp_free(struct rsp *r);

/*
 * Bytes from the client. How many were taken: what follows a packet that sets the vCPUs going is left
 * until they stand still again, unless it asks for that.
 */
size_t rsp_input(struct rsp *r, const u8 *bytes, size_t n);
/* The vCPUs stand still again. */
void rsp_stopped(struct rsp *r, const struct rsp_stop *why);
/* The guest has ended, with this status. */
void rsp_exited(struct rsp *r, u8 status);
/* Text for the person at the other end, from within `monitor`. */
void rsp_say(struct rsp *r, const char *fmt, ...) attr_printf(2, 3);

#endif
