/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stress.h - what the groups of checks in the stress program share
 */
#ifndef ORR_TESTS_KERNEL_STRESS_H
#define ORR_TESTS_KERNEL_STRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Counts a failed check and says where and which, for people. */
void stress_fail(const char *file, int line, const char *what, long long got, long long want);

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			stress_fail(__FILE__, __LINE__, #cond, 0, 1);                              \
	} while (0)

#define CHECK_EQ(got, want)                                                                        \
	do {                                                                                       \
		long long got_ = (long long)(got), want_ = (long long)(want);                      \
		if (got_ != want_)                                                                 \
			stress_fail(__FILE__, __LINE__, #got " == " #want, got_, want_);           \
	} while (0)

/* 64-bit FNV-1a over @n bytes, continued from @h (0: the start). */
uint64_t stress_hash(uint64_t h, const void *bytes, size_t n);

/* Each group prints nothing itself; it returns a value that depends on what was computed only. */
uint64_t stress_float(void); /* stress_cpu.c */
uint64_t stress_modes(void);
uint64_t stress_preempt(void);
uint64_t stress_runs(void);
uint64_t stress_atomics(void); /* stress_threads.c */
uint64_t stress_condvar(void);
uint64_t stress_shootdown(void);
uint64_t stress_clock(void);
uint64_t stress_faults(void); /* stress_mm.c */
uint64_t stress_smc(void);
uint64_t stress_forks(void);
uint64_t stress_ptrace(void);

#endif
