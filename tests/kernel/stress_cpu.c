// SPDX-License-Identifier: Apache-2.0
/*
 * stress_cpu.c - floating point, 32-bit code, and registers under preemption
 */
#include "stress.h"

#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* --- all operations in all rounding modes, with the exceptions they raise --------------------- */

static const double seeds[] = {
	0.0,
	-0.0,
	1.0,
	-1.0,
	0.1,
	1.0 / 3,
	2.5,
	-2.5,
	1e300,
	-1e300,
	1e-300,
	4.9e-324,
	2.3e-308,
	1e16 + 2,
	65535.5,
	3.4e38,
	1.2e-38,
	1.4e-45,
	0x1p63,
	-0x1p63,
	0x1p31,
	-0x1p31,
	__builtin_inf(),
	-__builtin_inf(),
};

/* The padding of a long double holds nothing. */
static uint64_t hash_long(uint64_t h, long double v)
{
	unsigned char b[16];

	memcpy(b, &v, sizeof(v));
	return stress_hash(h, b, 10);
}

static uint64_t float_pair(uint64_t h, double x, double y)
{
	volatile double a = x, b = y, d[6];
	volatile float fa = (float)x, fb = (float)y, f[5];
	volatile long double la = x, lb = y, l[5];
	volatile long long i;
	int raised;

	feclearexcept(FE_ALL_EXCEPT);
	d[0] = a + b, d[1] = a - b, d[2] = a * b, d[3] = a / b;
	d[4] = __builtin_sqrt(a), d[5] = (double)la * fb;
	raised = fetestexcept(FE_ALL_EXCEPT);
	h = stress_hash(h, &raised, sizeof(raised));
	feclearexcept(FE_ALL_EXCEPT);
	f[0] = fa + fb, f[1] = fa - fb, f[2] = fa * fb, f[3] = fa / fb, f[4] = (float)a;
	raised = fetestexcept(FE_ALL_EXCEPT);
	h = stress_hash(h, &raised, sizeof(raised));
	feclearexcept(FE_ALL_EXCEPT);
	l[0] = la + lb, l[1] = la - lb, l[2] = la * lb, l[3] = la / lb;
	l[4] = __builtin_sqrtl(la);
	raised = fetestexcept(FE_ALL_EXCEPT);
	h = stress_hash(h, &raised, sizeof(raised));
	for (size_t k = 0; k < ARRAY_LEN(d); k++)
		h = stress_hash(h, (const void *)&d[k], sizeof(d[k]));
	for (size_t k = 0; k < ARRAY_LEN(f); k++)
		h = stress_hash(h, (const void *)&f[k], sizeof(f[k]));
	for (size_t k = 0; k < ARRAY_LEN(l); k++)
		h = hash_long(h, l[k]);
	i = (a < b) | (a <= b) << 1 | (a == b) << 2 | __builtin_isunordered(a, b) << 3;
	i |= (long long)(la < lb) << 4 | (long long)(fa >= fb) << 5;
	h = stress_hash(h, (const void *)&i, sizeof(i));
	i = __builtin_llrint(a) ^ __builtin_llrintl(lb);
	return stress_hash(h, (const void *)&i, sizeof(i));
}

/* x87 instructions that compilers do not use any more. */
static uint64_t float_x87(uint64_t h, double x)
{
	long double r, s;
	unsigned short sw;
	unsigned char bcd[10];

	__asm__ volatile("fldl %3; fxtract; fstpt %0; fstpt %1; fnstsw %2"
			 : "=m"(r), "=m"(s), "=m"(sw)
			 : "m"(x));
	h = hash_long(hash_long(h, r), s);
	h = stress_hash(h, &sw, sizeof(sw));
	__asm__ volatile("fld1; fldl %2; fprem1; fstpt %0; fstp %%st(0); fnstsw %1"
			 : "=m"(r), "=m"(sw)
			 : "m"(x));
	h = stress_hash(hash_long(h, r), &sw, sizeof(sw));
	__asm__ volatile("fldl %1; frndint; fbstp %0" : "=m"(bcd) : "m"(x));
	h = stress_hash(h, bcd, sizeof(bcd));
	__asm__ volatile("fldl %1; fldl %1; fscale; fstpt %0; fstp %%st(0); fnclex"
			 : "=m"(r)
			 : "m"(x));
	return hash_long(h, r);
}

uint64_t stress_float(void)
{
	static const int modes[] = { FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO };
	uint64_t h = 0;

	for (size_t m = 0; m < ARRAY_LEN(modes); m++) {
		CHECK_EQ(fesetround(modes[m]), 0);
		for (size_t i = 0; i < ARRAY_LEN(seeds); i++) {
			for (size_t j = 0; j < ARRAY_LEN(seeds); j++)
				h = float_pair(h, seeds[i], seeds[j]);
			h = float_x87(h, seeds[i]);
		}
	}
	fesetround(FE_TONEAREST);
	return h;
}

/* --- 32-bit code in a 64-bit process ---------------------------------------------------------- */

/*
 * Runs at a low address in the 32-bit code segment that Linux has for compatibility (selector
 * 23H), with ESP in the same page: instructions that only exist there, a system call by INT 80H,
 * then back by a far return.
 */
__asm__(".pushsection .rodata\n"
	"mode32:\n"
	".code32\n"
	"push %ebx\n"
	"mov $0x19, %al\n"
	"mov $0x28, %bl\n"
	"add %bl, %al\n"
	"daa\n" /* 19 + 28 = 47 in BCD */
	"movzbl %al, %esi\n"
	"mov $107, %eax\n"
	"aam\n"
	"shl $8, %eax\n"
	"or %eax, %esi\n"
	"inc %esi\n" /* 46H: a REX prefix in 64-bit code */
	"dec %esi\n"
	"push %esi\n"
	"pusha\n"
	"popa\n"
	"pop %edi\n"
	"mov $20, %eax\n" /* getpid */
	"int $0x80\n"
	"pop %ebx\n"
	"lret\n"
	"mode32_end:\n"
	".code64\n"
	".popsection\n");
extern const char mode32[], mode32_end[];

struct mode32_result {
	uint32_t pid, edi;
};

static void call_mode32(char *page, struct mode32_result *ret)
{
	/* The far call pushes a 32-bit return address, so it is made from the low page, which */
	/* also keeps RSP: 32-bit code may lose the upper halves of all registers. */
	static const unsigned char code[] = {
		0x48, 0x89, 0x25, 57, 0, 0, 0, /* mov [rip + 57], rsp: code + 64 */
		0x48, 0x89, 0xf4,	       /* mov rsp, rsi */
		0xff, 0x1a,		       /* call far [rdx] */
		0x48, 0x8b, 0x25, 45, 0, 0, 0, /* mov rsp, [rip + 45] */
		0xc3,			       /* ret */
	};
	struct {
		uint32_t offset;
		uint16_t selector;
	} __attribute__((packed)) far_to = { (uint32_t)(uintptr_t)page, 0x23 };
	void *thunk = page + 2048, *target = &far_to;
	char *stack = page + 4096;
	uint64_t pid, edi;

	memcpy(thunk, code, sizeof(code));
	/* The red zone is ours to step over. rbp is the frame pointer of a debug build. */
	__asm__ volatile("sub $128, %%rsp\n"
			 "push %%rbp\n"
			 "call *%%rcx\n"
			 "pop %%rbp\n"
			 "add $128, %%rsp"
			 : "=a"(pid), "=D"(edi), "+c"(thunk), "+S"(stack), "+d"(target)
			 :
			 : "rbx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory",
			   "cc");
	ret->pid = (uint32_t)pid;
	ret->edi = (uint32_t)edi;
}

uint64_t stress_modes(void)
{
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	struct mode32_result r = { 0 };

	CHECK(page != MAP_FAILED);
	if (page == MAP_FAILED)
		return 0;
	memcpy(page, mode32, (size_t)(mode32_end - mode32));
	for (unsigned i = 0; i < 1000; i++) {
		call_mode32(page, &r);
		CHECK_EQ(r.pid, getpid());
		CHECK_EQ(r.edi, 0xa0747);
	}
	munmap(page, 4096);
	return r.edi;
}

/* --- registers survive interrupts, signals and context switches ------------------------------- */

#define PREEMPT_THREADS 4
#define PREEMPT_ROUNDS 20

static volatile sig_atomic_t ticks;

/* Uses what the interrupted code holds in registers. */
static void on_tick(int sig)
{
	volatile double d = sig;
	volatile long double l = sig;

	__asm__ volatile("pxor %%xmm0, %%xmm0; pcmpeqd %%xmm7, %%xmm7; pxor %%xmm15, %%xmm15" ::
				 : "xmm0", "xmm7", "xmm15");
	d = d / 3;
	l = l / 3;
	ticks++;
}

/*
 * Fills the vector, x87 and integer registers with @fill, spins, and returns how many of them
 * have another value at the end.
 */
static unsigned long hold(uint64_t fill, uint64_t spins)
{
	uint64_t v[2] = { fill, ~fill }, out[2], bad;
	long double st;

	__asm__ volatile("movdqu %[v], %%xmm0; movdqa %%xmm0, %%xmm7; movdqa %%xmm0, %%xmm15\n"
			 "fildll %[v]; fildll %[v]\n"
			 "mov %[f], %%r8; mov %[f], %%r9; mov %[f], %%r14; mov %[f], %%r15\n"
			 "cmp %%r8, %%r9; stc\n"
			 "1: lea -1(%[n]), %[n]; jrcxz 2f; jmp 1b\n"
			 "2: sbb %[b], %[b]; inc %[b]\n" /* the carry flag was still set: 0 */
			 "xor %[f], %%r8; or %%r8, %[b]; xor %[f], %%r9; or %%r9, %[b]\n"
			 "xor %[f], %%r14; or %%r14, %[b]; xor %[f], %%r15; or %%r15, %[b]\n"
			 "pxor %%xmm0, %%xmm7; pxor %%xmm0, %%xmm15; por %%xmm7, %%xmm15\n"
			 "movq %%xmm15, %%r8; or %%r8, %[b]; movdqu %%xmm0, %[o]\n"
			 "fsubp; fstpt %[s]\n"
			 : [b] "=&a"(bad), [o] "=m"(out), [s] "=m"(st), [n] "+c"(spins)
			 : [v] "m"(v), [f] "d"(fill)
			 : "r8", "r9", "r14", "r15", "xmm0", "xmm7", "xmm15", "cc", "memory");
	return (bad != 0) + (out[0] != v[0]) + (out[1] != v[1]) + (st != 0);
}

static void *preempt_thread(void *arg)
{
	uint64_t fill = 0x0123456789abcdefu * ((uintptr_t)arg * 2 + 1);

	for (unsigned i = 0; i < PREEMPT_ROUNDS; i++)
		CHECK_EQ(hold(fill + i, 50000), 0);
	return NULL;
}

uint64_t stress_preempt(void)
{
	struct sigaction act = { .sa_handler = on_tick, .sa_flags = SA_RESTART }, old;
	struct itimerval every = { { 0, 100 }, { 0, 100 } }, never = { 0 };
	pthread_t t[PREEMPT_THREADS];

	ticks = 0;
	sigaction(SIGALRM, &act, &old);
	setitimer(ITIMER_REAL, &every, NULL);
	for (uintptr_t i = 0; i < PREEMPT_THREADS; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, preempt_thread, (void *)i), 0);
	for (unsigned i = 0; i < PREEMPT_THREADS; i++)
		pthread_join(t[i], NULL);
	setitimer(ITIMER_REAL, &never, NULL);
	sigaction(SIGALRM, &old, NULL);
	CHECK(ticks > 0);
	return PREEMPT_THREADS;
}

/* --- long runs of one instruction -------------------------------------------------------------- */

#define RUN_LENGTH 60000ul

/*
 * Instructions that an interpreter has to take apart, in loops longer than a turn: whatever it
 * keeps for each one until the turn ends becomes too much.
 */
uint64_t stress_runs(void)
{
	static char buf[4096] __attribute__((aligned(64)));
	uint64_t n, in_memory = 1, target;
	char *to;

	n = RUN_LENGTH;
	__asm__ volatile("lea 2f(%%rip), %[t]; jmp 1f\n"
			 "2: ret\n"
			 "1: sub $128, %%rsp\n" /* the red zone */
			 "3: call *%[t]; dec %[n]; jnz 3b; add $128, %%rsp"
			 : [n] "+r"(n), [t] "=&r"(target)::"memory", "cc");
	for (n = 0; n < RUN_LENGTH; n++) {
		to = buf + n % 4000;
		__asm__ volatile("stosb" : "+D"(to) : "a"((int)n) : "memory");
	}
	for (n = 0; n < RUN_LENGTH; n++) {
		uint64_t count = n % 16;
		const char *from = buf + n % 2000;

		to = buf + 2048 + n % 1999;
		__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
	}
	n = RUN_LENGTH;
	__asm__ volatile("sub $128, %%rsp\n"
			 "1: pushq (%[m]); popq (%[m]); incq (%[m]); dec %[n]; jnz 1b\n"
			 "add $128, %%rsp"
			 : [n] "+r"(n)
			 : [m] "r"(&in_memory)
			 : "memory", "cc");
	CHECK_EQ(in_memory, RUN_LENGTH + 1);
	return stress_hash(0, buf, sizeof(buf));
}
