/*
 * Hardware timestamps: what a NIC promises, what is switched on, and what really
 * arrives. A program of its own, so that ptntp's word is not taken for it.
 *
 *   hwstamp IF phc                   its PTP hardware clock, as /dev/ptpN
 *   hwstamp IF caps                  `tx=MASK rx=MASK phc=N`, bits of linux/net_tstamp.h
 *   hwstamp IF get                   `tx=TYPE rx=FILTER`, numbers of linux/net_tstamp.h
 *   hwstamp IF set TYPE FILTER       switches on; says what the driver made of it
 *   hwstamp IF echo PORT             sends every UDP packet back, until it is killed
 *   hwstamp IF probe ADDR PORT N [OWN]
 *                                    sends N packets of 90 bytes there, 50 ms apart, and
 *                                    waits for the echo; every stamp in a line, and last
 *                                    `tx=N tx_sw=N tx_hw=N rx=N rx_sw=N rx_hw=N`; from
 *                                    the port OWN, the same port if not given, 0: any
 *   hwstamp IF burst ADDR PORT N [OWN]
 *                                    the same with all at once; the last line alone
 *
 * A stamp's line is `tx|rx SOFTWARE_NS HARDWARE_NS LATENCY_NS INDEX`: 0 is none, the
 * latency that of a transmit stamp, the index of the interface that PKTINFO names.
 * Transmit stamps are waited for 200 ms.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <linux/ethtool.h>
#include <linux/net_tstamp.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define GIGA 1000000000LL
#define PAYLOAD 48
#define PTP_PORT 319
#define PTP_LENGTH 44
#define WAIT_MS 200
#define PAUSE_MS 50

struct counts {
	int tx, tx_sw, tx_hw;
	int rx, rx_sw, rx_hw;
};

struct stamps {
	long long sw_ns, hw_ns;
	unsigned int index;
};

static int control = -1;

/* The start of a client's request of NTP version 4; to PTP's port, of a Delay_Req of PTP
 * version 2 in a domain that nobody uses, as NICs look at type and version. */
static void fill(char *packet, int port)
{
	memset(packet, 0, PAYLOAD);
	if (port != PTP_PORT) {
		packet[0] = 0x23;
		return;
	}
	packet[0] = 1;
	packet[1] = 2;
	packet[3] = PTP_LENGTH;
	packet[4] = 123;
}

static int ioctl_of(const char *interface, unsigned long request, void *data)
{
	struct ifreq ifreq = { 0 };

	strncpy(ifreq.ifr_name, interface, IFNAMSIZ - 1);
	ifreq.ifr_data = data;
	return ioctl(control, request, &ifreq);
}

static int get_caps(const char *interface, struct ethtool_ts_info *info)
{
	info->cmd = ETHTOOL_GET_TS_INFO;
	if (ioctl_of(interface, SIOCETHTOOL, info)) {
		perror("ETHTOOL_GET_TS_INFO");
		return 1;
	}
	return 0;
}

static int show_phc(const char *interface)
{
	struct ethtool_ts_info info = { 0 };

	if (get_caps(interface, &info) || info.phc_index < 0)
		return 1;
	printf("/dev/ptp%d\n", info.phc_index);
	return 0;
}

static int show_caps(const char *interface)
{
	struct ethtool_ts_info info = { 0 };

	if (get_caps(interface, &info))
		return 1;
	printf("tx=0x%x rx=0x%x phc=%d\n", info.tx_types, info.rx_filters, info.phc_index);
	return 0;
}

static int show_config(const char *interface, unsigned long request, int type, int filter)
{
	struct hwtstamp_config config = { .tx_type = type, .rx_filter = filter };

	if (ioctl_of(interface, request, &config)) {
		perror(request == SIOCSHWTSTAMP ? "SIOCSHWTSTAMP" : "SIOCGHWTSTAMP");
		return 1;
	}
	printf("tx=%d rx=%d\n", config.tx_type, config.rx_filter);
	return 0;
}

static long long now_ns(void)
{
	struct timespec at;

	clock_gettime(CLOCK_REALTIME, &at);
	return at.tv_sec * GIGA + at.tv_nsec;
}

static int open_udp(const char *interface, int port)
{
	int stamping = SOF_TIMESTAMPING_TX_HARDWARE | SOF_TIMESTAMPING_TX_SOFTWARE |
		       SOF_TIMESTAMPING_RX_HARDWARE | SOF_TIMESTAMPING_RX_SOFTWARE |
		       SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_RAW_HARDWARE |
		       SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_CMSG |
		       SOF_TIMESTAMPING_OPT_PKTINFO | SOF_TIMESTAMPING_OPT_TX_SWHW;
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, interface,
		       (socklen_t)strlen(interface)) ||
	    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &stamping, sizeof(stamping)) ||
	    bind(fd, (struct sockaddr *)&own, sizeof(own))) {
		perror("hwstamp");
		exit(1);
	}
	return fd;
}

/* Takes a packet or, with MSG_ERRQUEUE, the loop of one sent; -1: there is none. */
static ssize_t take(int fd, int flags, struct stamps *stamps)
{
	char packet[2048], buffer[1024];
	struct iovec iov = { .iov_base = packet, .iov_len = sizeof(packet) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = buffer,
		.msg_controllen = sizeof(buffer),
	};
	ssize_t len = recvmsg(fd, &msg, flags | MSG_DONTWAIT);

	*stamps = (struct stamps){ 0 };
	if (len < 0)
		return len;
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg); cmsg; cmsg = CMSG_NXTHDR(&msg, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET)
			continue;
		if (cmsg->cmsg_type == SCM_TIMESTAMPING) {
			struct timespec *at = (struct timespec *)CMSG_DATA(cmsg);

			stamps->sw_ns = at[0].tv_sec * GIGA + at[0].tv_nsec;
			stamps->hw_ns = at[2].tv_sec * GIGA + at[2].tv_nsec;
		} else if (cmsg->cmsg_type == SCM_TIMESTAMPING_PKTINFO) {
			stamps->index = ((struct scm_ts_pktinfo *)CMSG_DATA(cmsg))->if_index;
		}
	}
	return len;
}

static void show_stamps(const char *way, const struct stamps *stamps, long long latency_ns)
{
	printf("%s %lld %lld %lld %u\n", way, stamps->sw_ns, stamps->hw_ns, latency_ns,
	       stamps->index);
}

/* One packet and all that comes of it, for WAIT_MS, or until nothing can be missing. */
static void probe_once(int fd, const struct sockaddr_in *to, struct counts *counts)
{
	char packet[PAYLOAD];
	long long sent_ns = now_ns();
	int tx_sw = 0, tx_hw = 0, rx = 0;

	fill(packet, ntohs(to->sin_port));
	if (sendto(fd, packet, sizeof(packet), 0, (const struct sockaddr *)to, sizeof(*to)) < 0) {
		perror("sendto");
		return;
	}
	counts->tx++;
	while (now_ns() - sent_ns < WAIT_MS * 1000000LL && !(tx_sw && tx_hw && rx)) {
		struct pollfd wait = { .fd = fd, .events = POLLIN };
		struct stamps stamps;

		poll(&wait, 1, 10);
		while (take(fd, MSG_ERRQUEUE, &stamps) >= 0) {
			show_stamps("tx", &stamps, now_ns() - sent_ns);
			tx_sw += stamps.sw_ns != 0;
			tx_hw += stamps.hw_ns != 0;
		}
		while (take(fd, 0, &stamps) >= 0) {
			show_stamps("rx", &stamps, 0);
			rx++;
			counts->rx_sw += stamps.sw_ns != 0;
			counts->rx_hw += stamps.hw_ns != 0;
		}
	}
	counts->tx_sw += tx_sw;
	counts->tx_hw += tx_hw;
	counts->rx += rx;
}

/* Many packets at once: a NIC may have room for the stamp of one. */
static void burst_once(int fd, const struct sockaddr_in *to, int count, struct counts *counts)
{
	char packet[PAYLOAD];
	long long sent_ns;
	struct stamps stamps;

	fill(packet, ntohs(to->sin_port));
	for (int i = 0; i < count; i++)
		counts->tx += sendto(fd, packet, sizeof(packet), 0, (const struct sockaddr *)to,
				     sizeof(*to)) > 0;
	sent_ns = now_ns();
	while (now_ns() - sent_ns < WAIT_MS * 1000000LL) {
		struct pollfd wait = { .fd = fd, .events = POLLIN };

		poll(&wait, 1, 10);
		while (take(fd, MSG_ERRQUEUE, &stamps) >= 0) {
			counts->tx_sw += stamps.sw_ns != 0;
			counts->tx_hw += stamps.hw_ns != 0;
		}
		while (take(fd, 0, &stamps) >= 0) {
			counts->rx++;
			counts->rx_sw += stamps.sw_ns != 0;
			counts->rx_hw += stamps.hw_ns != 0;
		}
	}
}

static int probe(const char *interface, const char *address, int port, int own, int count,
		 int at_once)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct counts counts = { 0 };
	int fd = open_udp(interface, own);

	if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
		return 2;
	if (at_once)
		burst_once(fd, &to, count, &counts);
	for (int i = 0; i < count && !at_once; i++) {
		probe_once(fd, &to, &counts);
		usleep(PAUSE_MS * 1000);
	}
	printf("tx=%d tx_sw=%d tx_hw=%d rx=%d rx_sw=%d rx_hw=%d\n", counts.tx, counts.tx_sw,
	       counts.tx_hw, counts.rx, counts.rx_sw, counts.rx_hw);
	return 0;
}

static void echo(const char *interface, int port)
{
	int fd = open_udp(interface, port);

	for (;;) {
		struct pollfd wait = { .fd = fd, .events = POLLIN };
		char packet[2048];
		struct sockaddr_in from;
		socklen_t from_len = sizeof(from);
		struct stamps stamps;
		ssize_t len;

		poll(&wait, 1, -1);
		while (take(fd, MSG_ERRQUEUE, &stamps) >= 0)
			show_stamps("tx", &stamps, 0);
		len = recvfrom(fd, packet, sizeof(packet), MSG_DONTWAIT,
			       (struct sockaddr *)&from, &from_len);
		if (len >= 0)
			sendto(fd, packet, (size_t)len, 0, (struct sockaddr *)&from, from_len);
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "";

	control = socket(AF_INET, SOCK_DGRAM, 0);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 3 && !strcmp(what, "phc"))
		return show_phc(argv[1]);
	if (argc == 3 && !strcmp(what, "caps"))
		return show_caps(argv[1]);
	if (argc == 3 && !strcmp(what, "get"))
		return show_config(argv[1], SIOCGHWTSTAMP, 0, 0);
	if (argc == 5 && !strcmp(what, "set"))
		return show_config(argv[1], SIOCSHWTSTAMP, atoi(argv[3]), atoi(argv[4]));
	if (argc == 4 && !strcmp(what, "echo"))
		echo(argv[1], atoi(argv[3]));
	if ((argc == 6 || argc == 7) && (!strcmp(what, "probe") || !strcmp(what, "burst")))
		return probe(argv[1], argv[3], atoi(argv[4]), atoi(argv[argc == 7 ? 6 : 4]),
			     atoi(argv[5]), !strcmp(what, "burst"));
	fprintf(stderr, "hwstamp: see hwstamp.c for its arguments\n");
	return 2;
}
