// SPDX-License-Identifier: Apache-2.0
/*
 * gdb_session.c - where a session hands its machine to the debugger, and takes it back
 *
 * How it works
 * Before each run of the machine the session asks whether the debugger holds it, and waits here as it does in a
 * pause: orders, signals, the time-out and the terminal are seen to, back ends are not. What brought a run
 * to its end goes to the debugger first.
 */
#include "vm/session_priv.h"

#include "vm/gdb.h"

static void on_kill(void *opaque)
{
	session_stop_for(opaque, SESSION_ESCAPED);
}

int session_debug_begin(struct session *s, struct machine *m, struct err *e)
{
	int r = gdb_begin(s->cfg.gdb, m, s->gate, on_kill, s);

	return r < 0 ? err_sys(e, r, "--gdb: the engine cannot be debugged") : 0;
}

void session_debug_wait(struct session *s)
{
	if (!gdb_holds(s->cfg.gdb))
		return;
	session_flush(s);
	while (gdb_holds(s->cfg.gdb) && s->why == SESSION_RUNS && !s->resetting) {
		gdb_serve(s->cfg.gdb);
		session_take_events(s);
		session_take_orders(s);
		if (s->pausing)
			session_paused(s);
		session_flush(s);
	}
	/* What came while it stood still. */
	machine_kick(s->m);
}

bool session_debug_stopped(struct session *s, enum engine_exit why)
{
	if (!gdb_stopped(s->cfg.gdb, why))
		return false;
	if (why == ENGINE_DEBUG)
		return true;
	/* The guest has ended: the debugger may look, then that is all. */
	session_debug_wait(s);
	return false;
}
