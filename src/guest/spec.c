// SPDX-License-Identifier: Apache-2.0
/*
 * spec.c - reads the file that says what to run
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/wire.h"

int text_read(const char *file, char **ret_text, size_t *ret_len)
{
	struct stat sb;
	char *text = NULL;
	ssize_t n = 0;
	size_t len = 0;
	int fd, ret;

	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = fstat(fd, &sb) < 0 ? -errno : 0;
	if (!ret && !(text = malloc((size_t)sb.st_size + 1)))
		ret = -ENOMEM;
	while (!ret && len < (size_t)sb.st_size) {
		n = read(fd, text + len, (size_t)sb.st_size - len);
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	if (!ret && n < 0)
		ret = -errno;
	close(fd);
	if (ret) {
		free(text);
		return ret;
	}
	text[len] = 0;
	*ret_text = text;
	*ret_len = len;
	return 0;
}

/* "ROWSxCOLS" */
static int parse_size(struct spec *s, const char *value)
{
	char *end;
	unsigned long rows = strtoul(value, &end, 10);

	if (*end != 'x' || rows > 0xffff)
		return -EINVAL;
	s->rows = (unsigned)rows;
	s->cols = (unsigned)strtoul(end + 1, &end, 10);
	s->tty = true;
	return *end || s->cols > 0xffff ? -EINVAL : 0;
}

static int parse_one(struct spec *s, char *key, char *value, size_t *n_arg, size_t *n_env)
{
	if (!strcmp(key, "arg"))
		s->argv[(*n_arg)++] = value;
	else if (!strcmp(key, "env"))
		s->envp[(*n_env)++] = value;
	else if (!strcmp(key, "exec"))
		s->exec = value;
	else if (!strcmp(key, "cwd"))
		s->cwd = value;
	else if (!strcmp(key, "host"))
		s->host = value;
	else if (!strcmp(key, "port"))
		s->port = value;
	else if (!strcmp(key, "vport"))
		s->vport = value;
	else if (!strcmp(key, "console"))
		s->console = value;
	else if (!strcmp(key, "stdin"))
		s->stdin_null = !strcmp(value, "null");
	else if (!strcmp(key, "tty"))
		return parse_size(s, value);
	else
		return -EINVAL;
	return 0;
}

int spec_parse(struct spec *s, char *text, size_t len)
{
	size_t lines = 0, n_arg = 0, n_env = 0;
	char *end = text + len, *p = text;

	*s = (struct spec){ 0 };
	for (size_t i = 0; i < len; i++)
		lines += !text[i];
	/* One list holds both: each line is at most one of them, plus two NULLs. */
	s->argv = calloc(2 * (lines + 1), sizeof(*s->argv));
	if (!s->argv)
		return -ENOMEM;
	s->envp = s->argv + lines + 1;
	if (!lines || end[-1] || strcmp(p, WIRE_SPEC_MAGIC) != 0)
		return -EINVAL;
	for (p += strlen(p) + 1; p < end; p += strlen(p) + 1) {
		char *value = strchr(p, '=');
		int ret;

		if (!value)
			return -EINVAL;
		*value++ = 0;
		ret = parse_one(s, p, value, &n_arg, &n_env);
		if (ret)
			return ret;
		p = value;
	}
	return s->exec && !n_arg ? -EINVAL : 0;
}
