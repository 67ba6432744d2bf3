/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h - what the monitor and the guest's init say to each other
 *
 * This header is compiled on both sides of the wall, so it needs nothing but <stdint.h>.
 *
 * How it works
 * There are two texts. The *spec* is a file in the initramfs that says what to run. The *command
 * port* is a byte stream, 8-bit clean, in both directions (a 16550A whose tty is raw; any other
 * reliable stream will do) that carries frames:
 *
 *	u8 type, u8 flags (0), u16 len (little-endian), u8 payload[len]
 *
 * There may be two such streams: a serial port, which is there at once, and a port of a
 * virtio-console device, much faster, whose drivers take longer to load than a short command runs.
 * So the guest begins on the first and moves when it pays. Between two frames, and with its
 * transmitter empty, it sends READY once more, on the second. The host answers with MOVED, the
 * last frame on the first, and uses the second from then on; the guest does not read that before
 * it has MOVED. So nothing overtakes anything. A guest that finds the second before its first
 * READY just goes on there, and there is no MOVED. The host ignores what the first says later.
 *
 * guest -> host, in this order:
 *	HELLO    first frame: magic "ORCP", u16 version, u16 0; user space runs
 *	MESSAGE  any time before EXIT: init's own words for the person at the host, UTF-8
 *	READY    u32 window: the host may speak from now on
 *	STARTED  the command is about to be executed; no payload
 *	STDOUT, STDERR, CREDIT   any number
 *	EXIT     last frame: u8 how, u8[3] 0, u32 value, then (how = NOT_STARTED) words
 * host -> guest, only after READY:
 *	STDIN (bytes), STDIN_EOF (empty), WINSIZE (u16 rows, u16 cols), SIGNAL (u8 number),
 *	MOVED (empty; not counted in the window), SHUTDOWN (u32 ms: the command gets SIGTERM, and
 *	SIGKILL after this time, and then all goes on as if it had ended by itself)
 *
 * Without a command there is no conversation; but init listens on the serial port for one frame,
 * SHUTDOWN, which ends the shell on the console, syncs and powers off. It answers nothing.
 *
 * Flow control. The host-to-guest direction may end in a tty that drops what it cannot buffer
 * (4 KiB), so the host may have at most `window` bytes of frames, headers included, that the
 * guest has not yet acknowledged by CREDIT (u32 bytes). The guest reads the port whatever the
 * command does, acknowledges every frame but STDIN at once, and a STDIN frame when its payload has
 * been written to the command. Since a command may never read its input, STDIN frames may use only
 * `window` - WIRE_RESERVE bytes; the other frames, all small, always find the reserve. Hence the
 * host never blocks on the port, and so the guest may block writing to it without a deadlock.
 * The guest-to-host direction needs no credits: a full transmitter blocks its writer.
 *
 * Both sides treat the other's bytes as hostile: an unknown type, a length above the maximum of
 * its type or a frame out of order ends the conversation.
 */
#ifndef ORR_BASE_WIRE_H
#define ORR_BASE_WIRE_H

#include <stdint.h>

#define WIRE_MAGIC "ORCP"
#define WIRE_VERSION 2
#define WIRE_HEAD 4
#define WIRE_PAYLOAD_MAX (32768 - WIRE_HEAD) /* a frame is one write(2) to a virtio port */
#define WIRE_WINDOW_TTY 2048 /* half of the guest tty's buffer (N_TTY_BUF_SIZE 4096) */
#define WIRE_WINDOW 65536    /* the largest */
#define WIRE_RESERVE 256
#define WIRE_PORT_NAME "orrery.command" /* of the virtio port */

enum wire_type {
	/* guest -> host */
	WIRE_HELLO = 1,
	WIRE_MESSAGE = 2,
	WIRE_STARTED = 3,
	WIRE_STDOUT = 4,
	WIRE_STDERR = 5,
	WIRE_CREDIT = 6,
	WIRE_EXIT = 7,
	WIRE_READY = 8,
	/* host -> guest */
	WIRE_STDIN = 0x41,
	WIRE_STDIN_EOF = 0x42,
	WIRE_WINSIZE = 0x43,
	WIRE_SIGNAL = 0x44,
	WIRE_MOVED = 0x45,
	WIRE_SHUTDOWN = 0x46,
};

/* EXIT.how, and what EXIT.value is with it. */
enum wire_how {
	WIRE_EXITED = 0,      /* the exit status, 0-255 */
	WIRE_SIGNALED = 1,    /* the number of the signal that killed it */
	WIRE_NOT_STARTED = 2, /* errno; the payload goes on with words */
};

#define WIRE_HELLO_LEN 8
#define WIRE_READY_LEN 4
#define WIRE_EXIT_LEN 8 /* without the words */
#define WIRE_CREDIT_LEN 4
#define WIRE_WINSIZE_LEN 4
#define WIRE_SIGNAL_LEN 1
#define WIRE_SHUTDOWN_LEN 4

/*
 * The spec: NUL-terminated strings, the first of which is WIRE_SPEC_MAGIC, each other KEY=VALUE:
 *	exec  the file to execute (absolute); absent: an interactive shell on the console
 *	arg   one argument, in order, argv[0] first
 *	env   one NAME=VALUE
 *	cwd   working directory; made if it does not exist
 *	host  host name
 *	port  device of the command port
 *	vport name of a virtio port that is better, if it is there once modules are loaded
 *	console  device for the shell on the console, if it is there; default: what /dev/console is
 *	stdin "port" (default) or "null"
 *	tty   "ROWSxCOLS": the command gets a pseudo-terminal (one stream) of this size; the
 *	      console shell takes the size for the console
 * Unknown keys are an error: an old init must not run half of what it was asked for.
 */
#define WIRE_SPEC_MAGIC "orrery-spec 1"
#define WIRE_SPEC_MAX 131072 /* bytes, where it comes over a stream */
#define WIRE_DIR "/.orrery"
#define WIRE_SPEC_FILE WIRE_DIR "/spec"
/*
 * What init does once modules are loaded, in order: a line each, its words separated by one tab.
 * '%' and two hexadecimal digits stand for any byte but NUL. What fails is said, and the command
 * runs all the same; a line that init does not know is such a failure.
 *	mount TYPE SOURCE DIR OPTIONS	mount(2), read-only if OPTIONS begin with "ro"; DIR is made
 *	root TYPE SOURCE OPTIONS	mounts it read-only and, with a writable layer in memory over it,
 *					makes it the root. Before all other lines.
 *	net MAC ADDR/BITS GATEWAY DNS METRIC	up with the network card of that address; "-" for what
 *		it does not get; DNS goes into /etc/resolv.conf unless that was packed
 *	listen DEVICE	waits there for SHUTDOWN: where there is no command, and so no conversation
 *	agent PORT	runs commands for whoever connects from the host to this vsock port
 */
#define WIRE_SETUP_FILE WIRE_DIR "/setup"
#define WIRE_MODULES_FILE WIRE_DIR "/modules" /* paths, one a line, in load order */
#define WIRE_LATER_FILE WIRE_DIR "/later"     /* the same, of what the virtio port needs */
#define WIRE_MOVE_AFTER 65536		      /* bytes of a command's that make it worth while */

/*
 * The guest's agent, on a vsock port that only privileged processes of the guest can take. Each
 * connection from the host (and from nobody else) runs one command: the host sends u32 length and a
 * spec as above, whose "exec" without a '/' is looked for in the PATH of its environment and which
 * inherits environment and directory of the VM's command; then both speak the command port's
 * frames. A connection that is lost hangs its command up (SIGHUP).
 */
#define WIRE_AGENT_PORT 997

static inline void wire_put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline void wire_put32(uint8_t *p, uint32_t v)
{
	wire_put16(p, v & 0xffff);
	wire_put16(p + 2, v >> 16);
}

static inline unsigned wire_get16(const uint8_t *p)
{
	return p[0] | (unsigned)p[1] << 8;
}

static inline uint32_t wire_get32(const uint8_t *p)
{
	return wire_get16(p) | (uint32_t)wire_get16(p + 2) << 16;
}

/* Writes a frame's header to @p (WIRE_HEAD bytes). */
static inline void wire_head(uint8_t *p, enum wire_type type, unsigned len)
{
	p[0] = (uint8_t)type;
	p[1] = 0;
	wire_put16(p + 2, len);
}

#endif
