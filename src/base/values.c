// SPDX-License-Identifier: Apache-2.0
/*
 * values.c - reads the values of options: numbers, sizes, durations, dates, words
 */
#include "base/values.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WORD_MAX 40u
#define NS_PER_S 1000000000ull
#define SECONDS_MAX (1ull << 33) /* about 272 years, and no overflow in nanoseconds */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

int value_u64(const char *opt, const char *text, u64 min, u64 max, struct err *e, u64 *ret)
{
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	unsigned long long v;
	char *end;

	errno = 0;
	v = strtoull(text, &end, hex ? 16 : 10);
	if (!is_digit(text[0]) || *end || errno || v < min || v > max)
		return err_set(e, -EINVAL, "%s %.80s: not a number from %llu to %llu", opt, text,
			       (unsigned long long)min, (unsigned long long)max);
	*ret = v;
	return 0;
}

int value_size(const char *opt, const char *text, struct err *e, u64 *ret)
{
	static const char units[] = "KMGT";
	const char *unit;
	unsigned long long v;
	unsigned shift = 0;
	char *end;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (is_digit(text[0]) && !errno && *end) {
		char up = *end >= 'a' ? (char)(*end - 'a' + 'A') : *end;

		unit = strchr(units, up);
		shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
		end += unit ? 1 : 0;
		if (unit && *end == 'B') /* MB, as people write; MiB is meant */
			end++;
	}
	if (!is_digit(text[0]) || *end || errno || v << shift >> shift != v)
		return err_set(e, -EINVAL, "%s %.80s: not a size; examples: 512M, 2G", opt, text);
	if (!shift && v && v < (1u << 20))
		return err_set(e, -EINVAL, "%s %s: that is %s bytes; did you mean %sM?", opt, text,
			       text, text);
	*ret = v << shift;
	return 0;
}

int value_seconds(const char *opt, const char *text, struct err *e, u64 *ret)
{
	u64 s, frac = 0, unit = NS_PER_S / 10;
	unsigned long long v;
	char *end;

	errno = 0;
	v = strtoull(text, &end, 10);
	s = v;
	if (*end == '.')
		for (end++; is_digit(*end); end++, unit /= 10)
			frac += (u64)(*end - '0') * unit;
	if (!is_digit(text[0]) || *end || errno || s > SECONDS_MAX || (!s && !frac))
		return err_set(e, -EINVAL, "%s %.80s: not a number of seconds above 0", opt, text);
	*ret = s * NS_PER_S + frac;
	return 0;
}

int value_time(const char *opt, const char *text, struct err *e, s64 *ret)
{
	struct tm tm = { 0 }, check;
	const char *rest;
	long long v;
	time_t t;
	char *end;

	errno = 0;
	v = strtoll(text, &end, 10);
	if (!*end && end != text && !errno) {
		*ret = v;
		return 0;
	}
	rest = strptime(text, "%Y-%m-%d", &tm);
	if (rest && (*rest == 'T' || *rest == ' '))
		rest = strptime(rest + 1, "%H:%M:%S", &tm);
	if (rest && *rest == 'Z')
		rest++;
	check = tm;
	t = timegm(&tm);
	/* timegm takes February 30 for March 2. */
	if (!rest || *rest || tm.tm_mday != check.tm_mday || tm.tm_mon != check.tm_mon)
		return err_set(e, -EINVAL,
			       "%s %.80s: neither Unix seconds nor a date; example: "
			       "2026-01-01T00:00:00Z",
			       opt, text);
	*ret = (s64)t;
	return 0;
}

int value_piece(const char *opt, const char **list, char *piece, size_t size, struct err *e,
		const char **ret_val)
{
	const char *p = *list;
	size_t n = 0;
	char *eq;

	if (!*p)
		return 0;
	for (; *p && (*p != ',' || p[1] == ','); p++) {
		p += *p == ',';
		if (n + 1 == size)
			return err_set(e, -EINVAL, "%s: %.40s... is too long", opt, *list);
		piece[n++] = *p;
	}
	piece[n] = 0;
	if (!n || (*p && !p[1]))
		return err_set(e, -EINVAL, "%s: there is nothing between two commas, or behind one",
			       opt);
	eq = strchr(piece, '=');
	if (eq)
		*eq = 0;
	*list = *p ? p + 1 : p;
	*ret_val = eq ? eq + 1 : NULL;
	return 1;
}

/*
 * How many letters to change, insert, delete or swap with their neighbour between two words
 * (Damerau and Levenshtein's distance, in its restricted form).
 */
static unsigned distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	unsigned d[WORD_MAX + 1][WORD_MAX + 1];

	if (la > WORD_MAX || lb > WORD_MAX)
		return WORD_MAX;
	for (unsigned i = 0; i <= la; i++)
		d[i][0] = i;
	for (unsigned j = 0; j <= lb; j++)
		d[0][j] = j;
	for (size_t i = 1; i <= la; i++) {
		for (size_t j = 1; j <= lb; j++) {
			unsigned least = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

			least = MIN(least, MIN(d[i - 1][j], d[i][j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				least = MIN(least, d[i - 2][j - 2] + 1);
			d[i][j] = least;
		}
	}
	return d[la][lb];
}

const char *value_nearest(const char *word, const char *const *names, size_t n, size_t stride)
{
	const char *best = NULL;
	unsigned least = strlen(word) < 5 ? 2 : 3; /* farther than that is another word */

	for (size_t i = 0; i < n; i++) {
		const char *name;

		memcpy(&name, (const char *)names + i * stride, sizeof(name));
		unsigned d = distance(word, name);
		if (d < least) {
			least = d;
			best = name;
		}
	}
	return best;
}

int value_choice(const char *opt, const char *text, const char *const *names, unsigned n,
		 struct err *e, unsigned *ret)
{
	const char *near = value_nearest(text, names, n, sizeof(*names));

	for (unsigned i = 0; i < n; i++) {
		if (!strcmp(text, names[i])) {
			*ret = i;
			return 0;
		}
	}
	if (near)
		return err_set(e, -EINVAL, "%s %.40s: unknown; did you mean %s?", opt, text, near);
	return err_set(e, -EINVAL, "%s %.40s: unknown; orrery(1) lists what there is", opt, text);
}
