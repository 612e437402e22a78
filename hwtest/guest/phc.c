/*
 * A PTP hardware clock, read against CLOCK_REALTIME, and another hand on it. A program
 * of its own, so that ptntp's word is not taken for what a PHC shows.
 *
 *   phc DEV read           METHOD OFFSET WINDOW: the PHC minus CLOCK_REALTIME, and how
 *                          long the reading took, in ns, by the best method there is
 *   phc DEV precise        the same, by PTP_SYS_OFFSET_PRECISE only
 *   phc DEV extended       by PTP_SYS_OFFSET_EXTENDED only: the tightest of 25
 *   phc DEV plain          by PTP_SYS_OFFSET only: the tightest of 25
 *   phc DEV watch N MS     N times read, MS milliseconds apart
 *   phc DEV range          by how many ppb its frequency can be set, as its driver says
 *   phc DEV rate S         its rate's error in ppb against CLOCK_MONOTONIC_RAW, over S
 *                          seconds
 *   phc DEV set S          sets it S seconds ahead of CLOCK_REALTIME
 *   phc DEV freq [PPB]     its frequency as it is set, in ppb; sets it
 *   phc DEV kick PPB       by how many ns it jumps when its frequency is changed by PPB,
 *                          and when it is set back: `THERE BACK`
 *   phc DEV jump NS        adds to it
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/ptp_clock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#define GIGA 1000000000LL
#define SAMPLES PTP_MAX_SAMPLES
#define KICK_RATE_MS 100

struct reading {
	const char *method;
	long long offset_ns;
	long long window_ns;
};

static long long ns_of(struct ptp_clock_time time)
{
	return time.sec * GIGA + time.nsec;
}

static clockid_t clock_of(int fd)
{
	return (~(clockid_t)fd << 3) | 3;
}

static long long read_ns(clockid_t clock)
{
	struct timespec at;

	clock_gettime(clock, &at);
	return at.tv_sec * GIGA + at.tv_nsec;
}

/* The PHC's time, between two of the system's. */
static void keep_tightest(struct reading *best, struct ptp_clock_time before,
			  struct ptp_clock_time phc, struct ptp_clock_time after)
{
	long long window_ns = ns_of(after) - ns_of(before);

	if (best->window_ns >= 0 && window_ns >= best->window_ns)
		return;
	best->window_ns = window_ns;
	best->offset_ns = ns_of(phc) - ns_of(before) - window_ns / 2;
}

static int read_precise(int fd, struct reading *reading)
{
	struct ptp_sys_offset_precise precise = { 0 };

	if (ioctl(fd, PTP_SYS_OFFSET_PRECISE, &precise))
		return 1;
	*reading = (struct reading){
		.method = "precise",
		.offset_ns = ns_of(precise.device) - ns_of(precise.sys_realtime),
	};
	return 0;
}

static int read_extended(int fd, struct reading *reading)
{
	struct ptp_sys_offset_extended extended = { .n_samples = SAMPLES };

	if (ioctl(fd, PTP_SYS_OFFSET_EXTENDED, &extended))
		return 1;
	*reading = (struct reading){ .method = "extended", .window_ns = -1 };
	for (int i = 0; i < SAMPLES; i++)
		keep_tightest(reading, extended.ts[i][0], extended.ts[i][1], extended.ts[i][2]);
	return 0;
}

static int read_plain(int fd, struct reading *reading)
{
	struct ptp_sys_offset plain = { .n_samples = SAMPLES };

	if (ioctl(fd, PTP_SYS_OFFSET, &plain))
		return 1;
	*reading = (struct reading){ .method = "plain", .window_ns = -1 };
	for (int i = 0; i < SAMPLES; i++)
		keep_tightest(reading, plain.ts[2 * i], plain.ts[2 * i + 1],
			      plain.ts[2 * i + 2]);
	return 0;
}

static int read_best(int fd, struct reading *reading)
{
	return read_precise(fd, reading) && read_extended(fd, reading) && read_plain(fd, reading);
}

static int show(int fd, int (*method)(int, struct reading *))
{
	struct reading reading;

	if (method(fd, &reading)) {
		perror("phc");
		return 1;
	}
	printf("%s %lld %lld\n", reading.method, reading.offset_ns, reading.window_ns);
	return 0;
}

static int watch(int fd, long count, long every_ms)
{
	for (long i = 0; i < count; i++) {
		if (show(fd, read_best))
			return 1;
		usleep((useconds_t)every_ms * 1000);
	}
	return 0;
}

/* The tightest of some readings between two of CLOCK_MONOTONIC_RAW. */
static void read_raw(int fd, long long *phc_ns, long long *raw_ns)
{
	long long best_ns = GIGA;

	for (int i = 0; i < SAMPLES; i++) {
		long long before = read_ns(CLOCK_MONOTONIC_RAW);
		long long phc = read_ns(clock_of(fd));
		long long after = read_ns(CLOCK_MONOTONIC_RAW);

		if (after - before >= best_ns)
			continue;
		best_ns = after - before;
		*phc_ns = phc;
		*raw_ns = before + best_ns / 2;
	}
}

static int show_rate(int fd, double seconds)
{
	long long phc[2] = { 0 }, raw[2] = { 0 };

	read_raw(fd, &phc[0], &raw[0]);
	usleep((useconds_t)(seconds * 1e6));
	read_raw(fd, &phc[1], &raw[1]);
	printf("%.0f\n", ((double)(phc[1] - phc[0]) / (double)(raw[1] - raw[0]) - 1) * 1e9);
	return 0;
}

static int show_range(int fd)
{
	struct ptp_clock_caps caps = { 0 };

	if (ioctl(fd, PTP_CLOCK_GETCAPS, &caps)) {
		perror("PTP_CLOCK_GETCAPS");
		return 1;
	}
	printf("%d\n", caps.max_adj);
	return 0;
}

static int set(int fd, double ahead_s)
{
	long long ns = read_ns(CLOCK_REALTIME) + (long long)(ahead_s * 1e9);
	struct timespec time = { .tv_sec = ns / GIGA, .tv_nsec = ns % GIGA };

	if (clock_settime(clock_of(fd), &time)) {
		perror("clock_settime");
		return 1;
	}
	return 0;
}

static int order(int fd, struct timex *timex)
{
	if (clock_adjtime(clock_of(fd), timex) < 0) {
		perror("clock_adjtime");
		return 1;
	}
	return 0;
}

static int set_freq(int fd, double ppb)
{
	struct timex timex = {
		.modes = ADJ_FREQUENCY,
		.freq = (long)(ppb * 65.536),
	};

	return order(fd, &timex);
}

static int get_freq(int fd, double *ppb)
{
	struct timex timex = { 0 };

	if (order(fd, &timex))
		return 1;
	*ppb = (double)timex.freq / 65.536;
	return 0;
}

static int show_freq(int fd)
{
	double ppb;

	if (get_freq(fd, &ppb))
		return 1;
	printf("%.3f\n", ppb);
	return 0;
}

/* What it moved by, less what its rate before says. */
static int kick(int fd, double by_ppb)
{
	double from_ppb, jump_ns[2];

	if (get_freq(fd, &from_ppb))
		return 1;
	for (int i = 0; i < 2; i++) {
		long long phc[3] = { 0 }, raw[3] = { 0 };
		double rate;

		read_raw(fd, &phc[0], &raw[0]);
		usleep(KICK_RATE_MS * 1000);
		read_raw(fd, &phc[1], &raw[1]);
		rate = (double)(phc[1] - phc[0]) / (double)(raw[1] - raw[0]);
		if (set_freq(fd, i ? from_ppb : from_ppb + by_ppb))
			return 1;
		read_raw(fd, &phc[2], &raw[2]);
		jump_ns[i] = (double)(phc[2] - phc[1]) - (double)(raw[2] - raw[1]) * rate;
	}
	printf("%.0f %.0f\n", jump_ns[0], jump_ns[1]);
	return 0;
}

static int jump(int fd, long long ns)
{
	struct timex timex = { .modes = ADJ_SETOFFSET | ADJ_NANO };

	timex.time.tv_sec = ns / GIGA;
	timex.time.tv_usec = ns % GIGA;
	if (timex.time.tv_usec < 0) {
		timex.time.tv_sec--;
		timex.time.tv_usec += GIGA;
	}
	return order(fd, &timex);
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "";
	int fd = argc > 2 ? open(argv[1], O_RDWR) : -1;

	if (argc > 2 && fd < 0) {
		perror(argv[1]);
		return 1;
	}
	if (argc == 3 && !strcmp(what, "read"))
		return show(fd, read_best);
	if (argc == 3 && !strcmp(what, "precise"))
		return show(fd, read_precise);
	if (argc == 3 && !strcmp(what, "extended"))
		return show(fd, read_extended);
	if (argc == 3 && !strcmp(what, "plain"))
		return show(fd, read_plain);
	if (argc == 5 && !strcmp(what, "watch"))
		return watch(fd, atol(argv[3]), atol(argv[4]));
	if (argc == 3 && !strcmp(what, "range"))
		return show_range(fd);
	if (argc == 4 && !strcmp(what, "rate"))
		return show_rate(fd, atof(argv[3]));
	if (argc == 4 && !strcmp(what, "set"))
		return set(fd, atof(argv[3]));
	if (argc == 3 && !strcmp(what, "freq"))
		return show_freq(fd);
	if (argc == 4 && !strcmp(what, "kick"))
		return kick(fd, atof(argv[3]));
	if (argc == 4 && !strcmp(what, "freq"))
		return set_freq(fd, atof(argv[3]));
	if (argc == 4 && !strcmp(what, "jump"))
		return jump(fd, atoll(argv[3]));
	fprintf(stderr, "phc: see phc.c for its arguments\n");
	return 2;
}
