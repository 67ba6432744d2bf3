/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unixsock.h - Unix stream sockets: connecting, who is at the other end, passing a descriptor
 *
 * Functions return >= 0 or a negative errno. Descriptors are close-on-exec.
 */
#ifndef ORR_HOST_UNIXSOCK_H
#define ORR_HOST_UNIXSOCK_H

#include "base/compiler.h"

#include <sys/types.h>

/*
 * Connects without ever waiting: a connected, non-blocking descriptor; -ENOENT, -ECONNREFUSED, or
 * -EAGAIN if the listener's queue is full. -ENAMETOOLONG for a path of more than 107 bytes.
 */
int unixsock_connect(const char *path);
/* A listening, non-blocking descriptor at @path, which must not exist; mode 0600. */
int unixsock_listen(const char *path);
/* The process at the other end, as it was when it connected or began to listen. */
int unixsock_peer(int fd, pid_t *ret_pid, uid_t *ret_uid);
/*
 * Sends all of @data (not empty) without waiting, with @pass (-1: none) attached. 0; -EAGAIN if it
 * does not fit: then the connection is of no use any more.
 */
int unixsock_send(int fd, const void *data, size_t len, int pass);
/*
 * Receives up to @len bytes, waiting as the descriptor does. How many, 0 at the end. *ret_pass: a
 * descriptor that came along, owned by the caller, else -1. More than one are closed.
 */
ssize_t unixsock_receive(int fd, void *data, size_t len, int *ret_pass);

#endif
