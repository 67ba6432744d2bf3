// SPDX-License-Identifier: Apache-2.0
/*
 * virtio_console.c - console device (virtio 1.2, 5.3): one console, or several named ports
 *
 * How it works
 * A device is one of two things. A *console* has two queues and no MULTIPORT; its size is in the
 * configuration space, and a change is told by a configuration interrupt. (With MULTIPORT the size
 * would travel in a control message whose two fields Linux and the specification had in different
 * order for years: no device could please both.) *Ports* are byte streams with names, two queues
 * each, and a control queue each way, by which the driver learns of them:
 *
 *	driver DEVICE_READY -> device PORT_ADD for each -> driver PORT_READY -> device PORT_NAME,
 *	PORT_OPEN -> driver PORT_OPEN 1 and 0 as programs of the guest come and go
 *
 * Control messages for the driver are not queued but remembered, a bit each: so they need no bound
 * and a driver without control buffers costs nothing. Messages from it that make no sense are
 * ignored, which is what 5.3.6.3 leaves to a device that must go on.
 *
 * Output: one chain of a port at a time is taken, its time passes, then the bytes are handed on
 * and the buffer is returned. A back end that waits thus holds the guest's buffers, and what the
 * guest wants to write fills its queue and then blocks it. Nothing is copied or queued here.
 * That a buffer is back is told TELL_NS later, for all that came back meanwhile: a tty sends 32
 * bytes a buffer, and an interrupt for each would take longer than the sending. So would a write(2)
 * of the back end, which is told at the same time.
 * Input: bytes are written to the guest's buffers when the back end gives them, never before a
 * program has the port open. A back end with more than fits is told when buffers come.
 */
#include "dev/virtio_console.h"

#include "virtio/job.h"

#include <errno.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

/*
 * A buffer's way through a pipe: about a gigabyte a second. A tty gives a few bytes at a time and
 * waits for each without sleeping, so the base counts.
 */
static const struct vpace pace = { .base_ns = 500, .ps_per_byte = 1000 };

#define TELL_NS 50000u
#define CONTROL_RX 2u /* queues of a device with MULTIPORT (5.3.2) */
#define CONTROL_TX 3u
#define CONTROL_LEN 8u
/* More in one buffer than any driver writes; a chain may name all of RAM a thousand times. */
#define OUT_MAX (16u << 20)

/* Messages that a port owes to the driver, in the order in which they are sent. */
enum owed {
	OWE_ADD = 1,
	OWE_NAME = 2,
	OWE_OPEN = 4,
};

struct port_st {
	struct virtio_console_config config; /* port 0's is the device's */
	u64 busy;			     /* of the output's channel */
	u64 tell_at; /* guest time at which returned output buffers are told of; 0: none */
	u8 owed;
	u8 added; /* the driver said it is ready for it */
	u8 guest; /* a program of the guest has it open */
	u8 host;  /* so has the host */
};

struct port {
	struct virtio_console *c;
	unsigned index;
	const char *name; /* NULL: the console */
	struct port_st st;
	/* The chain whose time passes, or NULL; and whether tx_begin is on the stack. */
	struct vq_chain *chain;
	struct vjob job;
	struct gtimer tell;
	bool beginning;
};

struct virtio_console {
	struct vdev *v;
	struct virtio_console_cfg cfg;
	struct vjobs *jobs;
	unsigned n_ports;
	struct port port[VIRTIO_CONSOLE_PORTS_MAX];
	struct virtio_console_stats stat;
};

static const struct field_desc fields[] = {
	DEV_FIELD(struct port_st, config),  DEV_FIELD(struct port_st, busy),
	DEV_FIELD(struct port_st, tell_at), DEV_FIELD(struct port_st, owed),
	DEV_FIELD(struct port_st, added),   DEV_FIELD(struct port_st, guest),
	DEV_FIELD(struct port_st, host),    DEV_FIELDS_END,
};

static bool multiport(const struct virtio_console *c)
{
	return c->cfg.ports != NULL;
}

/* Queues of port @i (5.3.2): the control queues lie behind those of port 0. */
static unsigned rx_queue(unsigned i)
{
	return i ? 2 * i + 2 : 0;
}

static struct port *port_of(struct virtio_console *c, unsigned queue)
{
	unsigned i = queue < 2 ? 0 : queue / 2 - 1;

	return i < c->n_ports ? &c->port[i] : NULL;
}

static bool is_open(const struct port *p)
{
	return multiport(p->c) ? p->st.guest : vdev_started(p->c->v);
}

/* --- output ----------------------------------------------------------------------------------- */

static void tx_begin(struct port *p);

static void tx_over(struct port *p)
{
	const struct virtio_console_cfg *cfg = &p->c->cfg;

	if (cfg->ops->tx_over)
		cfg->ops->tx_over(cfg->opaque, p->index);
}

static void on_tell(void *opaque)
{
	struct port *p = opaque;

	p->st.tell_at = 0;
	tx_over(p);
	vq_notify(vdev_queue(p->c->v, rx_queue(p->index) + 1));
}

static void tx_done(struct vjob *j)
{
	struct port *p = container_of(j, struct port, job);
	struct virtio_console *c = p->c;
	struct vq_chain *ch = p->chain;
	struct vq *q = ch->vq;

	p->chain = NULL;
	if (j->aborted) {
		vq_drop(q, ch);
		return;
	}
	c->stat.tx += ch->out_len;
	for (unsigned i = 0; i < ch->n_out; i++)
		c->cfg.ops->tx(c->cfg.opaque, p->index, ch->out[i].iov_base, ch->out[i].iov_len);
	vq_push(q, ch, 0);
	if (!p->st.tell_at) {
		p->st.tell_at = gclock_now(vdev_env(c->v)->clk) + TELL_NS;
		gtimer_arm(&p->tell, p->st.tell_at);
	}
	if (!p->beginning)
		tx_begin(p);
}

static void tx_begin(struct port *p)
{
	struct virtio_console *c = p->c;
	struct vq *q = vdev_queue(c->v, rx_queue(p->index) + 1);

	p->beginning = true;
	/* Without the virtual clock a job is done when submitted. */
	while (!p->chain && vq_pop(q, &p->chain) > 0) {
		u64 now = gclock_now(vdev_env(c->v)->clk);

		if (p->chain->out_len > OUT_MAX) {
			vq_drop(q, p->chain);
			p->chain = NULL;
			vdev_break(c->v, "more than 16 MiB of output in one buffer");
			break;
		}

		p->job = (struct vjob){ .done = tx_done };
		vjob_submit(c->jobs, &p->job,
			    vpace_latency(&pace, &p->st.busy, now, p->chain->out_len));
	}
	p->beginning = false;
}

/* --- input ------------------------------------------------------------------------------------ */

size_t virtio_console_rx(struct virtio_console *c, unsigned port, const u8 *bytes, size_t n)
{
	struct port *p = &c->port[port];
	struct vq *q = vdev_queue(c->v, rx_queue(port));
	struct vq_chain *ch;
	size_t done = 0;

	BUG_IF(port >= c->n_ports);
	if (!is_open(p) || !p->st.host)
		return 0;
	/* A chain without room takes nothing: bounded by what a queue can hold. */
	for (unsigned i = 0; done < n && i < VQ_SIZE_MAX && vq_pop(q, &ch) > 0; i++) {
		size_t k = MIN((size_t)ch->in_len, n - done);

		if (vq_chain_write(ch, 0, bytes + done, k) < 0)
			k = 0;
		vq_push(q, ch, (u32)k);
		done += k;
	}
	vq_notify(q);
	c->stat.rx += done;
	return done;
}

bool virtio_console_open(const struct virtio_console *c, unsigned port)
{
	BUG_IF(port >= c->n_ports);
	return is_open(&c->port[port]);
}

/* --- control messages (5.3.6.2) --------------------------------------------------------------- */

/* Sends one message; false: there is no buffer now, or no device any more. */
static bool send_control(struct virtio_console *c, const struct port *p, u16 event, u16 value,
			 const char *name)
{
	u8 msg[CONTROL_LEN + VIRTIO_CONSOLE_NAME_MAX] = { 0 };
	struct virtio_console_control head = { .id = p->index, .event = event, .value = value };
	struct vq *q = vdev_queue(c->v, CONTROL_RX);
	size_t len = sizeof(head);
	struct vq_chain *ch;

	_Static_assert(sizeof(head) == CONTROL_LEN, "5.3.6.2");
	memcpy(msg, &head, sizeof(head));
	if (name) {
		memcpy(msg + len, name, strlen(name));
		len += strlen(name);
	}
	if (vq_pop(q, &ch) <= 0)
		return false;
	if (vq_chain_write(ch, 0, msg, len) < 0) {
		vq_drop(q, ch);
		vdev_break(c->v, "a control buffer is too small for the message");
		return false;
	}
	vq_push(q, ch, (u32)len);
	return true;
}

static bool send_owed(struct port *p)
{
	struct virtio_console *c = p->c;
	bool ok = true;

	if (ok && (p->st.owed & OWE_ADD)) {
		ok = send_control(c, p, VIRTIO_CONSOLE_PORT_ADD, 1, NULL);
		p->st.owed &= (u8) ~(ok ? OWE_ADD : 0);
	}
	if (ok && p->st.added && (p->st.owed & OWE_NAME)) {
		ok = send_control(c, p, VIRTIO_CONSOLE_PORT_NAME, 1, p->name);
		p->st.owed &= (u8) ~(ok ? OWE_NAME : 0);
	}
	if (ok && p->st.added && (p->st.owed & OWE_OPEN)) {
		ok = send_control(c, p, VIRTIO_CONSOLE_PORT_OPEN, p->st.host, NULL);
		p->st.owed &= (u8) ~(ok ? OWE_OPEN : 0);
	}
	return ok;
}

static void send_all_owed(struct virtio_console *c)
{
	bool ok = multiport(c) && vdev_started(c->v);

	for (unsigned i = 0; ok && i < c->n_ports; i++)
		ok = send_owed(&c->port[i]);
	if (multiport(c) && vdev_started(c->v))
		vq_notify(vdev_queue(c->v, CONTROL_RX));
}

static void port_event(struct port *p, u16 event, u16 value)
{
	struct virtio_console *c = p->c;

	switch (event) {
	case VIRTIO_CONSOLE_PORT_READY:
		p->st.added = value != 0;
		p->st.owed |= value ? OWE_NAME | OWE_OPEN : 0;
		break;
	case VIRTIO_CONSOLE_PORT_OPEN:
		p->st.guest = value != 0;
		if (value)
			c->cfg.ops->rx_space(c->cfg.opaque, p->index);
		break;
	default:
		break;
	}
}

static void on_control(struct virtio_console *c)
{
	struct vq *q = vdev_queue(c->v, CONTROL_TX);
	struct virtio_console_control m;
	struct vq_chain *ch;

	while (vq_pop(q, &ch) > 0) {
		bool whole = vq_chain_read(ch, 0, &m, sizeof(m)) == 0;

		vq_push(q, ch, 0);
		if (!whole)
			continue;
		if (m.event == VIRTIO_CONSOLE_DEVICE_READY) {
			for (unsigned i = 0; i < c->n_ports; i++)
				c->port[i].st.owed |= m.value ? OWE_ADD : 0;
		} else if (m.id < c->n_ports) {
			port_event(&c->port[m.id], m.event, m.value);
		}
	}
	vq_notify(q);
	send_all_owed(c);
}

void virtio_console_connect(struct virtio_console *c, unsigned port, bool there)
{
	struct port *p = &c->port[port];

	BUG_IF(port >= c->n_ports);
	if (p->st.host == there)
		return;
	p->st.host = there;
	p->st.owed |= OWE_OPEN;
	send_all_owed(c);
}

void virtio_console_resize(struct virtio_console *c, u16 rows, u16 cols)
{
	struct virtio_console_config *now = &c->port[0].st.config;

	if (now->rows == rows && now->cols == cols)
		return;
	c->cfg.rows = now->rows = rows;
	c->cfg.cols = now->cols = cols;
	vdev_config_changed(c->v);
}

/* --- device ----------------------------------------------------------------------------------- */

static void on_notify(void *dev, unsigned queue)
{
	struct virtio_console *c = dev;
	struct port *p;

	if (multiport(c) && queue == CONTROL_RX) {
		send_all_owed(c);
		return;
	}
	if (multiport(c) && queue == CONTROL_TX) {
		on_control(c);
		return;
	}
	p = port_of(c, queue);
	if (!p)
		return;
	if (queue & 1)
		tx_begin(p);
	else if (is_open(p))
		c->cfg.ops->rx_space(c->cfg.opaque, p->index);
}

static void on_start(void *dev)
{
	struct virtio_console *c = dev;

	if (!multiport(c))
		c->cfg.ops->rx_space(c->cfg.opaque, 0);
}

/* Emergency output (5.3.4): a character, before there are queues. */
static void on_config_write(void *dev, u32 off, const void *data, u32 len)
{
	struct virtio_console *c = dev;
	u8 byte;

	if (off != offsetof(struct virtio_console_config, emerg_wr) || !len)
		return;
	memcpy(&byte, data, 1);
	c->stat.tx++;
	c->cfg.ops->tx(c->cfg.opaque, 0, &byte, 1);
	tx_over(&c->port[0]);
}

static bool of_port(const struct vjob *j, void *arg)
{
	return j == &((struct port *)arg)->job;
}

static void on_queue_stop(void *dev, unsigned queue)
{
	struct virtio_console *c = dev;
	struct port *p = multiport(c) && (queue == CONTROL_RX || queue == CONTROL_TX)
				 ? NULL
				 : port_of(c, queue);

	if (p && (queue & 1))
		vjobs_abort(c->jobs, of_port, p);
}

static void set_initial(struct virtio_console *c)
{
	for (unsigned i = 0; i < c->n_ports; i++) {
		u8 host = c->port[i].st.host;

		if (c->port[i].st.tell_at)
			tx_over(&c->port[i]);
		gtimer_cancel(&c->port[i].tell);
		/* The host's end does not go because the guest's driver begins anew. */
		c->port[i].st = (struct port_st){ .host = host };
	}
	c->port[0].st.config = (struct virtio_console_config){
		.rows = c->cfg.rows,
		.cols = c->cfg.cols,
		.max_nr_ports = multiport(c) ? c->n_ports : 1,
	};
}

static void on_reset(void *dev)
{
	struct virtio_console *c = dev;

	vjobs_abort(c->jobs, NULL, NULL);
	set_initial(c);
}

static void on_resume(void *dev)
{
	struct virtio_console *c = dev;

	for (unsigned i = 0; i < c->n_ports; i++) {
		struct port *p = &c->port[i];

		/* One that is armed keeps its place among its equals: a pause changes no order. */
		if (p->st.tell_at && (!gtimer_armed(&p->tell) || p->tell.deadline != p->st.tell_at))
			gtimer_arm(&p->tell, p->st.tell_at);
	}
}

static void *own_state(void *dev, unsigned i)
{
	struct virtio_console *c = dev;

	return i < c->n_ports ? &c->port[i].st : NULL;
}

static void on_free(void *dev)
{
	struct virtio_console *c = dev;

	vjobs_free(c->jobs);
	for (unsigned i = 0; i < c->n_ports; i++)
		gtimer_cancel(&c->port[i].tell);
	free(c);
}

static const struct vdev_ops ops = {
	.name = "virtio-console",
	.id = VIRTIO_ID_CONSOLE,
	.start = on_start,
	.notify = on_notify,
	.queue_stop = on_queue_stop,
	.config_write = on_config_write,
	.reset = on_reset,
	.resume = on_resume,
	.free = on_free,
	.state = own_state,
	.fields = fields,
};

struct virtio_console_stats virtio_console_stats(const struct virtio_console *c)
{
	return c->stat;
}

static int add_ports(struct virtio_console *c, const struct vdev_env *env)
{
	if (!multiport(c)) {
		c->n_ports = 1;
	} else {
		while (c->cfg.ports[c->n_ports]) {
			const char *name = c->cfg.ports[c->n_ports];

			if (c->n_ports == VIRTIO_CONSOLE_PORTS_MAX ||
			    strlen(name) >= VIRTIO_CONSOLE_NAME_MAX)
				return -EINVAL;
			c->port[c->n_ports++].name = name;
		}
	}
	for (unsigned i = 0; i < c->n_ports; i++) {
		c->port[i].c = c;
		c->port[i].index = i;
		c->port[i].st.host = true;
		gtimer_init(&c->port[i].tell, env->clk, on_tell, &c->port[i]);
	}
	return c->n_ports ? 0 : -EINVAL;
}

int virtio_console_new(const struct vdev_env *env, const struct virtio_console_cfg *cfg,
		       struct virtio_console **ret, struct vdev **ret_vdev)
{
	struct virtio_console *c = calloc(1, sizeof(*c));
	struct vdev_cfg vc = { .ops = &ops,
			       .dev = c,
			       .env = env,
			       .config_len = sizeof(struct virtio_console_config) };
	int r;

	if (!c)
		return -ENOMEM;
	c->cfg = *cfg;
	vc.config = &c->port[0].st.config;
	/* Emergency output names no port: a byte stream has no place for it. */
	vc.features = multiport(c) ? BIT(VIRTIO_CONSOLE_F_MULTIPORT)
				   : BIT(VIRTIO_CONSOLE_F_SIZE) | BIT(VIRTIO_CONSOLE_F_EMERG_WRITE);
	r = add_ports(c, env);
	vc.n_queues = multiport(c) ? 2 * (c->n_ports + 1) : 2;
	if (r == 0)
		r = vjobs_new(env, 0, &c->jobs);
	if (r == 0) {
		set_initial(c);
		r = vdev_new(&vc, &c->v);
	}
	if (r < 0) {
		on_free(c);
		return r;
	}
	*ret = c;
	*ret_vdev = c->v;
	return 0;
}
