/* SPDX-License-Identifier: Apache-2.0 */
/*
 * echo.h - a device for tests: it returns what it is sent, keeps chains, and counts its calls
 */
#ifndef ORR_TESTS_VIRTIO_ECHO_H
#define ORR_TESTS_VIRTIO_ECHO_H

#include "driver.h"

#define ECHO_QUEUES 3
#define ECHO_FEATURE 5 /* a bit that the device offers */
#define ECHO_REFUSED 6 /* offered, but refused together with ECHO_FEATURE */
#define ECHO_MAX_SIZE 256

struct echo_config {
	u8 mac[6];
	u16 writable;
	u64 big;
};

struct echo {
	struct vdev *v;
	struct echo_config config;
	bool hold; /* chains are kept instead of answered */
	struct vq_chain *held[ECHO_MAX_SIZE];
	unsigned n_held;
	unsigned notified[ECHO_QUEUES], started, resets, stops, config_writes, freed;
	int last_pop; /* what ended the last loop */
	bool deaf;    /* does not look at its queues */
};

/* @e is the caller's and outlives the device. */
struct vdev *echo_new(struct echo *e, const struct vdev_env *env);
/* Answers a chain: the readable bytes, cut to what fits. Does not notify. */
void echo_answer(struct echo *e, struct vq *q, struct vq_chain *c);

#endif
