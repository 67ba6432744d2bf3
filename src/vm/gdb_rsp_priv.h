/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdb_rsp_priv.h - what the framing (gdb_rsp.c) and the packets (gdb_packet.c) share
 */
#ifndef ORR_VM_GDB_RSP_PRIV_H
#define ORR_VM_GDB_RSP_PRIV_H

#include "vm/gdb_rsp.h"

enum rsp_state {
	RSP_BETWEEN, /* packets */
	RSP_DATA,    /* behind $ */
	RSP_SUM_1,   /* behind #: two digits */
	RSP_SUM_2,
};

struct rsp {
	struct rsp_cfg cfg;
	enum rsp_state state;
	u8 in[RSP_PACKET + 1]; /* the packet, then a 0 */
	size_t n;
	bool too_long; /* the packet has more bytes than `in` */
	u8 sum;	       /* of its bytes */
	int given;     /* the first digit of the sum it claims; -1: no digit */

	u8 out[1 + RSP_PACKET +
	       3];    /* $, the reply, #, two digits; kept for a client that asks again */
	size_t n_out; /* without $ */
	bool out_full, sent;

	bool running;
	bool greeted; /* a stop is an answer: the client knows that they ran */
	bool no_ack;
	bool dead;	       /* detached, killed or ended: nothing more is said */
	bool swbreak, hwbreak; /* the client knows these words */
	struct rsp_stop stop;
	unsigned cpu; /* that registers and memory are of */
	int step_cpu; /* that plain c and s are about; -1: all, or any */
};

/* --- gdb_rsp.c: the reply ----------------------------------------------------------------------- */

void rsp_begin(struct rsp *r);
void rsp_put(struct rsp *r, const void *bytes, size_t n);
void rsp_text(struct rsp *r, const char *text);
void rsp_hex(struct rsp *r, const u8 *bytes, size_t n);
void rsp_num(struct rsp *r, u64 x);
/* Bytes as they are, but for those that mean something in a packet. Whether all had room. */
bool rsp_binary(struct rsp *r, const u8 *bytes, size_t n);
/* Makes runs of a character short; for replies without `*`. */
void rsp_shorten(struct rsp *r);
void rsp_end(struct rsp *r);
/* A whole reply. */
void rsp_reply(struct rsp *r, const char *text);
/* "E" and a number: of errno where GDB's manual has one, else 22. */
void rsp_error(struct rsp *r, int err);

/* --- gdb_rsp.c: what a packet is made of -------------------------------------------------------- */

int rsp_digit(u8 c); /* 0..15, or -1 */
/* A number in hexadecimal at *@p; moves *@p behind it. False: there is none, or it is too large. */
bool rsp_parse_num(const char **p, u64 *ret);
bool rsp_parse_char(const char **p, char c);
/* @n bytes from 2 n digits. */
bool rsp_parse_hex(const char **p, u8 *ret, size_t n);

/* --- gdb_packet.c ------------------------------------------------------------------------------- */

/* Answers r->in. */
void rsp_packet(struct rsp *r);
/* Tells why the vCPUs stand still. */
void rsp_stop_reply(struct rsp *r);

#endif
