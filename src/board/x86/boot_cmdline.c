/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_cmdline.c - Orrery's part of the kernel command line
 *
 * How it works
 * A flag is here if it saves boot time or makes output and failure clean, and does not change how
 * the kernel under test schedules, locks, or keeps time. The user's --append follows, so every
 * flag can be taken back.
 *
 * console=ttyS0          Kernel messages and /dev/console are COM1.
 * panic=-1               A panic reboots at once, and the monitor sees the end instead of a hang.
 * reboot=a               Through the FADT's reset register. On a hardware-reduced machine Linux
 *                        would otherwise prefer EFI, and without it jump to the firmware.
 * mitigations=off        This CPU does not speculate, so there is nothing to mitigate. Most follows
 *                        from the ARCH_CAPABILITIES MSR; this also leaves indirect branches
 *                        direct instead of through retpolines, which no CPU model bit can say.
 * random.trust_cpu=on    RDRAND is the guest's (deterministic) entropy; no waiting for jitter.
 * cryptomgr.notests      The algorithms' self-tests take a noticeable part of a Debian boot.
 * initcall_blacklist=jent_mod_init
 *                        The jitter entropy source tests itself at length. It measures how
 *                        irregular execution times are; here they are regular by design.
 * pci=off                There is no PCI; do not look for it.
 * swiotlb=noforce        Above 4 GiB of RAM Linux takes 64 MiB for bounce buffers that virtio-mmio
 *                        never uses here.
 * idle=halt              The REALTIME hint, which keeps the native spinlocks (see cpuid.c), also
 *                        makes Debian's kernels load cpuidle-haltpoll, which spins before it
 *                        halts. A real machine with these CPUs would halt.
 * 8250.nr_uarts=2        There are two UARTs; four would be probed.
 * quiet                  Without --verbose: only errors, as on a Debian installation.
 * earlyprintk=...        With --verbose: messages from before the console is up.
 *
 * Not here, and why. nokaslr: only Linux's own decompressor relocates the kernel, and kernels are
 * unpacked on the host; the kernel itself does not know the word and would pass it to init.
 * tsc=reliable: the synchronization check must pass honestly. no_timer_check:
 * a hardware-reduced machine has no timer interrupt to check. i8042.*: the FADT says there is none.
 * acpi=off: the tables are the topology. clocksource=, lpj=: CPUID leaf 0x15 gives the frequency.
 * init_on_alloc=0, audit=0, apparmor=0: they would make it another kernel than the one Debian's
 * users run. numa_balancing=, isolcpus=, rcu*: they are what is being tested.
 */
#include "board/x86/boot.h"

#define COMMON                                                                                     \
	"console=ttyS0 panic=-1 reboot=a mitigations=off random.trust_cpu=on cryptomgr.notests "   \
	"initcall_blacklist=jent_mod_init pci=off swiotlb=noforce idle=halt 8250.nr_uarts=2"

const char *x86_default_cmdline(bool verbose)
{
	return verbose ? COMMON " earlyprintk=serial,ttyS0,115200 loglevel=7" : COMMON " quiet";
}
