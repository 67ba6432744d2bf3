// SPDX-License-Identifier: Apache-2.0
/*
 * term.c - the host's terminal in raw mode, and back
 *
 * How it works
 * The old settings are kept in one static place, because a signal handler must find them: a crash
 * of ours must not leave the user's shell without echo. Signals that ask a program to end are not
 * handled here; they come through the I/O thread, which ends the VM in an orderly way.
 */
#include "vm/term.h"

#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>

static const int crashes[] = { SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE };

static struct termios saved;
static volatile sig_atomic_t raw_fd = -1;

void term_restore(void)
{
	int fd = raw_fd, keep = errno;

	raw_fd = -1;
	if (fd >= 0)
		tcsetattr(fd, TCSADRAIN, &saved);
	errno = keep;
}

/* The action is the default again when this runs: returning repeats the fault, which ends us. */
static void on_crash(int sig)
{
	(void)sig;
	term_restore();
}

static void watch_crashes(void)
{
	struct sigaction old, act = { .sa_handler = on_crash, .sa_flags = (int)SA_RESETHAND };

	for (unsigned i = 0; i < ARRAY_LEN(crashes); i++)
		if (!sigaction(crashes[i], NULL, &old) && old.sa_handler == SIG_DFL)
			sigaction(crashes[i], &act, NULL);
}

int term_raw(int fd, struct err *e)
{
	struct termios t;

	if (tcgetattr(fd, &saved) < 0)
		return err_sys(e, -errno, "cannot read the terminal's settings");
	t = saved;
	cfmakeraw(&t);
	watch_crashes();
	raw_fd = fd;
	if (tcsetattr(fd, TCSADRAIN, &t) < 0) {
		raw_fd = -1;
		return err_sys(e, -errno, "cannot put the terminal into raw mode");
	}
	return 0;
}

bool term_size(const int *fds, unsigned n, unsigned *ret_rows, unsigned *ret_cols)
{
	struct winsize w;

	for (unsigned i = 0; i < n; i++) {
		if (fds[i] < 0 || ioctl(fds[i], TIOCGWINSZ, &w) < 0 || !w.ws_row || !w.ws_col)
			continue;
		*ret_rows = w.ws_row;
		*ret_cols = w.ws_col;
		return true;
	}
	return false;
}
