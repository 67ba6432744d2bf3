/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_file.h - files of a host that is made of files, for tests
 */
#ifndef ORR_TESTS_HOST_FAKE_FILE_H
#define ORR_TESTS_HOST_FAKE_FILE_H

#include "base/compiler.h"
#include "base/path.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static void fake_file(const char *root, const char *text, const char *fmt, ...) attr_printf(3, 4);

/* Writes @text into a file below @root, with the directories that it needs. */
static void fake_file(const char *root, const char *text, const char *fmt, ...)
{
	char name[192], path[256], *slash;
	va_list ap;
	FILE *f;

	va_start(ap, fmt);
	vsnprintf(name, sizeof(name), fmt, ap);
	va_end(ap);
	snprintf(path, sizeof(path), "%s/%s", root, name);
	slash = strrchr(path, '/');
	*slash = 0;
	assert_int_equal(path_make_dirs(path), 0);
	*slash = '/';
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

#endif
