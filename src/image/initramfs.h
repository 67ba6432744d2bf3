/* SPDX-License-Identifier: Apache-2.0 */
/*
 * initramfs.h - composes the guest's root file system
 */
#ifndef ORR_IMAGE_INITRAMFS_H
#define ORR_IMAGE_INITRAMFS_H

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

struct initramfs_include {
	const char *host;  /* file or directory; a bare name that is not here: a command in PATH */
	const char *guest; /* absolute; NULL: where it is on the host. A final '/' adds its name */
};

/* All borrowed. */
struct initramfs_cfg {
	const char *const *argv; /* the command, NULL-terminated; NULL: a shell on the console */
	const char *const *env;	 /* NAME=VALUE, NULL-terminated; may be NULL */
	const char *cwd;	 /* absolute; NULL: "/" */
	const char *path;	 /* the host's PATH; may be NULL */
	const char *ld_library_path; /* the host's LD_LIBRARY_PATH; may be NULL */
	const char *busybox;	     /* host file; NULL: INITRAMFS_BUSYBOX */
	const char *hostname;	     /* NULL: "orrery" */
	const char *port;	     /* device of the command port; NULL: output to the console */
	const char *vport;	     /* virtio port to use instead if it is there; NULL: none */
	const char *console;	     /* device for the shell; NULL: what /dev/console is */
	const char *modules_dir;     /* lib/modules/RELEASE of the kernel; needed if @modules is */
	const char *const *modules;  /* names, NULL-terminated; may be NULL */
	const char *const *later;    /* names of modules that are loaded if need be; may be NULL */
	const void *setup;	     /* WIRE_SETUP_FILE; NULL: none */
	size_t setup_len;
	const struct initramfs_include *include;
	size_t n_include;
	bool host_root;	     /* the guest's root will be the host's: the command is there */
	bool stdin_null;     /* the command's input is /dev/null, not the port */
	bool tty;	     /* the command gets a pseudo-terminal of rows x cols (0: unknown) */
	unsigned rows, cols; /* with a shell on the console: the console's size */
};

#define INITRAMFS_BUSYBOX "/bin/busybox"

/* Bytes of the archive by part: what to say when it does not fit into the guest's memory. */
struct initramfs_sizes {
	u64 base;    /* init, busybox and its links, directories, /etc */
	u64 command; /* CMD with its libraries */
	u64 include;
	u64 modules;
	u64 total; /* the archive */
};

/*
 * Appends an uncompressed newc archive to @ret: an emulated guest would spend more instructions on
 * unpacking than the copying costs. The same inputs give the same bytes. @ret_sizes may be NULL.
 * Errors carry a message: -ENOENT, -EACCES, -ENOEXEC (CMD or an include), -EINVAL, -EEXIST...
 */
int initramfs_compose(const struct initramfs_cfg *cfg, struct err *e,
		      struct initramfs_sizes *ret_sizes, struct buf *ret);

#endif
