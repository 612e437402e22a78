# What suites share that look at requests answered before the network stack.

. /guest/ptntp.sh

# serve NIC MODE ARGUMENT...: a ptntp at near's end.
serve() {
    local nic="$1" mode="$2"
    shift 2
    ptntp_at near server --clock none "$@" <<END
server 127.127.1.0
fudge 127.127.1.0 stratum 1
restrict default
xdp $nic mode $mode
END
    within 30 is_synchronised server >/dev/null || give_up "the local clock is no source"
}

# How an interface answers, by the kernel: xdp (in its driver), xdpgeneric or nothing.
program_at() { on near ip link show dev "$1" | sed -n 's/.*\(xdp[a-z]*\).*/\1/p' | head -n 1; }
has_program() { equal "$(program_at "$1")" "$2"; }

by_xdp() { metric_of near '^ptntp_xdp_requests_total.*"basic"'; }
by_both() { metric_of near '^ptntp_server_requests_total.*"basic"'; }

# ask SECONDS: a hundred plain requests a second; `sent answered`.
ask() {
    on far ptntp bench 10.0.0.1 --rate 100 --duration "$1s" --json >asked 2>>bench.log
    echo "$(json sent <asked) $(json answered <asked)"
}

# All are answered, and all of them by XDP, of which the sum over both tiers knows.
all_by_xdp() {
    local before both
    before=$(by_xdp) both=$(by_both)
    set -- $(ask 2)
    echo "$1 sent, $2 answered, $(($(by_xdp) - before)) by XDP, $(($(by_both) - both)) in all"
    [ "$1" -ge 190 ] && [ "$2" = "$1" ] && [ $(($(by_xdp) - before)) = "$1" ] &&
        [ $(($(by_both) - both)) = "$1" ]
}

# All are answered, by the sockets.
all_by_sockets() {
    local before both
    before=$(by_xdp) both=$(by_both)
    set -- $(ask 2)
    echo "$1 sent, $2 answered, $(($(by_xdp) - before)) by XDP, $(($(by_both) - both)) in all"
    [ "$1" -ge 190 ] && [ "$2" = "$1" ] && [ "$(by_xdp)" = "$before" ] &&
        [ $(($(by_both) - both)) = "$1" ]
}

nobody_answers() {
    set -- $(ask 1)
    echo "$1 sent, $2 answered"
    [ "$1" -ge 90 ] && [ "$2" = 0 ]
}

# A client that asks in the basic and in the interleaved mode, and has the time of the
# one clock that the machine has.
chronyd_is_served() {
    local before passed
    before=$(by_xdp)
    echo "server 10.0.0.1 minpoll -2 maxpoll -2 $2" | start_chronyd far "client$2"
    check "$1: chronyd is served${2:+, interleaved}" wait_synchronised "client$2" 60
    sleep 10
    check "$1: and is at most 50 us off" between "$(offset_us "client$2")" -50 50
    if [ -z "$2" ]; then
        check "$1: by XDP" between $(($(by_xdp) - before)) 20 1000
    else
        check "$1: by the sockets" between "$(metric_of near '^ptntp_server_requests_total.*"interleaved"')" 20 1000
        passed=$(metric_of near '^ptntp_xdp_passed_total.*"interleaved"')
        check "$1: to which XDP passed it" between "$passed" 20 1000
    fi
    stop_chronyd "client$2"
}
offset_us() { chronyc_of "$1" tracking | awk '/^Last offset/ { printf "%.3f\n", $4 * 1e6 }'; }

# answers NAME NIC MODE KERNELS_WORD: from the start of a ptntp to its end.
answers() {
    serve "$2" "$3"
    check "$1: its program is there" within 10 has_program "$2" "$4"
    check "$1: all are answered by XDP" all_by_xdp
    stop_ptntp server
    check "$1: it leaves nothing behind" has_program "$2" ""
}

# refused NAME NIC: no native program, and what to do.
refused() {
    serve "$2" native
    check "$1: it says that it can't" within 10 grep "xdp $2: .*mode generic" server.log
    check "$1: there is no program" has_program "$2" ""
    check "$1: and the sockets answer" all_by_sockets
    stop_ptntp server
}

# From one end of a veth to the other, natively; what has no hardware in it.
veth() {
    modprobe veth
    ip link add near0 type veth peer name far0
    netns_pair near far near0 far0
    start_on far pass.log xdppass far0
    pass=$started
    check "veth: the other end takes in what is sent back" within 10 grep ready pass.log
    for io in uring poll; do
        serve near0 native --io $io
        check "veth, $io: its program is there" within 10 has_program near0 xdp
        check "veth, $io: all are answered by XDP" all_by_xdp
        [ $io = poll ] || chronyd_is_served "veth, $io" ""
        [ $io = poll ] || chronyd_is_served "veth, $io" xleave
        stop_ptntp server
        check "veth, $io: it leaves nothing behind" has_program near0 ""
    done

    serve near0 native
    check "veth: its program is there" within 10 has_program near0 xdp
    kill -STOP "$(cat server.pid)"
    sleep 4
    check "veth: who hangs answers no more" nobody_answers
    kill -CONT "$(cat server.pid)"
    sleep 2
    check "veth: who goes on does" all_by_xdp
    kill -KILL "$(cat server.pid)"
    check "veth: who is killed leaves nothing" within 10 has_program near0 ""
    check "veth: and answers no more" nobody_answers
    answers "veth, generic" near0 generic xdpgeneric
    kill $pass
    unpair near far
}

# nics MODULE MAC MAC: $nic and its neighbour, in namespaces of their own.
nics() {
    # Built into some kernels.
    [ "$1" != virtio_net ] || [ -e /sys/bus/pci/drivers/virtio-pci ] || modprobe virtio_pci
    modprobe "$1"
    nic=$(nic_with "$2")
    netns_pair near far "$nic" "$(nic_with "$3")"
}
