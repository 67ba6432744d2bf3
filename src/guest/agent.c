// SPDX-License-Identifier: Apache-2.0
/*
 * agent.c - runs commands for the host while the VM runs: the guest's end of `orrery exec`
 *
 * How it works
 * A process of its own, forked by init when the vsock driver is loaded, so that it outlives
 * whatever the VM's own command does to itself. It listens, and forks once more for each
 * connection; the child is what init is for the VM's command (relay.c, over the socket instead of
 * the serial port), and ends with it.
 *
 * Whoever reaches the agent is root. So only the host may: with vsock_loopback any process of the
 * guest can connect to any of its ports, and comes from another CID than the host's.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/wire.h"

#define BACKLOG 64
#define COMMANDS_MAX 256 /* at once */
#define OWN_FDS 64	 /* more than init has open */
#define CID_ANY 0xffffffffu
#define CID_HOST 2u

/* vsock(7): struct sockaddr_vm, which the C library has no header for. */
struct vsock_addr {
	unsigned short family, reserved;
	uint32_t port, cid;
	unsigned char flags, zero[3];
};

static const struct spec *base;

void agent_inherit(const struct spec *s)
{
	base = s;
}

static const char *env_value(char *const *env, const char *name, size_t n)
{
	for (; env && *env; env++)
		if (!strncmp(*env, name, n) && (*env)[n] == '=')
			return *env + n + 1;
	return NULL;
}

/* The VM's environment with what the request changes in it. NULL: no memory. */
static char **merge_env(char *const *own, char *const *more)
{
	size_t n = 0, k = 0;
	char **env;

	while (own && own[n])
		n++;
	while (more && more[k])
		k++;
	env = calloc(n + k + 1, sizeof(*env));
	if (!env)
		return NULL;
	n = 0;
	for (char *const *p = own; p && *p; p++)
		if (!env_value(more, *p, strcspn(*p, "=")))
			env[n++] = *p;
	for (char *const *p = more; p && *p; p++)
		env[n++] = *p;
	return env;
}

/* @s->exec without a '/': the first executable of that name in PATH, or the name as it is. */
static void find_exec(struct spec *s)
{
	const char *path = env_value(s->envp, "PATH", 4);
	char *full;

	if (strchr(s->exec, '/'))
		return;
	path = path ? path : "/usr/sbin:/usr/bin:/sbin:/bin";
	full = malloc(strlen(path) + strlen(s->exec) + 3);
	while (full && *path) {
		size_t n = strcspn(path, ":");

		memcpy(full, path, n);
		full[n] = '/';
		strcpy(full + n + 1, s->exec);
		if (n && access(full, X_OK) == 0) {
			s->exec = full;
			return;
		}
		path += n + (path[n] != 0);
	}
	free(full);
}

static int read_all(int fd, void *buf, size_t len)
{
	char *at = buf;

	while (len) {
		ssize_t n = read(fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EPIPE;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

int agent_request(int fd, struct spec *ret)
{
	uint8_t head[4];
	char *text;
	size_t len;
	int r = read_all(fd, head, sizeof(head));

	if (r < 0)
		return r;
	len = wire_get32(head);
	if (len > WIRE_SPEC_MAX)
		return -E2BIG;
	text = malloc(len + 1);
	if (!text)
		return -ENOMEM;
	text[len] = 0;
	r = read_all(fd, text, len);
	if (!r)
		r = spec_parse(ret, text, len);
	if (!r && !ret->exec)
		r = -EINVAL;
	if (r < 0) {
		free(text);
		return r;
	}
	ret->envp = merge_env(base ? base->envp : NULL, ret->envp);
	if (!ret->envp)
		return -ENOMEM;
	if (!ret->cwd)
		ret->cwd = base ? base->cwd : NULL;
	find_exec(ret);
	return 0;
}

static void loop(int fd)
{
	unsigned running = 0;

	signal(SIGCHLD, SIG_DFL);
	for (;;) {
		struct vsock_addr peer = { 0 };
		socklen_t len = sizeof(peer);
		int conn = accept4(fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);
		pid_t pid;

		while (running && waitpid(-1, NULL, running < COMMANDS_MAX ? WNOHANG : 0) > 0)
			running--;
		if (conn < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM) && running)
			running -= waitpid(-1, NULL, 0) > 0;
		if (conn < 0)
			continue;
		pid = peer.family == AF_VSOCK && peer.cid == CID_HOST ? fork() : -1;
		if (pid == 0) {
			close(fd);
			serve(conn);
			_exit(0);
		}
		running += pid > 0;
		close(conn);
	}
}

int agent_start(char **words)
{
	struct vsock_addr a = { .family = AF_VSOCK, .cid = CID_ANY };
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0), ret = 0;
	pid_t pid;

	a.port = (uint32_t)strtoul(words[0], NULL, 10);
	if (fd < 0)
		return -errno;
	/* Listening before the VM's command starts: it may be waited for. */
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, BACKLOG) < 0)
		ret = -errno;
	pid = ret ? -1 : fork();
	if (pid == 0) {
		/* init's own are not ours to keep open, above all the command port. */
		for (int i = STDERR_FILENO + 1; i < OWN_FDS; i++)
			if (i != fd)
				close(i);
		setsid();
		prctl(PR_SET_NAME, "orrery-agent");
		loop(fd);
	}
	if (!ret && pid < 0)
		ret = -errno;
	close(fd);
	return ret;
}
