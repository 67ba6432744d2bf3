// SPDX-License-Identifier: Apache-2.0
/*
 * port.c - frames of the command port, the guest's end
 *
 * The protocol is in base/wire.h. The transport here is a tty or, for tests on the host, a socket.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/wire.h"

static int make_raw(int fd)
{
	struct termios t;

	if (tcgetattr(fd, &t) < 0)
		return errno == ENOTTY ? 0 : -errno;
	cfmakeraw(&t);
	/* A port of a virtual machine has no modem: never wait for a carrier or for CTS. */
	t.c_cflag &= ~(tcflag_t)(CRTSCTS | HUPCL);
	t.c_cflag |= CLOCAL | CREAD;
	t.c_cc[VMIN] = 1;
	t.c_cc[VTIME] = 0;
	cfsetispeed(&t, B115200);
	cfsetospeed(&t, B115200);
	/* Not TCSAFLUSH: nothing may be lost, and the host keeps silent before HELLO. */
	return tcsetattr(fd, TCSANOW, &t) < 0 ? -errno : 0;
}

int port_open(struct port *p, const char *dev)
{
	/* O_NONBLOCK: the open itself must not wait for a carrier. */
	int fd = open(dev, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = make_raw(fd);
	if (!ret && fcntl(fd, F_SETFL, O_RDWR) < 0)
		ret = -errno;
	if (ret) {
		close(fd);
		return ret;
	}
	p->fd = fd;
	p->n_in = 0;
	return 0;
}

uint8_t *port_payload(struct port *p)
{
	return p->out + WIRE_HEAD;
}

/* One write(2): a virtio port makes a buffer of each. */
int port_send(struct port *p, unsigned type, const void *data, size_t len)
{
	size_t at = 0;

	if (p->fd < 0)
		return 0;
	if (len > WIRE_PAYLOAD_MAX)
		return -EMSGSIZE;
	wire_head(p->out, type, (unsigned)len);
	if (len && data != port_payload(p))
		memcpy(port_payload(p), data, len);
	while (at < WIRE_HEAD + len) {
		ssize_t n = write(p->fd, p->out + at, WIRE_HEAD + len - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			int err = n < 0 ? errno : EIO;

			/* Nobody is there any more: say nothing further. */
			close(p->fd);
			p->fd = -1;
			return -err;
		}
		at += (size_t)n;
	}
	return 0;
}

int port_receive(struct port *p,
		 int (*frame)(void *opaque, unsigned type, const uint8_t *data, size_t len),
		 void *opaque)
{
	ssize_t n = read(p->fd, p->in + p->n_in, sizeof(p->in) - p->n_in);
	size_t at = 0, len;
	int ret = 0;

	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	p->n_in += (size_t)n;
	while (!ret && p->n_in - at >= WIRE_HEAD) {
		len = wire_get16(p->in + at + 2);
		if (len > WIRE_PAYLOAD_MAX || p->in[at + 1])
			return -EPROTO;
		if (p->n_in - at < WIRE_HEAD + len)
			break;
		ret = frame(opaque, p->in[at], p->in + at + WIRE_HEAD, len);
		at += WIRE_HEAD + len;
	}
	memmove(p->in, p->in + at, p->n_in - at);
	p->n_in -= at;
	return ret;
}
