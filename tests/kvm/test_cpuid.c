// SPDX-License-Identifier: Apache-2.0
/*
 * test_cpuid.c - what a vCPU's CPUID says under KVM: the board's table, and what the host changed in it
 */
#include "rig.h"

#include "board/x86/cpuid.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#define MAX_ENTRIES 256u

struct table {
	struct kvm_cpuid2 h;
	struct kvm_cpuid_entry2 e[MAX_ENTRIES];
};

/* The descriptor of vCPU 0: the engine keeps it to itself, the kernel gives it a name. */
static int vcpu_fd(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *x;
	int fd = -1;

	assert_non_null(d);
	while (fd < 0 && (x = readdir(d))) {
		char path[300], to[64] = "";

		snprintf(path, sizeof(path), "/proc/self/fd/%s", x->d_name);
		if (readlink(path, to, sizeof(to) - 1) > 0 && strstr(to, "kvm-vcpu:0"))
			fd = atoi(x->d_name);
	}
	closedir(d);
	return fd;
}

static const struct kvm_cpuid_entry2 *find(const struct table *t, u32 leaf, u32 sub)
{
	static const struct kvm_cpuid_entry2 none;

	for (u32 i = 0; i < t->h.nent; i++)
		if (t->e[i].function == leaf && t->e[i].index == sub)
			return &t->e[i];
	return &none;
}

static void get(struct table *guest, struct table *host, int fd)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	assert_true(kvm >= 0);
	memset(guest, 0, sizeof(*guest));
	memset(host, 0, sizeof(*host));
	guest->h.nent = host->h.nent = MAX_ENTRIES;
	assert_int_equal(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, host), 0);
	assert_int_equal(ioctl(fd, KVM_GET_CPUID2, guest), 0);
	close(kvm);
}

static void test_cpuid(void **state)
{
	static struct table guest, host;
	const struct x86_cpuid_entry *board;
	unsigned n;
	struct rig r;
	struct err e;
	int fd;

	if (rig_new(&r, 4, &e) < 0)
		fail_msg("%s", e.msg);
	fd = vcpu_fd();
	if (fd < 0) {
		printf("skip: this kernel does not name a vCPU's descriptor; Linux 4.12 does\n");
		rig_free(&r);
		return;
	}
	get(&guest, &host, fd);
	/* Who the processor is: the host's say. */
	assert_int_equal(find(&guest, 0, 0)->ebx, find(&host, 0, 0)->ebx);
	assert_int_equal(find(&guest, 1, 0)->eax, find(&host, 1, 0)->eax);
	/* Features: none that the host lacks, but for those that local APICs in the kernel bring. */
	assert_int_equal(find(&guest, 1, 0)->edx & ~find(&host, 1, 0)->edx & ~(u32)BIT(28), 0);
	assert_int_equal(find(&guest, 1, 0)->ecx & ~find(&host, 1, 0)->ecx &
				 ~(u32)(BIT(21) | BIT(24) | BIT(31) | BIT(27)),
			 0);
	assert_int_equal(find(&guest, 7, 0)->ebx & ~find(&host, 7, 0)->ebx, 0);
	assert_true(find(&guest, 1, 0)->ecx & BIT(31));
	/* ... and none that the model lacks: no VMX, SVM, MONITOR. */
	assert_int_equal(find(&guest, 1, 0)->ecx & (BIT(5) | BIT(3)), 0);
	assert_int_equal(find(&guest, 0x80000001, 0)->ecx & BIT(2), 0);
	/* The TSC's rate is not the board's. */
	assert_int_equal(find(&guest, 0x15, 0)->eax | find(&guest, 0x15, 0)->ebx, 0);
	assert_int_equal(find(&guest, 0x40000000, 0)->ebx, 0x4b4d564b);
	assert_true(find(&guest, 0x40000001, 0)->eax & BIT(15)); /* extended destination ids */
	assert_int_equal(find(&guest, 0x40000001, 0)->edx, 0);	 /* no hint of own CPUs */
	/* Topology and caches are the board's. */
	board = x86_cpuids_get(r.cpuids, 0, &n);
	for (unsigned i = 0; i < n; i++) {
		const struct kvm_cpuid_entry2 *x = find(&guest, board[i].leaf, board[i].subleaf);

		if (board[i].leaf != 4 && board[i].leaf != 0xb && board[i].leaf != 0x1f)
			continue;
		assert_int_equal(x->eax, board[i].eax);
		assert_int_equal(x->ebx, board[i].ebx);
		assert_int_equal(x->edx, board[i].edx);
	}
	rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_cpuid) };

	return rig_has_kvm() && rig_is_real() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
