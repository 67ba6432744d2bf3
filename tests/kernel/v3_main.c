/* SPDX-License-Identifier: Apache-2.0 */
/*
 * v3_main.c - what a program built for x86-64-v3 computes, to be compared between host and guest
 *
 * Loops that the compiler turns into AVX2, FMA and gathers; conversions and bit fields; and YMM
 * registers that have to survive system calls, signals and other threads.
 */
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define N 64
#define M 4096

static uint64_t state = 1;

static uint64_t rnd(void)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return state >> 16;
}

static uint64_t mix(uint64_t h, uint64_t x)
{
	return (h ^ x) * 0x9e3779b97f4a7c15ull;
}

/* --- arithmetic ------------------------------------------------------------------------------ */

static void matrix(void)
{
	static double a[N][N], b[N][N], c[N][N];
	double sum = 0;

	for (int i = 0; i < N; i++) {
		for (int j = 0; j < N; j++) {
			a[i][j] = (double)(rnd() & 0xffffff) / 1e5;
			b[i][j] = (double)(rnd() & 0xffffff) / 1e5;
		}
	}
	for (int i = 0; i < N; i++)
		for (int k = 0; k < N; k++)
			for (int j = 0; j < N; j++)
				c[i][j] += a[i][k] * b[k][j];
	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++)
			sum += c[i][j];
	printf("matrix %.17g\n", sum);
}

static void lookups(void)
{
	static float table[M];
	static int index[M], out[M];
	uint64_t h = 0;

	for (int i = 0; i < M; i++) {
		table[i] = (float)(rnd() & 0xffff) / 7;
		index[i] = (int)(rnd() % M);
	}
	for (int i = 0; i < M; i++)
		out[i] = (int)table[index[i]];
	for (int i = 0; i < M; i++)
		h = mix(h, (uint64_t)out[i]);
	printf("lookups %016llx\n", (unsigned long long)h);
}

static void bits(void)
{
	uint64_t h = 0;

	for (int i = 0; i < 20000; i++) {
		uint64_t x = rnd() | rnd() << 40, m = rnd();

		h = mix(h, _lzcnt_u64(x >> (i & 63)) + 100 * _tzcnt_u64(x << (i & 63)));
		h = mix(h, _pext_u64(x, m) ^ _pdep_u64(x, ~m) ^ _bzhi_u64(x, (unsigned)i));
		h = mix(h, _blsr_u64(x) + _blsi_u64(m) + _bextr_u64(x, (unsigned)i & 31, 17));
		h = mix(h, __builtin_bswap64(x) >> (m & 63));
	}
	printf("bits %016llx\n", (unsigned long long)h);
}

static void halves(void)
{
	uint64_t h = 0;

	for (int i = 0; i < 2000; i++) {
		uint64_t x[4] = { rnd(), rnd(), rnd(), rnd() };
		__m256 f = _mm256_cvtph_ps(_mm_loadu_si128((void *)x));
		__m256i mask = _mm256_loadu_si256((void *)x);
		int out[8] = { 0 };

		f = _mm256_fmadd_ps(f, f, _mm256_set1_ps(0.25f));
		_mm256_maskstore_epi32(out, mask, _mm256_castps_si256(f));
		_mm_storeu_si128((void *)x, _mm256_cvtps_ph(f, 1));
		h = mix(mix(h, x[0]), x[1]);
		for (int k = 0; k < 8; k++)
			h = mix(h, (uint64_t)out[k]);
	}
	printf("halves %016llx\n", (unsigned long long)h);
}

static void strings(void)
{
	size_t n = 100000;
	char *p = malloc(n), *q = malloc(n);
	uint64_t h = 0;

	memset(p, 'x', n - 1);
	p[n - 1] = 0;
	for (size_t i = 1; i < n; i = i * 5 / 4 + 1) {
		p[i] = 'y';
		memcpy(q, p, n);
		h = mix(h, (uint64_t)(strchr(p + i / 2, 'y') - p));
		q[n - i] = 'z';
		h = mix(h, (uint64_t)(strcmp(p, q) < 0) + strlen(q + i) + strspn(p + i, "xy"));
	}
	printf("strings %016llx\n", (unsigned long long)h);
	free(p);
	free(q);
}

/* --- registers that stay --------------------------------------------------------------------- */

/* Loads YMM0 and YMM15, makes a system call, and stores them. */
static long across(long nr, long a, long b, const __m256i in[2], __m256i out[2])
{
	long r;

	__asm__ volatile("vmovdqu (%[in]), %%ymm0\n\tvmovdqu 32(%[in]), %%ymm15\n\tsyscall\n\t"
			 "vmovdqu %%ymm0, (%[out])\n\tvmovdqu %%ymm15, 32(%[out])"
			 : "=a"(r)
			 : "a"(nr), "D"(a), "S"(b), [in] "r"(in), [out] "r"(out)
			 : "rcx", "r11", "xmm0", "xmm15", "memory");
	return r;
}

static void clobber(int sig)
{
	(void)sig;
	__asm__ volatile("vpcmpeqd %%ymm0, %%ymm0, %%ymm0\n\tvpcmpeqd %%ymm15, %%ymm15, %%ymm15"
			 :
			 :
			 : "xmm0", "xmm15");
}

static void *worker(void *arg)
{
	long me = (long)arg, bad = 0;

	for (int i = 0; i < 3000; i++) {
		__m256i in[2], out[2];

		memset(in, (int)(me * 50 + i % 50), sizeof(in));
		across(i % 3 ? SYS_sched_yield : SYS_getpid, 0, 0, in, out);
		bad += memcmp(in, out, sizeof(in)) != 0;
	}
	return (void *)bad;
}

static void registers(void)
{
	__m256i in[2], out[2];
	pthread_t t[4];
	long bad = 0;

	for (long i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, worker, (void *)i);
	for (int i = 0; i < 4; i++) {
		void *b;

		pthread_join(t[i], &b);
		bad += (long)b;
	}
	signal(SIGUSR1, clobber);
	for (int i = 0; i < 200; i++) {
		memset(in, i, sizeof(in));
		across(SYS_kill, getpid(), SIGUSR1, in, out);
		bad += memcmp(in, out, sizeof(in)) != 0;
	}
	printf("registers %ld\n", bad);
}

int main(void)
{
	matrix();
	lookups();
	bits();
	halves();
	strings();
	registers();
	return 0;
}
