// SPDX-License-Identifier: Apache-2.0
/*
 * root.c - the host's root as the guest's, under a writable layer in memory
 *
 * How it works
 * The shared tree is the lower layer of an overlay file system, a tmpfs the upper. What init has
 * mounted (/proc, /dev, disks) moves to its place in the overlay, which then moves over the
 * initramfs: a root that is a ramfs cannot be pivoted. /tmp stays the host's, so that a command
 * finds its working directory there; /run is the guest's own.
 *
 * Of the initramfs init still needs its own directory and the modules; they are bound in.
 */
#include "guest.h"

#include <errno.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/wire.h"

#define LOWER WIRE_DIR "/lower"
#define LAYER WIRE_DIR "/layer"
#define ROOT WIRE_DIR "/root"
#define MOVES_MAX 128

static int make_overlay(const char *type, const char *source, const char *options)
{
	static const char *const dirs[] = { LOWER, LAYER, ROOT };
	int ret = 0;

	for (size_t i = 0; !ret && i < GUEST_LEN(dirs); i++)
		ret = setup_mkdirs(dirs[i]);
	if (ret)
		return ret;
	if (!strncmp(options, "ro", 2) && (!options[2] || options[2] == ','))
		options += options[2] ? 3 : 2;
	if (mount(source, LOWER, type, MS_RDONLY | MS_NOATIME, options) < 0)
		return -errno;
	if (mount("layer", LAYER, "tmpfs", 0, "mode=0755") < 0 || mkdir(LAYER "/upper", 0755) < 0 ||
	    mkdir(LAYER "/work", 0755) < 0 ||
	    mount("root", ROOT, "overlay", 0,
		  "lowerdir=" LOWER ",upperdir=" LAYER "/upper,workdir=" LAYER "/work") < 0) {
		ret = -errno;
		umount2(LAYER, MNT_DETACH);
		umount2(LOWER, MNT_DETACH);
	}
	return ret;
}

/* Whether @dir is @top or below it. */
static int is_below(const char *dir, const char *top)
{
	size_t n = strlen(top);

	return !strncmp(dir, top, n) && (!dir[n] || dir[n] == '/');
}

static void move_one(const char *dir, unsigned long how)
{
	char to[512];

	if (snprintf(to, sizeof(to), ROOT "%s", dir) >= (int)sizeof(to))
		return;
	if (setup_mkdirs(to) || mount(dir, to, NULL, how, NULL) < 0)
		say("cannot move %s into the new root: %s", dir, strerror(errno));
}

/* A mount takes those below it along. */
static void move_mounts(void)
{
	char *moved[MOVES_MAX];
	int n = 0;
	struct mntent *m;
	FILE *f = setmntent("/proc/self/mounts", "r");

	while (f && (m = getmntent(f)) && n < MOVES_MAX) {
		int skip = !strcmp(m->mnt_dir, "/") || is_below(m->mnt_dir, "/tmp") ||
			   is_below(m->mnt_dir, WIRE_DIR);

		for (int i = 0; !skip && i < n; i++)
			skip = is_below(m->mnt_dir, moved[i]);
		if (!skip && (moved[n] = strdup(m->mnt_dir)))
			n++;
	}
	if (f)
		endmntent(f);
	for (int i = 0; i < n; i++) {
		move_one(moved[i], MS_MOVE);
		free(moved[i]);
	}
}

int root_switch(const char *type, const char *source, const char *options)
{
	int ret = make_overlay(type, source, options);

	if (ret)
		return ret;
	move_one(WIRE_DIR, MS_BIND);
	if (access("/lib/modules", F_OK) == 0)
		move_one("/lib/modules", MS_BIND);
	move_mounts();
	if (chdir(ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
	    chdir("/") < 0)
		return -errno;
	return 0;
}
