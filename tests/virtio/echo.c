// SPDX-License-Identifier: Apache-2.0
/*
 * echo.c - a device for tests: it returns what it is sent, keeps chains, and counts its calls
 */
#include "echo.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

void echo_answer(struct echo *e, struct vq *q, struct vq_chain *c)
{
	u8 buf[4096];
	u32 n = MIN(MIN(c->out_len, c->in_len), (u32)sizeof(buf));

	assert_int_equal(vq_chain_read(c, 0, buf, n), 0);
	assert_int_equal(vq_chain_write(c, 0, buf, n), 0);
	vq_push(q, c, n);
}

static void on_notify(void *dev, unsigned index)
{
	struct echo *e = dev;
	struct vq *q = vdev_queue(e->v, index);
	struct vq_chain *c;

	e->notified[index]++;
	if (e->deaf)
		return;
	while ((e->last_pop = vq_pop(q, &c)) > 0) {
		if (e->hold && e->n_held < ECHO_MAX_SIZE)
			e->held[e->n_held++] = c;
		else
			echo_answer(e, q, c);
	}
	vq_notify(q);
}

static int on_check(void *dev, u64 features)
{
	u64 both = BIT(ECHO_FEATURE) | BIT(ECHO_REFUSED);

	return (features & both) == both ? -EINVAL : 0;
}

static void on_start(void *dev)
{
	((struct echo *)dev)->started++;
}

static void on_reset(void *dev)
{
	((struct echo *)dev)->resets++;
}

static void on_stop(void *dev, unsigned q)
{
	((struct echo *)dev)->stops++;
}

static void on_free(void *dev)
{
	((struct echo *)dev)->freed++;
}

static void on_config(void *dev, u32 off, const void *data, u32 len)
{
	struct echo *e = dev;

	e->config_writes++;
	if (off == offsetof(struct echo_config, writable) && len == 2)
		memcpy(&e->config.writable, data, 2);
}

static const struct vdev_ops ops = {
	.name = "echo",
	.id = 42,
	.check = on_check,
	.start = on_start,
	.notify = on_notify,
	.queue_stop = on_stop,
	.config_write = on_config,
	.reset = on_reset,
	.free = on_free,
};

struct vdev *echo_new(struct echo *e, const struct vdev_env *env)
{
	static const u16 sizes[ECHO_QUEUES] = { ECHO_MAX_SIZE, 1024, 16 };
	struct vdev_cfg vc = { .ops = &ops,
			       .dev = e,
			       .env = env,
			       .features = BIT(ECHO_FEATURE) | BIT(ECHO_REFUSED),
			       .n_queues = ECHO_QUEUES,
			       .queue_size = sizes,
			       .req_size = 64,
			       .config = &e->config,
			       .config_len = sizeof(e->config),
			       .shm = { [1] = { .base = 0x123456789000, .len = 0x200000 } } };

	memset(e, 0, sizeof(*e));
	e->config = (struct echo_config){ .mac = { 2, 3, 4, 5, 6, 7 }, .big = 0x1122334455667788 };
	assert_int_equal(vdev_new(&vc, &e->v), 0);
	return e->v;
}
