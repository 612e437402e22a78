# A transparent clock on the way of NTP over PTP: a switch that keeps requests for 20 ms
# and replies for 5 ms, and says so in them. It spoils the offset by 7.5 ms, which
# `extfield` takes out again: as client of chronyd, as its server, and among ourselves.
# One machine has one system clock, so every true offset is zero.

. /guest/ptntp.sh
modprobe ptntp_hwts
for end in 0 1; do
    ip link add lower$end type veth peer name port$end
    for nic in lower$end port$end; do ip link set $nic up; done
    ip link add hw$end link lower$end type hwts
    knob hw$end rx_packets ptp
done
tclock port0 5 port1 20 >tclock.log 2>&1 &
tclock=$!
check "the switch is there" within 10 grep ready tclock.log
netns_pair near far hw0 hw1

# What a sample says, in us: offset and delay, each at least and at most.
spoilt="7400 7600 25000 25500"
corrected="-50 50 0 400"

# ask NAME DIALECT EXPECTED OPTION...: a ptntp at far's end, and its last sample. What it
# took from the delay is in the root's distance still.
ask() {
    local name="$1" dialect="$2" expected="$3"
    shift 3
    printf '%s\n' "server 10.0.0.1 port 319 minpoll 0 maxpoll 0 iburst $*" "ptpport 319" \
        "hwtimestamp hw1 minpoll -4 rxfilter ptp" |
        ptntp_at far client --clock none --dialect "$dialect"
    check "$name: it synchronises" within 60 is_synchronised client
    sleep 20
    check "$name: arrivals" equal "$(peer_of client stamp_rx)" "\"$arrivals\""
    seen "$name" "$(peer_of client offset_s)" "$(peer_of client delay_s)" $expected
    check "$name: root distance, us" between "$(us "$(peer_of client root_distance_s)")" 12500 100000
    stop_ptntp client
}
arrivals=hardware

# chronyd_asks NAME EXPECTED OPTION...: the same of a chronyd, by the time that it serves.
chronyd_asks() {
    local name="$1" expected="$2"
    shift 2
    printf '%s\n' "server 10.0.0.1 port 319 minpoll 0 maxpoll 0 iburst $*" "ptpport 319" allow \
        "hwtimestamp hw1 minpoll -4 rxfilter ptp" | start_chronyd far chrony-client
    check "$name: it synchronises" wait_synchronised chrony-client 60
    sleep 20
    check "$name: arrivals" equal "$(ntpdata_of chrony-client "RX timestamping")" Hardware
    seen "$name" "$(on far served 123 | awk '{ print $1 / 1e9 }')" "$(ntpdata_of chrony-client "Peer delay")" $expected
    stop_chronyd chrony-client
}

# seen NAME OFFSET_S DELAY_S LEAST MOST LEAST MOST
seen() {
    check "$1: offset, us" between "$(us "$2")" "$4" "$5"
    check "$1: delay, us" between "$(us "$3")" "$6" "$7"
}
us() { echo "$1" | awk '{ printf "%.3f\n", $1 * 1e6 }'; }

chrony_serves_over_ptp chrony-server
ask "ptntp of chronyd, without extfield" ntp "$spoilt"
ask "ptntp of chronyd" ntp "$corrected" extfield F324
ask "ptntp of chronyd, interleaved" chrony "$corrected" xleave extfield F324
stop_chronyd chrony-server

serve_over_ptp
check "the server has a source" within 60 is_synchronised server
ask "ptntp of ptntp" chrony "$corrected" extfield 10A
ask "ptntp of ptntp, interleaved" ntp "$corrected" xleave extfield 10A
chronyd_asks "chronyd of ptntp, without extfield" "$spoilt"
chronyd_asks "chronyd of ptntp" "$corrected" extfield F324
chronyd_asks "chronyd of ptntp, interleaved" "$corrected" xleave extfield F324
# What the switch says is of no use where the arrival's stamp is the kernel's.
knob hw1 deliver_rx 0
arrivals=kernel
ask "ptntp of ptntp, no stamps of arrivals" ntp "$spoilt" extfield 10A
stop_ptntp server

kill $tclock
unpair near far
ip link del lower1
