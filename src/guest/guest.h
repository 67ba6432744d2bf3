/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest.h - the parts of the guest's init
 *
 * This program is built with musl, statically, and runs in the guest; from the rest of the tree it
 * uses base/wire.h only. No part sleeps, and none starts a process but the command: boot time is a
 * budget.
 */
#ifndef ORR_GUEST_GUEST_H
#define ORR_GUEST_GUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/wire.h"

#define GUEST_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* What to run; see WIRE_SPEC_MAGIC. Pointers go into the text given to spec_parse. */
struct spec {
	char *exec; /* NULL: a shell on the console */
	char **argv, **envp;
	char *cwd, *host, *port, *vport, *console;
	bool stdin_null;
	bool tty;
	unsigned rows, cols; /* 0: unknown */
};

/* Reads a whole file into a malloc'ed text with a NUL behind it. 0 or negative errno. */
int text_read(const char *file, char **ret_text, size_t *ret_len);
/* Parses @text (@len bytes, a NUL behind), which must outlive @s. 0, -EINVAL, -ENOMEM. */
int spec_parse(struct spec *s, char *text, size_t len);

/* setup.c: the guest as a Unix system. Failures of what a kernel may lack are silent. */
void setup_mounts(void);
void setup_identity(const struct spec *s);
/* @list: WIRE_MODULES_FILE or WIRE_LATER_FILE. */
void setup_modules(const char *list);
/* Does what WIRE_SETUP_FILE says; what fails is said. */
void setup_lines(void);
/* Before the command's end is reported: everything written is on the disks. */
void setup_finish(void);
/*
 * root.c: makes the file system @source of @type, under a writable layer in memory, the root of
 * this process; what is mounted moves along. 0 or negative errno; then nothing has changed.
 */
int root_switch(const char *type, const char *source, const char *options);
/* net.c: words of the directive "net" (WIRE_SETUP_FILE). 0 or negative errno. */
int setup_net(char **words);
/* Makes the directory @path with its parents. 0 or negative errno. */
int setup_mkdirs(const char *path);

/* port.c: frames of the command port. Writing blocks until the host has taken everything. */
struct port {
	int fd; /* -1: not open */
	uint8_t in[WIRE_HEAD + WIRE_PAYLOAD_MAX];
	size_t n_in; /* bytes of an incomplete frame */
	uint8_t out[WIRE_HEAD + WIRE_PAYLOAD_MAX];
};

/* Opens and, if it is a tty, makes it raw and 8-bit clean. 0 or negative errno. */
int port_open(struct port *p, const char *dev);
/* Where a payload for port_send may be put to save a copy: WIRE_PAYLOAD_MAX bytes. */
uint8_t *port_payload(struct port *p);
/* Sends one frame. 0 or negative errno; without an open port 0. */
int port_send(struct port *p, unsigned type, const void *data, size_t len);
/*
 * Reads what is there (blocks if nothing is) and calls @frame for each whole frame. 0; -EPIPE at
 * the end of the stream; -EPROTO for a malformed frame; or what @frame returned.
 */
int port_receive(struct port *p,
		 int (*frame)(void *opaque, unsigned type, const uint8_t *data, size_t len),
		 void *opaque);

/*
 * vport.c: the device file of the virtio port @name in *ret, once its driver has made it. 0, or
 * -ENODEV: there is no such driver or port.
 */
int vport_find(const char *name, char *ret, size_t size);

/* How the command ended; the EXIT frame. */
struct outcome {
	unsigned how; /* enum wire_how */
	unsigned value;
	char words[256];
};

/*
 * init.c: the virtio port of @s, opened, with the modules for it loaded if @load. 0 and *ret
 * (an fd), or negative errno.
 */
int better_port(const struct spec *s, bool load, int *ret_fd);

/* relay.c: runs the command and carries its input and output until it ends. */
void relay_run(struct port *p, const struct spec *s, struct outcome *ret);

/* Sets @o to NOT_STARTED with "what: strerror". */
void outcome_fail(struct outcome *o, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * agent.c: the directive "agent" of WIRE_SETUP_FILE. @s (borrowed) is the VM's own spec, whose
 * environment and directory commands inherit.
 */
void agent_inherit(const struct spec *s);
int agent_start(char **words);
/* init.c: the directive "listen". */
int listen_start(char **words);
/* Reads a request from @fd and completes it. 0 or negative errno. */
int agent_request(int fd, struct spec *ret);

/* init.c: one command for whoever is at the other end of @fd, which sends what it is. */
void serve(int fd);

/* init.c: words for a person, to the host through the port if it is open, else to the console. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
