/* SPDX-License-Identifier: Apache-2.0 */
/*
 * i8042.c - keyboard controller without a keyboard: reset, A20, and polite answers
 * (IBM PC AT Technical Reference, "Keyboard controller"; PS/2 Hardware Interface, system control
 * ports A and B)
 *
 * How it works
 * The controller exists because system reset goes through it. A driver that probes it is answered
 * at once, since Linux waits half a second for each answer that does not come: self-test passes,
 * the interface tests report that no clock line moves, the auxiliary loopback answers without the
 * mark of an auxiliary byte, and every byte sent to a keyboard comes back as "resend" with the
 * time-out flag, which is how a controller reports that nobody is connected.
 *
 * Port 0x92 (system control A) resets on a rising bit 0. Port 0x61 (system control B) has the
 * speaker gates, a refresh bit that toggles with each read, and no NMI reason ever: left to float
 * it would read all ones, and a driver would see memory parity errors in it.
 */
#include "dev/i8042.h"

#include <errno.h>
#include <stdlib.h>

#define STATUS_OBF 0x01 /* output buffer full */
#define STATUS_SYS 0x04 /* self-test passed */
#define STATUS_CMD 0x08 /* the last write went to the command port */
#define STATUS_UNLOCKED 0x10
#define STATUS_TIMEOUT 0x40

#define CTR_KBD_INT 0x01
#define CTR_DEFAULT 0x74 /* translate, both interfaces off, system flag */
#define OUT_RESET 0x01	 /* output port: 0 holds the CPU in reset */
#define OUT_A20 0x02
#define REPLY_RESEND 0xfe
#define TEST_CLOCK_LOW 0x01

enum {
	CMD_READ_CTR = 0x20,  /* to 0x3f: controller memory */
	CMD_WRITE_CTR = 0x60, /* to 0x7f */
	CMD_TEST_AUX = 0xa9,
	CMD_SELF_TEST = 0xaa,
	CMD_TEST_KBD = 0xab,
	CMD_READ_INPUT = 0xc0,
	CMD_READ_OUT = 0xd0,
	CMD_WRITE_OUT = 0xd1,
	CMD_KBD_LOOP = 0xd2,
	CMD_AUX_LOOP = 0xd3,
	CMD_WRITE_AUX = 0xd4,
	CMD_PULSE = 0xf0, /* to 0xff: low nibble, active low, to the output port */
};

struct i8042_st {
	u8 mem[32]; /* [0] is the command byte, CTR */
	u8 status;
	u8 data;
	u8 cmd; /* the command that waits for a data byte, 0: none */
	u8 out_port;
	u8 port_a, port_b;
};

struct i8042 {
	struct i8042_cfg cfg;
	struct i8042_st st;
};

#define F(m) DEV_FIELD(struct i8042_st, m)
static const struct field_desc fields[] = {
	F(mem), F(status), F(data), F(cmd), F(out_port), F(port_a), F(port_b), DEV_FIELDS_END,
};
#undef F

static void pull_reset(struct i8042 *k)
{
	if (k->cfg.reset)
		k->cfg.reset(k->cfg.opaque);
}

static void update_irq(struct i8042 *k)
{
	irq_set(&k->cfg.irq, (k->st.status & STATUS_OBF) && (k->st.mem[0] & CTR_KBD_INT));
}

static void reply(struct i8042 *k, u8 byte, u8 flags)
{
	k->st.data = byte;
	k->st.status = (k->st.status & (u8)~STATUS_TIMEOUT) | STATUS_OBF | flags;
	update_irq(k);
}

static void write_out_port(struct i8042 *k, u8 val)
{
	k->st.out_port = val | OUT_RESET;
	if (!(val & OUT_RESET))
		pull_reset(k);
}

static u64 data_read(void *opaque, u64 off, unsigned size, unsigned cpu)
{
	struct i8042 *k = opaque;

	k->st.status &= (u8) ~(STATUS_OBF | STATUS_TIMEOUT);
	update_irq(k);
	return k->st.data;
}

static void data_write(void *opaque, u64 off, unsigned size, u64 val, unsigned cpu)
{
	struct i8042 *k = opaque;
	u8 cmd = k->st.cmd, byte = (u8)val;

	k->st.cmd = 0;
	k->st.status &= (u8)~STATUS_CMD;
	if (cmd >= CMD_WRITE_CTR && cmd < CMD_WRITE_CTR + 32) {
		k->st.mem[cmd - CMD_WRITE_CTR] = byte;
		update_irq(k);
	} else if (cmd == CMD_WRITE_OUT) {
		write_out_port(k, byte);
	} else if (cmd == CMD_KBD_LOOP || cmd == CMD_AUX_LOOP) {
		reply(k, byte, 0);
	} else if (!cmd || cmd == CMD_WRITE_AUX) {
		reply(k, REPLY_RESEND, STATUS_TIMEOUT);
	}
}

static u64 cmd_read(void *opaque, u64 off, unsigned size, unsigned cpu)
{
	return ((struct i8042 *)opaque)->st.status;
}

static void cmd_write(void *opaque, u64 off, unsigned size, u64 val, unsigned cpu)
{
	struct i8042 *k = opaque;
	u8 cmd = (u8)val;

	k->st.status |= STATUS_CMD;
	k->st.cmd = 0;
	if (cmd >= CMD_READ_CTR && cmd < CMD_READ_CTR + 32) {
		reply(k, k->st.mem[cmd - CMD_READ_CTR], 0);
		return;
	}
	if ((cmd >= CMD_WRITE_CTR && cmd < CMD_WRITE_CTR + 32) ||
	    (cmd >= CMD_WRITE_OUT && cmd <= CMD_WRITE_AUX)) {
		k->st.cmd = cmd; /* completed by the next data byte */
		return;
	}
	switch (cmd) {
	case CMD_SELF_TEST:
		k->st.status |= STATUS_SYS;
		reply(k, 0x55, 0);
		break;
	case CMD_TEST_AUX:
	case CMD_TEST_KBD:
		reply(k, TEST_CLOCK_LOW, 0);
		break;
	case CMD_READ_INPUT:
		reply(k, 0x80, 0); /* keyboard not locked */
		break;
	case CMD_READ_OUT:
		reply(k, k->st.out_port | (k->st.status & STATUS_OBF ? 0x10 : 0), 0);
		break;
	default:
		if (cmd >= CMD_PULSE && !(cmd & OUT_RESET))
			pull_reset(k);
		break; /* enable and disable commands need no answer */
	}
}

static u64 porta_read(void *opaque, u64 off, unsigned size, unsigned cpu)
{
	return ((struct i8042 *)opaque)->st.port_a;
}

static void porta_write(void *opaque, u64 off, unsigned size, u64 val, unsigned cpu)
{
	struct i8042 *k = opaque;
	bool rising = (val & ~k->st.port_a & 1) != 0;

	k->st.port_a = val & 3;
	if (rising)
		pull_reset(k);
}

static u64 portb_read(void *opaque, u64 off, unsigned size, unsigned cpu)
{
	struct i8042 *k = opaque;

	k->st.port_b ^= 0x10;
	return k->st.port_b;
}

static void portb_write(void *opaque, u64 off, unsigned size, u64 val, unsigned cpu)
{
	struct i8042 *k = opaque;

	k->st.port_b = (k->st.port_b & 0x10) | (val & 0x0f);
}

const struct bus_ops i8042_data_ops = { .read = data_read, .write = data_write };
const struct bus_ops i8042_cmd_ops = { .read = cmd_read, .write = cmd_write };
const struct bus_ops i8042_porta_ops = { .read = porta_read, .write = porta_write };
const struct bus_ops i8042_portb_ops = { .read = portb_read, .write = portb_write };

int i8042_attach(struct i8042 *k, struct bus *b)
{
	int r = bus_add(b, BUS_PIO, 0x60, 1, &i8042_data_ops, k, "i8042-data");

	if (r >= 0)
		r = bus_add(b, BUS_PIO, 0x61, 1, &i8042_portb_ops, k, "system-control-b");
	if (r >= 0)
		r = bus_add(b, BUS_PIO, 0x64, 1, &i8042_cmd_ops, k, "i8042-command");
	if (r >= 0)
		r = bus_add(b, BUS_PIO, 0x92, 1, &i8042_porta_ops, k, "system-control-a");
	return r;
}

static void dev_reset(void *dev)
{
	struct i8042 *k = dev;

	k->st = (struct i8042_st){
		.mem = { CTR_DEFAULT },
		.status = STATUS_SYS | STATUS_UNLOCKED,
		.out_port = OUT_RESET | OUT_A20,
		.port_a = 2, /* A20 on */
	};
	update_irq(k);
}

static void dev_resume(void *dev)
{
	update_irq(dev);
}

static void *dev_state(void *dev, unsigned i)
{
	return i ? NULL : &((struct i8042 *)dev)->st;
}

static const struct device_ops device_ops = {
	.name = "i8042",
	.reset = dev_reset,
	.resume = dev_resume,
	.state = dev_state,
	.fields = fields,
};

struct device i8042_device(struct i8042 *k)
{
	return (struct device){ &device_ops, k };
}

int i8042_new(const struct i8042_cfg *cfg, struct i8042 **ret)
{
	struct i8042 *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	k->cfg = *cfg;
	dev_reset(k);
	*ret = k;
	return 0;
}

void i8042_free(struct i8042 *k)
{
	free(k);
}
