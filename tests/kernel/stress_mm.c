// SPDX-License-Identifier: Apache-2.0
/*
 * stress_mm.c - exceptions as signals, code that changes, processes, debug registers
 */
#include "stress.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

/* --- every exception that user code can raise, with the details Linux passes on --------------- */

struct fault {
	int sig, code;
	uint64_t addr, err, trap; /* err: the error code that the processor pushed */
};

static struct fault got;
static sigjmp_buf back;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;

	got = (struct fault){
		.sig = sig,
		.code = info->si_code,
		.addr = (uint64_t)(uintptr_t)info->si_addr,
		.err = (uint64_t)uc->uc_mcontext.gregs[REG_ERR],
		.trap = (uint64_t)uc->uc_mcontext.gregs[REG_TRAPNO],
	};
	siglongjmp(back, 1);
}

enum {
	F_DIV,
	F_INT3,
	F_UD,
	F_READ,
	F_WRITE,
	F_RO,
	F_EXEC,
	F_NONCANON,
	F_STACK,
	F_HLT,
	F_BUS,
	F_SSE,
	F_X87,
	F_ALIGN,
	F_INT,
	F_CROSS,
	F_KERNEL,
	F_STEP,
	F_KINDS
};

static char *page_none, *page_ro, *page_bus, *page_edge;

static void raise_fault(int kind)
{
	static const uint16_t x87_zero_divide = 0x37f & ~4u;
	static const uint32_t sse_zero_divide = 0x1f80 & ~0x200u;

	switch (kind) {
	case F_DIV:
		__asm__ volatile("xor %%ecx, %%ecx; idivl %%ecx" ::: "eax", "ecx", "edx", "cc");
		break;
	case F_INT3:
		__asm__ volatile("int3");
		break;
	case F_UD:
		__asm__ volatile("ud2");
		break;
	case F_READ:
		(void)*(volatile uint64_t *)(page_none + 8);
		break;
	case F_WRITE:
		*(volatile uint64_t *)(page_none + 16) = 1;
		break;
	case F_RO:
		*(volatile uint64_t *)(page_ro + 24) = 1;
		break;
	case F_EXEC:
		((void (*)(void))(uintptr_t)page_ro)();
		break;
	case F_NONCANON:
		(void)*(volatile uint64_t *)0x800000000000u;
		break;
	case F_STACK:
		__asm__ volatile(
			"mov %%rsp, %%rbx; mov %0, %%rsp; push %%rax; mov %%rbx, %%rsp" ::"r"(
				0x900000000000u)
			: "rbx", "memory");
		break;
	case F_HLT:
		__asm__ volatile("hlt");
		break;
	case F_BUS:
		(void)*(volatile uint64_t *)page_bus;
		break;
	case F_SSE:
		__asm__ volatile(
			"ldmxcsr %0; pxor %%xmm1, %%xmm1; mov $1, %%eax\n"
			"cvtsi2sd %%eax, %%xmm0; divsd %%xmm1, %%xmm0" ::"m"(sse_zero_divide)
			: "eax", "xmm0", "xmm1");
		break;
	case F_X87:
		__asm__ volatile("fldcw %0; fld1; fldz; fdivrp; fwait" ::"m"(x87_zero_divide));
		break;
	case F_ALIGN:
		__asm__ volatile("movaps 1(%0), %%xmm0" ::"r"(page_ro) : "xmm0");
		break;
	case F_INT:
		__asm__ volatile("int $0x20");
		break;
	case F_CROSS:
		*(volatile uint64_t *)(page_edge + 4092) = 1;
		break;
	case F_KERNEL:
		(void)*(volatile uint64_t *)0xffffffff81000000u;
		break;
	case F_STEP:
		__asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq; nop" ::: "memory", "cc");
		break;
	}
}

static void fault_pages(void)
{
	char *p = mmap(NULL, 5 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = memfd_create("short", 0);

	CHECK(p != MAP_FAILED);
	p[4096] = 1;
	CHECK_EQ(mprotect(p, 4096, PROT_NONE), 0);
	CHECK_EQ(mprotect(p + 4096, 4096, PROT_READ), 0);
	CHECK(mmap(p + 8192, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == p + 8192);
	CHECK_EQ(mprotect(p + 4 * 4096, 4096, PROT_READ), 0);
	close(fd);
	page_none = p;
	page_ro = p + 4096;
	page_bus = p + 2 * 4096;
	page_edge = p + 3 * 4096;
}

/* What the processor manuals say of each, as Linux shows it. addr 0: the instruction's own. */
static const struct {
	int sig, code;
	uint64_t trap, err;
} expected[F_KINDS] = {
	[F_DIV] = { SIGFPE, FPE_INTDIV, 0, 0 },
	[F_INT3] = { SIGTRAP, SI_KERNEL, 3, 0 },
	[F_UD] = { SIGILL, ILL_ILLOPN, 6, 0 },
	[F_READ] = { SIGSEGV, SEGV_ACCERR, 14, 4 },
	[F_WRITE] = { SIGSEGV, SEGV_ACCERR, 14, 6 },
	[F_RO] = { SIGSEGV, SEGV_ACCERR, 14, 7 },
	[F_EXEC] = { SIGSEGV, SEGV_ACCERR, 14, 0x15 },
	[F_NONCANON] = { SIGSEGV, SI_KERNEL, 13, 0 },
	[F_STACK] = { SIGBUS, SI_KERNEL, 12, 0 },
	[F_HLT] = { SIGSEGV, SI_KERNEL, 13, 0 },
	[F_BUS] = { SIGBUS, BUS_ADRERR, 14, 4 },
	[F_SSE] = { SIGFPE, FPE_FLTDIV, 19, 0 },
	[F_X87] = { SIGFPE, FPE_FLTDIV, 16, 0 },
	[F_ALIGN] = { SIGSEGV, SI_KERNEL, 13, 0 },
	[F_INT] = { SIGSEGV, SI_KERNEL, 13, 0x20 << 3 | 2 },
	[F_CROSS] = { SIGSEGV, SEGV_ACCERR, 14, 6 },
	[F_KERNEL] = { SIGSEGV, SEGV_MAPERR, 14, 5 },
	[F_STEP] = { SIGTRAP, TRAP_TRACE, 1, 0 },
};

/* The address of a page fault, or 0 where Linux gives the instruction's. */
static uint64_t fault_addr(int kind)
{
	switch (kind) {
	case F_READ:
		return (uintptr_t)page_none + 8;
	case F_WRITE:
		return (uintptr_t)page_none + 16;
	case F_RO:
		return (uintptr_t)page_ro + 24;
	case F_EXEC:
		return (uintptr_t)page_ro;
	case F_BUS:
		return (uintptr_t)page_bus;
	case F_CROSS: /* the first byte on the page that may not be written */
		return (uintptr_t)page_edge + 4096;
	case F_KERNEL:
		return 0xffffffff81000000u;
	default:
		return 0;
	}
}

static void fault_once(int kind)
{
	if (!sigsetjmp(back, 1)) {
		got = (struct fault){ 0 };
		raise_fault(kind);
	}
	if (got.sig != expected[kind].sig || got.code != expected[kind].code ||
	    got.trap != expected[kind].trap || got.err != expected[kind].err)
		stress_fail(__FILE__, kind, "signal << 48 | code << 32 | trap << 16 | error code",
			    (long long)got.sig << 48 | (long long)(got.code & 0xffff) << 32 |
				    (long long)got.trap << 16 | (long long)got.err,
			    (long long)expected[kind].sig << 48 |
				    (long long)(expected[kind].code & 0xffff) << 32 |
				    (long long)expected[kind].trap << 16 |
				    (long long)expected[kind].err);
	if (fault_addr(kind))
		CHECK_EQ(got.addr, fault_addr(kind));
	__asm__ volatile("fninit");
}

uint64_t stress_faults(void)
{
	static const int sigs[] = { SIGFPE, SIGTRAP, SIGILL, SIGSEGV, SIGBUS };
	struct sigaction act = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	struct sigaction old[5];
	stack_t stack = { .ss_sp = malloc(65536), .ss_size = 65536 };
	uint32_t csr = 0x1f80;

	sigaltstack(&stack, NULL);
	for (unsigned i = 0; i < 5; i++)
		sigaction(sigs[i], &act, &old[i]);
	fault_pages();
	for (unsigned round = 0; round < 20; round++)
		for (int kind = 0; kind < F_KINDS; kind++) {
			fault_once(kind);
			__asm__ volatile("ldmxcsr %0" ::"m"(csr));
		}
	for (unsigned i = 0; i < 5; i++)
		sigaction(sigs[i], &old[i], NULL);
	stack.ss_flags = SS_DISABLE;
	sigaltstack(&stack, NULL);
	free(stack.ss_sp);
	munmap(page_none, 5 * 4096);
	return F_KINDS;
}

/* --- code that is written while it is in use ---------------------------------------------------
 */

/* mov eax, imm32; ret */
static void write_code(char *p, uint32_t value)
{
	p[0] = (char)0xb8;
	memcpy(p + 1, &value, sizeof(value));
	p[5] = (char)0xc3;
}

static uint32_t call_code(const char *p)
{
	return ((uint32_t(*)(void))(uintptr_t)p)();
}

uint64_t stress_smc(void)
{
	int fd = memfd_create("code", 0);
	char *x, *w, *both;
	uint64_t sum = 0;

	CHECK_EQ(ftruncate(fd, 8192), 0);
	x = mmap(NULL, 8192, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	w = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	both = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	CHECK(x != MAP_FAILED && w != MAP_FAILED && both != MAP_FAILED);
	for (uint32_t i = 0; i < 300; i++) {
		/* Through another address; at all offsets, also across the end of a page. */
		write_code(w + 4096 - i % 8, i * 7);
		CHECK_EQ(call_code(x + 4096 - i % 8), i * 7);
		/* In place, and one byte of the immediate only. */
		write_code(both + i, i);
		sum += call_code(both + i);
		both[i + 2] = (char)0x5a;
		CHECK_EQ(call_code(both + i), (i & ~0xff00u) | 0x5a00);
		/* As a just-in-time compiler: writable or executable, never both. */
		if (i % 16 == 0) {
			CHECK_EQ(mprotect(both, 8192, PROT_READ | PROT_WRITE), 0);
			write_code(both + 4096, ~i);
			CHECK_EQ(mprotect(both, 8192, PROT_READ | PROT_EXEC), 0);
			CHECK_EQ(call_code(both + 4096), ~i);
			CHECK_EQ(mprotect(both, 8192, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
		}
		/* By the kernel: read(2) into the page. */
		if (i % 16 == 1) {
			write_code(w, i * 3);
			CHECK_EQ(pread(fd, both + 8000, 6, 0), 6);
			CHECK_EQ(call_code(both + 8000), i * 3);
		}
	}
	munmap(x, 8192);
	munmap(w, 8192);
	munmap(both, 8192);
	close(fd);
	return sum;
}

/* --- processes: copy on write, pipes, exit statuses --------------------------------------------
 */

#define FORK_PAGES 64u
#define FORK_CHILDREN 24u

static void fork_child(unsigned me, uint32_t *pages, int out)
{
	uint64_t sum = 0;

	for (unsigned p = 0; p < FORK_PAGES; p++) {
		if (pages[p * 1024] != p)
			_exit(255);
		pages[p * 1024 + 1] = me; /* a page of its own from here on */
		sum += pages[p * 1024] + pages[p * 1024 + 1];
	}
	if (write(out, &sum, sizeof(sum)) != sizeof(sum))
		_exit(254);
	_exit((int)me);
}

uint64_t stress_forks(void)
{
	uint32_t *pages = mmap(NULL, FORK_PAGES * 4096, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t total = 0, sum, statuses = 0;
	int pipes[2], status;

	CHECK(pages != MAP_FAILED);
	CHECK_EQ(pipe(pipes), 0);
	for (unsigned p = 0; p < FORK_PAGES; p++)
		pages[p * 1024] = p;
	for (unsigned i = 0; i < FORK_CHILDREN; i++) {
		pid_t pid = fork();

		if (pid == 0)
			fork_child(i, pages, pipes[1]);
		CHECK(pid > 0);
	}
	for (unsigned i = 0; i < FORK_CHILDREN; i++) {
		CHECK_EQ(read(pipes[0], &sum, sizeof(sum)), sizeof(sum));
		total += sum;
	}
	while (wait(&status) > 0) {
		CHECK(WIFEXITED(status));
		statuses += (uint64_t)WEXITSTATUS(status);
	}
	for (unsigned p = 0; p < FORK_PAGES; p++) {
		CHECK_EQ(pages[p * 1024], p);
		CHECK_EQ(pages[p * 1024 + 1], 0);
	}
	CHECK_EQ(statuses, FORK_CHILDREN * (FORK_CHILDREN - 1) / 2);
	munmap(pages, FORK_PAGES * 4096);
	close(pipes[0]);
	close(pipes[1]);
	return total;
}

/* --- ptrace: single steps, and the debug registers ---------------------------------------------
 */

static volatile uint64_t watched;

static void traced_child(void)
{
	ptrace(PTRACE_TRACEME, 0, 0, 0);
	raise(SIGSTOP);
	for (unsigned i = 0; i < 5; i++)
		watched = i;
	__asm__ volatile("mov $100, %%ecx; 1: dec %%ecx; jnz 1b; int3" ::: "ecx", "cc");
	_exit(7);
}

static void set_debug(pid_t pid, unsigned reg, uint64_t value)
{
	CHECK_EQ(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[reg]), value), 0);
}

uint64_t stress_ptrace(void)
{
	pid_t pid = fork();
	unsigned hits = 0, steps = 0;
	int status;

	if (pid == 0)
		traced_child();
	CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
	/* DR0: 8 bytes, writes. DR6.B0 says that it was this one. */
	set_debug(pid, 0, (uint64_t)(uintptr_t)&watched);
	set_debug(pid, 7, 1u | 1u << 16 | 2u << 18);
	for (ptrace(PTRACE_CONT, pid, 0, 0); waitpid(pid, &status, 0) == pid && hits < 5;) {
		CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
		CHECK_EQ(ptrace(PTRACE_PEEKDATA, pid, &watched, 0), hits);
		CHECK_EQ(ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg[6]), 0) & 15,
			 1);
		if (++hits == 5)
			break;
		ptrace(PTRACE_CONT, pid, 0, 0);
	}
	set_debug(pid, 7, 0);
	/* Step by step to the breakpoint: each step is one instruction. */
	while (steps < 1000) {
		struct user_regs_struct r;
		long before;

		ptrace(PTRACE_GETREGS, pid, 0, &r);
		before = ptrace(PTRACE_PEEKTEXT, pid, r.rip, 0) & 0xff;
		ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
		if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) || before == 0xcc)
			break;
		steps++;
	}
	ptrace(PTRACE_CONT, pid, 0, 0);
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 7);
	CHECK(steps > 200 && steps < 230);
	return hits * 1000u + steps;
}
