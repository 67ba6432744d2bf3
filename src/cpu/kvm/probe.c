// SPDX-License-Identifier: Apache-2.0
/*
 * probe.c - whether the host's KVM is the real thing
 *
 * How it works
 * Some hosts offer a KVM that is emulated or paravirtual: it opens, says yes to every question,
 * executes two million instructions a second, and dies on a stock kernel. No flag tells. So a guest
 * counts down in a loop of two instructions, and the clock decides. The first rounds are short, so
 * that they are bearable on the slowest emulation: one that pays for page faults and whatever the host
 * does at a first time, and one that counts only if it was already too slow for a long one.
 *
 * The guest runs in flat protected mode: in real mode, old processors leave the work to KVM's
 * instruction emulator.
 */
#include "cpu/kvm/probe.h"

#include "cpu/kvm/call.h"
#include "cpu/kvm/caps.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define CODE_GPA 0x1000u
#define PORT 0x80u
#define WARM_ROUND 256u
#define SHORT_ROUND 1024u  /* iterations: 1 ms at two million instructions a second */
#define LONG_ROUND 262144u /* 5 ms at KVM_HARDWARE_RATE */
#define SHORT_MAX_NS 250000u
#define INSNS_PER_ITERATION 2u
#define ROUNDS 3u

/* 1: DEC ECX; JNZ 1b; OUT 80h, AL; JMP 1b */
static const u8 code[] = { 0x49, 0x75, 0xfd, 0xe6, PORT, 0xeb, 0xf9 };

struct probe {
	int kvm, vm, vcpu;
	size_t run_len;
	struct kvm_run *run;
	u8 *page;
};

static u64 now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

static int load(struct probe *p, struct err *e)
{
	struct kvm_userspace_memory_region mr = { .guest_phys_addr = CODE_GPA,
						  .memory_size = 4096,
						  .userspace_addr = (uintptr_t)p->page };
	struct kvm_sregs s;
	int r = KVM_TRY(e, p->vm, KVM_SET_USER_MEMORY_REGION, &mr);

	if (r < 0)
		return r;
	memcpy(p->page, code, sizeof(code));
	r = KVM_TRY(e, p->vcpu, KVM_GET_SREGS, &s);
	if (r < 0)
		return r;
	struct kvm_segment flat = { .limit = 0xffffffff,
				    .selector = 8,
				    .type = 11,
				    .present = 1,
				    .db = 1,
				    .s = 1,
				    .g = 1 };
	s.cs = flat;
	flat.type = 3;
	flat.selector = 16;
	s.ds = s.es = s.fs = s.gs = s.ss = flat;
	s.cr0 |= 1;
	return KVM_TRY(e, p->vcpu, KVM_SET_SREGS, &s);
}

static int set_up(struct probe *p, struct err *e)
{
	int r = kvm_create_vm(p->kvm, e);

	if (r < 0)
		return r;
	p->vm = r;
	/* Old Intel processors run real and protected mode by way of pages that these two name. */
	r = KVM_TRY(e, p->vm, KVM_SET_TSS_ADDR, 0xfffbd000ul);
	if (r < 0)
		return r;
	r = KVM_TRY(e, p->vm, KVM_CREATE_VCPU, 0);
	if (r < 0)
		return r;
	p->vcpu = r;
	r = KVM_TRY(e, p->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (r < 0)
		return r;
	p->run_len = (size_t)r;
	void *run = mmap(NULL, p->run_len, PROT_READ | PROT_WRITE, MAP_SHARED, p->vcpu, 0);
	if (run == MAP_FAILED)
		return err_sys(e, -errno, "cannot map a vCPU's page");
	p->run = run;
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return err_sys(e, -errno, "cannot map a page");
	p->page = page;
	return load(p, e);
}

/* How long something took: on the clock on the wall, and of this thread's CPU time. */
struct took {
	u64 wall, cpu;
};

/* Runs @n iterations. */
static int run_round(struct probe *p, u32 n, struct err *e, struct took *ret)
{
	struct kvm_regs regs = { .rip = CODE_GPA, .rcx = n, .rflags = 2 };
	int r = KVM_TRY(e, p->vcpu, KVM_SET_REGS, &regs);
	u64 wall = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);

	if (r < 0)
		return r;
	do {
		r = KVM_CALL(p->vcpu, KVM_RUN, 0);
	} while (r == -EINTR);
	if (r < 0)
		return err_sys(e, r, "KVM_RUN failed");
	if (p->run->exit_reason != KVM_EXIT_IO || p->run->io.port != PORT)
		return err_set(e, -EIO, "a guest of four instructions ended with exit reason %u",
			       p->run->exit_reason);
	ret->cpu = now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
	ret->wall = now_ns(CLOCK_MONOTONIC) - wall;
	return 0;
}

static u64 rate(u64 iterations, u64 ns)
{
	return iterations * INSNS_PER_ITERATION * 1000000000u / MAX(ns, 1ull);
}

/*
 * On a busy host other programs run in the middle of a round. This thread's CPU time does not have them in
 * it: if it says that the guest was fast, the round counts for nothing and there is another one.
 */
static int measure(struct probe *p, struct err *e, u64 *ret_rate)
{
	struct took t;
	u64 best = 0;
	int r = run_round(p, WARM_ROUND, e, &t);

	for (unsigned i = 0; r == 0 && i < ROUNDS && best < KVM_HARDWARE_RATE; i++) {
		u64 n = SHORT_ROUND;

		r = run_round(p, SHORT_ROUND, e, &t);
		if (r == 0 && t.wall < SHORT_MAX_NS) {
			n = LONG_ROUND;
			r = run_round(p, LONG_ROUND, e, &t);
		}
		if (r < 0)
			break;
		best = MAX(best, rate(n, t.wall));
		if (rate(n, t.cpu) < KVM_HARDWARE_RATE)
			break;
	}
	if (r == 0)
		*ret_rate = best;
	return r;
}

static void release(struct probe *p)
{
	if (p->page)
		munmap(p->page, 4096);
	if (p->run)
		munmap(p->run, p->run_len);
	if (p->vcpu >= 0)
		close(p->vcpu);
	if (p->vm >= 0)
		close(p->vm);
	if (p->kvm >= 0)
		close(p->kvm);
}

static enum kvm_verdict judge(struct probe *p, struct err *e, u64 *ret_rate)
{
	int r = kvm_open("/dev/kvm", e);

	if (r < 0)
		return r == -ENOENT		     ? KVM_VERDICT_ABSENT
		       : r == -EACCES || r == -EPERM ? KVM_VERDICT_DENIED
						     : KVM_VERDICT_BROKEN;
	p->kvm = r;
	r = kvm_caps_check(p->kvm, e);
	if (r < 0)
		return r == -ENOTSUP ? KVM_VERDICT_LACKS : KVM_VERDICT_BROKEN;
	r = set_up(p, e);
	if (r == 0)
		r = measure(p, e, ret_rate);
	if (r < 0)
		return KVM_VERDICT_BROKEN;
	return *ret_rate >= KVM_HARDWARE_RATE ? KVM_VERDICT_GOOD : KVM_VERDICT_SLOW;
}

void kvm_probe(struct kvm_probe *ret)
{
	struct probe p = { .kvm = -1, .vm = -1, .vcpu = -1 };
	struct err e = { 0 };

	*ret = (struct kvm_probe){ 0 };
	ret->verdict = judge(&p, &e, &ret->rate);
	release(&p);
	if (ret->verdict == KVM_VERDICT_GOOD)
		snprintf(ret->words, sizeof(ret->words),
			 "KVM executes %llu million instructions a second",
			 (unsigned long long)ret->rate / 1000000u);
	else if (ret->verdict == KVM_VERDICT_SLOW)
		snprintf(
			ret->words, sizeof(ret->words),
			"this host's KVM is emulated: it executes %llu.%llu million instructions a "
			"second, hardware more than %llu million",
			(unsigned long long)ret->rate / 1000000u,
			(unsigned long long)ret->rate / 100000u % 10, KVM_HARDWARE_RATE / 1000000u);
	else
		snprintf(ret->words, sizeof(ret->words), "%.300s", e.msg);
}
