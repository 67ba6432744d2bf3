/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue.h - the device's side of a split virtqueue (virtio 1.2, 2.7)
 *
 * A device sees chains: pieces of host memory that the driver made available, the device-readable
 * ones first. It pops a chain, keeps it as long as it likes, and pushes it back with the number of
 * bytes written. Everything here belongs to the VM's thread; a worker may use only the memory that
 * chain->out and chain->in describe.
 *
 *	while (vq_pop(q, &c) > 0) {
 *		... vq_chain_read(c, 0, &hdr, sizeof(hdr)) ... vq_chain_write(c, 0, ...) ...
 *		vq_push(q, c, written);
 *	}
 *	vq_notify(q);
 */
#ifndef ORR_VIRTIO_QUEUE_H
#define ORR_VIRTIO_QUEUE_H

#include "base/compiler.h"
#include "base/iov.h"
#include "mem/mem.h"

#define VQ_SIZE_MAX 1024u

struct vq;

/* Buffers of one request. Borrowed from the queue between vq_pop and vq_push/vq_drop/vq_unpop. */
struct vq_chain {
	struct iovec *out; /* device-readable; none is empty */
	struct iovec *in;  /* device-writable; none is empty */
	unsigned n_out, n_in;
	u32 out_len, in_len; /* bytes in each */
	void *req;	     /* vq_cfg.req_size bytes for the device's own use, zeroed by vq_pop */

	/* The queue's own. */
	struct vq *vq;
	struct vq_chain *next;
	gpa_t *gpa; /* of each piece, those of @out too */
	u32 gen;    /* of the queue when it was popped */
	u32 cap;    /* pieces that fit */
	u16 head;   /* descriptor index, the id in the used ring */
	u16 at;	    /* position in the available ring */
};

/* --- for devices ----------------------------------------------------------------------------- */

/*
 * Takes the next available chain. 1 and *ret; 0 if there is none, the queue is not ready or the
 * device is broken; or a negative errno after a driver's protocol error, which has broken the
 * device already. Loops may treat all but 1 alike. Before it returns 0 it asks the driver to
 * notify again (unless vq_notifications is off) and looks once more, so nothing is stranded.
 */
int vq_pop(struct vq *q, struct vq_chain **ret);

/*
 * Gives the chain back: the driver sees @written bytes, at the start of the device-writable part,
 * as written; more than in_len is cut. A chain popped before the queue was reset is only released.
 */
void vq_push(struct vq *q, struct vq_chain *c, u32 written);

/*
 * The same in two steps, for buffers that must appear together (VIRTIO_NET_F_MRG_RXBUF): entries
 * put are invisible until vq_publish.
 */
void vq_put(struct vq *q, struct vq_chain *c, u32 written);
void vq_publish(struct vq *q);

/* Gives the chain that was popped last back unused: the next vq_pop returns the same buffers. */
void vq_unpop(struct vq *q, struct vq_chain *c);
/* Releases a chain without telling the driver: its device is being reset. */
void vq_drop(struct vq *q, struct vq_chain *c);

/* Interrupts the driver if it wants to hear of what was pushed since the last call. */
void vq_notify(struct vq *q);

/*
 * Whether the driver is to notify when it adds buffers; on after reset. Off is a hint: a device
 * that polls or has buffers enough saves exits. Turning it on does not look at the ring: call
 * vq_pop or vq_available after it.
 */
void vq_notifications(struct vq *q, bool on);

/* How many chains are available now (0 when broken or not ready). Reads the driver's index. */
unsigned vq_available(struct vq *q);
bool vq_ready(const struct vq *q);
unsigned vq_size(const struct vq *q);	   /* entries, as the driver chose; 0 before */
unsigned vq_in_flight(const struct vq *q); /* popped and not yet pushed */
unsigned vq_index(const struct vq *q);	   /* which queue of its device */
/* Changes with every reset of the queue. */
u32 vq_generation(const struct vq *q);
/* Whether the chain's queue has been reset since it was popped. */
bool vq_chain_stale(const struct vq_chain *c);

/*
 * The guest address of piece @i of the device-writable part: for a balloon, to which buffers are
 * pages rather than bytes.
 */
static inline gpa_t vq_chain_in_gpa(const struct vq_chain *c, unsigned i)
{
	return c->gpa[c->n_out + i];
}

/* All or nothing: 0, or -EMSGSIZE if [@off, @off+@len) exceeds the device-readable part. */
int vq_chain_read(const struct vq_chain *c, size_t off, void *dst, size_t len) attr_nodiscard;
/* The same into the device-writable part. Only on the VM's thread: workers use iov_write(c->in). */
int vq_chain_write(struct vq_chain *c, size_t off, const void *src, size_t len) attr_nodiscard;

/* --- for the device core and its tests ------------------------------------------------------- */

struct vq_cfg {
	struct mem *mem;
	unsigned index;
	unsigned size_max; /* a power of two, 1..VQ_SIZE_MAX */
	size_t req_size;   /* bytes at vq_chain.req */
	/* The driver broke the rules: @why is static storage. The queue is unusable until reset. */
	void (*broken)(void *opaque, unsigned index, const char *why);
	/* The driver is to be interrupted for this queue. */
	void (*interrupt)(void *opaque, unsigned index);
	void *opaque;
};

/* Guest-visible; saved. */
struct vq_st {
	u64 desc, driver, device; /* guest addresses of descriptor table, available and used ring */
	u16 size;
	u8 ready, broken;
	u8 event_idx, indirect; /* negotiated */
	u8 notify;		/* the driver is asked to notify */
	u16 last_avail;		/* position of the next chain to pop */
	u16 used;		/* position behind the last entry put */
	u16 published;		/* what the driver was shown of @used */
	u16 signalled;		/* @published at the last decision about an interrupt */
	u16 in_flight;
};

int vq_new(const struct vq_cfg *cfg, struct vq **ret); /* 0, -EINVAL, -ENOMEM */
void vq_free(struct vq *q); /* also frees chains that were never given back */
/* Back to the state after power-on. Chains outstanding become stale. */
void vq_reset(struct vq *q);
struct vq_st *vq_state(struct vq *q);
unsigned vq_size_max(const struct vq *q);

/*
 * From now on @chains more are popped, and then vq_pop says that there are none. A driver on another
 * thread can add them as fast as a device takes them: whoever is called by it must come to an end.
 */
void vq_limit(struct vq *q, u32 chains);
/* As many as there are again. Whether one was refused meanwhile: there may be more, unannounced. */
bool vq_unlimit(struct vq *q);

/* The device is broken by another queue: nothing is popped or pushed until vq_reset. */
void vq_set_broken(struct vq *q);

/* Registers; ignored while ready. */
void vq_set_size(struct vq *q, u32 size);
enum vq_area { VQ_DESC, VQ_DRIVER, VQ_DEVICE };
void vq_set_addr(struct vq *q, enum vq_area area, bool high, u32 half);
/* Checks what was set and starts the queue; a bad setting breaks the device. 0 or -EINVAL. */
int vq_enable(struct vq *q, bool event_idx, bool indirect);

#endif
