// SPDX-License-Identifier: Apache-2.0
/*
 * init.c - process 1 of the guest
 *
 * How it works
 * Mounts, opens the command port and says HELLO as early as possible (the host knows then that
 * user space runs), loads the modules that the initramfs lists, runs the command, reports how it
 * ended, switches the machine off. Without a command it starts a shell on the console instead.
 *
 * As process 1 it never returns: whatever fails, it says so and switches off.
 *
 * `init --port FD --spec FILE` runs only the command's part, as an ordinary process on the host
 * over an inherited socket: so the real relay is tested without a guest. `init --agent FD` is the
 * agent's part for one connection.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/wire.h"

#define LAST_WORDS_MS 1000
#define LISTEN_GRACE_MS 2000 /* for what a shell on the console has started */
#define SHELL "/bin/sh"
#define BUSYBOX "/bin/busybox"

static struct port port = { .fd = -1 };

void say(const char *fmt, ...)
{
	char words[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(words, sizeof(words) - 1, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	if ((size_t)n > sizeof(words) - 2)
		n = sizeof(words) - 2;
	if (port.fd >= 0 && port_send(&port, WIRE_MESSAGE, words, (size_t)n) == 0)
		return;
	words[n] = '\n';
	(void)!write(2, "orrery init: ", 13);
	(void)!write(2, words, (size_t)n + 1);
	/* The kernel still has a way out where a process has none: a console without interrupts. */
	if (getpid() == 1) {
		int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
		char line[sizeof(words) + 24];

		n = snprintf(line, sizeof(line), "<3>orrery init: %s", words);
		if (fd >= 0) {
			(void)!write(fd, line, (size_t)n);
			close(fd);
		}
	}
}

static void hello(void)
{
	uint8_t data[WIRE_HELLO_LEN];

	memcpy(data, WIRE_MAGIC, 4);
	wire_put16(data + 4, WIRE_VERSION);
	wire_put16(data + 6, 0);
	port_send(&port, WIRE_HELLO, data, sizeof(data));
}

/* On the port where it all goes on. */
static void ready(unsigned window)
{
	uint8_t data[WIRE_READY_LEN];

	wire_put32(data, window);
	port_send(&port, WIRE_READY, data, sizeof(data));
}

static void report(const struct outcome *o)
{
	uint8_t data[WIRE_EXIT_LEN + sizeof(o->words)] = { 0 };
	size_t len = o->how == WIRE_NOT_STARTED ? strlen(o->words) : 0;

	data[0] = (uint8_t)o->how;
	wire_put32(data + 4, o->value);
	memcpy(data + WIRE_EXIT_LEN, o->words, len);
	port_send(&port, WIRE_EXIT, data, WIRE_EXIT_LEN + len);
	/* What we wrote is under way: not a terminal, which could be asked, so until it is closed. */
	if (port.fd >= 0 && tcdrain(port.fd) < 0 && getpid() == 1)
		poll(&(struct pollfd){ .fd = port.fd }, 1, LAST_WORDS_MS);
}

static int load_spec(const char *file, struct spec *s)
{
	char *text;
	size_t len;
	int ret = text_read(file, &text, &len);

	if (!ret)
		ret = spec_parse(s, text, len);
	if (ret)
		say("cannot use %s: %s", file, strerror(-ret));
	return ret;
}

static void run_command(const struct spec *s)
{
	struct outcome o = { 0 };

	relay_run(&port, s, &o);
	if (o.how == WIRE_NOT_STARTED && port.fd < 0)
		say("%s", o.words);
	if (getpid() == 1)
		setup_finish();
	report(&o);
}

void serve(int fd)
{
	struct outcome o = { 0 };
	struct spec s;
	int err;

	port.fd = fd;
	port.n_in = 0;
	hello();
	err = agent_request(fd, &s);
	if (!err) {
		ready(WIRE_WINDOW);
		run_command(&s);
		return;
	}
	outcome_fail(&o, -err, "cannot read what to run");
	report(&o);
}

/*
 * The device behind /dev/console, which cannot itself be a controlling terminal: the last name in
 * sysfs's list is the one that /dev/console means (Documentation/ABI/testing/sysfs-tty).
 */
static void console_name(const struct spec *s, char *dev, size_t size)
{
	char *names = NULL, *last;
	char text[64];
	ssize_t n = -1;
	int fd;

	if (s->console && access(s->console, F_OK) == 0) {
		snprintf(dev, size, "%s", s->console);
		return;
	}
	fd = open("/sys/class/tty/console/active", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	if (n > 0) {
		text[n] = 0;
		text[strcspn(text, "\n")] = 0;
		last = strrchr(text, ' ');
		names = last ? last + 1 : text;
	}
	snprintf(dev, size, "/dev/%s", names && *names ? names : "console");
}

static void console_child(const struct spec *s)
{
	static char *fallback_env[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
					"TERM=vt100", NULL };
	struct winsize w = { .ws_row = (unsigned short)s->rows, .ws_col = (unsigned short)s->cols };
	char **env = s->envp && s->envp[0] ? s->envp : fallback_env;
	char dev[80];
	int fd;

	console_name(s, dev, sizeof(dev));
	setsid();
	fd = open(dev, O_RDWR);
	if (fd < 0) {
		say("cannot open the console %s: %s", dev, strerror(errno));
		_exit(126);
	}
	ioctl(fd, TIOCSCTTY, 1);
	if (s->tty)
		ioctl(fd, TIOCSWINSZ, &w);
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
	if (s->cwd && chdir(s->cwd) < 0 && (setup_mkdirs(s->cwd) < 0 || chdir(s->cwd) < 0))
		(void)!chdir("/");
	if (s->exec) {
		execve(s->exec, s->argv, s->envp);
		say("cannot execute %s: %s", s->exec, strerror(errno));
		_exit(127);
	}
	execve(SHELL, (char *[]){ "-sh", NULL }, env);
	execve(BUSYBOX, (char *[]){ "sh", NULL }, env);
	say("there is no shell in this initramfs (%s, %s)", SHELL, BUSYBOX);
	_exit(127);
}

static volatile sig_atomic_t asked;

static void on_asked(int sig)
{
	asked = sig;
}

static int on_listened(void *opaque, unsigned type, const uint8_t *data, size_t len)
{
	uint32_t ms;

	(void)opaque;
	if (type != WIRE_SHUTDOWN || len != WIRE_SHUTDOWN_LEN)
		return -EPROTO;
	ms = wire_get32(data);
	/* All but process 1 and this one. A shell ends by the second; then process 1 goes on. */
	kill(-1, SIGTERM);
	kill(-1, SIGCONT);
	kill(-1, SIGHUP);
	poll(NULL, 0, ms < LISTEN_GRACE_MS ? (int)ms : LISTEN_GRACE_MS);
	kill(1, SIGUSR2);
	return 0;
}

/* A process of its own: process 1 waits for the shell, and a shell replaces whoever waits for it. */
int listen_start(char **words)
{
	struct port p;
	int ret = port_open(&p, words[0]);
	pid_t pid = ret ? 0 : fork();

	if (ret || pid) {
		if (!ret)
			close(p.fd);
		return ret ? ret : pid < 0 ? -errno : 0;
	}
	setsid();
	while (port_receive(&p, on_listened, NULL) == 0)
		;
	_exit(0);
}

/* A shell, or the command if there is no port for it, on the console. */
static void run_on_console(const struct spec *s)
{
	struct sigaction sa = { .sa_handler = on_asked }; /* no SA_RESTART: wait returns */
	pid_t pid, dead;

	/* What busybox's halt, poweroff and reboot send to process 1. */
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGUSR2, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	pid = fork();
	if (pid == 0)
		console_child(s);
	if (pid < 0)
		say("cannot start a shell: %s", strerror(errno));
	while (pid > 0 && !asked && (dead = wait(NULL)) != pid)
		if (dead < 0 && errno == ECHILD)
			break;
}

/* Test mode on the host. */
static int run_on_host(int argc, char **argv)
{
	struct spec s;

	if (argc == 3 && !strcmp(argv[1], "--agent")) {
		int fd = atoi(argv[2]);

		fcntl(fd, F_SETFD, FD_CLOEXEC);
		serve(fd);
		return 0;
	}
	if (argc != 5 || strcmp(argv[1], "--port") != 0 || strcmp(argv[3], "--spec") != 0) {
		say("usage: init --port FD --spec FILE, or init --agent FD; or as process 1, without "
		    "arguments");
		return 2;
	}
	port.fd = atoi(argv[2]);
	fcntl(port.fd, F_SETFD, FD_CLOEXEC);
	hello();
	ready(WIRE_WINDOW_TTY);
	if (load_spec(argv[4], &s) < 0 || !s.exec)
		return 1;
	run_command(&s);
	return 0;
}

int better_port(const struct spec *s, bool load, int *ret_fd)
{
	static struct port better;
	char dev[300];
	int ret;

	if (!s->vport)
		return -ENODEV;
	if (load)
		setup_modules(WIRE_LATER_FILE);
	ret = vport_find(s->vport, dev, sizeof(dev));
	if (!ret)
		ret = port_open(&better, dev);
	if (!ret)
		*ret_fd = better.fd;
	return ret;
}

/* The virtio port, if it is there already or there is no other. */
static bool change_port(const struct spec *s)
{
	int fd;

	if (better_port(s, port.fd < 0, &fd) < 0)
		return false;
	if (port.fd >= 0) {
		tcdrain(port.fd);
		close(port.fd);
		port.fd = fd;
	} else {
		port.fd = fd;
		hello();
	}
	return true;
}

static void connect_port(const struct spec *s, int err)
{
	bool virtio = change_port(s);

	if (!virtio && port.fd < 0) {
		/* One that a module drives. */
		err = port_open(&port, s->port);
		if (!err)
			hello();
	}
	if (port.fd >= 0)
		ready(virtio ? WIRE_WINDOW : WIRE_WINDOW_TTY);
	else
		say("cannot open the command port %s: %s", s->port, strerror(-err));
}

static void boot(void)
{
	struct spec s;
	int err = 0;

	setup_mounts();
	if (load_spec(WIRE_SPEC_FILE, &s) < 0)
		return;
	/* At once, so that the host knows how far we are. */
	if (s.port) {
		err = port_open(&port, s.port);
		if (!err)
			hello();
	}
	setup_modules(WIRE_MODULES_FILE);
	if (s.port)
		connect_port(&s, err);
	setup_identity(&s);
	agent_inherit(&s);
	setup_lines();
	if (!s.exec || !s.port)
		run_on_console(&s);
	else if (port.fd >= 0)
		run_command(&s);
}

int main(int argc, char **argv)
{
	if (getpid() != 1)
		return run_on_host(argc, argv);
	boot();
	sync();
	reboot(asked == SIGTERM ? RB_AUTOBOOT : RB_POWER_OFF);
	/* No way to switch off: halt rather than return, which would be a kernel panic. */
	reboot(RB_HALT_SYSTEM);
	for (;;)
		pause();
}
