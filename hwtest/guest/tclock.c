// tclock NIC MS NIC MS: a switch between two network devices that is a one-step end-to-end
// transparent clock (IEEE 1588-2008, section 10.2): it keeps each of PTP's event messages
// (UDP over IPv4, port 319) that comes in at a NIC for so many ms, and adds the time that
// it really kept it to its correctionField. All other frames pass at once. Says "ready".
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define S 1000000000LL
#define PTP_HEADER_LEN 34

struct port {
    int fd;
    int64_t kept_ns;
};

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int64_t ns(struct timespec at) { return at.tv_sec * S + at.tv_nsec; }

static int64_t now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    return ns(at);
}

static struct port port_of(const char *nic, const char *kept_ms)
{
    struct port port = {socket(AF_PACKET, SOCK_RAW, 0), atoll(kept_ms) * 1000000};
    struct sockaddr_ll at = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(ETH_P_ALL),
        .sll_ifindex = if_nametoindex(nic),
    };
    int on = 1;
    if (setsockopt(port.fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) ||
        setsockopt(port.fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)) ||
        bind(port.fd, (struct sockaddr *)&at, sizeof(at)))
        fail(nic);
    return port;
}

// Where the UDP header of one of PTP's event messages begins; 0: it is none.
static size_t event_at(const uint8_t *frame, size_t len)
{
    size_t udp;
    if (len < ETH_HLEN + 20 || frame[12] != 0x08 || frame[13] != 0x00 || frame[ETH_HLEN + 9] != 17)
        return 0;
    udp = ETH_HLEN + 4 * (frame[ETH_HLEN] & 0xf);
    if (len < udp + 8 + PTP_HEADER_LEN || (frame[udp + 2] << 8 | frame[udp + 3]) != 319)
        return 0;
    return udp;
}

static void pass_on(struct port from, struct port to)
{
    uint8_t frame[2048];
    char control[256];
    struct iovec data = {frame, sizeof(frame)};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    ssize_t len = recvmsg(from.fd, &message, 0);
    struct cmsghdr *stamp = CMSG_FIRSTHDR(&message);
    size_t udp = len < 0 ? 0 : event_at(frame, len);

    if (len < 0)
        fail("recvmsg");
    if (udp) {
        struct timespec arrived, rest;
        uint64_t correction;
        int64_t left_ns;
        if (!stamp || stamp->cmsg_type != SCM_TIMESTAMPNS)
            fail("no stamp");
        memcpy(&arrived, CMSG_DATA(stamp), sizeof(arrived));
        left_ns = ns(arrived) + from.kept_ns - now();
        if (left_ns > 0) {
            rest = (struct timespec){left_ns / S, left_ns % S};
            nanosleep(&rest, NULL);
        }
        // No checksum, which IPv4 allows: it would be another one now.
        memset(frame + udp + 6, 0, 2);
        memcpy(&correction, frame + udp + 16, 8);
        correction = htobe64(be64toh(correction) + ((uint64_t)(now() - ns(arrived)) << 16));
        memcpy(frame + udp + 16, &correction, 8);
    }
    if (send(to.fd, frame, len, 0) != len)
        fail("send");
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    struct port ports[2] = {port_of(argv[1], argv[2]), port_of(argv[3], argv[4])};
    struct pollfd waits[2] = {{ports[0].fd, POLLIN, 0}, {ports[1].fd, POLLIN, 0}};
    puts("ready");
    fflush(stdout);
    for (;;) {
        if (poll(waits, 2, -1) < 0)
            fail("poll");
        for (int n = 0; n < 2; n++)
            if (waits[n].revents)
                pass_on(ports[n], ports[!n]);
    }
}
