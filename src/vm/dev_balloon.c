// SPDX-License-Identifier: Apache-2.0
/*
 * dev_balloon.c - the option --balloon
 *
 * How it works
 * A target is what the guest is to keep, in bytes, as people think of it; the device wants to know
 * what it is to give back, in pages. Targets with a time take effect at that guest time, so a run
 * with them is exact.
 */
#include "vm/balloon.h"

#include "dev/virtio_balloon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/values.h"

#define OPT "--balloon"
#define TARGETS_MAX 64u
#define POLL_NS 1000000000ull /* between two looks at the guest's statistics */

struct target {
	u64 keep; /* bytes */
	u64 at;	  /* guest time */
	u32 pages;
};

struct balloon {
	struct target t[TARGETS_MAX];
	unsigned n, next;
	bool report;
	struct virtio_balloon *dev; /* the machine's */
	u64 all;		    /* bytes of guest RAM */
	struct gtimer timer;
};

static int add_target(struct balloon *b, char *piece, struct err *e)
{
	char *at = strchr(piece, '@');
	struct target *t = &b->t[b->n];
	int r;

	if (b->n == TARGETS_MAX)
		return err_set(e, -E2BIG, OPT ": more than %u targets", TARGETS_MAX);
	if (at)
		*at++ = 0;
	*t = (struct target){ 0 };
	r = value_size(OPT, piece, e, &t->keep);
	if (r == 0 && at && strcmp(at, "0") != 0)
		r = value_seconds(OPT, at, e, &t->at);
	if (r < 0)
		return r;
	if (b->n && t->at < b->t[b->n - 1].at)
		return err_set(e, -EINVAL, OPT ": %s@%s comes before the target before it", piece,
			       at ? at : "0");
	b->n++;
	return 0;
}

static int balloon_parse(const char *text, struct err *e, void **ret)
{
	struct balloon *b = calloc(1, sizeof(*b));
	char piece[80];
	const char *val;
	int r;

	if (!b)
		return err_set(e, -ENOMEM, "out of memory");
	b->report = true;
	r = *text ? 0 : err_set(e, -EINVAL, OPT ": it takes SIZE[@SECONDS], such as 512M@10");
	while (r == 0 && (r = value_piece(OPT, &text, piece, sizeof(piece), e, &val)) > 0) {
		r = 0;
		if (val)
			r = err_set(e, -EINVAL,
				    OPT " %s=%s: it takes SIZE[@SECONDS] and noreport, separated "
					"by commas",
				    piece, val);
		else if (!strcmp(piece, "noreport"))
			b->report = false;
		else
			r = add_target(b, piece, e);
		if (r < 0)
			break;
	}
	if (r < 0) {
		free(b);
		return r;
	}
	*ret = b;
	return 0;
}

static void arm(struct balloon *b)
{
	if (b->next < b->n)
		gtimer_arm(&b->timer, b->t[b->next].at);
}

static void on_timer(void *opaque)
{
	struct balloon *b = opaque;

	virtio_balloon_target(b->dev, b->t[b->next++].pages);
	arm(b);
}

static int balloon_create(void *dev, const struct vdev_env *env, struct err *e, struct vdev **ret)
{
	struct balloon *b = dev;
	u64 all = mem_size(env->mem);
	struct virtio_balloon_cfg bc = { .report = b->report, .poll_ns = POLL_NS };
	int r;

	b->all = all;
	b->next = 0; /* a machine after a reset begins anew */
	for (unsigned i = 0; i < b->n; i++) {
		if (b->t[i].keep > all)
			return err_set(e, -EINVAL,
				       OPT " %lluM: the guest has %llu MiB; a larger --mem gives "
					   "it more",
				       (unsigned long long)b->t[i].keep >> 20,
				       (unsigned long long)all >> 20);
		b->t[i].pages = (u32)MIN((all - b->t[i].keep) / BALLOON_PAGE, (u64)UINT32_MAX);
	}
	for (; b->next < b->n && !b->t[b->next].at; b->next++)
		bc.target = b->t[b->next].pages;
	r = virtio_balloon_new(env, &bc, &b->dev, ret);
	if (r < 0)
		return err_sys(e, r, "cannot create the balloon");
	gtimer_init(&b->timer, env->clk, on_timer, b);
	arm(b);
	return 0;
}

int vm_balloon_keep(const struct vm_devs *devs, u64 bytes, struct err *e)
{
	struct balloon *b = NULL;

	for (unsigned i = 0; devs && i < devs->n; i++)
		if (devs->dev[i].kind == &vm_dev_balloon)
			b = devs->dev[i].dev;
	if (!b || !b->dev)
		return err_set(e, -ENOTSUP, "the VM was started without --balloon");
	if (bytes > b->all)
		return err_set(e, -EINVAL, "the guest has %llu MiB: it cannot keep more",
			       (unsigned long long)b->all >> 20);
	virtio_balloon_target(b->dev, (u32)MIN((b->all - bytes) / BALLOON_PAGE, (u64)UINT32_MAX));
	return 0;
}

static void balloon_stats(void *dev, void (*line)(void *o, const char *name, u64 val), void *o)
{
	/* By tag (virtio 1.2, 5.5.6.4). */
	static const char *const names[] = {
		"balloon_swap_in",    "balloon_swap_out", "balloon_major_faults",
		"balloon_min_faults", "balloon_free",	  "balloon_total",
		"balloon_available",  "balloon_caches",	  "balloon_huge_allocs",
		"balloon_huge_fails",
	};
	struct virtio_balloon_info i;

	virtio_balloon_info(((struct balloon *)dev)->dev, &i);
	line(o, "balloon_target_pages", i.target);
	line(o, "balloon_pages", i.actual);
	line(o, "balloon_inflated", i.inflated);
	line(o, "balloon_deflated", i.deflated);
	line(o, "balloon_reported", i.reported);
	for (unsigned k = 0; k < ARRAY_LEN(names); k++)
		if (i.stat[k] != UINT64_MAX)
			line(o, names[k], i.stat[k]);
}

static const char *const modules[] = { "virtio_balloon", NULL };

const struct vm_dev_kind vm_dev_balloon = {
	.name = "balloon",
	.arg = "SIZE[@SEC],...",
	.help = "a memory balloon: the guest keeps SIZE, from second SEC of its time\n"
		"on; what it gives back, the host has again. noreport: it does not\n"
		"give back free pages by itself",
	.max = 1,
	.modules = modules,
	.parse = balloon_parse,
	.create = balloon_create,
	.stats = balloon_stats,
	.free = free, /* its timer ended with the machine's clock */
};
