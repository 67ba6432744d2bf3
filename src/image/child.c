/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child.c - runs a helper program and keeps what it writes
 *
 * How it works
 * fork and exec, two pipes drained with poll, so that neither can fill up and block the child.
 * Between fork and exec only async-signal-safe calls are made, since other threads may exist.
 * A close-on-exec pipe carries the errno of a failed exec: its end of file means that exec
 * happened. The child asks to be killed when its parent's thread dies, so that a killed fetch
 * leaves no download running.
 */
#include "image/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_OUT_MAX (16u << 20)
#define CANCEL_MS 50 /* how often a child's end may have been asked for */

static _Thread_local const bool *cancel;

void child_cancel(const bool *flag)
{
	cancel = flag;
}

extern char **environ;

char *child_find(const char *name)
{
	const char *path = getenv("PATH");
	char *all = NULL, *save, *p = NULL;

	if (asprintf(&all, "%s:/usr/sbin:/sbin:/usr/bin:/bin", path ? path : "") < 0)
		return NULL;
	for (char *d = strtok_r(all, ":", &save); d; d = strtok_r(NULL, ":", &save)) {
		if (d[0] != '/')
			continue;
		if (asprintf(&p, "%s/%s", d, name) < 0) {
			p = NULL;
			break;
		}
		if (!access(p, X_OK))
			break;
		free(p);
		p = NULL;
	}
	free(all);
	return p;
}

/* The environment with the locale C, whose messages can be searched. Free only the array. */
static char **child_env(void)
{
	static char lc[] = "LC_ALL=C", front[] = "DEBIAN_FRONTEND=noninteractive";
	size_t n = 0, at = 0;
	char **env;

	while (environ && environ[n])
		n++;
	env = calloc(n + 3, sizeof(*env));
	if (!env)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (strncmp(environ[i], "LC_ALL=", 7) && strncmp(environ[i], "LANGUAGE=", 9) &&
		    strncmp(environ[i], "DEBIAN_FRONTEND=", 16))
			env[at++] = environ[i];
	env[at++] = lc;
	env[at] = front;
	return env;
}

static attr_noreturn void child_exec(char *const argv[], char *const env[], const char *cwd,
				     pid_t parent, const int out[2], const int errs[2], int report)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), r;
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* The parent may have died before prctl. */
	if (getppid() != parent)
		_exit(127);
	if (null >= 0 && dup2(null, 0) >= 0 && dup2(out[1], 1) >= 0 && dup2(errs[1], 2) >= 0 &&
	    (!cwd || !chdir(cwd)))
		execve(argv[0], argv, env);
	r = errno;
	if (write(report, &r, sizeof(r)) < 0)
		_exit(126);
	_exit(127);
}

/* Reads from both pipes until both end, or -ECANCELED. */
static int child_drain(int out, int errs, struct buf *o, struct buf *s)
{
	struct pollfd p[2] = { { .fd = out, .events = POLLIN }, { .fd = errs, .events = POLLIN } };
	struct buf *to[2] = { o, s };
	char chunk[4096];
	int r = 0;

	while (p[0].fd >= 0 || p[1].fd >= 0) {
		if (cancel && __atomic_load_n(cancel, __ATOMIC_ACQUIRE))
			return -ECANCELED;
		if (poll(p, 2, cancel ? CANCEL_MS : -1) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		for (int i = 0; i < 2; i++) {
			ssize_t n;

			if (p[i].fd < 0 || !p[i].revents)
				continue;
			n = read(p[i].fd, chunk, sizeof(chunk));
			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				p[i].fd = -1;
			else if (to[i]->len + (size_t)n < CHILD_OUT_MAX && !r)
				r = buf_add(to[i], chunk, (size_t)n);
		}
	}
	return r;
}

static void child_close(int fd[2])
{
	for (int i = 0; i < 2; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	fd[0] = fd[1] = -1;
}

static int child_wait(pid_t pid)
{
	int st;

	while (waitpid(pid, &st, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

int child_run(char *const argv[], const char *cwd, struct buf *out, struct buf *errs, struct err *e)
{
	int po[2] = { -1, -1 }, pe[2] = { -1, -1 }, pr[2] = { -1, -1 }, r = 0, why = 0, status;
	char **env = child_env();
	pid_t pid, parent = getpid();
	ssize_t n;

	if (!env || buf_reserve(out, 1) < 0 || buf_reserve(errs, 1) < 0)
		r = -ENOMEM;
	else if (pipe2(po, O_CLOEXEC) < 0 || pipe2(pe, O_CLOEXEC) < 0 || pipe2(pr, O_CLOEXEC) < 0)
		r = -errno;
	if (r < 0)
		goto done;
	pid = fork();
	if (pid < 0) {
		r = -errno;
		goto done;
	}
	if (!pid)
		child_exec(argv, env, cwd, parent, po, pe, pr[1]);
	close(po[1]);
	close(pe[1]);
	close(pr[1]);
	po[1] = pe[1] = pr[1] = -1;
	r = child_drain(po[0], pe[0], out, errs);
	if (r == -ECANCELED)
		kill(pid, SIGKILL);
	do
		n = read(pr[0], &why, sizeof(why));
	while (n < 0 && errno == EINTR);
	status = child_wait(pid);
	if (!r)
		r = n == (ssize_t)sizeof(why) ? -why : status;
	if (!r || r > 0)
		if (buf_reserve(out, 1) < 0 || buf_reserve(errs, 1) < 0)
			r = -ENOMEM;
	if (r >= 0) {
		out->data[out->len] = 0;
		errs->data[errs->len] = 0;
	}
done:
	child_close(po);
	child_close(pe);
	child_close(pr);
	free(env);
	return r < 0 ? err_sys(e, r, "cannot run %s", argv[0]) : r;
}
