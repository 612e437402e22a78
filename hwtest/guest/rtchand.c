/*
 * The real-time clock as the kernel shows it, and another hand on it. A program of
 * its own, so that ptntp's word is not taken for where its seconds begin.
 *
 *   rtchand edge     the clock minus CLOCK_REALTIME at its next edge, in seconds,
 *                    with the clock taken to be on UTC
 *   rtchand push S   move it by about S seconds: its seconds then begin at any moment
 *   rtchand hold S   keep the device open for S seconds
 */
#include <fcntl.h>
#include <linux/rtc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static double realtime(void)
{
	struct timespec at;

	clock_gettime(CLOCK_REALTIME, &at);
	return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static time_t get(int fd)
{
	struct rtc_time raw;
	struct tm tm = { 0 };

	if (ioctl(fd, RTC_RD_TIME, &raw)) {
		perror("RTC_RD_TIME");
		exit(1);
	}
	tm.tm_sec = raw.tm_sec;
	tm.tm_min = raw.tm_min;
	tm.tm_hour = raw.tm_hour;
	tm.tm_mday = raw.tm_mday;
	tm.tm_mon = raw.tm_mon;
	tm.tm_year = raw.tm_year;
	return timegm(&tm);
}

static int set(int fd, time_t to)
{
	struct rtc_time raw = { 0 };
	struct tm tm;

	gmtime_r(&to, &tm);
	raw.tm_sec = tm.tm_sec;
	raw.tm_min = tm.tm_min;
	raw.tm_hour = tm.tm_hour;
	raw.tm_mday = tm.tm_mday;
	raw.tm_mon = tm.tm_mon;
	raw.tm_year = tm.tm_year;
	if (ioctl(fd, RTC_SET_TIME, &raw)) {
		perror("RTC_SET_TIME");
		return 1;
	}
	return 0;
}

/* Without a pause, so that nothing but a reading lies between edge and clock. */
static double edge(int fd)
{
	time_t first = get(fd), now;

	do
		now = get(fd);
	while (now == first);
	return (double)now - realtime();
}

int main(int argc, char **argv)
{
	int fd = open("/dev/rtc0", O_RDONLY);

	if (fd < 0) {
		perror("/dev/rtc0");
		return 1;
	}
	if (argc == 2 && !strcmp(argv[1], "edge")) {
		printf("%.6f\n", edge(fd));
		return 0;
	}
	if (argc != 3)
		return 2;
	if (!strcmp(argv[1], "push")) {
		double by = atof(argv[2]);
		time_t whole = (time_t)by;

		/* In the middle of the chip's second, less what is wanted of it. */
		edge(fd);
		usleep((useconds_t)(500000 + 1e6 * (1 - (by - (double)whole))) % 1000000);
		return set(fd, get(fd) + whole);
	}
	if (!strcmp(argv[1], "hold"))
		return sleep((unsigned int)atoi(argv[2])) != 0;
	return 2;
}
