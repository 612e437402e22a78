/*
 * A slow transparent clock of PTP (IEEE 1588, section 10), in so far as a UDP relay can be
 * one: relay PORT SERVER HOLD-MS. What comes to PORT goes to the same port of SERVER, and
 * the answer back, each after being held; the time held is added to the message's
 * correctionField, in ns times 2^16.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CORRECTION_AT 8
#define HEADER_LEN 34

static long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int bound(int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_ANY) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0) {
		perror("relay");
		exit(1);
	}
	return fd;
}

/* Holds a message that has just come in, and says so in it. */
static void hold(unsigned char *message, ssize_t len, long hold_ms)
{
	long long came_ns = now_ns();
	uint64_t correction;

	usleep(hold_ms * 1000);
	if (len < HEADER_LEN)
		return;
	memcpy(&correction, message + CORRECTION_AT, sizeof(correction));
	correction = htobe64(be64toh(correction) + ((uint64_t)(now_ns() - came_ns) << 16));
	memcpy(message + CORRECTION_AT, &correction, sizeof(correction));
}

int main(int argc, char **argv)
{
	struct sockaddr_in client, server = { .sin_family = AF_INET };
	struct timeval patience = { .tv_usec = 200000 };
	unsigned char message[512];
	int outside, inside;
	long hold_ms;

	if (argc != 4 || inet_pton(AF_INET, argv[2], &server.sin_addr) != 1) {
		fprintf(stderr, "usage: relay PORT SERVER HOLD-MS\n");
		return 1;
	}
	server.sin_port = htons(atoi(argv[1]));
	hold_ms = atol(argv[3]);
	outside = bound(atoi(argv[1]));
	inside = bound(0);
	setsockopt(inside, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	for (;;) {
		socklen_t client_len = sizeof(client);
		ssize_t len = recvfrom(outside, message, sizeof(message), 0,
				       (struct sockaddr *)&client, &client_len);

		if (len < 0)
			continue;
		hold(message, len, hold_ms);
		sendto(inside, message, len, 0, (struct sockaddr *)&server, sizeof(server));
		len = recv(inside, message, sizeof(message), 0);
		if (len < 0)
			continue;
		hold(message, len, hold_ms);
		sendto(outside, message, len, 0, (struct sockaddr *)&client, client_len);
	}
}
