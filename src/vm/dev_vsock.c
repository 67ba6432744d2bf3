// SPDX-License-Identifier: Apache-2.0
/*
 * dev_vsock.c - the option --vsock
 *
 * How it works
 * The guest's own address (CID) matters to the guest only: each VM has a vsock world to itself, so
 * any number of VMs may have the same one.
 *
 * Guest to host: with dir=DIR, a connection to port N of CID 2 becomes one to the Unix socket
 * DIR/vsock_N, if somebody listens there at that moment; else, and without dir=, it is refused. (It
 * is Firecracker's convention for uds_path DIR/vsock.) The directory is opened once: the guest's
 * number is all that enters a path.
 *
 * Host to guest: `orrery connect` and `orrery exec`, by vm/ctl.
 *
 * Each connection is a descriptor of ours, so the limit of open files is raised as far as it goes.
 */
#include "vm/vsock.h"

#include "base/values.h"
#include "base/wire.h"
#include "host/unixsock.h"
#include "vm/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct vsock_option {
	u32 cid;
	char *dir;
	int dir_fd; /* O_PATH; -1: none */
	struct virtio_vsock *dev;
};

static void vsock_free(void *opaque)
{
	struct vsock_option *o = opaque;

	if (!o)
		return;
	if (o->dir_fd >= 0)
		close(o->dir_fd);
	free(o->dir);
	free(o);
}

static int parse_cid(struct vsock_option *o, const char *text, struct err *e)
{
	u64 cid;
	int r = value_u64("--vsock", text, 0, UINT32_MAX, e, &cid);

	if (r < 0)
		return r;
	if (cid < VSOCK_CID_GUEST_MIN || cid > VSOCK_CID_GUEST_MAX)
		return err_set(e, -EINVAL,
			       "--vsock %s: this CID is reserved; a guest's is %u to %u", text,
			       VSOCK_CID_GUEST_MIN, VSOCK_CID_GUEST_MAX);
	o->cid = (u32)cid;
	return 0;
}

static int parse_piece(struct vsock_option *o, const char *word, const char *val, bool first,
		       struct err *e)
{
	if (!strcmp(word, "dir") && val && *val) {
		free(o->dir);
		o->dir = strdup(val);
		return o->dir ? 0 : err_set(e, -ENOMEM, "out of memory");
	}
	if (first && !val)
		return parse_cid(o, word, e);
	return err_set(e, -EINVAL, "--vsock: %.80s%s%.80s: it takes a CID and dir=DIR", word,
		       val ? "=" : "", val ? val : "");
}

static int vsock_parse(const char *text, struct err *e, void **ret)
{
	struct vsock_option *o;
	char word[4096];
	const char *val;
	int r = 0;

	if (text && !*text)
		return err_set(e, -EINVAL, "--vsock=: the argument is empty");
	o = calloc(1, sizeof(*o));
	if (!o)
		return err_set(e, -ENOMEM, "out of memory");
	o->cid = VM_VSOCK_CID_DEFAULT;
	o->dir_fd = -1;
	for (bool first = true; text && r >= 0; first = false) {
		r = value_piece("--vsock", &text, word, sizeof(word), e, &val);
		if (r <= 0)
			break;
		r = parse_piece(o, word, val, first, e);
	}
	if (r < 0) {
		vsock_free(o);
		return r;
	}
	*ret = o;
	return 0;
}

static int vsock_open(void *opaque, const struct vm_dev_host *host, struct err *e)
{
	struct vsock_option *o = opaque;
	struct rlimit lim;

	if (!getrlimit(RLIMIT_NOFILE, &lim) && lim.rlim_cur < lim.rlim_max) {
		lim.rlim_cur = lim.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &lim) < 0)
			dprintf(host->err_fd,
				"orrery: --vsock: cannot raise the limit of open files: %s\n",
				strerror(errno));
	}
	if (!o->dir)
		return 0;
	o->dir_fd = open(o->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* O_PATH needs no permission on the directory itself, a socket in it does. */
	if (o->dir_fd < 0 || faccessat(AT_FDCWD, o->dir, X_OK, AT_EACCESS) < 0)
		return err_sys(e, -errno,
			       "--vsock dir=%s: it must be a directory, for sockets vsock_PORT",
			       o->dir);
	return 0;
}

static void vsock_sandbox(void *opaque, struct sandbox *s)
{
	const struct vsock_option *o = opaque;

	sandbox_use(s, SANDBOX_STREAM | (o->dir_fd >= 0 ? SANDBOX_UNIX_CONNECT : 0));
	if (o->dir_fd >= 0)
		sandbox_path(s, o->dir_fd, SANDBOX_REACH);
}

/* The directive is not for a kernel without our init; then nobody reads it. */
static int vsock_guest(void *opaque, struct buf *out)
{
	char port[16];

	snprintf(port, sizeof(port), "%u", WIRE_AGENT_PORT);
	return vm_setup_line(out, (const char *const[]){ "agent", port, NULL });
}

static int open_port(void *opaque, u32 port)
{
	const struct vsock_option *o = opaque;
	char path[64];

	if (o->dir_fd < 0)
		return -ECONNREFUSED;
	snprintf(path, sizeof(path), "/proc/self/fd/%d/vsock_%u", o->dir_fd, port);
	return unixsock_connect(path);
}

static int vsock_create(void *opaque, const struct vdev_env *env, struct err *e, struct vdev **ret)
{
	struct vsock_option *o = opaque;
	struct virtio_vsock_cfg vc = { .cid = o->cid, .open = open_port, .opaque = o };
	int r = virtio_vsock_new(&vc, env, &o->dev, ret);

	return r < 0 ? err_sys(e, r, "cannot create the socket device") : 0;
}

static void vsock_stats(void *opaque, void (*line)(void *o, const char *name, u64 val), void *arg)
{
	const struct vsock_option *o = opaque;
	const struct virtio_vsock_stats *s = o->dev ? virtio_vsock_stats(o->dev) : NULL;

	if (!s)
		return;
	line(arg, "vsock_conns", s->conns);
	line(arg, "vsock_opened", s->opened);
	line(arg, "vsock_refused", s->refused);
	line(arg, "vsock_rx_packets", s->rx_packets);
	line(arg, "vsock_rx_bytes", s->rx_bytes);
	line(arg, "vsock_tx_packets", s->tx_packets);
	line(arg, "vsock_tx_bytes", s->tx_bytes);
	line(arg, "vsock_resets", s->resets);
	line(arg, "vsock_credit_asked", s->credit_asked);
	line(arg, "vsock_stalled", s->stalled);
	line(arg, "vsock_strays", s->strays);
}

/* The last one brings the others along: it depends on them. */
static const char *const modules[] = { "vmw_vsock_virtio_transport", NULL };

const struct vm_dev_kind vm_dev_vsock = {
	.name = "vsock",
	.arg = "[CID[,dir=DIR]]",
	.help = "sockets between host and guest (its address: CID, default 3), and\n"
		"the agent for `orrery exec`; the guest's connections to port N of\n"
		"the host go to the Unix socket DIR/vsock_N",
	.max = 1,
	.modules = modules,
	.parse = vsock_parse,
	.open = vsock_open,
	.guest = vsock_guest,
	.sandbox = vsock_sandbox,
	.create = vsock_create,
	.stats = vsock_stats,
	.free = vsock_free,
};

static struct vsock_option *find(const struct vm_devs *devs)
{
	for (unsigned i = 0; devs && i < devs->n; i++)
		if (devs->dev[i].kind == &vm_dev_vsock)
			return devs->dev[i].dev;
	return NULL;
}

bool vm_has_vsock(const struct vm_devs *devs)
{
	return find(devs) != NULL;
}

struct virtio_vsock *vm_vsock(const struct vm_devs *devs)
{
	struct vsock_option *o = find(devs);

	return o ? o->dev : NULL;
}
