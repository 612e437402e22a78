/*
 * The real time clock's seconds, measured where they begin. A program of its own, so that
 * ptntp's word is not taken for where they do.
 *
 *   rtc DEV edge [N]    the RTC minus CLOCK_REALTIME in ns, at each of N edges, by the
 *                       update interrupt, or by polling if there is none
 */
#include <fcntl.h>
#include <linux/rtc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define GIGA 1000000000LL
#define EDGE_LIMIT_MS 3000

static long long now_ns(void)
{
	struct timespec at;

	clock_gettime(CLOCK_REALTIME, &at);
	return at.tv_sec * GIGA + at.tv_nsec;
}

static int read_s(int fd, long long *seconds)
{
	struct rtc_time time = { 0 };
	struct tm tm = { 0 };

	if (ioctl(fd, RTC_RD_TIME, &time)) {
		perror("RTC_RD_TIME");
		return 1;
	}
	tm.tm_sec = time.tm_sec;
	tm.tm_min = time.tm_min;
	tm.tm_hour = time.tm_hour;
	tm.tm_mday = time.tm_mday;
	tm.tm_mon = time.tm_mon;
	tm.tm_year = time.tm_year;
	*seconds = timegm(&tm);
	return 0;
}

static int wait_interrupt(int fd, long long *edge_ns)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	unsigned long data;

	if (poll(&wait, 1, EDGE_LIMIT_MS) <= 0 || read(fd, &data, sizeof(data)) < 0) {
		fprintf(stderr, "rtc: no update interrupt\n");
		return 1;
	}
	*edge_ns = now_ns();
	return 0;
}

/* Between two readings of which the second is in the next second. */
static int wait_change(int fd, long long *edge_ns)
{
	long long first, seconds, before_ns, after_ns;

	if (read_s(fd, &first))
		return 1;
	after_ns = now_ns();
	do {
		before_ns = after_ns;
		if (read_s(fd, &seconds))
			return 1;
		after_ns = now_ns();
	} while (seconds == first);
	*edge_ns = before_ns + (after_ns - before_ns) / 2;
	return 0;
}

static int edges(int fd, int count)
{
	int has_interrupt = ioctl(fd, RTC_UIE_ON, 0) == 0;
	long long edge_ns, seconds;

	/* The first may have been pending. */
	if (has_interrupt && wait_interrupt(fd, &edge_ns))
		return 1;
	for (int i = 0; i < count; i++) {
		if (has_interrupt ? wait_interrupt(fd, &edge_ns) : wait_change(fd, &edge_ns))
			return 1;
		if (read_s(fd, &seconds))
			return 1;
		printf("%lld\n", seconds * GIGA - edge_ns);
	}
	if (has_interrupt)
		ioctl(fd, RTC_UIE_OFF, 0);
	return 0;
}

int main(int argc, char **argv)
{
	int fd = argc > 2 ? open(argv[1], O_RDONLY) : -1;

	if (argc > 2 && fd < 0) {
		perror(argv[1]);
		return 1;
	}
	if (argc >= 3 && !strcmp(argv[2], "edge"))
		return edges(fd, argc > 3 ? atoi(argv[3]) : 1);
	fprintf(stderr, "rtc: see rtc.c for its arguments\n");
	return 2;
}
