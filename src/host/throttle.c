// SPDX-License-Identifier: Apache-2.0
/*
 * throttle.c - a token bucket: how long a request has to wait for its turn
 *
 * How it works
 * The level of a bucket that nothing is taken from is a straight line up to its brim, so the time
 * at which it will be full says all there is to say about it. Taking a token moves that time by the
 * time one takes to come in. The bucket runs dry where it would need longer than an empty one to
 * fill. One number, no clock, no rounding that adds up with the number of looks, and the same
 * answer however often one asks: what a count of tokens and a time of the last refill do not give.
 */
#include "host/throttle.h"

#include <errno.h>

#define NS_PER_S 1000000000ull
#define WAIT_MAX (1ull << 60) /* ns: 36 years */

/* The time in which @tokens come in. */
static u64 time_of(const struct throttle *t, u64 tokens)
{
	u128 ns = (u128)tokens * NS_PER_S / t->rate;

	return ns > WAIT_MAX ? WAIT_MAX : (u64)ns;
}

int throttle_check(struct throttle *t, const char *opt, const char *what, struct err *e)
{
	if (t->burst && !t->rate)
		return err_set(
			e, -EINVAL,
			"%s: %s_burst= needs %s=, the rate at which the burst is earned again", opt,
			what, what);
	if (t->rate > THROTTLE_MAX || t->burst > THROTTLE_MAX)
		return err_set(e, -EINVAL, "%s: %s is out of range", opt, what);
	if (t->burst && t->burst < t->rate)
		return err_set(e, -EINVAL,
			       "%s: %s_burst=%llu is less than %s=%llu: the burst is what may come "
			       "at once, and at least what comes in a second",
			       opt, what, (unsigned long long)t->burst, what,
			       (unsigned long long)t->rate);
	if (!t->burst)
		t->burst = t->rate;
	return 0;
}

u64 throttle_take(const struct throttle *t, u64 *full, u64 now, u64 cost)
{
	u64 dry, at;

	if (!t->rate)
		return now;
	dry = time_of(t, t->burst);
	at = MIN(MAX(*full, now) + time_of(t, cost), now + WAIT_MAX);
	*full = at;
	return at > now + dry ? at - dry : now;
}
