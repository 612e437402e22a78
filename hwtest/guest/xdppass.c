// xdppass NIC: holds a program there that passes all on, until it is killed. A veth takes
// in what the other end's program sends back (XDP_TX) only where it has a program too.
#define _GNU_SOURCE
#include <linux/bpf.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static int bpf(int command, union bpf_attr *order)
{
    return syscall(SYS_bpf, command, order, sizeof(*order));
}

int main(int argc, char **argv)
{
    static const struct bpf_insn pass[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_EXIT},
    };
    if (argc != 2)
        return 2;
    union bpf_attr load = {
        .prog_type = BPF_PROG_TYPE_XDP,
        .insns = (uintptr_t)pass,
        .insn_cnt = sizeof(pass) / sizeof(*pass),
        .license = (uintptr_t)"GPL",
    };
    int program = bpf(BPF_PROG_LOAD, &load);
    union bpf_attr attach = {.link_create = {
        .prog_fd = program,
        .target_ifindex = if_nametoindex(argv[1]),
        .attach_type = BPF_XDP,
        .flags = 1U << 2, // XDP_FLAGS_DRV_MODE
    }};
    if (program < 0 || bpf(BPF_LINK_CREATE, &attach) < 0) {
        perror("xdppass");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    pause();
}
