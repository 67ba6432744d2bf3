// SPDX-License-Identifier: Apache-2.0
/*
 * io.c - a thread that waits, for a VM's input, time-out and signals
 *
 * How it works
 * The engine's thread executes the guest and must not wait for anything else. This thread waits
 * in poll(2) for the input, a timer, signals (as a signalfd: they are blocked in every thread) and
 * a wake-up. What it learns goes into a bounded ring and a few flags under one mutex, and then it
 * kicks the engine, whose poll callback fetches it: so everything live enters the guest at one
 * point, on the engine's thread, between two instructions.
 *
 * When the ring is full the input is not read until the guest has taken something. Input that is
 * always ready (a file) does not come through here at all: its bytes are read where the guest asks
 * for them, and the run stays exact.
 *
 * What the VM's gate (base/gate.h) waits for is one more descriptor. It stays readable until the
 * engine has dispatched, so it is not waited for until the engine says so (io_watch_again).
 *
 * The control socket's clients are served on this thread (cfg.serve): they get their answers while
 * the VM is paused, or waits for whoever reads its output.
 *
 * Whoever asks for the end of a VM may not trust its thread to come to it: the host's file system may
 * not let it, or a worker that it waits for. So this thread is the last that ends, and says when it
 * takes too long (cfg.hangs).
 *
 * Two descriptors wake a waiter: `wake` this thread (room in the ring, or the end), `ended` the
 * engine's thread out of a write that blocks, for instance into a pipe that nobody reads.
 */
#include "vm/io.h"

#include "base/hosttime.h"
#include "base/thread.h"
#include "vm/term.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define RING 65536u
#define CTRL_A 0x01
#define WRITE_MAX 4096u	 /* PIPE_BUF: what a pipe that is ready takes without blocking */
#define DEV_MEM_MAJOR 1u /* Documentation/admin-guide/devices.txt */
#define DEV_NULL_MINOR 3u
/* timeout(1) sends its signal to the process and to its group: that is one request, not two. */
#define AGAIN_NS 1000000000u

static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH };

struct io {
	struct io_cfg cfg;
	pthread_t thread;
	sem_t begun; /* posted by the thread once it is what it should be */
	bool started, masked;
	int timer, late, sig, wake, ended; /* -1 until opened */
	sigset_t old_mask;
	struct sigaction old_pipe;
	bool after_ctrl_a; /* the I/O thread's own */

	pthread_mutex_t lock; /* of all that follows */
	u8 ring[RING];
	size_t head, n;
	bool in_eof, quit;
	bool watch_ready; /* and the engine has not been there yet: not waited for */
	bool over;	  /* io_over */
	u64 ending;	  /* of host_ns: since when there has been a reason to end; 0: none */
	u64 signalled;	  /* of host_ns: when ev.signal came */
	struct io_events ev;
};

enum input_kind input_kind(int fd)
{
	struct stat sb;

	if (fd < 0 || fstat(fd, &sb) < 0 || S_ISDIR(sb.st_mode))
		return INPUT_NULL;
	if (S_ISFIFO(sb.st_mode) || S_ISSOCK(sb.st_mode))
		return INPUT_STREAM;
	if (!S_ISCHR(sb.st_mode))
		return INPUT_FILE;
	if (isatty(fd))
		return INPUT_TERMINAL;
	return sb.st_rdev == makedev(DEV_MEM_MAJOR, DEV_NULL_MINOR) ? INPUT_NULL : INPUT_FILE;
}

static void notify(int fd)
{
	u64 one = 1;

	if (write(fd, &one, sizeof(one)) < 0) /* full: it is readable already */
		return;
}

static void clear(int fd)
{
	u64 count;

	if (read(fd, &count, sizeof(count)) < 0) /* nobody has written: nothing to clear */
		return;
}

static void ending_locked(struct io *io)
{
	if (!io->ending)
		io->ending = host_ns();
}

/* --- the thread ------------------------------------------------------------------------------- */

/* One byte of the terminal, with the escape key taken out. Returns how many bytes are in @out. */
static size_t unescape(struct io *io, u8 byte, u8 out[2], bool *ret_end, bool *ret_help)
{
	size_t n = 0;

	if (!io->cfg.escape) {
		out[n++] = byte;
	} else if (!io->after_ctrl_a) {
		io->after_ctrl_a = byte == CTRL_A;
		if (!io->after_ctrl_a)
			out[n++] = byte;
	} else {
		io->after_ctrl_a = false;
		*ret_end = byte == 'x' || byte == 'X';
		if (*ret_end)
			return 0;
		if (byte && strchr("hHcC?", byte)) {
			*ret_help = true;
			return 0;
		}
		out[n++] = CTRL_A;
		if (byte != CTRL_A)
			out[n++] = byte;
	}
	return n;
}

/* Reads what there is; @room: free bytes of the ring, which only this thread fills. */
static void take_input(struct io *io, size_t room)
{
	u8 in[4096], two[2];
	/* An escaped byte may become two. */
	ssize_t got = read(io->cfg.in_fd, in, MIN(sizeof(in), room / 2));
	bool end = false, help = false;

	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	pthread_mutex_lock(&io->lock);
	if (got <= 0) /* a terminal that was hung up says EIO */
		io->in_eof = true;
	for (ssize_t i = 0; i < got && !end; i++) {
		size_t n = unescape(io, in[i], two, &end, &help);

		for (size_t k = 0; k < n; k++)
			io->ring[(io->head + io->n++) % RING] = two[k];
	}
	if (end) {
		io->ev.escaped = true;
		ending_locked(io);
	}
	if (help)
		io->ev.help = true;
	pthread_mutex_unlock(&io->lock);
	if (end)
		notify(io->ended);
	io->cfg.kick(io->cfg.opaque);
}

static void take_signal(struct io *io)
{
	struct signalfd_siginfo si;
	bool again;

	if (read(io->sig, &si, sizeof(si)) != sizeof(si))
		return;
	pthread_mutex_lock(&io->lock);
	again = si.ssi_signo != SIGWINCH && io->ev.signal && host_ns() - io->signalled >= AGAIN_NS;
	if (si.ssi_signo == SIGWINCH)
		io->ev.resized = true;
	if (si.ssi_signo != SIGWINCH && !io->ev.signal) {
		io->ev.signal = (int)si.ssi_signo;
		io->signalled = host_ns();
	}
	if (io->ev.signal)
		ending_locked(io);
	pthread_mutex_unlock(&io->lock);
	if (again) { /* the first one did not help: the user means it */
		term_restore();
		_exit(128 + (int)si.ssi_signo);
	}
	if (si.ssi_signo != SIGWINCH)
		notify(io->ended);
	io->cfg.kick(io->cfg.opaque);
}

/* A time has come that ends the VM: @flag says which. */
static void take_timer(struct io *io, int fd, bool *flag)
{
	clear(fd);
	pthread_mutex_lock(&io->lock);
	*flag = true;
	ending_locked(io);
	pthread_mutex_unlock(&io->lock);
	notify(io->ended);
	io->cfg.kick(io->cfg.opaque);
}

/* How long poll(2) may wait: the VM's end may be overdue, from some time on each second. */
static int hang_ms(struct io *io, u64 ending, u64 *next)
{
	u64 now = host_ns();

	if (!ending || !io->cfg.hangs)
		return -1;
	if (!*next)
		*next = ending + IO_HANG_NS;
	if (now >= *next) {
		io->cfg.hangs(io->cfg.opaque, now - ending);
		*next = now + 1000000000u;
	}
	return (int)((*next - now) / 1000000u) + 1;
}

static void *io_main(void *opaque)
{
	struct io *io = opaque;
	u64 hang_at = 0;

	pthread_setname_np(pthread_self(), "io");
	thread_begin(THREAD_IO);
	sem_post(&io->begun);
	for (;;) {
		pthread_mutex_lock(&io->lock);
		bool quit = io->quit;
		bool reads = io->cfg.in_fd >= 0 && !io->in_eof && !io->over;
		size_t room = RING - io->n;
		int watch = io->watch_ready || io->over ? -1 : io->cfg.watch_fd;
		u64 ending = io->ending;
		pthread_mutex_unlock(&io->lock);
		if (quit)
			return NULL;
		struct pollfd p[] = {
			{ .fd = io->wake, .events = POLLIN },
			{ .fd = io->sig, .events = POLLIN },
			{ .fd = io->timer, .events = POLLIN },
			{ .fd = reads && room > 1 ? io->cfg.in_fd : -1, .events = POLLIN },
			{ .fd = watch, .events = POLLIN },
			{ .fd = io->late, .events = POLLIN },
			{ .fd = io->cfg.serve ? io->cfg.serve_fd : -1, .events = POLLIN },
		};
		if (poll(p, ARRAY_LEN(p), hang_ms(io, ending, &hang_at)) <= 0)
			continue;
		if (p[0].revents)
			clear(io->wake);
		if (p[1].revents)
			take_signal(io);
		if (p[2].revents)
			take_timer(io, io->timer, &io->ev.timed_out);
		if (p[5].revents)
			take_timer(io, io->late, &io->ev.late);
		if (p[3].revents)
			take_input(io, room);
		if (p[4].revents) {
			pthread_mutex_lock(&io->lock);
			io->watch_ready = true;
			pthread_mutex_unlock(&io->lock);
			io->cfg.kick(io->cfg.opaque);
		}
		if (io->cfg.serve && (p[0].revents || p[6].revents))
			io->cfg.serve(io->cfg.opaque);
	}
}

/* --- start and end --------------------------------------------------------------------------- */

static int set_timer(int fd, u64 ns)
{
	struct itimerspec when = { .it_value = { .tv_sec = (time_t)(ns / 1000000000u),
						 .tv_nsec = (long)(ns % 1000000000u) } };

	return timerfd_settime(fd, 0, &when, NULL) < 0 ? -errno : 0;
}

static int open_fds(struct io *io, const sigset_t *set)
{
	io->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	io->ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	io->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	io->late = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (!io->cfg.no_signals)
		io->sig = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (io->wake < 0 || io->ended < 0 || (io->sig < 0 && !io->cfg.no_signals) ||
	    io->timer < 0 || io->late < 0)
		return -errno;
	return set_timer(io->timer, io->cfg.timeout_ns);
}

int io_start(const struct io_cfg *cfg, struct err *e, struct io **ret)
{
	struct sigaction ign = { .sa_handler = SIG_IGN };
	struct io *io = calloc(1, sizeof(*io));
	sigset_t set;
	int r;

	if (!io)
		return err_set(e, -ENOMEM, "out of memory");
	io->cfg = *cfg;
	io->timer = io->late = io->sig = io->wake = io->ended = -1;
	pthread_mutex_init(&io->lock, NULL);
	sem_init(&io->begun, 0, 0);
	sigemptyset(&set);
	for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
		sigaddset(&set, signals[i]);
	r = open_fds(io, &set);
	if (!r && !cfg->no_signals) {
		/* A reader of our output that went away is an error of write(2), not the end. */
		sigaction(SIGPIPE, &ign, &io->old_pipe);
		r = -pthread_sigmask(SIG_BLOCK, &set, &io->old_mask);
		io->masked = !r;
	}
	if (!r) {
		r = -pthread_create(&io->thread, thread_attr(), io_main, io);
		io->started = !r;
	}
	/* No guest runs beside a thread that has not entered its sandbox yet. */
	while (!r && sem_wait(&io->begun) < 0 && errno == EINTR)
		;
	if (r) {
		io_stop(io);
		return err_sys(e, r, "cannot start the I/O thread");
	}
	*ret = io;
	return 0;
}

void io_over(struct io *io)
{
	pthread_mutex_lock(&io->lock);
	io->over = true;
	ending_locked(io);
	pthread_mutex_unlock(&io->lock);
	notify(io->wake);
}

void io_stop(struct io *io)
{
	struct signalfd_siginfo si;

	if (!io)
		return;
	if (io->started) {
		pthread_mutex_lock(&io->lock);
		io->quit = true;
		pthread_mutex_unlock(&io->lock);
		notify(io->wake);
		pthread_join(io->thread, NULL);
	}
	if (io->masked) {
		/* The VM has ended: a signal that asked for just that would now end us instead. */
		while (read(io->sig, &si, sizeof(si)) > 0)
			;
		/* Its twin may be on its way, and the last words not said. SIGQUIT remains. */
		for (unsigned i = 0; io->ev.signal && signals[i] != SIGQUIT; i++)
			sigaddset(&io->old_mask, signals[i]);
		sigaction(SIGPIPE, &io->old_pipe, NULL);
		pthread_sigmask(SIG_SETMASK, &io->old_mask, NULL);
	}
	int *fds[] = { &io->timer, &io->late, &io->sig, &io->wake, &io->ended };
	for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
		if (*fds[i] >= 0)
			close(*fds[i]);
	pthread_mutex_destroy(&io->lock);
	sem_destroy(&io->begun);
	free(io);
}

/* --- the engine's thread --------------------------------------------------------------------- */

void io_events(struct io *io, struct io_events *ret)
{
	pthread_mutex_lock(&io->lock);
	*ret = io->ev;
	ret->eof = io->in_eof && !io->n;
	io->ev.resized = io->ev.help = false;
	pthread_mutex_unlock(&io->lock);
}

void io_poke(struct io *io)
{
	notify(io->wake);
}

void io_deadline(struct io *io, u64 ns)
{
	/* Zero would disarm it. The descriptor is ours and open: there is nothing to fail. */
	BUG_IF(set_timer(io->late, MAX(ns, 1ull)) < 0);
}

void io_watch_again(struct io *io)
{
	bool was;

	pthread_mutex_lock(&io->lock);
	was = io->watch_ready;
	io->watch_ready = false;
	pthread_mutex_unlock(&io->lock);
	if (was)
		notify(io->wake);
}

size_t io_peek(struct io *io, u8 *ret, size_t max)
{
	size_t n;

	pthread_mutex_lock(&io->lock);
	n = MIN(max, io->n);
	for (size_t i = 0; i < n; i++)
		ret[i] = io->ring[(io->head + i) % RING];
	pthread_mutex_unlock(&io->lock);
	return n;
}

void io_consume(struct io *io, size_t n)
{
	bool was_full;

	if (!n)
		return;
	pthread_mutex_lock(&io->lock);
	BUG_IF(n > io->n);
	was_full = RING - io->n < 2;
	io->head = (io->head + n) % RING;
	io->n -= n;
	pthread_mutex_unlock(&io->lock);
	if (was_full)
		notify(io->wake);
}

int io_write(struct io *io, int fd, const u8 *data, size_t len)
{
	while (len) {
		struct pollfd p[] = {
			{ .fd = fd, .events = POLLOUT },
			{ .fd = io->ended, .events = POLLIN },
		};
		ssize_t n;

		/* Without output space, and only then, the end of the VM counts. */
		if (poll(p, 2, -1) < 0)
			continue;
		if (!p[0].revents)
			return -ECANCELED;
		n = write(fd, data, MIN(len, (size_t)WRITE_MAX));
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}
