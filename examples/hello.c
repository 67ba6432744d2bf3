// SPDX-License-Identifier: Apache-2.0
/*
 * hello.c - a guest that runs a command, is paused, goes on, and ends
 *
 *	cc hello.c $(pkg-config --cflags --libs orrery) -o hello && ./hello
 */
#include <stdio.h>
#include <string.h>

#include <orrery/orrery.h>

static void print_insns(void *opaque, const char *name, uint64_t value)
{
	if (!strcmp(name, "instructions"))
		printf("%s: %llu instructions\n", (const char *)opaque, (unsigned long long)value);
}

static int failed(orr_vm *vm, const char *what)
{
	fprintf(stderr, "%s: %s\n", what, orr_vm_error(vm));
	orr_vm_free(vm);
	return 1;
}

int main(void)
{
	static const char *const command[] = { "sh", "-c", "echo hello from $(uname -n); sleep 5",
					       NULL };
	struct orr_result result = { .size = sizeof(result) };
	orr_vm *vm = orr_vm_new();

	if (!vm)
		return 1;
	if (orr_vm_set(vm, "cpus", "2") < 0 || orr_vm_set(vm, "digest", NULL) < 0 ||
	    orr_vm_set_command(vm, command) < 0 || orr_vm_set_streams(vm, -1, 1, 2) < 0)
		return failed(vm, "configuration");
	if (orr_vm_start(vm) < 0)
		return failed(vm, "start");
	if (orr_vm_pause(vm) == 0) { /* it may be over already */
		if (orr_vm_stats(vm, print_insns, (void *)"while paused") < 0)
			return failed(vm, "statistics");
		if (orr_vm_resume(vm) < 0)
			return failed(vm, "resume");
	}
	if (orr_vm_wait(vm, -1, &result) < 0)
		return failed(vm, "wait");
	printf("status %d, %.3f s of guest time, digest %s\n", result.status,
	       (double)result.guest_ns / 1e9, result.digest);
	orr_vm_free(vm);
	return result.status;
}
