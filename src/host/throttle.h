/* SPDX-License-Identifier: Apache-2.0 */
/*
 * throttle.h - a token bucket: how long a request has to wait for its turn
 *
 * The bucket holds at most @burst tokens, starts full and gains @rate tokens a second. A request
 * that finds fewer than it costs waits until they would be there; one that costs more than the
 * bucket holds waits for the rest too. None is ever refused, and none overtakes an earlier one.
 */
#ifndef ORR_HOST_THROTTLE_H
#define ORR_HOST_THROTTLE_H

#include "base/compiler.h"
#include "base/err.h"

struct throttle {
	u64 rate;  /* tokens a second; 0: no limit */
	u64 burst; /* tokens that the bucket holds; 0: @rate */
};

#define THROTTLE_MAX (1ull << 50) /* of rate and burst */

/*
 * Checks the numbers and fills in the default. @opt and @what are for the message, which names
 * @what_burst if that one is wrong. 0 or -EINVAL.
 */
int throttle_check(struct throttle *t, const char *opt, const char *what, struct err *e);

/*
 * Takes @cost tokens at time @now (ns, never decreasing) and returns the time at which they are
 * there: @now, or later. *full is the bucket's whole state: the time at which it will be full
 * again; 0 at first.
 */
u64 throttle_take(const struct throttle *t, u64 *full, u64 now, u64 cost);

#endif
