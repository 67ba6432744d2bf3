// SPDX-License-Identifier: Apache-2.0
/*
 * hostfile.c - reads the small files of /proc and /sys
 */
#include "host/hostfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_LEN 4096u

static int read_text(char *ret, size_t size, const char *root, const char *fmt, va_list ap)
{
	char path[PATH_LEN];
	int n = snprintf(path, sizeof(path), "%s", root), k, fd, r = 0;
	size_t len = 0;

	ret[0] = 0;
	if (n < 0 || (unsigned)n >= sizeof(path))
		return -ENAMETOOLONG;
	k = vsnprintf(path + n, sizeof(path) - (size_t)n, fmt, ap);
	if (k < 0 || (size_t)k >= sizeof(path) - (size_t)n)
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	while (len < size - 1) {
		ssize_t got = read(fd, ret + len, size - 1 - len);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			r = -errno;
		if (got <= 0)
			break;
		len += (size_t)got;
	}
	close(fd);
	if (r < 0)
		len = 0;
	while (len && strchr(" \t\n", ret[len - 1]))
		len--;
	ret[len] = 0;
	return r < 0 ? r : (int)len;
}

int hostfile_text(char *ret, size_t size, const char *root, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = read_text(ret, size, root, fmt, ap);
	va_end(ap);
	return r;
}

u64 hostfile_u64(u64 otherwise, const char *root, const char *fmt, ...)
{
	char text[64];
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = read_text(text, sizeof(text), root, fmt, ap);
	va_end(ap);
	return r > 0 && text[0] >= '0' && text[0] <= '9' ? strtoull(text, NULL, 10) : otherwise;
}

u64 hostfile_field(const char *text, const char *key, u64 otherwise)
{
	size_t n = strlen(key);

	for (const char *p = text; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (strncmp(p, key, n) != 0)
			continue;
		p += n;
		p += strspn(p, " \t:");
		return *p >= '0' && *p <= '9' ? strtoull(p, NULL, 10) : otherwise;
	}
	return otherwise;
}
