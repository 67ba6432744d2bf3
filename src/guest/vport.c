// SPDX-License-Identifier: Apache-2.0
/*
 * vport.c - finds a port of a virtio-console device by its name
 *
 * How it works
 * The driver learns of ports by messages from the device and makes their files from a work queue,
 * so a port appears some time after its module is loaded, and its name later still. The kernel
 * announces both on a netlink socket (lib/kobject_uevent.c), which is opened before the first look
 * so that no change falls between looking and waiting. Where no driver has a console device there
 * is nothing to wait for.
 */
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEVICES "/sys/bus/virtio/devices"
#define PORTS "/sys/class/virtio-ports"
#define ID_CONSOLE "0x0003" /* virtio 1.2, chapter 5, as sysfs has it */
#define WAIT_MS 1000
#define EVENTS_MAX 1000
#define KOBJECT_UEVENT 15 /* netlink(7) */

/* struct sockaddr_nl: the C library has no header for it. */
struct netlink_addr {
	unsigned short family, pad;
	uint32_t pid, groups;
};

/* The first line of DIR/ENTRY/FILE. */
static bool line_is(const char *dir, const char *entry, const char *file, const char *want)
{
	char path[512], text[128];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "%s/%s/%s", dir, entry, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	if (n <= 0)
		return false;
	text[n] = 0;
	text[strcspn(text, "\n")] = 0;
	return !strcmp(text, want);
}

static bool has_driver(const char *entry)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s/driver", DEVICES, entry);
	return access(path, F_OK) == 0;
}

/* Calls @match for each entry of a directory until it says yes; its name is then in @ret. */
static bool look(const char *dir, bool (*match)(const char *entry, const char *arg),
		 const char *arg, char *ret, size_t size)
{
	DIR *d = opendir(dir);
	struct dirent *ent;
	bool found = false;

	while (d && !found && (ent = readdir(d))) {
		found = ent->d_name[0] != '.' && match(ent->d_name, arg);
		if (found)
			snprintf(ret, size, "%s", ent->d_name);
	}
	if (d)
		closedir(d);
	return found;
}

static bool is_console(const char *entry, const char *id)
{
	return line_is(DEVICES, entry, "device", id) && has_driver(entry);
}

static bool is_port(const char *entry, const char *name)
{
	return line_is(PORTS, entry, "name", name);
}

static int open_events(void)
{
	struct netlink_addr a = { .family = AF_NETLINK, .groups = 1 };
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, KOBJECT_UEVENT);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

int vport_find(const char *name, char *ret, size_t size)
{
	int fd = open_events();
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char entry[256], event[4096];
	bool found = false;

	if (look(DEVICES, is_console, ID_CONSOLE, entry, sizeof(entry)))
		for (int i = 0; i < EVENTS_MAX; i++) {
			found = look(PORTS, is_port, name, entry, sizeof(entry));
			if (found || fd < 0 || poll(&p, 1, WAIT_MS) <= 0)
				break;
			while (recv(fd, event, sizeof(event), 0) > 0)
				;
		}
	if (fd >= 0)
		close(fd);
	if (!found || (size_t)snprintf(ret, size, "/dev/%s", entry) >= size)
		return -ENODEV;
	return 0;
}
