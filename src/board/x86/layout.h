/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.h - where everything is on the x86 board: ports, MMIO, interrupts, fixed memory
 *
 * Device code gets these numbers from whoever wires the board; tables (ACPI, MP) and entry state
 * take them from here, so the two cannot differ. GSI n is pin n of the only I/O APIC.
 */
#ifndef ORR_BOARD_X86_LAYOUT_H
#define ORR_BOARD_X86_LAYOUT_H

#include "base/compiler.h"

/* Ports */
#define X86_COM1_PORT 0x3f8u
#define X86_COM2_PORT 0x2f8u
#define X86_COM_PORTS 8u
#define X86_CMOS_PORT 0x70u
#define X86_CMOS_PORTS 2u
#define X86_I8042_DATA_PORT 0x60u
#define X86_I8042_CMD_PORT 0x64u
#define X86_SLEEP_CONTROL_PORT 0x600u /* ACPI SLEEP_CONTROL_REG, 1 byte */
#define X86_SLEEP_STATUS_PORT 0x601u  /* ACPI SLEEP_STATUS_REG, 1 byte */
#define X86_RESET_PORT 0x604u	      /* ACPI RESET_REG, 1 byte */
#define X86_RESET_VALUE 1u
#define X86_S5_SLP_TYP 5u

/* Global system interrupts */
#define X86_I8042_GSI 1u
#define X86_COM2_GSI 3u
#define X86_COM1_GSI 4u
#define X86_CMOS_GSI 8u
#define X86_BUTTON_GSI 9u  /* power button: a pulse; the only event of the GED */
#define X86_VIRTIO_GSI 32u /* slot i: GSI 32 + i, level, active high */

/* MMIO. The gap between 3 and 4 GiB is never RAM. */
#define X86_GAP_BASE 0xc0000000ull
#define X86_GAP_END 0x100000000ull
#define X86_VIRTIO_BASE 0xd0000000ull
#define X86_VIRTIO_STRIDE 0x1000ull
#define X86_VIRTIO_LEN 0x200ull /* bytes of a slot that are decoded */
#define X86_VIRTIO_SLOTS 32u
#define X86_IOAPIC_BASE 0xfec00000ull
#define X86_IOAPIC_LEN 0x1000ull
#define X86_IOAPIC_ID 0u
#define X86_IOAPIC_PINS 64u
#define X86_LAPIC_BASE 0xfee00000ull
#define X86_LAPIC_LEN 0x1000ull

/* Clocks. CPUID leaf 0x15 states both. */
#define X86_TSC_KHZ 1000000u
#define X86_CRYSTAL_HZ 25000000u /* input clock of the local APIC timers */

/*
 * Memory below 1 MiB. What a boot protocol needs lives where no kernel is loaded; RAM lies under
 * the whole first MiB, but only what E820 names is for the guest's free use.
 */
#define X86_GDT_BASE 0x500u
#define X86_BOOTINFO_BASE 0x1000u  /* PVH start info or Multiboot info, up to the zero page */
#define X86_ZEROPAGE_BASE 0x7000u  /* boot_params, one page */
#define X86_PAGETABLE_BASE 0x9000u /* PML4, PDPT, four page directories */
#define X86_CMDLINE_BASE 0x20000u
#define X86_CMDLINE_MAX 0x10000u /* bytes with NUL */
#define X86_LOWMEM_END 0x9fc00u	 /* the last KiB of base memory is the EBDA by convention */
#define X86_VGA_BASE 0xa0000u
#define X86_ACPI_BASE 0xe0000u /* RSDP, then the other tables */
#define X86_ACPI_END 0xf0000u
#define X86_MPTABLE_BASE 0xf0000u
#define X86_MPTABLE_END 0x100000u
#define X86_HIMEM_BASE 0x100000u

#endif
