// SPDX-License-Identifier: Apache-2.0
/*
 * exec.c - commands in a guest that runs already, one after the other, and its end
 *
 *	cc exec.c $(pkg-config --cflags --libs orrery) -o exec && ./exec
 */
#include <stdio.h>

#include <orrery/orrery.h>

static int failed(orr_vm *vm, const char *what)
{
	fprintf(stderr, "%s: %s\n", what, orr_vm_error(vm));
	orr_vm_free(vm);
	return 1;
}

int main(void)
{
	static const char *const serves[] = { "sleep", "1000000", NULL };
	static const char *const writes[] = { "sh", "-c", "echo written > /tmp/file", NULL };
	static const char *const reads[] = { "sh", "-c", "cat /tmp/file; exit 3", NULL };
	struct orr_exec exec = ORR_EXEC_INIT;
	orr_vm *vm = orr_vm_new();
	int status;

	if (!vm)
		return 1;
	if (orr_vm_set(vm, "vsock", NULL) < 0 || orr_vm_set_command(vm, serves) < 0)
		return failed(vm, "configuration");
	if (orr_vm_start(vm) < 0)
		return failed(vm, "start");
	exec.out = 1;
	exec.err = 2;
	exec.wait_ms = exec.timeout_ms = 120000;
	exec.argv = writes;
	if (orr_vm_exec(vm, &exec, &status) < 0)
		return failed(vm, "the first command");
	exec.argv = reads;
	if (orr_vm_exec(vm, &exec, &status) < 0)
		return failed(vm, "the second command");
	fprintf(stderr, "the second command's status is %d\n", status);
	/* The VM's own command gets SIGTERM, and ten seconds. */
	if (orr_vm_stop(vm, 10000) < 0 || orr_vm_wait(vm, -1, NULL) < 0)
		return failed(vm, "stop");
	orr_vm_free(vm);
	return 0;
}
