// SPDX-License-Identifier: Apache-2.0
/*
 * fuzz_blk.c - libFuzzer entry: a hostile driver against the block device
 *
 * The input is a program: requests of every type, near the right and far from it, cut into pieces
 * anywhere, in several queues; time; resets of the device and of queues; configuration writes. The
 * disk is small, and a private copy with an overlay or a sparse file, throttled or not, as the
 * first byte says. After the program every request must have been answered with a status or gone
 * with a reset, and the disk must still be as long as it was and its original unchanged.
 */
#include "dev/virtio_blk.h"
#include "virtio/mmio.h"

#include "input.h"

#include "../dev/testclock.h"

#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define QUEUES 3u
#define RAM 0x80000u
#define ENTRIES 32u
#define BASE(q) (0x1000u + 0x4000u * (q))
#define AVAIL(q) (BASE(q) + 0x1000u)
#define USED(q) (BASE(q) + 0x2000u)
#define HEADERS 0x10000u
#define DATA 0x20000u
#define SECTORS 97u /* not whole clusters */
#define QUEUE_RESET 0x0c0u
#define MS 1000000u

struct rig {
	struct testclock clk;
	struct vdev *v;
	struct virtio_mmio *m;
	struct disk *disk;
	struct virtio_blk_stats stats;
	u16 next[QUEUES];
	u32 header;
};

static struct mem *ram;
static char base[] = "/tmp/orrery-fuzz-blk-XXXXXX";

static void put(u64 gpa, const void *p, size_t n)
{
	BUG_IF(mem_write(ram, gpa, p, n) < 0);
}

static void wr(struct rig *r, u32 reg, u32 val)
{
	virtio_mmio_bus_ops.write(r->m, reg, 4, val, 0);
}

static void start(struct rig *r, u32 how)
{
	static const u8 zero[0x10000];

	wr(r, VIRTIO_MMIO_STATUS, 0);
	put(0x1000, zero, 0xc000);
	wr(r, VIRTIO_MMIO_STATUS, 3);
	wr(r, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	wr(r, VIRTIO_MMIO_DRIVER_FEATURES, 1 | (how & 1 ? 1u << 8 : 0));
	wr(r, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	wr(r, VIRTIO_MMIO_DRIVER_FEATURES,
	   (how & 2 ? BIT(VIRTIO_BLK_F_FLUSH) : 0) | (how & 4 ? BIT(VIRTIO_BLK_F_CONFIG_WCE) : 0));
	wr(r, VIRTIO_MMIO_STATUS, 11);
	for (unsigned q = 0; q < QUEUES; q++) {
		r->next[q] = 0;
		wr(r, VIRTIO_MMIO_QUEUE_SEL, q);
		wr(r, VIRTIO_MMIO_QUEUE_NUM, ENTRIES);
		wr(r, VIRTIO_MMIO_QUEUE_DESC_LOW, BASE(q));
		wr(r, VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL(q));
		wr(r, VIRTIO_MMIO_QUEUE_USED_LOW, USED(q));
		wr(r, VIRTIO_MMIO_QUEUE_READY, 1);
	}
	wr(r, VIRTIO_MMIO_STATUS, 15);
}

static void desc(struct rig *r, unsigned q, u32 addr, u32 len, u16 flags)
{
	u16 at = r->next[q]++ % ENTRIES;
	struct vring_desc d = {
		.addr = addr, .len = len, .flags = flags, .next = (u16)((at + 1) % ENTRIES)
	};

	put(BASE(q) + 16u * at, &d, sizeof(d));
}

/* Bytes [@addr, @addr+@len) in one or two pieces. */
static void part(struct rig *r, unsigned q, u32 addr, u32 len, u32 cut, u16 flags)
{
	if (cut && cut < len) {
		desc(r, q, addr, cut, flags | VRING_DESC_F_NEXT);
		addr += cut;
		len -= cut;
	}
	if (len)
		desc(r, q, addr, len, flags | VRING_DESC_F_NEXT);
}

static void request(struct rig *r, struct input *in)
{
	static const u8 types[] = { 0, 1, 1, 4, 8, 11, 13, 13 };
	u32 b = take(in, 1), q = b % QUEUES, cut = take(in, 1), len = take(in, 2);
	u32 type = b & 0x80 ? take(in, 4) : types[(b >> 2) & 7], s = take(in, 1);
	struct virtio_blk_outhdr h = { .type = type, .sector = s & 0x80 ? take(in, 4) : s };
	u32 hdr = HEADERS + (r->header++ % 256) * 64;
	bool writes = type != VIRTIO_BLK_T_IN && type != VIRTIO_BLK_T_GET_ID;
	u16 head = r->next[q] % ENTRIES, idx;
	u8 none = 0xff;

	if (cut & 1)
		len = len / 512 * 512;
	if (type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES)
		len = cut & 2 ? len % 200 : 16 * (len % 5);
	if (s & 0x40)
		h.sector = h.sector << 55 | 1;
	put(hdr, &h, sizeof(h));
	put(hdr + 16, &none, 1);
	part(r, q, hdr, cut & 4 ? 16 : cut & 31, cut & 15, 0);
	part(r, q, DATA + (s << 8), len, cut * 3, writes ? 0 : VRING_DESC_F_WRITE);
	desc(r, q, hdr + 16, 1, (b & 0x60) == 0x60 ? 0 : VRING_DESC_F_WRITE);
	BUG_IF(mem_read(ram, AVAIL(q) + 2, &idx, 2) < 0);
	put(AVAIL(q) + 4 + 2u * (idx % ENTRIES), &head, 2);
	idx++;
	put(AVAIL(q) + 2, &idx, 2);
	wr(r, VIRTIO_MMIO_QUEUE_NOTIFY, q);
}

/* Ranges for DISCARD and WRITE_ZEROES, or anything else. */
static void scribble(struct input *in)
{
	u32 at = DATA + (take(in, 2) & 0xffff), n = take(in, 1) & 31;
	u8 buf[32];

	for (u32 i = 0; i < n; i++)
		buf[i] = (u8)take(in, 1);
	put(at, buf, n);
}

static void run(struct rig *r, struct input *in)
{
	/* The input is what bounds this. */
	while (in->left) {
		u32 op = take(in, 1);

		switch (op % 8) {
		case 0:
			start(r, op >> 3);
			break;
		case 1:
			scribble(in);
			break;
		case 2:
			testclock_by(&r->clk, take(in, 3));
			break;
		case 3:
			wr(r, VIRTIO_MMIO_QUEUE_SEL, (op >> 3) % QUEUES);
			wr(r, QUEUE_RESET, 1);
			break;
		case 4:
			virtio_mmio_bus_ops.write(r->m, 0x100 + (take(in, 1) & 0x7f),
						  1u << (op >> 6), take(in, 1), 0);
			break;
		default:
			request(r, in);
		}
	}
}

static void remove_base(void)
{
	unlink(base);
}

static void once(void)
{
	static const struct mem_region region = { .base = 0, .size = RAM };
	u8 bytes[SECTORS * 512];
	int fd;

	if (ram)
		return;
	BUG_IF(mem_new(&region, 1, NULL, &ram) < 0);
	fd = mkstemp(base);
	memset(bytes, 0x5a, sizeof(bytes));
	BUG_IF(fd < 0 || write(fd, bytes, sizeof(bytes)) != (ssize_t)sizeof(bytes));
	close(fd);
	atexit(remove_base);
}

static void check_base(void)
{
	u8 bytes[SECTORS * 512 + 1];
	int fd = open(base, O_RDONLY);

	BUG_IF(fd < 0 || read(fd, bytes, sizeof(bytes)) != (ssize_t)sizeof(bytes) - 1);
	for (u32 i = 0; i < SECTORS * 512; i++)
		BUG_IF(bytes[i] != 0x5a);
	close(fd);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t len);

int LLVMFuzzerTestOneInput(const u8 *data, size_t len)
{
	struct input in = { data, len };
	struct rig r = { 0 };
	struct vdev_env env = { .clk = &r.clk.g, .exact = true, .seed = 1 };
	struct irq_line irq = { 0 };
	u32 how = take(&in, 1);
	struct disk_cfg dc = { .opt = "fuzz",
			       .path = how & 1 ? base : NULL,
			       .mode = how & 2 ? DISK_COW : DISK_RO,
			       .size = SECTORS * 512 };
	struct virtio_blk_cfg c = { .queues = QUEUES, .serial = "fuzz", .stats = &r.stats };

	once();
	if (!dc.path)
		dc.mode = DISK_RW;
	BUG_IF(disk_open(&dc, NULL, &r.disk) < 0);
	if (how & 4)
		c.iops = (struct throttle){ 1000, 1000 };
	if (how & 8)
		c.bps = (struct throttle){ 1 << 20, 1 << 20 };
	env.mem = ram;
	c.disk = r.disk;
	testclock_init(&r.clk);
	BUG_IF(virtio_blk_new(&env, &c, &r.v) < 0);
	BUG_IF(virtio_mmio_new(r.v, &irq, &r.m) < 0);
	start(&r, how >> 4);
	run(&r, &in);
	if (how & 16) {
		testclock_by(&r.clk, 1000ull * 1000 * MS);
		for (unsigned q = 0; q < QUEUES; q++)
			BUG_IF(vq_in_flight(vdev_queue(r.v, q)) && !vdev_fault(r.v));
	}
	virtio_mmio_free(r.m);
	vdev_free(r.v);
	disk_free(r.disk);
	gclock_fini(&r.clk.g);
	if ((how & 3) == 3)
		check_base();
	return 0;
}
