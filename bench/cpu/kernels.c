// SPDX-License-Identifier: Apache-2.0
/*
 * kernels.c - small fixed amounts of work, for measuring a CPU from outside
 *
 * How it works: one static program, run by a host as it is, or by a guest as /init. Each kernel does
 * a fixed amount of work, chosen by count and not by time, and yields a checksum that must be the
 * same wherever it runs. A guest's clock says nothing about the host's time (under a virtual clock
 * it counts instructions), so the guest measures nothing: it writes a line before and a line after
 * each kernel, and the host times the lines as they come.
 *
 *	@ NAME GROUP		about to start; the output is drained, so that no output is timed
 *	! NAME CHECKSUM CPU_US	done; CPU_US is for the native run, the process's and its children's
 *	$			all done
 *
 * usage: kernels [NAME...]	(all without a name; as /init, names follow "--" on the command line)
 */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

static const char *self; /* the path by which this program can be executed again */

/* Keeps the compiler from folding or hoisting what is measured. */
#define OPAQUE(x) __asm__ volatile("" : "+r"(x) : : "memory")

static void fail(const char *what)
{
	perror(what);
	_exit(1);
}

static uint64_t rnd(uint64_t *st)
{
	*st ^= *st << 13;
	*st ^= *st >> 7;
	*st ^= *st << 17;
	return *st;
}

/* ---- integer code ---- */

static void quicksort(uint32_t *a, long lo, long hi)
{
	while (lo < hi) {
		uint32_t pivot = a[(lo + hi) / 2];
		long i = lo;
		long j = hi;

		while (i <= j) {
			while (a[i] < pivot)
				i++;
			while (a[j] > pivot)
				j--;
			if (i <= j) {
				uint32_t t = a[i];

				a[i++] = a[j];
				a[j--] = t;
			}
		}
		quicksort(a, lo, j);
		lo = i;
	}
}

static uint64_t k_sort(unsigned long n)
{
	enum { LEN = 100000 };
	static uint32_t a[LEN];
	uint64_t st = 88172645463325252ull;
	uint64_t sum = 0;

	while (n--) {
		for (int i = 0; i < LEN; i++)
			a[i] = (uint32_t)rnd(&st);
		quicksort(a, 0, LEN - 1);
		for (int i = 0; i < LEN; i += 997)
			sum = sum * 31 + a[i];
	}
	return sum;
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t k_qsort(unsigned long n)
{
	enum { LEN = 50000 };
	static uint32_t a[LEN];
	uint64_t st = 1234567891234567ull;
	uint64_t sum = 0;

	while (n--) {
		for (int i = 0; i < LEN; i++)
			a[i] = (uint32_t)rnd(&st);
		qsort(a, LEN, sizeof(a[0]), compare_u32);
		for (int i = 0; i < LEN; i += 997)
			sum = sum * 31 + a[i];
	}
	return sum;
}

static uint64_t k_sieve(unsigned long n)
{
	enum { LEN = 1 << 20 };
	static uint8_t composite[LEN];
	uint64_t primes = 0;

	while (n--) {
		memset(composite, 0, sizeof(composite));
		for (uint32_t i = 2; i < LEN; i++) {
			if (composite[i])
				continue;
			primes++;
			for (uint64_t j = (uint64_t)i * i; j < LEN; j += i)
				composite[j] = 1;
		}
	}
	return primes;
}

/* FIPS 180-4, section 6.2. */
static const uint32_t sha_k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
	0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
	0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
	0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
	0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
	0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
	0xc67178f2,
};

static uint32_t ror32(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static void sha256_block(uint32_t h[8], const uint8_t *p)
{
	uint32_t w[64];
	uint32_t s[8];

	for (int i = 0; i < 16; i++) {
		memcpy(&w[i], p + i * 4, 4);
		w[i] = __builtin_bswap32(w[i]);
	}
	for (int i = 16; i < 64; i++) {
		uint32_t a = ror32(w[i - 15], 7) ^ ror32(w[i - 15], 18) ^ w[i - 15] >> 3;
		uint32_t b = ror32(w[i - 2], 17) ^ ror32(w[i - 2], 19) ^ w[i - 2] >> 10;

		w[i] = w[i - 16] + a + w[i - 7] + b;
	}
	memcpy(s, h, sizeof(s));
	for (int i = 0; i < 64; i++) {
		uint32_t e = ror32(s[4], 6) ^ ror32(s[4], 11) ^ ror32(s[4], 25);
		uint32_t ch = (s[4] & s[5]) ^ (~s[4] & s[6]);
		uint32_t t1 = s[7] + e + ch + sha_k[i] + w[i];
		uint32_t a = ror32(s[0], 2) ^ ror32(s[0], 13) ^ ror32(s[0], 22);
		uint32_t maj = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);

		memmove(s + 1, s, 7 * sizeof(s[0]));
		s[4] += t1;
		s[0] = t1 + a + maj;
	}
	for (int i = 0; i < 8; i++)
		h[i] += s[i];
}

static uint64_t k_sha256(unsigned long n)
{
	static uint8_t data[65536];
	uint32_t h[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
			  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

	for (unsigned int i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + (i >> 8));
	while (n--)
		for (unsigned int i = 0; i < sizeof(data); i += 64)
			sha256_block(h, data + i);
	return (uint64_t)h[0] << 32 | h[7];
}

static uint64_t k_divide(unsigned long n)
{
	uint64_t sum = 0;

	for (uint64_t i = 1; i <= n; i++) {
		uint64_t d = i | 3;

		OPAQUE(d);
		sum += (i << 20) / d + (uint32_t)(i * 2654435761u) % (uint32_t)d;
	}
	return sum;
}

static uint64_t k_hash(unsigned long n)
{
	uint64_t h = 14695981039346656037ull;

	for (uint64_t i = 0; i < n; i++) {
		h = (h ^ i) * 0x9e3779b97f4a7c15ull;
		h ^= h >> 29;
		if (h & 1)
			h += i << 7;
	}
	return h;
}

/* ---- control flow ---- */

static __attribute__((noinline)) uint64_t fib(uint64_t n)
{
	OPAQUE(n);
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t k_calls(unsigned long n)
{
	uint64_t sum = 0;

	while (n--)
		sum += fib(25);
	return sum;
}

static __attribute__((noinline)) uint64_t op_add(uint64_t a, uint64_t b)
{
	return a + b;
}

static __attribute__((noinline)) uint64_t op_xor(uint64_t a, uint64_t b)
{
	return a ^ (b << 3);
}

static __attribute__((noinline)) uint64_t op_mul(uint64_t a, uint64_t b)
{
	return a * (b | 1);
}

static __attribute__((noinline)) uint64_t op_ror(uint64_t a, uint64_t b)
{
	return (a >> 9 | a << 55) - b;
}

static uint64_t k_indirect(unsigned long n)
{
	static uint64_t (*volatile ops[8])(uint64_t, uint64_t) = { op_add, op_xor, op_mul, op_ror,
								   op_xor, op_add, op_ror, op_mul };
	uint64_t st = 2463534242ull;
	uint64_t a = 1;

	for (uint64_t i = 0; i < n; i++)
		a = ops[rnd(&st) & 7](a, i);
	return a;
}

/* An interpreter's shape: a table of jumps, poorly predictable. */
static uint64_t k_switch(unsigned long n)
{
	static uint8_t code[4096];
	uint64_t st = 362436069ull;
	uint64_t a = 1;
	uint64_t b = 2;

	for (unsigned int i = 0; i < sizeof(code); i++)
		code[i] = rnd(&st) % 10;
	for (uint64_t i = 0; i < n; i++) {
		switch (code[i & 4095]) {
		case 0:
			a += b;
			break;
		case 1:
			b ^= a;
			break;
		case 2:
			a = a << 5 | a >> 59;
			break;
		case 3:
			b -= a * 3;
			break;
		case 4:
			a = ~a;
			break;
		case 5:
			b += i;
			break;
		case 6:
			a ^= b >> 3;
			break;
		case 7:
			b = b * 5 + 1;
			break;
		case 8:
			if (a & 1)
				b++;
			break;
		default:
			a -= i;
			break;
		}
		OPAQUE(a);
	}
	return a ^ b;
}

/* ---- floating point ---- */

static uint64_t bits_of(double d)
{
	uint64_t u;

	memcpy(&u, &d, sizeof(u));
	return u;
}

static uint64_t k_matmul(unsigned long n)
{
	enum { DIM = 160 };
	static double a[DIM][DIM];
	static double b[DIM][DIM];
	static double c[DIM][DIM];

	for (int i = 0; i < DIM; i++)
		for (int j = 0; j < DIM; j++) {
			a[i][j] = (i * 3 + j) % 17 - 8.0;
			b[i][j] = (i + j * 5) % 13 - 6.0;
		}
	while (n--) {
		for (int i = 0; i < DIM; i++)
			for (int j = 0; j < DIM; j++) {
				double sum = 0;

				for (int k = 0; k < DIM; k++)
					sum += a[i][k] * b[k][j];
				c[i][j] = sum;
			}
		a[n % DIM][(n * 7) % DIM] = c[(n * 3) % DIM][n % DIM] / 1024;
	}
	return bits_of(c[1][2] + c[DIM - 1][DIM - 2]);
}

static uint64_t k_double(unsigned long n)
{
	double x = 0.5;
	double v = 0;
	double e = 0;

	for (uint64_t i = 0; i < n; i++) {
		double r2 = x * x + 0.01;
		double root;

		__asm__("sqrtsd %1, %0" : "=x"(root) : "x"(r2));
		v -= x / (r2 * root) * 1e-3;
		x += v * 1e-3;
		if (x > 1.0)
			v = -v;
		e += (double)(int64_t)(x * 1000.0);
	}
	return bits_of(x) ^ bits_of(e);
}

static uint64_t k_longdouble(unsigned long n)
{
	long double s = 0;
	long double x = 1.0L;

	for (uint64_t i = 1; i <= n; i++) {
		x = x * 1.0000001L + 1.0L / (long double)i;
		s += x - (long double)(int64_t)x;
	}
	return (uint64_t)(s * 1024) ^ bits_of((double)x);
}

/* ---- libc's string functions, and memory ---- */

static uint64_t k_strlen(unsigned long n)
{
	static char s[64][256];
	uint64_t sum = 0;

	for (unsigned int i = 0; i < 64; i++)
		memset(s[i], 'a', i * 3 + 5);
	for (uint64_t i = 0; i < n; i++) {
		const char *p = s[i & 63];

		OPAQUE(p);
		sum += strlen(p);
	}
	return sum;
}

static uint64_t k_strcmp(unsigned long n)
{
	static char a[64][256];
	static char b[64][256];
	uint64_t sum = 0;

	for (unsigned int i = 0; i < 64; i++) {
		memset(a[i], 'x', i * 3 + 5);
		memset(b[i], 'x', i * 3 + 4);
		b[i][i * 3 + 4] = 'w';
	}
	for (uint64_t i = 0; i < n; i++) {
		const char *p = a[i & 63];
		const char *q = b[i & 63];

		OPAQUE(p);
		OPAQUE(q);
		sum += strcmp(p, q) > 0 ? i : 1;
	}
	return sum;
}

static uint64_t k_memchr(unsigned long n)
{
	static char s[4096];
	uint64_t sum = 0;

	for (uint64_t i = 0; i < n; i++) {
		const char *p = s;
		unsigned int at = (i * 37) & 1023;

		s[at] = 'q';
		OPAQUE(p);
		sum += (uint64_t)((const char *)memchr(p, 'q', sizeof(s)) - p);
		s[at] = 0;
	}
	return sum;
}

static uint64_t k_memcpy(unsigned long n)
{
	static uint8_t a[65536 + 64];
	static uint8_t b[65536 + 64];
	static const uint32_t size[8] = { 16, 48, 200, 1000, 4096, 24, 120, 16384 };
	uint64_t sum = 0;

	for (unsigned int i = 0; i < sizeof(a); i++)
		a[i] = (uint8_t)(i * 11);
	for (uint64_t i = 0; i < n; i++) {
		const void *from = a + (i & 31);
		void *to = b + (i * 5 & 63);

		OPAQUE(from);
		OPAQUE(to);
		memcpy(to, from, size[i & 7]);
		sum += b[(i & 63) + 15];
	}
	return sum;
}

static uint64_t k_chase(unsigned long n)
{
	enum { LEN = 1 << 16 };
	static struct node {
		struct node *next;
		uint64_t value;
		uint64_t pad[6];
	} node[LEN];
	static uint32_t order[LEN];
	uint64_t st = 521288629ull;
	uint64_t sum = 0;
	struct node *p;

	for (uint32_t i = 0; i < LEN; i++)
		order[i] = i;
	for (uint32_t i = LEN - 1; i; i--) {
		uint32_t j = (uint32_t)(rnd(&st) % (i + 1));
		uint32_t t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
	for (uint32_t i = 0; i < LEN; i++) {
		node[order[i]].next = &node[order[(i + 1) % LEN]];
		node[i].value = i;
	}
	p = node;
	while (n--) {
		sum += p->value;
		p = p->next;
	}
	return sum;
}

/* ---- the system ---- */

static uint64_t k_syscall(unsigned long n)
{
	uint64_t same = 0;
	long parent = syscall(SYS_getppid);

	while (n--)
		same += syscall(SYS_getppid) == parent;
	return same;
}

static void reap(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid || status)
		fail("a child process");
}

static uint64_t k_pipe(unsigned long n)
{
	int there[2];
	int back[2];
	char c = 1;
	uint64_t sum = 0;
	pid_t pid;

	if (pipe(there) || pipe(back))
		fail("pipe");
	pid = fork();
	if (pid < 0)
		fail("fork");
	if (!pid) {
		close(there[1]);
		while (read(there[0], &c, 1) == 1) {
			c++;
			if (write(back[1], &c, 1) != 1)
				break;
		}
		_exit(0);
	}
	close(there[0]);
	while (n--) {
		if (write(there[1], &c, 1) != 1 || read(back[0], &c, 1) != 1)
			fail("pipe round trip");
		sum += (uint8_t)c;
	}
	close(there[1]);
	close(back[0]);
	close(back[1]);
	reap(pid);
	return sum;
}

static uint64_t k_fork(unsigned long n)
{
	uint64_t done = 0;

	while (n--) {
		pid_t pid = fork();

		if (pid < 0)
			fail("fork");
		if (!pid)
			_exit(0);
		reap(pid);
		done++;
	}
	return done;
}

static uint64_t k_exec(unsigned long n)
{
	uint64_t done = 0;

	while (n--) {
		pid_t pid = fork();

		if (pid < 0)
			fail("fork");
		if (!pid) {
			execl(self, self, "--child", (char *)NULL);
			_exit(127);
		}
		reap(pid);
		done++;
	}
	return done;
}

static uint64_t k_fault(unsigned long n)
{
	const size_t size = 4u << 20;
	uint64_t sum = 0;

	while (n--) {
		volatile uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			fail("mmap");
		madvise((void *)p, size, MADV_NOHUGEPAGE); /* a fault for each page, everywhere */
		for (size_t i = 0; i < size; i += 4096) {
			p[i] = (uint8_t)n;
			sum += p[i + 1];
		}
		munmap((void *)p, size);
	}
	return sum;
}

static uint64_t k_file(unsigned long n)
{
	static uint8_t data[16384];
	uint64_t sum = 0;
	int fd = memfd_create("bench", 0);

	if (fd < 0)
		fail("memfd_create");
	for (uint64_t i = 0; i < n; i++) {
		off_t at = (off_t)((i & 63) * sizeof(data));

		data[i & 4095] = (uint8_t)i;
		if (pwrite(fd, data, sizeof(data), at) != sizeof(data) ||
		    pread(fd, data, sizeof(data), at) != sizeof(data))
			fail("memfd");
		sum += data[i & 4095];
	}
	close(fd);
	return sum;
}

/* ---- the list ---- */

static const struct kernel {
	const char *name;
	const char *group; /* "cpu": user-mode instructions only; "sys": the guest's kernel works */
	uint64_t (*run)(unsigned long n);
	unsigned long n;
} kernels[] = {
	{ "sort", "cpu", k_sort, 12 },		 { "qsort", "cpu", k_qsort, 12 },
	{ "sieve", "cpu", k_sieve, 20 },	 { "sha256", "cpu", k_sha256, 300 },
	{ "divide", "cpu", k_divide, 10000000 }, { "hash", "cpu", k_hash, 40000000 },
	{ "calls", "cpu", k_calls, 200 },	 { "indirect", "cpu", k_indirect, 10000000 },
	{ "switch", "cpu", k_switch, 12000000 }, { "matmul", "cpu", k_matmul, 25 },
	{ "double", "cpu", k_double, 3000000 },	 { "longdouble", "cpu", k_longdouble, 4000000 },
	{ "strlen", "cpu", k_strlen, 10000000 }, { "strcmp", "cpu", k_strcmp, 6000000 },
	{ "memchr", "cpu", k_memchr, 2000000 },	 { "memcpy", "cpu", k_memcpy, 800000 },
	{ "chase", "cpu", k_chase, 3000000 },	 { "syscall", "sys", k_syscall, 500000 },
	{ "pipe", "sys", k_pipe, 20000 },	 { "fork", "sys", k_fork, 1000 },
	{ "exec", "sys", k_exec, 300 },		 { "fault", "sys", k_fault, 100 },
	{ "file", "sys", k_file, 20000 },
};

static long cpu_us(void)
{
	long us = 0;

	for (int who = RUSAGE_CHILDREN; who <= RUSAGE_SELF; who++) {
		struct rusage r;

		getrusage(who, &r);
		us += (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000 + r.ru_utime.tv_usec +
		      r.ru_stime.tv_usec;
	}
	return us;
}

static int chosen(const char *name, int argc, char **argv)
{
	if (argc < 2)
		return 1;
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], name))
			return 1;
	return 0;
}

int main(int argc, char **argv)
{
	self = argv[0];
	if (argc == 2 && !strcmp(argv[1], "--child"))
		return 0;
	for (unsigned int i = 0; i < ARRAY_LEN(kernels); i++) {
		const struct kernel *k = &kernels[i];
		uint64_t sum;
		long us;

		if (!chosen(k->name, argc, argv))
			continue;
		dprintf(1, "@ %s %s\n", k->name, k->group);
		tcdrain(1); /* a UART may still be sending; not a terminal: nothing to drain */
		us = cpu_us();
		sum = k->run(k->n);
		us = cpu_us() - us;
		dprintf(1, "! %s %016llx %ld\n", k->name, (unsigned long long)sum, us);
	}
	dprintf(1, "$\n");
	tcdrain(1);
	if (getpid() == 1)
		reboot(RB_AUTOBOOT);
	return 0;
}
