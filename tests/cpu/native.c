/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native.c - runs a sequence on the host's CPU, in this process
 *
 * How it works
 * All pages of the test lie in one memfd. It is mapped twice: with the permissions of the test at
 * the fixed addresses of diff.h, and writable somewhere else for us. A control page at a fixed
 * low address holds the state to load, so that loading needs no register. Everything is loaded,
 * the FS and GS base included, and the code is jumped to. The exception that ends the sequence
 * comes back as a signal on an alternate stack: a few instructions save the guest's FS and GS
 * base and bring back ours (C code needs it), then the signal frame is copied and we jump out of
 * the handler. A SIGFPE while no sequence runs is the engine's (it executes the guest's SSE with
 * the guest's MXCSR) and is passed on. No system call is made for a run, so it costs little more
 * than its one signal.
 *
 * Two guards. A sequence may loop: a slow interval timer ends it. A sequence may reach a SYSCALL
 * by jumping into the middle of an instruction: syscall user dispatch (Linux 5.11) turns system
 * calls made while the sequence runs into SIGSYS. Where that is not offered we go without.
 *
 * A process per sequence, or ptrace, would be simpler and a hundred times slower.
 */
#include "diff.h"

#include <errno.h>
#include <asm/ldt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_OFF 0
#define PR_SYS_DISPATCH_ON 1
#endif
#define SELECTOR_ALLOW 0
#define SELECTOR_BLOCK 1
#define HWCAP2_HAS_FSGSBASE 2

/* The page the entry code loads from. The offsets are repeated in the assembly below. */
struct control {
	struct diff_state s; /* fx 0, r 512, rip 640, rflags 648, fsbase 656, gsbase 664 */
	u64 host_fs, got_fs, got_gs;
	u8 selector;
	u32 far_off; /* far pointer to the first instruction */
	u16 far_sel;
	u16 data_sel, stack_sel;
};

/* Far from where a BT with a 32-bit bit offset gets from the data pages. */
#define CONTROL_VA 0x4b5d7000ull
#define CTL ((struct control *)CONTROL_VA)

_Static_assert(offsetof(struct control, s.r) == 512, "asm");
_Static_assert(offsetof(struct control, s.rip) == 640, "asm");
_Static_assert(offsetof(struct control, s.rflags) == 648, "asm");
_Static_assert(offsetof(struct control, s.fsbase) == 656, "asm");
_Static_assert(offsetof(struct control, s.gsbase) == 664, "asm");

void native_enter(void);
void native_trap(int sig, siginfo_t *si, void *uc);
void native_trap_c(int sig, siginfo_t *si, void *uc);
_Static_assert(sizeof(struct diff_state) == 704, "asm: host_fs 704, got_fs 712, got_gs 720");
_Static_assert(offsetof(struct control, selector) == 728, "asm");
_Static_assert(offsetof(struct control, far_off) == 732, "asm");
_Static_assert(offsetof(struct control, data_sel) == 738, "asm");
_Static_assert(offsetof(struct control, stack_sel) == 740, "asm");

__asm__(".pushsection .text\n"
	"native_enter:\n"
	"	xor %eax, %eax\n"
	"	mov %eax, %fs\n"
	"	mov %eax, %gs\n"
	/* 64-bit programs have null there, which 32-bit code cannot use. */
	"	movzwl 0x4b5d7000+738, %eax\n"
	"	mov %eax, %ds\n"
	"	mov %eax, %es\n"
	"	movzwl 0x4b5d7000+740, %eax\n"
	"	mov %eax, %ss\n"
	"	fxrstor64 0x4b5d7000\n"
	"	mov 0x4b5d7000+656, %rax\n"
	"	wrfsbase %rax\n"
	"	mov 0x4b5d7000+664, %rax\n"
	"	wrgsbase %rax\n"
	"	movb $1, 0x4b5d7000+728\n"
	"	mov $0x4b5d7000+648, %rsp\n"
	"	popfq\n"
	"	mov 0x4b5d7000+512, %rax\n"
	"	mov 0x4b5d7000+520, %rcx\n"
	"	mov 0x4b5d7000+528, %rdx\n"
	"	mov 0x4b5d7000+536, %rbx\n"
	"	mov 0x4b5d7000+544, %rsp\n"
	"	mov 0x4b5d7000+552, %rbp\n"
	"	mov 0x4b5d7000+560, %rsi\n"
	"	mov 0x4b5d7000+568, %rdi\n"
	"	mov 0x4b5d7000+576, %r8\n"
	"	mov 0x4b5d7000+584, %r9\n"
	"	mov 0x4b5d7000+592, %r10\n"
	"	mov 0x4b5d7000+600, %r11\n"
	"	mov 0x4b5d7000+608, %r12\n"
	"	mov 0x4b5d7000+616, %r13\n"
	"	mov 0x4b5d7000+624, %r14\n"
	"	mov 0x4b5d7000+632, %r15\n"
	"	ljmp *0x4b5d7000+732\n"
	"native_trap:\n" /* rdi, rsi, rdx: the handler's arguments; the kernel keeps AC set */
	"	rdfsbase %rax\n"
	"	mov %rax, 0x4b5d7000+712\n"
	"	rdgsbase %rax\n"
	"	mov %rax, 0x4b5d7000+720\n"
	"	mov 0x4b5d7000+704, %rax\n"
	"	wrfsbase %rax\n"
	"	movb $0, 0x4b5d7000+728\n"
	"	sub $8, %rsp\n"
	"	pushq $2\n"
	"	popfq\n"
	"	call native_trap_c\n"
	"	add $8, %rsp\n"
	"	mov 0x4b5d7000+712, %rax\n" /* only after the timer's tick: the sequence goes on */
	"	wrfsbase %rax\n"
	"	ret\n"
	".popsection\n");

static struct {
	int fd;
	u8 *mem;	       /* writable alias of all pages */
	void *jmp[5];	       /* __builtin_setjmp */
	volatile bool running; /* a sequence has the CPU */
	volatile int ticks;
	bool has_16;
	struct diff_result *res;
	u8 ymmh[16][16];	     /* upper halves to load, with diff_v3 */
	struct sigaction engine_fpe; /* what SIGFPE did before us */
	u8 altstack[128 * 1024] attr_aligned(64);
} nat = { .fd = -1 };

static const int nat_signals[] = { SIGTRAP, SIGSEGV, SIGFPE, SIGILL, SIGBUS, SIGSYS, SIGVTALRM };

/* enum x86_gpr order */
static const u8 greg_of[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
				REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
				REG_R12, REG_R13, REG_R14, REG_R15 };

/* Upper halves of the YMM registers. FXRSTOR, which loads the lower ones, leaves them alone. */
static void load_ymmh(const u8 *p)
{
#define LOAD1(n) "vinsertf128 $1, 16*" #n "(%0), %%ymm" #n ", %%ymm" #n "\n\t"
	__asm__ volatile(LOAD1(0) LOAD1(1) LOAD1(2) LOAD1(3) LOAD1(4) LOAD1(5) LOAD1(6) LOAD1(7)
				 LOAD1(8) LOAD1(9) LOAD1(10) LOAD1(11) LOAD1(12) LOAD1(13) LOAD1(14)
					 LOAD1(15)
			 :
			 : "r"(p)
			 : "memory");
#undef LOAD1
}

/* As Linux's UAPI has them (asm/sigcontext.h): an XSAVE image of the standard form. */
static void take_ymmh(const u8 *fpstate, struct diff_result *res)
{
	u32 magic;
	u64 features, in_use;

	memcpy(&magic, fpstate + 464, 4);
	memcpy(&features, fpstate + 472, 8);
	memcpy(&in_use, fpstate + 512, 8);
	if (magic == 0x46505853 && (features & in_use & XCR0_AVX))
		memcpy(res->ymmh, fpstate + 576, sizeof(res->ymmh));
}

static void take_frame(int sig, const ucontext_t *uc)
{
	const greg_t *g = uc->uc_mcontext.gregs;
	struct diff_result *res = nat.res;

	memset(res, 0, sizeof(*res));
	for (unsigned i = 0; i < 16; i++)
		res->s.r[i] = (u64)g[greg_of[i]];
	res->s.rip = (u64)g[REG_RIP];
	res->s.rflags = (u64)g[REG_EFL];
	res->s.fsbase = CTL->got_fs;
	res->s.gsbase = CTL->got_gs;
	memcpy(&res->s.fx, uc->uc_mcontext.fpregs, DIFF_FX);
	if (diff_v3())
		take_ymmh((const u8 *)uc->uc_mcontext.fpregs, res);
	if (sig == SIGVTALRM) {
		res->end = DIFF_TIMEOUT;
		return;
	}
	if (sig == SIGSYS) {
		res->end = DIFF_SKIP;
		return;
	}
	res->end = DIFF_EXC;
	res->vector = (u8)g[REG_TRAPNO];
	if (res->vector == X86_PF_EXC)
		res->cr2 = (u64)g[REG_CR2];
	if (res->vector == X86_PF_EXC || res->vector == X86_GP || res->vector == X86_SS_EXC)
		res->err = (u32)g[REG_ERR];
}

void native_trap_c(int sig, siginfo_t *si, void *uc)
{
	if (sig == SIGVTALRM && (++nat.ticks < 3 || !nat.running))
		return;
	if (!nat.running) {
		/* Not the sequence: the engine's own SIGFPE, or a bug of ours to be seen as such.
		 */
		if (sig == SIGFPE && (nat.engine_fpe.sa_flags & SA_SIGINFO))
			nat.engine_fpe.sa_sigaction(sig, si, uc);
		else
			signal(sig, SIG_DFL);
		return;
	}
	nat.running = false;
	take_frame(sig, uc);
	__builtin_longjmp(nat.jmp, 1);
}

static int map_regions(void)
{
	off_t off = 0;

	for (unsigned i = 0; i < DIFF_REGIONS; i++) {
		const struct diff_region *r = &diff_regions[i];
		int prot = PROT_READ | (r->w ? PROT_WRITE : 0) | (r->x ? PROT_EXEC : 0);
		void *p = mmap((void *)r->va, r->pages * 4096ul, prot,
			       MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, nat.fd, off);

		if (p == MAP_FAILED)
			return -errno;
		off += (off_t)r->pages * 4096;
	}
	return 0;
}

int native_arm(void)
{
	stack_t ss = { .ss_sp = nat.altstack, .ss_size = sizeof(nat.altstack) };
	struct sigaction sa = { .sa_sigaction = native_trap,
				.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK | SA_RESTART };
	struct itimerval it = { .it_interval = { .tv_usec = 20000 },
				.it_value = { .tv_usec = 20000 } };

	/* A fork does not copy what maps shared memory; a missing page is another error code. */
	for (unsigned i = 0; i < DIFF_REGIONS; i++) {
		for (unsigned k = 0; k < diff_regions[i].pages; k++)
			(void)*(volatile const u8 *)(diff_regions[i].va + k * 4096ull);
	}
	sigemptyset(&sa.sa_mask);
	if (sigaltstack(&ss, NULL))
		return -errno;
	for (unsigned i = 0; i < ARRAY_LEN(nat_signals); i++) {
		if (sigaction(nat_signals[i], &sa, NULL))
			return -errno;
	}
	prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &CTL->selector);
	return setitimer(ITIMER_VIRTUAL, &it, NULL) ? -errno : 0;
}

/* One 16-bit segment of 64 KiB (modify_ldt(2)). */
static int make_segment(u16 sel, u64 base, bool code)
{
	struct user_desc d = {
		.entry_number = sel >> 3,
		.base_addr = (unsigned)base,
		.limit = 0xffff,
		.contents = code ? MODIFY_LDT_CONTENTS_CODE : MODIFY_LDT_CONTENTS_DATA,
		.useable = 1,
	};

	return syscall(SYS_modify_ldt, 0x11, &d, sizeof(d)) ? -errno : 0;
}

bool native_has_16(void)
{
	return nat.has_16;
}

/* 0; -ENOSYS where user mode may not use the FSGSBASE instructions (Linux before 5.9). */
int native_open(void)
{
	void *p;
	int ret;

	if (!(getauxval(AT_HWCAP2) & HWCAP2_HAS_FSGSBASE))
		return -ENOSYS;
	nat.fd = memfd_create("diff", MFD_CLOEXEC);
	if (nat.fd < 0 || ftruncate(nat.fd, DIFF_MEM))
		return -errno;
	nat.mem = mmap(NULL, DIFF_MEM, PROT_READ | PROT_WRITE, MAP_SHARED, nat.fd, 0);
	if (nat.mem == MAP_FAILED)
		return -errno;
	p = mmap((void *)CONTROL_VA, 4096, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	__asm__ volatile("rdfsbase %0" : "=r"(CTL->host_fs));
	ret = map_regions();
	if (ret)
		return ret;
	sigaction(SIGFPE, NULL, &nat.engine_fpe);
	ret = native_arm();
	if (ret)
		return ret;
	nat.has_16 = !make_segment(DIFF_CS16, DIFF_CODE, true) &&
		     !make_segment(DIFF_DS16, DIFF_DATA, false) &&
		     !make_segment(DIFF_SS16, DIFF_STACK, false) &&
		     !make_segment(DIFF_CS16_SMC, DIFF_SMC, true);
	return 0;
}

void native_close(void)
{
	struct itimerval it = { 0 };

	setitimer(ITIMER_VIRTUAL, &it, NULL);
	prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0);
	for (unsigned i = 0; i < ARRAY_LEN(nat_signals); i++)
		signal(nat_signals[i], SIG_DFL);
	for (unsigned i = 0; i < DIFF_REGIONS; i++)
		munmap((void *)diff_regions[i].va, diff_regions[i].pages * 4096ul);
	munmap((void *)CONTROL_VA, 4096);
	munmap(nat.mem, DIFF_MEM);
	close(nat.fd);
	nat.fd = -1;
}

bool native_owns(u64 va)
{
	return va >= CONTROL_VA && va < CONTROL_VA + 4096;
}

const u8 *native_mem(void)
{
	return nat.mem;
}

/* Kept apart from its caller: a builtin setjmp forgets every register but the frame's. */
static attr_noinline void run_once(void)
{
	if (!__builtin_setjmp(nat.jmp)) {
		nat.ticks = 0;
		nat.running = true;
		if (diff_v3())
			load_ymmh(nat.ymmh[0]);
		native_enter();
	}
}

/* The vector state after a signal is the kernel's choice; C expects the ABI's. */
static void host_fpu(void)
{
	u32 mxcsr = 0x1f80;

	__asm__ volatile("fninit; ldmxcsr %0" : : "m"(mxcsr));
	if (diff_v3())
		__asm__ volatile("vzeroupper");
}

static const struct {
	u16 cs, ds, ss;
} selectors[] = { [DIFF_64] = { DIFF_CS, DIFF_SS, DIFF_SS },
		  [DIFF_32] = { DIFF_CS32, DIFF_SS, DIFF_SS },
		  [DIFF_16] = { DIFF_CS16, DIFF_DS16, DIFF_SS16 } };

void native_start(const struct diff_seq *q)
{
	memcpy(nat.mem, q->mem, DIFF_MEM);
	CTL->s = q->init;
	memcpy(nat.ymmh, q->ymmh, sizeof(q->ymmh));
}

void native_resume(const struct diff_seq *q, const struct diff_result *from, u64 rip, u32 flags)
{
	CTL->s = from->s;
	CTL->s.rip = rip;
	CTL->s.rflags =
		(from->s.rflags & ~(u64)(X86_ARITH | X86_RF | X86_TF)) | (flags & X86_ARITH);
	memcpy(nat.ymmh, from->ymmh, sizeof(nat.ymmh));
}

/*
 * A run that the timer interrupted begins again: Linux's sigreturn does not restore all flags
 * (ID and NT stay as the handler left them), and a tick inside native_trap overwrites got_fs.
 */
void native_go(const struct diff_seq *q, struct diff_result *ret)
{
	static u8 before[DIFF_MEM];
	bool saved = false;
	u64 base = diff_cs_base(q);

	nat.res = ret;
	CTL->far_off = (u32)(CTL->s.rip - base);
	CTL->far_sel = base == DIFF_SMC ? DIFF_CS16_SMC : selectors[q->mode].cs;
	CTL->data_sel = selectors[q->mode].ds;
	CTL->stack_sel = selectors[q->mode].ss;
	memcpy(before, nat.mem, DIFF_MEM);
	do {
		if (saved)
			memcpy(nat.mem, before, DIFF_MEM);
		saved = true;
		run_once();
		host_fpu();
	} while (nat.ticks && ret->end != DIFF_TIMEOUT);
	ret->s.rip += base;
}
