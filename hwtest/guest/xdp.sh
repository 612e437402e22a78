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

# ask SECONDS [ADDRESS]: a hundred plain requests a second; `sent answered`.
ask() {
    on far ptntp bench "${2:-10.0.0.1}" --rate 100 --duration "$1s" --json >asked 2>>bench.log
    echo "$(json sent <asked) $(json answered <asked)"
}

# [ADDRESS]: all are answered, of which the sum over both tiers knows; $sent, $xdp by XDP.
all_answered() {
    set -- $(both_counts) $(ask 1 "$1") $(both_counts)
    sent=$3 xdp=$(($5 - $1))
    echo "$3 sent, $4 answered, $xdp by XDP, $(($6 - $2)) in all"
    [ "$3" -ge 90 ] && [ "$4" = "$3" ] && [ $(($6 - $2)) = "$3" ]
}
both_counts() {
    on near wget -q -O - http://127.0.0.1:9975/metrics |
        awk '/^ptntp_xdp_requests_total.*"basic"/ { xdp = $NF } /^ptntp_server_requests_total.*"basic"/ { both = $NF } END { print xdp, both }'
}
all_by_xdp() { all_answered "$1" && [ "$xdp" = "$sent" ]; }
all_by_sockets() { all_answered "$1" && [ "$xdp" = 0 ]; }

nobody_answers() {
    set -- $(ask 1 "$1")
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

# vlan NETNS BELOW HOST: a VLAN there, vlan10, with the address 10.0.10.HOST.
vlan() {
    on "$1" ip link add link "$2" name vlan10 type vlan id 10
    on "$1" ip address add 10.0.10.$3/24 dev vlan10
    on "$1" ip link set vlan10 up
}

# remember INTERFACE ADDRESS: the far end asks there, also when nobody tells it who we are.
remember() { on far ip neighbour replace "$2" lladdr "$(on near cat "/sys/class/net/$1/address")" dev "$1" nud permanent; }

# The time, from ADDRESS and by XDP.
tells_the_time() {
    local before
    before=$(by_xdp)
    on far ptntp date -q -p 1 "$1" --json >date.json 2>>date.log
    between "$(json offset_s <date.json)" -0.01 0.01 && [ "$(by_xdp)" -gt "$before" ]
}

# tagged NAME [strips]: natively by the line of a VLAN of $nic, which may take tags off; the
# daemon runs on.
tagged() {
    modprobe 8021q
    vlan near "$nic" 1
    vlan far "$neighbour" 2
    serve vlan10 native
    if [ -n "$2" ]; then
        check "$1: a card that hides tags is told of" within 10 grep "xdp $nic: .*rxvlan off" server.log
        check "$1: there is no program" has_program "$nic" ""
        check "$1: and the sockets answer on its VLAN" all_by_sockets 10.0.10.1
        on near ethtool -K "$nic" rxvlan off >ethtool.log
    fi
    check "$1: a VLAN's line is the card's" within 10 has_program "$nic" xdp
    check "$1: all are answered on the VLAN by XDP" within 10 all_by_xdp 10.0.10.1
    check "$1: and without a tag" all_by_xdp
}

# And it comes and goes.
vlan_comes_and_goes() {
    check "$1: what it says on the VLAN is so" tells_the_time 10.0.10.1
    remember vlan10 10.0.10.1
    on near ip link set vlan10 down
    check "$1: on a VLAN that is down nobody answers" within 10 nobody_answers 10.0.10.1
    check "$1: but without a tag" all_by_xdp
    on near ip link set vlan10 up
    check "$1: on one that is up again XDP does" within 10 all_by_xdp 10.0.10.1
    on near ip link del vlan10
    check "$1: on one that is gone nobody answers" within 10 nobody_answers 10.0.10.1
    vlan near "$nic" 1
    check "$1: on one that is made anew XDP does" within 10 all_by_xdp 10.0.10.1
    on near ip address del 10.0.10.1/24 dev vlan10
    on near ip address add 10.0.10.1/24 dev "$nic"
    check "$1: an address that moves to the card is left to the sockets on the VLAN" within 10 all_by_sockets 10.0.10.1
    on far ip address del 10.0.10.2/24 dev vlan10
    on far ip address add 10.0.10.2/24 dev "$neighbour"
    check "$1: and answered by XDP on the card" within 10 all_by_xdp 10.0.10.1
}

# bonded NETNS MODE NIC NIC ADDRESS: the first has that address, and gives it to bond0.
bonded() {
    on "$1" ip link add bond0 type bond mode "$2" miimon 100
    ip link set "$4" netns "$1" 2>/dev/null
    for nic in "$3" "$4"; do
        on "$1" ip address flush dev "$nic"
        on "$1" ip link set "$nic" down
        on "$1" ip link set "$nic" master bond0
    done
    on "$1" ip address add "$5/24" dev bond0
    on "$1" ip link set bond0 up
}

# Who asks sends by both, so the backup hears all as well.
bond() {
    local heard
    modprobe veth
    modprobe 8021q
    modprobe bonding max_bonds=0
    for number in 0 1; do ip link add near$number type veth peer name far$number; done
    netns_pair near far near0 far0
    bonded near active-backup near0 near1 10.0.0.1
    bonded far broadcast far0 far1 10.0.0.2
    passes=
    for nic in far0 far1; do
        start_on far "pass-$nic.log" xdppass $nic
        passes="$passes $started"
        check "bond: $nic takes in what is sent back" within 10 grep ready "pass-$nic.log"
    done

    serve near0 native
    check "bond: by a member's line it has the program" within 10 has_program near0 xdp
    check "bond: its backup has not" has_program near1 ""
    check "bond: all are answered by XDP while it is active" within 10 all_by_xdp
    active_is near1
    check "bond: and by the sockets when the other one is" within 10 all_by_sockets
    stop_ptntp server

    serve bond0 native
    for nic in near0 near1; do
        check "bond: its line is that of $nic" within 10 has_program $nic xdp
    done
    check "bond: what it says is so" tells_the_time 10.0.0.1
    heard=$(heard_by near0)
    check "bond: all are answered by XDP, once" all_by_xdp
    check "bond: the backup heard them too" between $(($(heard_by near0) - heard)) 90 100000
    active_is near0
    check "bond: all are answered by the other one, once" within 10 all_by_xdp
    on far ip link set far0 down
    check "bond: a cable is pulled, and all are answered" within 10 all_by_xdp
    check "bond: by the backup that was" equal "$(active)" near1
    on far ip link set far0 up
    remember bond0 10.0.0.1
    on near ip link set bond0 down
    check "bond: switched off it answers nobody" within 10 nobody_answers
    on near ip link set bond0 up
    check "bond: on again it does" within 10 all_by_xdp
    active_is near1

    vlan near bond0 1
    vlan far bond0 2
    check "bond: members that hide tags are told of" within 10 grep "xdp near1: .*rxvlan off" server.log
    check "bond: the sockets answer on its VLAN" all_by_sockets 10.0.10.1
    # A veth has its tags where the other end puts them.
    for number in 0 1; do
        on far ethtool -K far$number txvlan off
        on near ethtool -K near$number rxvlan off
    done
    check "bond: when they don't, XDP does" within 10 all_by_xdp 10.0.10.1
    check "bond: and without a tag" all_by_xdp
    active_is near0
    check "bond: on its VLAN the other one answers too, once" within 10 all_by_xdp 10.0.10.1
    stop_ptntp server
    kill $passes
    unpair near far
}
active_is() { on near ip link set bond0 type bond active_slave "$1"; }
active() { on near cat /sys/class/net/bond0/bonding/active_slave; }
heard_by() { on near cat "/sys/class/net/$1/statistics/rx_packets"; }

# nics MODULE MAC MAC: $nic and its $neighbour, in namespaces of their own.
nics() {
    # Built into some kernels.
    [ "$1" != virtio_net ] || [ -e /sys/bus/pci/drivers/virtio-pci ] || modprobe virtio_pci
    modprobe "$1"
    nic=$(nic_with "$2")
    neighbour=$(nic_with "$3")
    netns_pair near far "$nic" "$neighbour"
}
