/*
 * The true time of a guest: CLOCK_MONOTONIC_RAW, which no adjtimex moves, made
 * to run OFFSET seconds ahead of the clock at the start and PPM faster.
 *
 *   truth start OFFSET PPM FILE   define it; FILE remembers how
 *   truth leap FILE               a second is inserted at the end of its UTC day
 *   truth serve PORT FILE         an NTP server of stratum 1 on 127.0.0.1 that has
 *                                 it, and announces the second to come
 *   truth error FILE              CLOCK_REALTIME minus the truth, in seconds
 *
 * A ptntp with a virtual clock can't be this: it is a line above CLOCK_REALTIME
 * and goes along with every step.
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define NTP_UNIX_S 2208988800u
#define GIGA 1000000000LL
#define DAY_NS (86400 * GIGA)

struct truth {
	long long raw_ns;	/* at the start: CLOCK_MONOTONIC_RAW */
	long long true_ns;	/* and the truth, since 1970 */
	double ppm;
	long long leap_ns;	/* midnight, shown twice; 0: no leap second */
};

static long long read_ns(clockid_t clock)
{
	struct timespec at;

	clock_gettime(clock, &at);
	return at.tv_sec * GIGA + at.tv_nsec;
}

static long long truth_at(const struct truth *truth, long long raw_ns)
{
	long long passed_ns = raw_ns - truth->raw_ns;
	long long now_ns = truth->true_ns + passed_ns +
			   (long long)((double)passed_ns * truth->ppm * 1e-6);

	return truth->leap_ns && now_ns >= truth->leap_ns ? now_ns - GIGA : now_ns;
}

static int is_leap_ahead(const struct truth *truth, long long raw_ns)
{
	long long passed_ns = raw_ns - truth->raw_ns;

	return truth->true_ns + passed_ns < truth->leap_ns;
}

static int load(struct truth *truth, const char *path)
{
	FILE *file = fopen(path, "r");
	int fields;

	if (!file)
		return 1;
	fields = fscanf(file, "%lld %lld %lf %lld", &truth->raw_ns, &truth->true_ns,
			&truth->ppm, &truth->leap_ns);
	fclose(file);
	return fields != 4;
}

static int save(const struct truth *truth, const char *path)
{
	FILE *file = fopen(path, "w");

	if (!file)
		return 1;
	fprintf(file, "%lld %lld %f %lld\n", truth->raw_ns, truth->true_ns, truth->ppm,
		truth->leap_ns);
	return fclose(file) != 0;
}

static int start(double offset_s, double ppm, const char *path)
{
	struct truth truth = {
		.raw_ns = read_ns(CLOCK_MONOTONIC_RAW),
		.true_ns = read_ns(CLOCK_REALTIME) + (long long)(offset_s * 1e9),
		.ppm = ppm,
	};

	return save(&truth, path);
}

static int leap(struct truth *truth, const char *path)
{
	long long now_ns = truth_at(truth, read_ns(CLOCK_MONOTONIC_RAW));

	truth->leap_ns = (now_ns / DAY_NS + 1) * DAY_NS;
	return save(truth, path);
}

static void put(uint8_t *at, long long ns)
{
	uint32_t seconds = htonl((uint32_t)(ns / GIGA + NTP_UNIX_S));
	uint32_t fraction = htonl((uint32_t)(((uint64_t)(ns % GIGA) << 32) / GIGA));

	memcpy(at, &seconds, 4);
	memcpy(at + 4, &fraction, 4);
}

/* RFC 5905 section 7.3: a request of client mode becomes its reply. */
static void answer(uint8_t packet[48], long long receive_raw_ns, const struct truth *truth)
{
	long long receive_ns = truth_at(truth, receive_raw_ns);
	int leap = is_leap_ahead(truth, receive_raw_ns);

	packet[0] = (uint8_t)(leap << 6 | (packet[0] & 0x38) | 4);
	packet[1] = 1;
	packet[3] = (uint8_t)-20;
	memset(packet + 4, 0, 8);
	memcpy(packet + 12, "TRUE", 4);
	put(packet + 16, receive_ns - GIGA);
	memmove(packet + 24, packet + 40, 8);
	put(packet + 32, receive_ns);
	put(packet + 40, truth_at(truth, read_ns(CLOCK_MONOTONIC_RAW)));
}

static int serve(uint16_t port, const struct truth *truth)
{
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)&own, sizeof(own))) {
		perror("truth serve");
		return 1;
	}
	for (;;) {
		uint8_t packet[48];
		struct sockaddr_storage from;
		socklen_t from_len = sizeof(from);
		ssize_t len = recvfrom(fd, packet, sizeof(packet), 0,
				       (struct sockaddr *)&from, &from_len);
		long long receive_raw_ns = read_ns(CLOCK_MONOTONIC_RAW);

		if (len != sizeof(packet) || (packet[0] & 7) != 3)
			continue;
		answer(packet, receive_raw_ns, truth);
		sendto(fd, packet, sizeof(packet), 0, (struct sockaddr *)&from, from_len);
	}
}

/* Of a few readings the tightest, between two of the other clock. */
static void print_error(const struct truth *truth)
{
	long long best_ns = GIGA, error_ns = 0;

	for (int i = 0; i < 10; i++) {
		long long before = read_ns(CLOCK_MONOTONIC_RAW);
		long long real = read_ns(CLOCK_REALTIME);
		long long after = read_ns(CLOCK_MONOTONIC_RAW);

		if (after - before < best_ns) {
			best_ns = after - before;
			error_ns = real - truth_at(truth, before + best_ns / 2);
		}
	}
	printf("%.9f\n", (double)error_ns * 1e-9);
}

int main(int argc, char **argv)
{
	struct truth truth;

	if (argc == 5 && !strcmp(argv[1], "start"))
		return start(atof(argv[2]), atof(argv[3]), argv[4]);
	if (argc < 3 || load(&truth, argv[argc - 1])) {
		fprintf(stderr, "truth: see truth.c for its arguments\n");
		return 2;
	}
	if (argc == 4 && !strcmp(argv[1], "serve"))
		return serve((uint16_t)atoi(argv[2]), &truth);
	if (!strcmp(argv[1], "leap"))
		return leap(&truth, argv[2]);
	print_error(&truth);
	return 0;
}
