// SPDX-License-Identifier: Apache-2.0
/*
 * claim.c - host CPUs that a program has, by plan and by lock
 *
 * How it works
 * What others hold is read from the kernel's list of locks, a plan is made around it, and the plan's
 * locks are taken without waiting. One that somebody took in between, or holds unseen (a process of
 * another container), is noted, everything is dropped, and the plan is made again. Each round learns of
 * one lock more, so the rounds come to an end. Locks are taken in one order by everybody, so of two
 * that want the same one gets all.
 *
 * There is no queue: who waits tries again ten times a second, and the first one that fits goes.
 */
#include "host/claim.h"

#include "base/hosttime.h"
#include "host/cpulock.h"
#include "host/flocks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define POLL_NS 100000000u
#define HOLDERS_MAX 64u
#define NAMED_MAX 4u /* processes that a message names */

struct claim {
	struct place place;
	int *fd; /* held locks */
	unsigned n, cap;
};

/* What others hold, as far as it is known. */
struct others {
	struct place_free free;
	u16 load[CPULIST_MAX];
	unsigned n_pids;
	pid_t pids[HOLDERS_MAX];
};

static void drop(struct claim *c)
{
	while (c->n)
		close(c->fd[--c->n]);
}

/* Takes a lock. 1; 0: others have it; or an error with message. */
static int take(struct claim *c, const char *dir, enum cpulock_kind kind, unsigned n,
		bool exclusive, struct err *e)
{
	int fd = cpulock_open(dir, kind, n, e);

	if (fd < 0)
		return fd;
	if (c->n == c->cap) {
		int *more = reallocarray(c->fd, c->cap + 64, sizeof(*more));

		if (!more) {
			close(fd);
			return err_set(e, -ENOMEM, "out of memory");
		}
		c->fd = more;
		c->cap += 64;
	}
	while (flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) < 0) {
		int r = errno;

		if (r == EINTR)
			continue;
		close(fd);
		return r == EWOULDBLOCK ? 0 : err_sys(e, -r, "cannot lock in %s", dir);
	}
	c->fd[c->n++] = fd;
	return 1;
}

/* --- what others hold ------------------------------------------------------------------------ */

static void note_pid(struct others *o, pid_t pid)
{
	for (unsigned i = 0; i < o->n_pids; i++)
		if (o->pids[i] == pid)
			return;
	if (o->n_pids < HOLDERS_MAX)
		o->pids[o->n_pids++] = pid;
}

static void note(struct others *o, enum cpulock_kind kind, unsigned n, const struct flock_holder *h)
{
	struct place_free *f = &o->free;

	note_pid(o, h->pid);
	if (kind == CPULOCK_LLC)
		cpulist_add(h->exclusive ? &f->barred : &f->shared, n);
	else if (h->exclusive)
		cpulist_add(&f->taken, n);
	else if (n < CPULIST_MAX)
		o->load[n]++;
}

/* Reads the directory and the kernel's list. */
static void look(const char *dir, const struct cpulist *allowed, struct others *o)
{
	struct flocks *locks = flocks_read("");
	struct flock_holder h[HOLDERS_MAX];
	DIR *d = opendir(dir);
	struct dirent *ent;

	memset(o, 0, sizeof(*o));
	o->free.cpus = *allowed;
	o->free.load = o->load;
	while (d && locks && (ent = readdir(d))) {
		enum cpulock_kind kind;
		unsigned number, n;
		int fd;

		if (!cpulock_name(ent->d_name, &kind, &number))
			continue;
		fd = openat(dirfd(d), ent->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		n = fd < 0 ? 0 : flocks_of(locks, fd, h, HOLDERS_MAX);
		for (unsigned i = 0; i < n; i++)
			if (!h[i].waits)
				note(o, kind, number, &h[i]);
		if (fd >= 0)
			close(fd);
	}
	if (d)
		closedir(d);
	flocks_free(locks);
}

/* "process 12 (orrery run), process 14 (...)" */
static void name_them(const struct others *o, char *ret, size_t size)
{
	size_t at = 0;

	if (!o->n_pids)
		snprintf(ret, size, "processes that cannot be seen from here");
	for (unsigned i = 0; i < o->n_pids && i < NAMED_MAX; i++) {
		char cmd[80];
		int n = snprintf(ret + at, size - at, "%sprocess %d (%s)", i ? ", " : "",
				 (int)o->pids[i], flocks_command(o->pids[i], cmd, sizeof(cmd)));

		at = MIN(at + (size_t)MAX(n, 0), size - 1);
	}
	if (o->n_pids > NAMED_MAX)
		snprintf(ret + at, size - at, " and %u more", o->n_pids - NAMED_MAX);
}

/* --- the claim ------------------------------------------------------------------------------- */

/* Takes what c->place wants. 1; 0: others have some of it, which @o now says; or an error. */
static int take_all(struct claim *c, const char *dir, struct others *o, struct err *e)
{
	const struct place *p = &c->place;
	struct cpulist llcs = p->llcs;
	int r = 1;

	if (p->service_llc >= 0)
		cpulist_add(&llcs, (unsigned)p->service_llc);
	cpulist_each(&llcs, llc)
	{
		bool own = p->mode == PLACE_LLCS && (int)llc != p->service_llc;

		r = take(c, dir, CPULOCK_LLC, llc, own, e);
		if (r == 0)
			cpulist_add(own && !cpulist_has(&o->free.shared, llc) ? &o->free.shared
									      : &o->free.barred,
				    llc);
		if (r <= 0)
			goto out;
	}
	cpulist_each(&p->cpus, cpu)
	{
		r = take(c, dir, CPULOCK_CPU, cpu, p->mode != PLACE_CAP, e);
		if (r == 0)
			cpulist_add(&o->free.taken, cpu);
		if (r <= 0)
			goto out;
	}
out:
	if (r <= 0)
		drop(c);
	return r;
}

/* One try, with as many plans as it takes. 0, -EBUSY (no message), or an error. */
static int try_once(const struct claim_cfg *cfg, const char *dir, const struct cpulist *allowed,
		    struct claim *c, struct others *o, struct err *e)
{
	look(dir, allowed, o);
	for (;;) {
		int r = place_plan(cfg->topo, &cfg->want, &o->free, NULL, &c->place);

		if (r < 0)
			return r == -ENOSPC ? -EBUSY : r;
		r = take_all(c, dir, o, e);
		if (r)
			return MIN(r, 0);
	}
}

static int still_taken(const struct claim_cfg *cfg, const char *who, struct err *e)
{
	if (cfg->wait_ns)
		return err_set(
			e, -EBUSY,
			"%s: after %g s the CPUs it needs are still taken by %s; `orrery locks` "
			"shows all",
			cfg->option, (double)cfg->wait_ns / 1e9, who);
	return err_set(
		e, -EBUSY,
		"%s: the CPUs it needs are taken by %s; wait for them with --perf-wait SEC, or "
		"see `orrery locks`",
		cfg->option, who);
}

static int wait_for(const struct claim_cfg *cfg, const char *dir, const struct cpulist *allowed,
		    struct claim *c, struct others *o, struct err *e)
{
	const struct timespec pause = { .tv_nsec = POLL_NS };
	u64 end = host_ns() + cfg->wait_ns;
	char who[512];
	bool said = false;

	for (;;) {
		int r = try_once(cfg, dir, allowed, c, o, e);

		if (r != -EBUSY)
			return r;
		name_them(o, who, sizeof(who));
		if (host_ns() >= end)
			return still_taken(cfg, who, e);
		if (!said && cfg->waits)
			cfg->waits(cfg->opaque, who);
		said = true;
		nanosleep(&pause, NULL);
	}
}

/* What is impossible even if nobody else were there is not waited for. */
static int possible(const struct claim_cfg *cfg, const struct cpulist *allowed, struct err *e)
{
	struct place_free alone = { .cpus = *allowed };
	struct place p;
	int r = place_plan(cfg->topo, &cfg->want, &alone, e, &p);

	if (r < 0)
		err_prefix(e, "%s cannot work on this host", cfg->option);
	return r;
}

int claim_new(const struct claim_cfg *cfg, struct err *e, struct claim **ret)
{
	char dir[CPULOCK_DIR_MAX];
	struct cpulist allowed;
	struct claim *c = calloc(1, sizeof(*c));
	struct others *o = calloc(1, sizeof(*o));
	int r = c && o ? 0 : err_set(e, -ENOMEM, "out of memory");

	if (r == 0 && cfg->allowed)
		allowed = *cfg->allowed;
	else if (r == 0 && (r = cpulist_allowed(&allowed)) < 0)
		err_sys(e, r, "%s: cannot learn which CPUs may be used", cfg->option);
	if (r == 0)
		r = possible(cfg, &allowed, e);
	if (r == 0)
		r = cpulock_dir(true, e, dir);
	if (r == 0)
		r = wait_for(cfg, dir, &allowed, c, o, e);
	free(o);
	if (r < 0)
		claim_free(c);
	else
		*ret = c;
	return r;
}

const struct place *claim_place(const struct claim *c)
{
	return &c->place;
}

void claim_free(struct claim *c)
{
	if (!c)
		return;
	drop(c);
	free(c->fd);
	free(c);
}
