// SPDX-License-Identifier: Apache-2.0
/*
 * dev_share.c - the option --share
 *
 * How it works
 * A share is one virtio-fs device with a file server of its own; the guest's init mounts it at
 * /mnt/TAG. The share with the tag "/" is the guest's root instead: read-only, under a writable
 * layer in the guest's memory. Then nothing of the command is packed: it finds its libraries, and
 * all other programs, where they are on the host.
 *
 * Under the virtual clock nobody else may change what is shared, or the run is not a function of
 * its inputs; so there the guest caches names, attributes and writes. Under the real clock it asks
 * again after a second. `cache=` says otherwise. What lies under the guest's root is cached anyway:
 * an overlay does not expect it to change.
 */
#include "base/values.h"
#include "dev/virtio_fs.h"
#include "host/fuse.h"
#include "host/sigbus.h"
#include "vm/devices.h"
#include "vm/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPT "--share"
#define DAX_DEFAULT (128ull << 20)
#define DAX_UNIT (2ull << 20) /* what Linux maps at a time */
#define DAX_MAX (64ull << 30)
#define FDS_KEPT 256u /* for everything else in the process */
#define FDS_MAX (1u << 17)
#define ROOT_TAG "/"

struct share {
	char dir[PATH_MAX];
	char tag[VIRTIO_FS_TAG_MAX + 1];
	bool ro;
	bool cache, cache_set;
	u64 dax;
	int fd; /* O_PATH; -1: not open, or the server's */
	unsigned fds;
	bool exact;
	u64 rtc_ns;
	struct gclock *clk;
	struct fuse *server;
	u8 *window; /* guarded */
};

/* --- the option ------------------------------------------------------------------------------- */

static bool tag_ok(const char *tag)
{
	static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789._-+@";

	return *tag && strspn(tag, chars) == strlen(tag) && strcmp(tag, ".") && strcmp(tag, "..");
}

/* Its own name, not that of a link to it; a missing directory is open's to complain about. */
static char *default_tag(const char *dir)
{
	char *real = realpath(dir, NULL), *tag;
	const char *path = real ? real : dir, *base = strrchr(path, '/');

	base = base ? base + 1 : path;
	tag = strdup(*base ? base : ROOT_TAG);
	free(real);
	return tag;
}

static int check_tag(const char *dir, const char *tag, struct err *e)
{
	if (!strcmp(tag, ROOT_TAG) && !strcmp(dir, "/"))
		return 0;
	if (!strcmp(tag, ROOT_TAG))
		return err_set(e, -EINVAL,
			       OPT " %s:/: only the host's own root can be the guest's; use %s:TAG",
			       dir, dir);
	if (!tag_ok(tag))
		return err_set(e, -EINVAL,
			       OPT " %s: \"%s\" cannot be a tag (letters, digits and ._-+@); name "
				   "one with %s:TAG",
			       dir, tag, dir);
	if (strlen(tag) > VIRTIO_FS_TAG_MAX)
		return err_set(e, -EINVAL,
			       OPT " %s: the tag %s has more than %u characters; name another with "
				   "%s:TAG",
			       dir, tag, VIRTIO_FS_TAG_MAX, dir);
	return 0;
}

/* "DIR[:TAG]" */
static int parse_dir(struct share *s, char *text, struct err *e)
{
	char *colon = strrchr(text, ':'), *tag;
	int r;

	/* A colon in the directory's own name needs a tag behind it. */
	if (colon && strcmp(colon, ":" ROOT_TAG) && strchr(colon, '/'))
		colon = NULL;
	if (colon)
		*colon = 0;
	if (!*text)
		return err_set(e, -EINVAL, OPT " needs a directory: DIR[:TAG][,ro][,dax]");
	if (strlen(text) >= sizeof(s->dir))
		return err_sys(e, -ENAMETOOLONG, OPT " %.80s...", text);
	memcpy(s->dir, text, strlen(text) + 1);
	tag = colon ? strdup(colon + 1) : default_tag(text);
	if (!tag)
		return err_sys(e, -ENOMEM, OPT " %s", text);
	r = check_tag(text, tag, e);
	if (r == 0)
		memcpy(s->tag, tag, strlen(tag) + 1);
	free(tag);
	s->ro = !strcmp(s->tag, ROOT_TAG);
	return r;
}

static int parse_flag(struct share *s, const char *key, const char *val, struct err *e)
{
	int r = 0;

	if (!strcmp(key, "ro") && !val) {
		s->ro = true;
	} else if (!strcmp(key, "dax")) {
		s->dax = DAX_DEFAULT;
		if (val)
			r = value_size(OPT " dax", val, e, &s->dax);
		if (r == 0 && (!s->dax || s->dax % DAX_UNIT || s->dax > DAX_MAX))
			r = err_set(e, -EINVAL,
				    OPT " dax=%s: a window is a multiple of 2M, at most 64G", val);
	} else if (!strcmp(key, "cache") && val && (!strcmp(val, "on") || !strcmp(val, "off"))) {
		s->cache_set = true;
		s->cache = !strcmp(val, "on");
	} else {
		r = err_set(e, -EINVAL,
			    OPT " %s: unknown setting \"%s%s%s\"; there are ro, dax, dax=SIZE, "
				"cache=on and cache=off",
			    s->dir, key, val ? "=" : "", val ? val : "");
	}
	return r;
}

static int share_parse(const char *text, struct err *e, void **ret)
{
	struct share *s = calloc(1, sizeof(*s));
	char piece[PATH_MAX + VIRTIO_FS_TAG_MAX];
	const char *val;
	int r;

	if (!s)
		return err_sys(e, -ENOMEM, OPT);
	s->fd = -1;
	r = value_piece(OPT, &text, piece, sizeof(piece), e, &val);
	if (r == 0)
		r = err_set(e, -EINVAL, OPT " needs a directory: DIR[:TAG][,ro][,dax]");
	if (r > 0) {
		/* A directory may have '=' in its name. */
		if (val)
			piece[val - 1 - piece] = '=';
		r = parse_dir(s, piece, e);
	}
	while (r == 0 && value_piece(OPT, &text, piece, sizeof(piece), e, &val) > 0)
		r = parse_flag(s, piece, val, e);
	if (r == 0 && *text)
		r = -EINVAL;
	if (r < 0) {
		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

/* --- the host --------------------------------------------------------------------------------- */

extern const struct vm_dev_kind vm_dev_share;

static int check_twins(const struct share *s, const struct vm_devs *all, struct err *e,
		       unsigned *ret_shares)
{
	unsigned n = 0;

	for (unsigned i = 0; i < all->n; i++) {
		const struct share *o = all->dev[i].dev;

		if (all->dev[i].kind != &vm_dev_share)
			continue;
		n++;
		if (o != s && !strcmp(o->tag, s->tag))
			return err_set(e, -EEXIST,
				       OPT " %s and " OPT " %s have the same tag, %s; name one of "
					   "them with DIR:TAG",
				       s->dir, o->dir, s->tag);
	}
	*ret_shares = n;
	return 0;
}

/* How many descriptors each of @shares may hold. */
static unsigned descriptors(unsigned shares)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0)
		return 64;
	if (lim.rlim_cur < lim.rlim_max) {
		lim.rlim_cur = lim.rlim_max;
		(void)!setrlimit(RLIMIT_NOFILE, &lim);
		getrlimit(RLIMIT_NOFILE, &lim);
	}
	if (lim.rlim_cur < 2 * FDS_KEPT)
		return 64;
	return (unsigned)MIN((lim.rlim_cur - FDS_KEPT) / MAX(shares, 1u), (rlim_t)FDS_MAX);
}

static bool share_root(void *dev)
{
	return !strcmp(((struct share *)dev)->tag, ROOT_TAG);
}

static int share_open(void *dev, const struct vm_dev_host *host, struct err *e)
{
	struct share *s = dev;
	struct stat st;
	unsigned shares = 1;
	int r = check_twins(s, host->all, e, &shares);

	if (r < 0)
		return r;
	s->fd = open(s->dir, O_PATH | O_CLOEXEC);
	if (s->fd < 0)
		return err_sys(e, -errno, OPT " %s", s->dir);
	if (fstat(s->fd, &st) < 0)
		return err_sys(e, -errno, OPT " %s", s->dir);
	if (!S_ISDIR(st.st_mode))
		return err_set(e, -ENOTDIR,
			       OPT " %s: not a directory; share the one it is in, or pack it with "
				   "--include",
			       s->dir);
	if (faccessat(AT_FDCWD, s->dir, R_OK | X_OK, AT_EACCESS) < 0)
		return err_sys(e, -errno, OPT " %s", s->dir);
	s->fds = descriptors(shares);
	s->exact = host->exact;
	s->rtc_ns = (u64)host->rtc_base * 1000000000ull;
	if (!s->cache_set)
		s->cache = host->exact || share_root(s);
	return 0;
}

static void share_sandbox(void *dev, struct sandbox *sandbox)
{
	struct share *s = dev;

	sandbox_use(sandbox, SANDBOX_SHARE | (s->ro ? 0 : SANDBOX_SHARE_WRITE));
	sandbox_path(sandbox, s->fd, s->ro ? SANDBOX_READ : SANDBOX_CHANGE);
}

static u64 share_window(void *dev)
{
	return ((struct share *)dev)->dax;
}

static const char *const modules[] = { "virtiofs", NULL };
static const char *const root_modules[] = { "overlay", NULL };

static const char *const *share_needs(void *dev)
{
	return share_root(dev) ? root_modules : NULL;
}

static int share_guest(void *dev, struct buf *out)
{
	struct share *s = dev;
	char dir[64], options[32];

	snprintf(options, sizeof(options), "%s%s%s", s->ro ? "ro" : "", s->ro && s->dax ? "," : "",
		 s->dax ? "dax=always" : "");
	snprintf(dir, sizeof(dir), "/mnt/%s", s->tag);
	if (share_root(dev))
		return vm_setup_line(out,
				     (const char *[]){ "root", "virtiofs", s->tag, options, NULL });
	return vm_setup_line(out,
			     (const char *[]){ "mount", "virtiofs", s->tag, dir, options, NULL });
}

/* --- the device ------------------------------------------------------------------------------- */

static u64 guest_now(void *opaque)
{
	struct share *s = opaque;

	return s->rtc_ns + gclock_now(s->clk);
}

/* What belonged to a machine, which is gone: a reset makes another. */
static void share_end(struct share *s)
{
	fuse_free(s->server);
	s->server = NULL;
	if (s->window)
		sigbus_unguard(s->window);
	s->window = NULL;
}

static int share_create(void *dev, const struct vdev_env *env, struct err *e, struct vdev **ret)
{
	struct share *s = dev;
	struct fuse_cfg fc = { .ro = s->ro,
			       .cached = s->cache,
			       .exact = s->exact,
			       .now = guest_now,
			       .opaque = s,
			       .fds = s->fds,
			       .window_len = env->window.len };
	int r;

	share_end(s);
	fc.root = fcntl(s->fd, F_DUPFD_CLOEXEC, 0);
	if (fc.root < 0)
		return err_sys(e, -errno, OPT " %s", s->dir);
	if (env->window.len) {
		fc.window = mem_ptr(env->mem, env->window.base, env->window.len);
		r = sigbus_guard(fc.window, fc.window_len);
		if (r < 0) {
			close(fc.root);
			return err_set(e, r, OPT " %s: too many shares with dax", s->dir);
		}
		s->window = fc.window;
	}
	s->clk = env->clk;
	r = fuse_new(&fc, &s->server);
	if (r < 0)
		close(fc.root);
	if (r == -EOPNOTSUPP)
		return err_set(e, r,
			       OPT " %s: this is a file system of the kernel's own, which has "
				   "nothing to share; the guest has one itself",
			       s->dir);
	if (r < 0)
		return err_sys(e, r, OPT " %s", s->dir);
	r = virtio_fs_new(env, s->tag, s->server, ret);
	return r < 0 ? err_sys(e, r, "cannot create the device for " OPT " %s", s->dir) : 0;
}

static void share_stats(void *dev, void (*line)(void *o, const char *name, u64 val), void *o)
{
	struct share *s = dev;
	struct fuse_stats st;
	char name[96];

	if (!s->server)
		return;
	fuse_get_stats(s->server, &st);
	const struct {
		const char *what;
		u64 val;
	} all[] = {
		{ "requests", st.requests },	   { "errors", st.failed },
		{ "bytes read", st.read_bytes },   { "bytes written", st.written_bytes },
		{ "files known", st.nodes },	   { "files evicted", st.evicted },
		{ "files reopened", st.reopened }, { "dax setups", st.setups },
		{ "dax bytes", st.setup_bytes },   { "dax removes", st.removes },
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		if (!s->dax && !strncmp(all[i].what, "dax", 3))
			continue;
		snprintf(name, sizeof(name), "share %s %s", s->tag, all[i].what);
		line(o, name, all[i].val);
	}
}

static void share_free(void *dev)
{
	struct share *s = dev;

	if (!s)
		return;
	share_end(s);
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}

const struct vm_dev_kind vm_dev_share = {
	.name = "share",
	.arg = "DIR[:TAG][,ro][,dax]",
	.help = "share the directory with the guest, at /mnt/TAG there (TAG:\n"
		"its name); ro: read-only; dax[=SIZE]: files are mapped, not\n"
		"copied; cache=on|off: whether only the guest changes it\n"
		"(default: with the virtual clock). --share / is the guest's\n"
		"root: the host's, read-only, under a layer in memory",
	.modules = modules,
	.needs = share_needs,
	.root = share_root,
	.parse = share_parse,
	.open = share_open,
	.window = share_window,
	.guest = share_guest,
	.sandbox = share_sandbox,
	.create = share_create,
	.stats = share_stats,
	.free = share_free,
};
