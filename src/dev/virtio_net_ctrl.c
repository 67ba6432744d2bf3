// SPDX-License-Identifier: Apache-2.0
/*
 * virtio_net_ctrl.c - the network device's control queue, and the filter it sets (virtio 1.2, 5.1.6.5)
 *
 * How it works
 * A command is a class, a number and data to read, and one byte to write: OK or not. All are done at
 * once: they change the device's state and nothing of the host's. A command that makes no sense, or
 * whose feature was not negotiated, is answered with an error; one without room for the answer
 * breaks the device.
 *
 * The filter. Until the driver sets a mode everything passes: a driver that does not know the
 * control queue expects that. Tables have room for NET_MACS_MAX addresses; if a driver gives more,
 * all of that kind pass, since it filters itself too. VLAN filtering is on as soon as the feature
 * is negotiated; frames without a tag, or with VLAN 0 (a priority only), pass it.
 */
#include "dev/virtio_net_priv.h"

#include <string.h>

#define OFFLOADS                                                                                   \
	(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) |                             \
	 BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN))
#define DATA_OFF 2u /* behind class and command */

void virtio_net_filter_reset(struct virtio_net *n)
{
	struct net_st *s = &n->st;

	*s = (struct net_st){ .config = s->config, .pairs = 1, .promisc = 1 };
}

static bool in_table(const u8 (*table)[6], unsigned n, const u8 *mac)
{
	for (unsigned i = 0; i < n; i++)
		if (!memcmp(table[i], mac, 6))
			return true;
	return false;
}

bool virtio_net_wants(const struct virtio_net *n, const u8 *head, size_t len)
{
	const struct net_st *s = &n->st;
	int vlan;

	if (len < NET_ETH_LEN)
		return false;
	if (s->promisc)
		return true;
	vlan = vdev_has(n->v, VIRTIO_NET_F_CTRL_VLAN) ? net_vlan(head, len) : -1;
	if (vlan > 0 && !(s->vlan[vlan / 8] & 1u << (vlan % 8)))
		return false;
	if (net_is_broadcast(head))
		return !s->nobcast;
	if (net_is_group(head))
		return !s->nomulti &&
		       (s->allmulti || s->many_multi || in_table(s->multi, s->n_multi, head));
	return !s->nouni && (s->alluni || s->many_uni || !memcmp(s->config.mac, head, 6) ||
			     in_table(s->uni, s->n_uni, head));
}

void virtio_net_takes(struct virtio_net *n)
{
	u64 o = n->st.offloads;
	unsigned takes = 0;

	if (o & BIT(VIRTIO_NET_F_GUEST_CSUM))
		takes |= NET_TAKES_CSUM;
	if (o & BIT(VIRTIO_NET_F_GUEST_TSO4))
		takes |= NET_TAKES_TSO4;
	if (o & BIT(VIRTIO_NET_F_GUEST_TSO6))
		takes |= NET_TAKES_TSO6;
	if (o & BIT(VIRTIO_NET_F_GUEST_ECN))
		takes |= NET_TAKES_ECN;
	if (n->cfg.net->ops->start)
		n->cfg.net->ops->start(n->cfg.net, takes);
}

/* --- commands: true if done ------------------------------------------------------------------ */

static bool rx_mode(struct virtio_net *n, u8 cmd, const struct vq_chain *c)
{
	struct net_st *s = &n->st;
	u8 *const flag[] = { &s->promisc, &s->allmulti, &s->alluni,
			     &s->nomulti, &s->nouni,	&s->nobcast };
	unsigned feature = cmd <= VIRTIO_NET_CTRL_RX_ALLMULTI ? VIRTIO_NET_F_CTRL_RX
							      : VIRTIO_NET_F_CTRL_RX_EXTRA;
	u8 on;

	if (cmd >= ARRAY_LEN(flag) || !vdev_has(n->v, feature) ||
	    vq_chain_read(c, DATA_OFF, &on, 1) < 0)
		return false;
	*flag[cmd] = on != 0;
	return true;
}

/* One of the two tables. True, and *off behind it. */
static bool read_table(const struct vq_chain *c, size_t *off, u8 (*macs)[6], u16 *ret_n,
		       u8 *ret_many)
{
	u32 count, keep;

	if (vq_chain_read(c, *off, &count, sizeof(count)) < 0)
		return false;
	*off += sizeof(count);
	if (count > (c->out_len - *off) / 6)
		return false;
	keep = count > NET_MACS_MAX ? 0 : count;
	if (vq_chain_read(c, *off, macs, keep * 6) < 0)
		return false;
	*off += (size_t)count * 6;
	*ret_n = (u16)keep;
	*ret_many = count > NET_MACS_MAX;
	return true;
}

static bool mac(struct virtio_net *n, u8 cmd, const struct vq_chain *c)
{
	struct net_st s = n->st;
	size_t off = DATA_OFF;

	if (cmd == VIRTIO_NET_CTRL_MAC_ADDR_SET) {
		if (!vdev_has(n->v, VIRTIO_NET_F_CTRL_MAC_ADDR) || c->out_len != off + 6)
			return false;
		return vq_chain_read(c, off, n->st.config.mac, 6) == 0;
	}
	if (cmd != VIRTIO_NET_CTRL_MAC_TABLE_SET || !vdev_has(n->v, VIRTIO_NET_F_CTRL_RX))
		return false;
	memset(s.uni, 0, sizeof(s.uni));
	memset(s.multi, 0, sizeof(s.multi));
	if (!read_table(c, &off, s.uni, &s.n_uni, &s.many_uni) ||
	    !read_table(c, &off, s.multi, &s.n_multi, &s.many_multi))
		return false;
	n->st = s;
	return true;
}

static bool vlan(struct virtio_net *n, u8 cmd, const struct vq_chain *c)
{
	u16 id;

	if (!vdev_has(n->v, VIRTIO_NET_F_CTRL_VLAN) || cmd > VIRTIO_NET_CTRL_VLAN_DEL ||
	    vq_chain_read(c, DATA_OFF, &id, sizeof(id)) < 0 || id >= 4096)
		return false;
	if (cmd == VIRTIO_NET_CTRL_VLAN_ADD)
		n->st.vlan[id / 8] |= (u8)(1u << (id % 8));
	else
		n->st.vlan[id / 8] &= (u8) ~(1u << (id % 8));
	return true;
}

static bool announce(struct virtio_net *n, u8 cmd)
{
	if (!vdev_has(n->v, VIRTIO_NET_F_GUEST_ANNOUNCE) || cmd != VIRTIO_NET_CTRL_ANNOUNCE_ACK)
		return false;
	n->st.config.status &= (u16)~VIRTIO_NET_S_ANNOUNCE;
	return true;
}

static bool pairs(struct virtio_net *n, u8 cmd, const struct vq_chain *c)
{
	u16 want;

	if (!vdev_has(n->v, VIRTIO_NET_F_MQ) || cmd != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET ||
	    vq_chain_read(c, DATA_OFF, &want, sizeof(want)) < 0 || !want || want > n->cfg.pairs)
		return false;
	n->st.pairs = want;
	memset(n->st.steer, 0, sizeof(n->st.steer));
	return true;
}

static bool offloads(struct virtio_net *n, u8 cmd, const struct vq_chain *c)
{
	u64 want;

	if (!vdev_has(n->v, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) ||
	    cmd != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET ||
	    vq_chain_read(c, DATA_OFF, &want, sizeof(want)) < 0 ||
	    (want & ~(OFFLOADS & vdev_driver_features(n->v))))
		return false;
	n->st.offloads = want;
	virtio_net_takes(n);
	return true;
}

static bool command(struct virtio_net *n, const struct vq_chain *c)
{
	u8 head[DATA_OFF];

	if (vq_chain_read(c, 0, head, sizeof(head)) < 0)
		return false;
	switch (head[0]) {
	case VIRTIO_NET_CTRL_RX:
		return rx_mode(n, head[1], c);
	case VIRTIO_NET_CTRL_MAC:
		return mac(n, head[1], c);
	case VIRTIO_NET_CTRL_VLAN:
		return vlan(n, head[1], c);
	case VIRTIO_NET_CTRL_ANNOUNCE:
		return announce(n, head[1]);
	case VIRTIO_NET_CTRL_MQ:
		return pairs(n, head[1], c);
	case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
		return offloads(n, head[1], c);
	default:
		return false;
	}
}

void virtio_net_control(struct virtio_net *n, struct vq *q)
{
	struct vq_chain *c;

	while (vq_pop(q, &c) > 0) {
		u8 ack = command(n, c) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;

		if (vq_chain_write(c, 0, &ack, 1) < 0) {
			vq_drop(q, c);
			vdev_break(n->v, "a control command without room for its answer");
			return;
		}
		vq_push(q, c, 1);
	}
	vq_notify(q);
}
