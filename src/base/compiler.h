/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compiler.h - scalar types and the GNU extensions this project allows itself
 *
 * The whole list of extensions: __attribute__ (format, packed, aligned, noinline, always_inline,
 * cold, hot, unused, fallthrough, noreturn, warn_unused_result), __builtin_expect,
 * __builtin_*_overflow, __builtin_clz/ctz/popcount/bswap, statement expressions, typeof and
 * __COUNTER__ in the macros of this file, asm in cpu/, unsigned __int128, and labels as values
 * nowhere.
 */
#ifndef ORR_BASE_COMPILER_H
#define ORR_BASE_COMPILER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
__extension__ typedef unsigned __int128 u128;
__extension__ typedef __int128 s128;

typedef u64 gpa_t; /* a guest-physical address */
typedef u64 gva_t; /* a guest-linear (virtual) address */

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define attr_printf(f, a) __attribute__((format(printf, f, a)))
#define attr_packed __attribute__((packed))
#define attr_aligned(n) __attribute__((aligned(n)))
#define attr_noinline __attribute__((noinline))
#define attr_inline inline __attribute__((always_inline))
#define attr_cold __attribute__((cold, noinline))
#define attr_unused __attribute__((unused))
#define attr_noreturn __attribute__((noreturn))
#define attr_nodiscard __attribute__((warn_unused_result))
#define fallthrough __attribute__((fallthrough))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
/* Each argument is evaluated once; the numbered names let one stand inside the other. */
#define MIN(a, b) MINMAX_PICK(a, b, <, __COUNTER__)
#define MAX(a, b) MINMAX_PICK(a, b, >, __COUNTER__)
#define MINMAX_PICK(a, b, op, n) MINMAX_NAMED(a, b, op, n)
#define MINMAX_NAMED(a, b, op, n)                                                                  \
	({                                                                                         \
		__typeof__(a) pick_a##n = (a);                                                     \
		__typeof__(b) pick_b##n = (b);                                                     \
		pick_a##n op pick_b##n ? pick_a##n : pick_b##n;                                    \
	})
/* The struct that contains *ptr as its @member. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define BIT(n) (1ull << (n))
/* @a must be a power of two. */
#define ALIGN_UP(x, a) (((x) + ((a)-1)) & ~((__typeof__(x))(a)-1))
#define ALIGN_DOWN(x, a) ((x) & ~((__typeof__(x))(a)-1))

/*
 * Our own bugs abort here, in every build. Nothing a guest, an image or a client sends may reach
 * it. Prints file, line and the condition.
 */
#define BUG_IF(cond)                                                                               \
	do {                                                                                       \
		if (unlikely(cond))                                                                \
			bug(__FILE__, __LINE__, #cond);                                            \
	} while (0)
attr_noreturn attr_cold void bug(const char *file, int line, const char *what);

#endif
