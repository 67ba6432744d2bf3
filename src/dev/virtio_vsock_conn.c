// SPDX-License-Identifier: Apache-2.0
/*
 * virtio_vsock_conn.c - connections of the socket device
 *
 * How it works
 * A connection joins a descriptor of the host with a socket of the guest.
 *
 *	(host asks)  WANTED --REQUEST sent--> ASKED --RESPONSE--> OPEN
 *	(guest asks) ---------------------------------RESPONSE queued--> OPEN
 *	OPEN --RST, or SHUTDOWN of both directions, from the guest--> FLUSHED --> freed
 *	any --our RST queued--> DYING --RST sent--> freed
 *
 * A connection that has something for the guest is in the ready list; the device takes one packet
 * of each in turn. One that only waits (for data, credit, room on the host) is in no list and costs
 * nothing: its descriptor is watched for exactly what it waits for.
 *
 * Credit, 5.10.6.3. Towards us the guest may have VSOCK_BUF bytes under way that the host's end has
 * not taken. They are counted as forwarded when write(2) took them; what it does not take is kept
 * in a ring of that size, so nothing is dropped and nothing grows. The guest is told when it knows
 * of less than half of the room and there is more: it can then never wait for news that does not
 * come, and needs not to ask. Towards the guest, a count of forwarded bytes that runs backwards, or
 * past what was sent, is ignored: it would make the difference wrap to nearly 4 GiB.
 *
 * The end. The host's read returning 0 means that it will send no more; EPOLLHUP that it is gone
 * altogether. A write that fails with EPIPE means that it takes no more: what the guest still sends
 * is dropped, and counted as forwarded, since an RST would cut off what it has not read yet.
 * Bytes that the guest was promised to have delivered are delivered, even if it is over.
 */
#include "dev/virtio_vsock.h"

#include "dev/virtio_vsock_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECES 64u

/* --- the table -------------------------------------------------------------------------------- */

static struct vsock_conn **bucket_of(struct virtio_vsock *d, u32 host_port, u32 guest_port)
{
	u64 h = (((u64)host_port << 32) | guest_port) * 0x9e3779b97f4a7c15ull;

	return &d->bucket[(h >> 40) & (VSOCK_BUCKETS - 1)];
}

struct vsock_conn *vsock_find(struct virtio_vsock *d, u32 host_port, u32 guest_port)
{
	struct vsock_conn *c = *bucket_of(d, host_port, guest_port);

	while (c && (c->host_port != host_port || c->guest_port != guest_port))
		c = c->same;
	return c;
}

static void unhash(struct vsock_conn *c)
{
	struct vsock_conn **at = bucket_of(c->d, c->host_port, c->guest_port);

	if (!c->hashed)
		return;
	while (*at != c)
		at = &(*at)->same;
	*at = c->same;
	c->hashed = false;
}

bool vsock_conn_has_work(const struct vsock_conn *c)
{
	if (c->state == VSOCK_FLUSHED)
		return false;
	if (c->pending)
		return true;
	return c->state == VSOCK_OPEN && c->readable && vsock_conn_credit(c);
}

void vsock_conn_unready(struct vsock_conn *c)
{
	if (c->is_ready)
		TAILQ_REMOVE(&c->d->ready, c, ready);
	c->is_ready = false;
}

/* Data waits for the guest to make room: it is asked, once, in case its news were lost on us. */
static void note_stall(struct vsock_conn *c)
{
	if (c->state != VSOCK_OPEN || !c->readable || vsock_conn_credit(c) || c->asked)
		return;
	c->asked = true;
	c->pending |= VSOCK_ASK_CREDIT;
	c->d->stat.stalled++;
}

void vsock_conn_ready(struct vsock_conn *c)
{
	note_stall(c);
	if (c->is_ready || !vsock_conn_has_work(c))
		return;
	TAILQ_INSERT_TAIL(&c->d->ready, c, ready);
	c->is_ready = true;
}

/* --- waiting for the host --------------------------------------------------------------------- */

static bool wants_input(const struct vsock_conn *c)
{
	return c->state == VSOCK_OPEN && !c->readable && !c->eof &&
	       !(c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV);
}

void vsock_conn_watch(struct vsock_conn *c)
{
	u32 events = 0;

	if (c->fd < 0 || c->d->paused)
		return;
	if (wants_input(c))
		events |= EPOLLIN;
	if (c->buf_len)
		events |= EPOLLOUT;
	/* Cannot be masked, and once known would be reported for ever. */
	if (!c->hung_up)
		events |= EPOLLHUP;
	gate_watch_events(c->d->gate, &c->watch, events);
}

static void close_fd(struct vsock_conn *c)
{
	if (c->fd < 0)
		return;
	gate_unwatch(c->d->gate, &c->watch);
	close(c->fd);
	c->fd = -1;
}

/* The host's end will not send, or not receive: the guest is told behind all data. */
static void host_shuts(struct vsock_conn *c, u8 flags)
{
	if (c->state != VSOCK_OPEN || (c->host_shut & flags) == flags)
		return;
	c->host_shut |= flags;
	c->pending |= VSOCK_SEND_SHUTDOWN;
}

static void set_deaf(struct vsock_conn *c)
{
	c->deaf = true;
	c->forwarded += c->buf_len;
	c->buf_len = 0;
	host_shuts(c, VIRTIO_VSOCK_SHUTDOWN_RCV);
}

static void set_eof(struct vsock_conn *c)
{
	c->eof = true;
	c->readable = false;
	host_shuts(c, VIRTIO_VSOCK_SHUTDOWN_SEND);
	if (!c->hung_up)
		return;
	if (!c->deaf)
		set_deaf(c);
	close_fd(c);
}

/* EPOLLHUP came. What can still be read is read, if the guest wants it. */
static void host_gone(struct vsock_conn *c)
{
	if (!c->deaf)
		set_deaf(c);
	if (c->eof || (c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV))
		set_eof(c);
}

/* The guest is to know how much room there is, if it may be waiting to hear that. */
static void credit_note(struct vsock_conn *c)
{
	if (c->state == VSOCK_OPEN && c->forwarded != c->told &&
	    VSOCK_BUF - (c->received - c->told) < VSOCK_BUF / 2)
		c->pending |= VSOCK_SEND_CREDIT;
}

static void flush(struct vsock_conn *c)
{
	while (c->buf_len && !c->deaf) {
		u32 run = MIN(c->buf_len, VSOCK_BUF - c->buf_at);
		ssize_t n = send(c->fd, c->buf + c->buf_at, run, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			set_deaf(c);
			break;
		}
		c->buf_at = (c->buf_at + (u32)n) % VSOCK_BUF;
		c->buf_len -= (u32)n;
		c->forwarded += (u32)n;
	}
	credit_note(c);
	if (!c->buf_len && c->fd >= 0 && (c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND))
		shutdown(c->fd, SHUT_WR); /* fails if the host's end has closed: as well */
}

static void on_event(void *opaque, u32 events)
{
	struct vsock_conn *c = opaque;
	struct virtio_vsock *d = c->d;

	if (d->paused) {
		gate_watch_events(d->gate, &c->watch, 0);
		return;
	}
	if (events & (EPOLLHUP | EPOLLERR))
		c->hung_up = true;
	if (c->hung_up && c->state < VSOCK_OPEN) {
		/* Whoever asked has gone. What they wrote before is not worth a connection. */
		vsock_conn_answer(c, -ECONNRESET);
		if (c->state == VSOCK_WANTED)
			vsock_conn_free(c);
		else
			vsock_conn_abort(c);
		vsock_service(d);
		return;
	}
	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && wants_input(c))
		c->readable = true;
	if (c->buf_len)
		flush(c);
	if (c->hung_up)
		host_gone(c);
	if (c->state == VSOCK_FLUSHED && !c->buf_len) {
		vsock_conn_free(c);
		return;
	}
	vsock_conn_watch(c);
	vsock_conn_ready(c);
	vsock_service(d);
}

/* --- beginning and end ------------------------------------------------------------------------ */

int vsock_conn_new(struct virtio_vsock *d, u32 host_port, u32 guest_port, int fd,
		   enum vsock_state state, struct vsock_conn **ret)
{
	struct vsock_conn *c = NULL, **at = bucket_of(d, host_port, guest_port);
	int flags = fcntl(fd, F_GETFL), r = 0;

	if (!d->gate)
		r = -ENOTSUP;
	else if (d->stat.conns >= VSOCK_CONNS_MAX)
		r = -EMFILE;
	else if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		r = -errno;
	else if (!(c = calloc(1, sizeof(*c))))
		r = -ENOMEM;
	if (r == 0) {
		*c = (struct vsock_conn){ .d = d,
					  .host_port = host_port,
					  .guest_port = guest_port,
					  .state = state,
					  .fd = fd,
					  .watch = { .fn = on_event, .opaque = c } };
		r = gate_watch(d->gate, &c->watch, fd, EPOLLHUP);
	}
	if (r < 0) {
		free(c);
		close(fd);
		return r;
	}
	c->same = *at;
	*at = c;
	c->hashed = true;
	TAILQ_INSERT_TAIL(&d->conns, c, all);
	d->stat.conns++;
	vsock_conn_watch(c);
	*ret = c;
	return 0;
}

void vsock_conn_answer(struct vsock_conn *c, int r)
{
	struct vsock_call *call = c->call;

	c->call = NULL;
	if (!call)
		return;
	call->conn = NULL;
	if (call->answered)
		call->answered(call, r);
}

void vsock_conn_free(struct vsock_conn *c)
{
	vsock_conn_answer(c, -ECONNRESET);
	vsock_conn_unready(c);
	unhash(c);
	close_fd(c);
	TAILQ_REMOVE(&c->d->conns, c, all);
	c->d->stat.conns--;
	free(c->buf);
	free(c);
}

void vsock_conn_finish(struct vsock_conn *c)
{
	vsock_conn_unready(c);
	unhash(c);
	c->state = VSOCK_FLUSHED;
	c->pending = 0;
	c->readable = false;
	if (!c->buf_len || c->fd < 0) {
		vsock_conn_free(c);
		return;
	}
	shutdown(c->fd, SHUT_RD); /* nobody reads what the host still writes */
	vsock_conn_watch(c);
}

void vsock_conn_abort(struct vsock_conn *c)
{
	vsock_conn_answer(c, -ECONNRESET);
	close_fd(c);
	c->buf_len = 0;
	c->state = VSOCK_DYING;
	c->pending = VSOCK_SEND_RST;
	vsock_conn_ready(c);
}

/* --- credit ----------------------------------------------------------------------------------- */

u32 vsock_conn_credit(const struct vsock_conn *c)
{
	u32 flying = c->sent - c->peer_fwd;

	return flying < c->peer_alloc ? c->peer_alloc - flying : 0;
}

void vsock_conn_credited(struct vsock_conn *c, u32 alloc, u32 fwd)
{
	c->peer_alloc = alloc;
	if (fwd - c->peer_fwd <= c->sent - c->peer_fwd)
		c->peer_fwd = fwd;
	if (vsock_conn_credit(c))
		c->asked = false;
}

void vsock_conn_tell(struct vsock_conn *c, struct virtio_vsock_hdr *h)
{
	h->buf_alloc = VSOCK_BUF;
	h->fwd_cnt = c->forwarded;
	c->told = c->forwarded;
	c->pending &= (u8)~VSOCK_SEND_CREDIT;
}

u32 vsock_conn_room(const struct vsock_conn *c)
{
	return VSOCK_BUF - (c->received - c->forwarded);
}

/* --- data ------------------------------------------------------------------------------------- */

static void keep(struct vsock_conn *c, const struct iovec *iov, unsigned n, size_t off, u32 len)
{
	if (!c->buf)
		c->buf = malloc(VSOCK_BUF);
	if (!c->buf) {
		vsock_conn_abort(c);
		return;
	}
	while (len) {
		u32 at = (c->buf_at + c->buf_len) % VSOCK_BUF;
		u32 run = MIN(len, VSOCK_BUF - at);

		iov_read(iov, n, off, c->buf + at, run);
		c->buf_len += run;
		off += run;
		len -= run;
	}
}

/* Writes what the host takes now. How much that was. */
static u32 write_through(struct vsock_conn *c, const struct iovec *iov, unsigned n, size_t off,
			 u32 len)
{
	struct iovec piece[PIECES];
	u32 done = 0;

	while (done < len && !c->deaf) {
		struct msghdr m = { .msg_iov = piece };
		ssize_t k;

		m.msg_iovlen = iov_slice(iov, n, off + done, len - done, piece, PIECES, NULL);
		k = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0 && errno == EAGAIN)
			break;
		if (k < 0)
			set_deaf(c);
		else
			done += (u32)k;
	}
	return done;
}

void vsock_conn_deliver(struct vsock_conn *c, const struct iovec *iov, unsigned n, size_t off,
			u32 len)
{
	u32 done = 0;

	c->received += len;
	if (!c->buf_len && !c->deaf)
		done = write_through(c, iov, n, off, len);
	c->forwarded += c->deaf ? len : done;
	if (!c->deaf && done < len)
		keep(c, iov, n, off + done, len - done);
	credit_note(c);
	vsock_conn_watch(c);
	vsock_conn_ready(c);
}

u32 vsock_conn_read(struct vsock_conn *c, const struct iovec *iov, unsigned n, size_t off, u32 len)
{
	struct iovec piece[PIECES];
	size_t want;
	unsigned k = iov_slice(iov, n, off, len, piece, PIECES, &want);
	ssize_t got;

	do
		got = readv(c->fd, piece, (int)k);
	while (got < 0 && errno == EINTR);
	if (got > 0) {
		/* A short read has emptied it, unless more came since: then epoll says so. */
		c->readable = (size_t)got == want;
		c->sent += (u32)got;
	} else if (got < 0 && errno == EAGAIN) {
		c->readable = false;
	} else {
		set_eof(c);
	}
	vsock_conn_watch(c);
	return got > 0 ? (u32)got : 0;
}

void vsock_conn_shut(struct vsock_conn *c, u32 flags)
{
	c->guest_shut |= (u8)(flags & (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND));
	if (c->fd < 0)
		return;
	if (c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV) {
		c->readable = false;
		shutdown(c->fd, SHUT_RD);
	}
	flush(c); /* with nothing to flush it closes our sending side */
	if (c->hung_up)
		host_gone(c);
	vsock_conn_watch(c);
	vsock_conn_ready(c);
}
