/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job.h - when a device's work is done, and when the guest sees it
 *
 * A job is the back end's part of a request: read a block, fill a buffer. A device submits it with
 * a latency and gets it back in @done, on the VM's thread, where it pushes the chain and notifies.
 *
 *	virtual clock	@work and @done run at guest time now + latency, on the VM's thread. Guest
 *			memory changes when the request completes, at an exact instruction; the
 *			latency comes from the device's stated model.
 *	real clock	@work runs on a worker thread at once, @done as soon as it is finished and
 *			the VM's thread comes by its gate. The latency is ignored: it is the host's.
 *
 * Devices cannot tell, and must not ask. A device that pushes nothing but jobs' chains from @done
 * is deterministic under the virtual clock if @work depends only on the request and on files that
 * nobody else changes.
 */
#ifndef ORR_VIRTIO_JOB_H
#define ORR_VIRTIO_JOB_H

#include "base/gate.h"
#include "base/gclock.h"
#include "virtio/vdev.h"

#define VJOB_WORKERS_MAX 64u

struct vjobs;

/* Embedded by the owner, in vq_chain.req for instance; zeroed but for @work and @done. */
struct vjob {
	/*
	 * May block. May run on a worker thread: it touches the chain's memory (c->out, c->in
	 * through base/iov.h) and its own request, nothing else of the VM. NULL: nothing to do.
	 */
	void (*work)(struct vjob *j);
	/* On the VM's thread. The job is the owner's again: it may be submitted anew or freed. */
	void (*done)(struct vjob *j);
	/* In @done: it was cut short by vjobs_abort. @work may have run, or not. */
	bool aborted;

	/* The scheduler's own. */
	struct vjobs *jobs;
	struct gtimer timer;
	struct vjob *next, *prev; /* of all that are under way */
	struct vjob *link;	  /* of those that wait for a worker, or for @done */
	u8 state;
};

/*
 * @workers: threads under the real clock, started when first needed; 0: @work runs where it is
 * submitted. @env is copied. 0 or -ENOMEM.
 */
int vjobs_new(const struct vdev_env *env, unsigned workers, struct vjobs **ret);
/* Aborts what is under way and joins the workers. NULL is legal. */
void vjobs_free(struct vjobs *s);

/*
 * Begins @j. @done may be called before this returns (real clock, no workers), never before under
 * the virtual clock. @latency: ns of guest time.
 */
void vjob_submit(struct vjobs *s, struct vjob *j, u64 latency);

/*
 * Ends the jobs that @match (NULL: all) selects, in order of submission: those not begun are taken
 * back, running ones waited for; @done is called with @aborted set. For reset and queue_stop.
 */
void vjobs_abort(struct vjobs *s, bool (*match)(const struct vjob *j, void *arg), void *arg);
/*
 * Waits until all of @work that has begun or is queued is finished; @done follows as usual. For a
 * pause of the device. Jobs of the virtual clock stay where they are: guest time stands still.
 */
void vjobs_settle(struct vjobs *s);
unsigned vjobs_under_way(const struct vjobs *s);

/*
 * From any thread: how long, in ns, the @work that has been under way for longest has taken so far,
 * of all devices whose gate is @g; 0: none is. The host's file system may not answer for ever. Whose
 * it is in @ret: "disk0", and whether a worker does it or the VM's own thread.
 */
u64 vjobs_longest(const struct gate *g, char ret_name[VDEV_NAME], bool *ret_worker);

/*
 * A latency model: a request takes @base_ns, and its bytes pass one after the other through a
 * channel of which each occupies @ps_per_byte.
 */
struct vpace {
	u32 base_ns;
	u32 ps_per_byte;
};

/*
 * The latency of a request of @bytes made at guest time @now. *busy is the channel's state, the
 * guest time until which it is occupied: part of the device's saved state, 0 at reset.
 */
u64 vpace_latency(const struct vpace *p, u64 *busy, u64 now, u64 bytes);

#endif
