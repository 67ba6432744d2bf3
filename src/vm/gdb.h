/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdb.h - a debugger on a machine: orrery run --gdb
 *
 * All on the VM's thread but gdb_wake.
 */
#ifndef ORR_VM_GDB_H
#define ORR_VM_GDB_H

#include "base/err.h"
#include "cpu/engine.h"

struct gate;
struct gdb;
struct machine;

/*
 * Listens where @text says: PORT (of 127.0.0.1; 0: any), or the path of a Unix socket to be made;
 * ",nowait" behind it: the machine does not wait for a debugger. 0, or an error with message.
 */
int gdb_new(const char *text, struct err *e, struct gdb **ret);
void gdb_free(struct gdb *g); /* the client is told nothing more; the socket's file goes */

/* For people: what to type into GDB ("target remote 127.0.0.1:1234"), and whether the machine waits. */
const char *gdb_words(const struct gdb *g);
bool gdb_waits(const struct gdb *g);
const char *gdb_path(const struct gdb *g); /* of the socket's file; NULL: a port */

/*
 * The machine that the debugger has from now on; not running. @kill: the debugger ends it. While it runs the debugger's
 * bytes come by way of @gate. 0, or -ENOTSUP: its engine cannot be debugged.
 */
int gdb_begin(struct gdb *g, struct machine *m, struct gate *gate, void (*kill)(void *opaque),
	      void *opaque);
/* The machine is about to be freed. */
void gdb_end(struct gdb *g);

/* The machine must not run. */
bool gdb_holds(struct gdb *g);
/* While it holds: waits for the debugger, or for gdb_wake, and does what the debugger says. */
void gdb_serve(struct gdb *g);
/* From any thread: gdb_serve returns. NULL is legal. */
void gdb_wake(struct gdb *g);
/*
 * The machine's run came back. True: that was for the debugger; if gdb_holds, he is told. With an end of the guest
 * (a triple fault, no vCPU that can go on) true if he is to see it first: it is not to be run again.
 */
bool gdb_stopped(struct gdb *g, enum engine_exit why);
/* The guest's end is the debugger's, too. */
void gdb_exited(struct gdb *g, int status);

#endif
