/* Sizes of pipes, and pipes of packets: each call's result. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static char bytes[4 << 20];

static long say(const char *what, long result) {
	printf("%s: %ld %s\n", what, result, result < 0 ? strerrorname_np(errno) : "");
	return result;
}

static void fill(int fd, size_t at_once, int most) {
	long total = 0;
	int writes = 0;
	while (writes < most) {
		long n = write(fd, bytes, at_once);
		if (n < 0)
			break;
		total += n;
		writes++;
	}
	printf("filled by %zu: %d writes, %ld bytes, %s\n", at_once, writes, total, strerrorname_np(errno));
}

static void ready(int *p) {
	struct pollfd fds[] = {{p[0], POLLIN}, {p[1], POLLOUT}};
	int queued = -1;
	say("FIONREAD", ioctl(p[0], FIONREAD, &queued));
	poll(fds, 2, 0);
	printf("queued %d, poll %x %x\n", queued, fds[0].revents, fds[1].revents);
}

static void sizes(void) {
	int p[2];
	say("pipe2", pipe2(p, O_NONBLOCK));
	say("get", fcntl(p[0], F_GETPIPE_SZ));
	const unsigned sizes[] = {0, 1, 4096, 4097, 65537, 1 << 20, (1 << 20) + 1, 100000, 1u << 31, (1u << 31) + 1, -1, 4096};
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		printf("%u ", sizes[i]);
		say("set", fcntl(p[i % 2], F_SETPIPE_SZ, sizes[i]));
		say("get", fcntl(p[1], F_GETPIPE_SZ));
	}
	fill(p[1], 1000, 1 << 20);
	ready(p);
	say("set", fcntl(p[1], F_SETPIPE_SZ, 20000));
	fill(p[1], 4097, 1 << 20);
	ready(p);
	say("busy", fcntl(p[1], F_SETPIPE_SZ, 4096));
	say("read", read(p[0], bytes, 5000));
	ready(p);
	say("busy", fcntl(p[1], F_SETPIPE_SZ, 16384));
	say("read", read(p[0], bytes, sizeof bytes));
	say("set", fcntl(p[1], F_SETPIPE_SZ, 1 << 20));
	for (int odd = 0; odd < 3; odd++) {
		fill(p[1], (1 << 19) + odd, 9);
		ready(p);
		say("read", read(p[0], bytes, 1 << 18));
		ready(p);
		while (read(p[0], bytes, 1 << 20) > 0)
			;
	}
	fill(p[1], 4097, 1 << 20);
	fill(p[1], 1, 1 << 20);
	ready(p);
}

static void fifo(void) {
	char name[] = "/tmp/fifoXXXXXX";
	close(mkstemp(name));
	unlink(name);
	say("mkfifo", mkfifo(name, 0600));
	int fd = open(name, O_RDWR | O_NONBLOCK);
	say("set", fcntl(fd, F_SETPIPE_SZ, 8192));
	fill(fd, 3000, 100);
	say("direct", open(name, O_RDONLY | O_NONBLOCK | O_DIRECT));
	unlink(name);
	int file = open("/dev/null", O_RDWR);
	say("file", fcntl(file, F_GETPIPE_SZ));
	say("file", fcntl(file, F_SETPIPE_SZ, 4096));
}

static void packets(void) {
	int p[2];
	say("pipe2", pipe2(p, O_DIRECT | O_NONBLOCK));
	printf("flags %x %x\n", fcntl(p[0], F_GETFL), fcntl(p[1], F_GETFL));
	fill(p[1], 3, 1000);
	ready(p);
	say("read", read(p[0], bytes, 100));
	say("read", read(p[0], bytes, 2));
	say("read", read(p[0], bytes, 100));
	while (read(p[0], bytes, 100) > 0)
		;
	say("write", write(p[1], bytes, 10000));
	for (int i = 0; i < 4; i++)
		say("read", read(p[0], bytes, 1 << 20));
	say("write", write(p[1], "", 0));
	say("read", read(p[0], bytes, 100));
	say("off", fcntl(p[1], F_SETFL, O_NONBLOCK));
	say("write", write(p[1], "abc", 3));
	say("write", write(p[1], "abc", 3));
	say("on", fcntl(p[1], F_SETFL, O_NONBLOCK | O_DIRECT));
	say("write", write(p[1], "defg", 4));
	say("write", write(p[1], "h", 1));
	say("read", read(p[0], bytes, 8));
	say("read", read(p[0], bytes, 100));
	say("read", read(p[0], bytes, 100));
	say("flags", pipe2(p, O_APPEND));
}

/* What only the sandbox's root may do for sure. */
static void privileged(void) {
	int p[2];
	say("pipe2", pipe2(p, O_NONBLOCK));
	say("root", fcntl(p[0], F_SETPIPE_SZ, 4 << 20));
	say("write", write(p[1], bytes, 3 << 20));
	say("read", read(p[0], bytes, 1 << 20));
	say("most", fcntl(p[0], F_SETPIPE_SZ, 1u << 31));
	say("busy", fcntl(p[0], F_SETPIPE_SZ, 1 << 20));
	say("root", fcntl(p[0], F_SETPIPE_SZ, 2 << 20));
	say("seteuid", seteuid(1000));
	say("down", fcntl(p[0], F_SETPIPE_SZ, (1 << 20) + 1));
	say("down", fcntl(p[0], F_SETPIPE_SZ, 1 << 20));
	say("up", fcntl(p[0], F_SETPIPE_SZ, (1 << 20) + 1));
	say("up", fcntl(p[0], F_SETPIPE_SZ, 1 << 20));
}

/* Pipes that take all there is. */
static void many(void) {
	long size = 0, failed = 0, bytes_in = 0;
	for (int i = 0; i < 400; i++) {
		int p[2];
		if (pipe2(p, O_NONBLOCK))
			break;
		if (fcntl(p[1], F_SETPIPE_SZ, 1 << 20) < 0)
			failed = errno;
		size += fcntl(p[1], F_GETPIPE_SZ);
		for (long n; (n = write(p[1], bytes, 1 << 20)) > 0;)
			bytes_in += n;
	}
	printf("%ld of %ld, %s\n", bytes_in, size, strerrorname_np(failed));
}

int main(int argc, char **argv) {
	memset(bytes, 'x', sizeof bytes);
	/* Who has no privilege here may have none natively. */
	if (!strcmp(argv[1], "sizes"))
		seteuid(1000);
	if (!strcmp(argv[1], "sizes"))
		sizes();
	else if (!strcmp(argv[1], "fifo"))
		fifo();
	else if (!strcmp(argv[1], "packets"))
		packets();
	else if (!strcmp(argv[1], "privileged"))
		privileged();
	else if (!strcmp(argv[1], "many"))
		many();
	puts("the end");
	return 0;
}
