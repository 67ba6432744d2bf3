// SPDX-License-Identifier: Apache-2.0
/*
 * session.c - moves bytes between a running machine and the host's descriptors
 *
 * How it works
 * Everything here runs on the engine's thread: in the machine's callbacks, that is in the middle
 * of a guest instruction, or in its poll callback between two of them.
 *
 *	COM1 -> conlog, --console file, and stdout (console mode) or stderr (--verbose)
 *	hvc0 -> the same
 *	COM2, then the virtio port -> cmdport -> stdout, stderr; its answers -> `wire` -> there
 *	file   --read(2) where the guest asks for it----------> cmdport, hvc0 or COM1
 *	back ends of devices -> I/O thread -> gate, dispatched in the poll callback
 *	stream, terminal -> I/O thread -> ring -> poll callback -> cmdport, hvc0 or COM1
 *
 * Output is collected and written when the guest reaches the end of its turn: a UART gives one
 * byte at a time. Standard output and error are written in the order the guest filled them.
 *
 * A reader of ours that is slow makes the write of its output wait, and the guest with it: guest
 * time stands still meanwhile, so that a run does not depend on who reads. Nothing piles up.
 *
 * The end of the command stops the machine within the instruction that completed the EXIT frame,
 * so the state at the end is exact.
 */
#include "vm/session.h"

#include "virtio/job.h"
#include "vm/session_priv.h"
#include "vm/term.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CTRL_D 0x04
#define HANG_MAX_NS 60000000000ull /* so long whatever the reason, unless it is known */
#define PROMPT "# "		   /* of busybox's shell for root */

void session_stop_for(struct session *s, enum session_stop why)
{
	if (s->why == SESSION_RUNS)
		s->why = why;
	if (s->m)
		machine_stop(s->m);
}

static void feed_console(struct session *s);

/* An idle guest waits at the host's pace while something may still come from there. */
static void update_live(struct session *s)
{
	if (s->m)
		machine_set_live(s->m, s->cfg.live || gate_held(s->gate));
}

static void end_live(struct session *s)
{
	s->cfg.live = false;
	update_live(s);
}

static void protocol_broken(struct session *s, const char *fault)
{
	s->fault = s->fault ? s->fault : fault;
	session_stop_for(s, SESSION_PROTOCOL);
}

/* --- output ----------------------------------------------------------------------------------- */

static void flush(struct session *s, struct session_out *o)
{
	size_t n = o->n;
	int r;

	o->n = 0;
	/* Nobody waits for the output of a VM that was given up; its descriptors may be others' now. */
	if (!n || o->fd < 0 || __atomic_load_n(&s->given_up, __ATOMIC_ACQUIRE))
		return;
	r = io_write(s->io, o->fd, o->data, n);
	if (r == 0)
		return;
	o->fd = -1;
	/* Standard error that nobody reads is no reason to end: nothing depends on it. */
	if (r == -ECANCELED || o == &s->err)
		return;
	s->out_err = r;
	s->out_what = o->what;
	session_stop_for(s, SESSION_OUTPUT);
}

void session_flush(struct session *s)
{
	flush(s, &s->out);
	flush(s, &s->err);
	flush(s, &s->file);
}

static void put(struct session *s, struct session_out *o, const u8 *bytes, size_t n)
{
	struct session_out *other = o == &s->out ? &s->err : o == &s->err ? &s->out : NULL;

	if (other)
		flush(s, other);
	if (!o->n && s->m && !s->gathers)
		machine_kick(s->m);
	while (n) {
		size_t k = MIN(n, SESSION_OUT - o->n);

		memcpy(o->data + o->n, bytes, k);
		o->n += k;
		bytes += k;
		n -= k;
		if (o->n == SESSION_OUT)
			flush(s, o);
	}
}

static void console_tx(struct session *s, const u8 *bytes, size_t n)
{
	conlog_add(&s->console, bytes, n);
	if (s->cfg.console_fd >= 0)
		put(s, &s->file, bytes, n);
	if (!s->cfg.command)
		put(s, &s->out, bytes, n);
	for (size_t i = 0; s->cfg.command && s->cfg.verbose && i < n; i++)
		if (bytes[i] != '\r')
			put(s, &s->err, &bytes[i], 1);
	if (s->console.panic_over)
		session_stop_for(s, SESSION_PANIC);
	if (s->cfg.shell && s->eof_told)
		feed_console(s);
}

void session_tx(void *opaque, enum machine_port port, const u8 *bytes, size_t n)
{
	struct session *s = opaque;

	if (s->why != SESSION_RUNS && port != MACHINE_CONSOLE)
		return;
	if (port == MACHINE_CONSOLE)
		console_tx(s, bytes, n);
	else if (s->port && !s->moved && cmdport_rx(s->port, bytes, n) < 0)
		protocol_broken(s, cmdport_fault(s->port));
}

static void hvc_tx(void *opaque, unsigned port, const u8 *bytes, size_t n)
{
	struct session *s = opaque;
	bool first = !s->hvc_spoke;

	s->hvc_spoke = true;
	s->gathers = true;
	console_tx(s, bytes, n);
	s->gathers = false;
	if (first && !s->cfg.command)
		feed_console(s);
}

/* A tty sends a few bytes at a time: they go on together. */
static void hvc_over(void *opaque, unsigned port)
{
	struct session *s = opaque;

	if (s->m)
		machine_kick(s->m);
}

/* The first byte says that the guest has moved (base/wire.h). */
static void port_tx(void *opaque, unsigned port, const u8 *bytes, size_t n)
{
	struct session *s = opaque;

	if (s->why != SESSION_RUNS)
		return;
	if (!s->moved) {
		if (cmdport_move(s->port) < 0)
			protocol_broken(s, cmdport_fault(s->port));
		s->moved = true;
		s->wire_old = s->wire_n;
	}
	if (cmdport_rx(s->port, bytes, n) < 0)
		protocol_broken(s, cmdport_fault(s->port));
}

/* --- the command's input ---------------------------------------------------------------------- */

static void send_wire(struct session *s)
{
	size_t n = 0, k;

	if (!s->m || !s->wire_n)
		return;
	if (!s->moved || s->wire_old) {
		k = s->moved ? s->wire_old : s->wire_n;
		n = machine_rx(s->m, MACHINE_CMDPORT, s->wire, k);
		s->wire_old -= MIN(s->wire_old, n);
	}
	if (s->moved && !s->wire_old)
		n += vcon_rx(s->cfg.port, s->wire + n, s->wire_n - n);
	memmove(s->wire, s->wire + n, s->wire_n - n);
	s->wire_n -= n;
}

/* A portion of the input from wherever it comes, to be given to @take. False: nothing now. */
static bool next_input(struct session *s, size_t max, u8 *buf, size_t *ret_n)
{
	struct io_events ev;
	ssize_t n;

	if (s->cfg.input == INPUT_FILE) {
		do
			n = read(s->cfg.in_fd, buf, max);
		while (n < 0 && errno == EINTR);
		/* An input that cannot be read ends like one that is over. */
		s->in_eof = n <= 0;
		*ret_n = n > 0 ? (size_t)n : 0;
		return n > 0;
	}
	if (s->cfg.input == INPUT_NULL) {
		s->in_eof = true;
		return false;
	}
	*ret_n = io_peek(s->io, buf, max);
	io_consume(s->io, *ret_n);
	if (!*ret_n) {
		io_events(s->io, &ev);
		s->in_eof = ev.eof;
	}
	return *ret_n > 0;
}

static void feed_command(struct session *s)
{
	u8 buf[WIRE_WINDOW];
	size_t room, n;

	while (!s->in_eof && (room = cmdport_stdin_room(s->port)) > 0)
		if (!next_input(s, MIN(room, sizeof(buf)), buf, &n))
			break;
		else
			cmdport_stdin(s->port, buf, n);
	if (s->in_eof && !s->eof_told) {
		s->eof_told = true;
		cmdport_stdin_eof(s->port);
		end_live(s);
	}
}

/* --- the console's input ---------------------------------------------------------------------- */

/*
 * The end of the input, for the shell on the console: first what completes the last line, then
 * Ctrl-D wherever it prompts. Not at once: a shell that edits its line reads raw, and loses a
 * Ctrl-D that came while a command ran and the line discipline took it for an end of file.
 */
static size_t end_of_input(struct session *s, u8 *buf)
{
	size_t n = 0;

	if (!s->eof_told) {
		s->eof_told = true;
		end_live(s);
		if (s->cfg.shell && s->last && s->last != '\n')
			buf[n++] = '\n';
	}
	if (s->cfg.shell && s->asked_line != s->console.lines + 1 &&
	    memmem(s->console.line, s->console.n, PROMPT, strlen(PROMPT))) {
		s->asked_line = s->console.lines + 1;
		buf[n++] = CTRL_D;
	}
	return n;
}

static size_t give_console(struct session *s, const u8 *bytes, size_t n)
{
	return s->cfg.hvc ? vcon_rx(s->cfg.hvc, bytes, n)
			  : machine_rx(s->m, MACHINE_CONSOLE, bytes, n);
}

static void feed_console(struct session *s)
{
	size_t n;

	/*
	 * What arrives before Linux has opened the port is thrown away by its driver; that of hvc0
	 * does not tell when it is ready, but whoever reads there writes first.
	 */
	if (!s->m || (s->cfg.linux_guest &&
		      !(s->cfg.hvc ? s->hvc_spoke : machine_rx_listening(s->m, MACHINE_CONSOLE))))
		return;
	for (;;) {
		if (s->in_at == s->in_n) {
			s->in_at = s->in_n = 0;
			if (!s->in_eof && next_input(s, sizeof(s->in), s->in, &s->in_n))
				s->last = s->in[s->in_n - 1];
			if (!s->in_n && s->in_eof)
				s->in_n = end_of_input(s, s->in);
		}
		if (s->in_at == s->in_n)
			return;
		n = give_console(s, s->in + s->in_at, s->in_n - s->in_at);
		s->in_at += n;
		if (!n)
			return;
	}
}

void session_rx_space(void *opaque, enum machine_port port)
{
	struct session *s = opaque;

	if (port == MACHINE_CMDPORT) {
		send_wire(s);
		session_ask_again(s);
	} else if (!s->cfg.command) {
		feed_console(s);
	}
}

static void hvc_space(void *opaque, unsigned port)
{
	struct session *s = opaque;

	if (!s->cfg.command)
		feed_console(s);
}

static void port_space(void *opaque, unsigned port)
{
	send_wire(opaque);
}

static const struct virtio_console_ops hvc_ops = { .tx = hvc_tx,
						   .tx_over = hvc_over,
						   .rx_space = hvc_space };
static const struct virtio_console_ops vport_ops = { .tx = port_tx, .rx_space = port_space };

/* --- the command port ------------------------------------------------------------------------- */

static void on_out(void *opaque, int fd, const u8 *data, size_t len)
{
	struct session *s = opaque;

	put(s, fd == 1 ? &s->out : &s->err, data, len);
}

static void on_message(void *opaque, const char *words)
{
	struct session *s = opaque;
	char line[600];
	int n = snprintf(line, sizeof(line), "orrery: guest: %s%s\n", words,
			 s->cfg.tty && s->cfg.input == INPUT_TERMINAL ? "\r" : "");

	put(s, &s->err, (const u8 *)line, MIN((size_t)n, sizeof(line) - 1));
}

static void on_send(void *opaque, const u8 *data, size_t len)
{
	struct session *s = opaque;

	/* Only a guest that acknowledges what it has not received makes us hold more than a window.
	 */
	if (len > sizeof(s->wire) - s->wire_n) {
		protocol_broken(s, "it acknowledged what it had not received");
		return;
	}
	memcpy(s->wire + s->wire_n, data, len);
	s->wire_n += len;
	send_wire(s);
}

static void on_state(void *opaque, enum cmdport_state state)
{
	struct session *s = opaque;

	if (state == CMDPORT_EXITED)
		session_stop_for(s, SESSION_EXITED);
}

static void on_room(void *opaque)
{
	feed_command(opaque);
}

static const struct cmdport_ops port_ops = {
	.out = on_out,
	.message = on_message,
	.send = on_send,
	.state = on_state,
	.room = on_room,
};

/* --- the machine's life ---------------------------------------------------------------------- */

static const char escape_help[] =
	"\r\norrery: Ctrl-A X ends the guest at once; Ctrl-A Ctrl-A sends "
	"Ctrl-A; Ctrl-A H shows this\r\n";

void session_take_events(struct session *s)
{
	struct io_events ev;
	unsigned rows, cols;

	io_events(s->io, &ev);
	if (ev.signal) {
		s->signal = ev.signal;
		session_stop_for(s, SESSION_SIGNAL);
	} else if (ev.escaped) {
		session_stop_for(s, SESSION_ESCAPED);
	} else if (ev.late) {
		session_stop_for(s, SESSION_STOPPED);
	} else if (ev.timed_out) {
		session_stop_for(s, SESSION_TIMEOUT);
	}
	if (ev.resized && term_size((int[]){ s->cfg.in_fd, s->cfg.out_fd }, 2, &rows, &cols)) {
		if (s->cfg.tty && s->port)
			cmdport_winsize(s->port, rows, cols);
		vcon_resize(s->cfg.hvc, rows, cols);
	}
	if (ev.help)
		put(s, &s->err, (const u8 *)escape_help, strlen(escape_help));
}

/* On the engine's thread after a kick. */
static void on_poll(void *opaque)
{
	struct session *s = opaque;

	session_take_events(s);
	session_take_orders(s);
	if (s->cfg.input == INPUT_STREAM || s->cfg.input == INPUT_TERMINAL) {
		if (s->port)
			feed_command(s);
		else
			feed_console(s);
	}
	gate_dispatch(s->gate);
	io_watch_again(s->io);
	session_flush(s);
}

/* From any thread: the VM's thread has something to look at. */
static void on_io(void *opaque)
{
	struct session *s = opaque;

	pthread_mutex_lock(&s->lock);
	if (s->m)
		machine_kick(s->m);
	s->kicked = true;
	pthread_cond_signal(&s->cond);
	pthread_mutex_unlock(&s->lock);
	gdb_wake(s->cfg.gdb);
}

static void set_machine(struct session *s, struct machine *m)
{
	pthread_mutex_lock(&s->lock);
	s->m = m;
	pthread_mutex_unlock(&s->lock);
}

/* On the I/O thread: the VM should have ended @ns ago. */
static void on_hangs(void *opaque, u64 ns)
{
	struct session *s = opaque;
	char name[VDEV_NAME], words[200];
	bool worker;

	if (s->given_up)
		return;
	if (vjobs_longest(s->gate, name, &worker) >= IO_HANG_NS)
		snprintf(
			words, sizeof(words),
			"the VM was ended without %s of %s, which waits for the host's file system "
			"and gets no answer from it",
			worker ? "a worker" : "a request", name);
	else if (ns >= HANG_MAX_NS)
		snprintf(
			words, sizeof(words),
			"the VM was ended without its thread, which something of the host has held "
			"for %u s",
			(unsigned)(ns / 1000000000u));
	else
		return;
	__atomic_store_n(&s->given_up, true, __ATOMIC_RELEASE);
	s->cfg.hung(s->cfg.opaque, words);
}

static void serve(void *opaque)
{
	struct session *s = opaque;

	gate_dispatch(s->io_gate);
}

static void poke(void *opaque)
{
	struct session *s = opaque;

	/* Before the I/O thread exists, and behind its end, nobody has to be called. */
	if (s->io)
		io_poke(s->io);
}

static void on_held(void *opaque, bool held)
{
	update_live(opaque);
}

/* What must be there before anything can fail. */
static struct session *session_alloc(const struct session_cfg *cfg)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->cfg = *cfg;
	s->out = (struct session_out){ .fd = cfg->out_fd, .what = "standard output" };
	s->err = (struct session_out){ .fd = cfg->err_fd, .what = "standard error" };
	s->file = (struct session_out){ .fd = cfg->console_fd, .what = "the --console file" };
	s->tail = &s->queue;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->cond, NULL);
	return s;
}

int session_new(const struct session_cfg *cfg, struct err *e, struct session **ret)
{
	bool threaded = cfg->input == INPUT_STREAM || cfg->input == INPUT_TERMINAL;
	struct session *s = session_alloc(cfg);
	struct gate_cfg gc = { .kick = on_io, .held = on_held, .opaque = s };
	struct gate_cfg sc = { .kick = poke, .opaque = s };
	struct io_cfg ic = { .in_fd = threaded ? cfg->in_fd : -1,
			     .escape = cfg->input == INPUT_TERMINAL && (!cfg->command || cfg->tty),
			     .timeout_ns = cfg->timeout_ns,
			     .kick = on_io,
			     .serve = serve,
			     .hangs = on_hangs,
			     .no_signals = cfg->no_signals,
			     .opaque = s };
	int r;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	if (cfg->command && cmdport_new(&port_ops, s, &s->port) < 0) {
		session_free(s);
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = gate_new(&gc, &s->gate);
	if (r == 0)
		r = gate_new(&sc, &s->io_gate);
	if (r < 0) {
		session_free(s);
		return err_sys(e, r, "cannot watch the devices' back ends");
	}
	ic.watch_fd = gate_fd(s->gate);
	ic.serve_fd = gate_fd(s->io_gate);
	r = io_start(&ic, e, &s->io);
	if (r < 0) {
		session_free(s);
		return r;
	}
	vcon_attach(s->cfg.hvc, &hvc_ops, s);
	if (s->port)
		vcon_attach(s->cfg.port, &vport_ops, s);
	*ret = s;
	return 0;
}

int session_reset(struct session *s)
{
	set_machine(s, NULL);
	s->why = SESSION_RUNS;
	s->console = (struct conlog){ 0 };
	s->hvc_spoke = s->moved = s->eof_told = false;
	s->wire_n = s->wire_old = 0;
	s->asked_line = 0;
	if (!s->port)
		return 0;
	cmdport_free(s->port);
	s->port = NULL;
	return cmdport_new(&port_ops, s, &s->port);
}

enum engine_exit session_run(struct session *s, struct machine *m)
{
	enum engine_exit why;

	set_machine(s, m);
	update_live(s);
	/* What came before there was a machine to kick. */
	machine_kick(m);
	if (s->resetting)
		session_finish(s, s->resetting, 0);
	if (!s->cfg.command)
		feed_console(s);
	for (;;) {
		session_debug_wait(s);
		if (s->why != SESSION_RUNS || s->resetting) {
			why = ENGINE_STOPPED;
			break;
		}
		why = machine_run(m, on_poll, s);
		if (session_debug_stopped(s, why))
			continue;
		if (why != ENGINE_STOPPED || s->why != SESSION_RUNS)
			break;
		if (s->pausing)
			session_paused(s);
		if (s->why != SESSION_RUNS || s->resetting)
			break;
		/* What was asked, or came, while it stood still. */
		machine_kick(m);
	}
	session_flush(s);
	return s->resetting && s->why == SESSION_RUNS ? ENGINE_RESET : why;
}

void session_close(struct session *s)
{
	if (!s || !s->io)
		return;
	session_end_orders(s);
	io_over(s->io);
	/* Workers of devices may still post: they end with the machine. */
	set_machine(s, NULL);
}

void session_end(struct session *s)
{
	if (!s || !s->io)
		return;
	session_close(s);
	io_stop(s->io);
	s->io = NULL;
}

void session_free(struct session *s)
{
	if (!s)
		return;
	session_end(s);
	cmdport_free(s->port);
	gate_free(s->gate);
	gate_free(s->io_gate);
	pthread_cond_destroy(&s->cond);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

struct gate *session_io_gate(struct session *s)
{
	return s->io_gate;
}

struct gate *session_gate(struct session *s)
{
	return s->gate;
}

bool session_init(const struct session *s)
{
	return s->cfg.init;
}

enum session_stop session_stopped(const struct session *s)
{
	return s->why;
}

const struct conlog *session_console(const struct session *s)
{
	return &s->console;
}

const struct cmdport *session_port(const struct session *s)
{
	return s->port;
}

const char *session_fault(const struct session *s)
{
	return s->fault;
}

int session_signal(const struct session *s)
{
	return s->signal;
}

int session_output_error(const struct session *s, const char **ret_what)
{
	*ret_what = s->out_what;
	return s->out_err;
}
