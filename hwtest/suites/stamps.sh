# Stamps of network cards from end to end: ptntp as client and as server, beside chronyd
# in the same run. One machine has one system clock, so every true offset is zero, and a
# virtual clock knows its own error. The cards' clocks are 37 s ahead and drift apart by
# 40 ppm.
#
# limit: 1500

hw_pair near far
settle_s=240
watch_s=60

. /guest/ptntp.sh

server="server 10.0.0.1 minpoll 0 maxpoll 0 xleave iburst"

serve() {
    ptntp_at near server --clock none "$@" <<END
server 127.127.1.0
fudge 127.127.1.0 stratum 1
restrict default
hwtimestamp hw0 minpoll -4
END
}

# ask NAME ARGUMENT...
ask() {
    ptntp_at far "$@" <<END
$server
restrict default
hwtimestamp hw1 minpoll -4
END
}

all_by_card() {
    check "$1: stamps of the client by the card" client_by_card far
    check "$1: arrivals at the server by the card" server_by_card near
    check "$1: departures of the server by the card" departures_by_card near
}

chrony_row() {
    printf '%s\n' "local stratum 1" allow "hwtimestamp hw0 minpoll -4" | start_chronyd near chrony-server
    printf '%s\n' "$server" "hwtimestamp hw1 minpoll -4" "logdir $PWD/logs" "log measurements" |
        start_chronyd far chrony-client
    wait_synchronised chrony-client 60 >/dev/null
    sleep $((settle_s + watch_s))
    chrony_ns=$(awk '/^20/ { print $12 * 1e9 }' logs/measurements.log | tail -n $watch_s | stats deviation)
    check "row: standard deviation of the offset, chronyd with chronyd, ns" between "$chrony_ns" 0 500
    stop_chronyd chrony-client
    stop_chronyd chrony-server
}

ptntp_row() {
    serve
    ask client --clock none
    check "ptntp with ptntp: it synchronises" within 60 is_synchronised client
    sleep $settle_s
    samples client offset_s $watch_s >offsets
    most_ns=$(awk -v c="$chrony_ns" 'BEGIN { print c < 50 ? c : 50 }')
    jitter_ns=$(peer_of client jitter_s | awk '{ printf "%.1f\n", $1 * 1e9 }')
    check "row: standard deviation of the offset, ptntp with ptntp, ns" between "$jitter_ns" 0 "$most_ns"
    check "row: RMS error of the estimate, ns" between "$(stats rms <offsets)" 0 50
    all_by_card "ptntp with ptntp"
    check "ptntp peers shows H both ways" equal "$(peer_of client stamp_tx)$(peer_of client stamp_rx)" '"hardware""hardware"'
    ptntp peers --control "$PWD/client.control" >peers.log
    ptntp nics >nics.log 2>&1
    stop_ptntp client

    for nic in hw0 hw1; do knob $nic deliver_tx 0; knob $nic deliver_rx 0; done
    ask silent --clock none
    check "without the cards' stamps: it synchronises" within 60 is_synchronised silent
    sleep 60
    check "without the cards' stamps: the check of the client fails" fails client_by_card far
    check "without the cards' stamps: the operator is told" lines_with 1 "hw1: .*hardware timestamps" silent.log
    for nic in hw0 hw1; do knob $nic deliver_tx 1; knob $nic deliver_rx 1; done
    stop_ptntp silent
    stop_ptntp server
}

# chronyd and ptntp with each other: what chronyd says of the stamps.
mixed() {
    serve
    printf '%s\n' "$server" "hwtimestamp hw1 minpoll -4" | start_chronyd far mixed-client
    check "chronyd asks ptntp: it synchronises" wait_synchronised mixed-client 60
    sleep 30
    for word in TX RX; do
        check "chronyd asks ptntp: its $word timestamping" equal "$(ntpdata_of mixed-client "$word timestamping")" Hardware
    done
    check "chronyd asks ptntp: interleaved" equal "$(ntpdata_of mixed-client Interleaved)" Yes
    check "chronyd asks ptntp: departures of the server by the card" departures_by_card near
    check "chronyd asks ptntp: standard deviation, ns" between \
        "$(chronyc_of mixed-client -c sourcestats | cut -d , -f 8 | awk '{ printf "%.1f\n", $1 * 1e9 }')" 0 200
    stop_chronyd mixed-client
    stop_ptntp server

    printf '%s\n' "local stratum 1" allow "hwtimestamp hw0 minpoll -4" | start_chronyd near mixed-server
    ask mixed --clock none
    check "ptntp asks chronyd: it synchronises" within 60 is_synchronised mixed
    sleep 120
    check "ptntp asks chronyd: stamps of the client by the card" client_by_card far
    check "ptntp asks chronyd: stamps of the server" served_by_card mixed-server
    stop_ptntp mixed
    stop_chronyd mixed-server
}

served_by_card() {
    chronyc_of "$1" serverstats | awk -F: '
        /NTP hardware [RT]X/ { mine += $2 }
        /[RT]X timestamps/ { all += $2 }
        END { printf "%d of %d\n", mine, all; exit !(all > 20 && mine >= 0.9 * all) }'
}

# disciplined NAME: p99 and RMS of a virtual clock's true error, in ns, and the bound.
disciplined() {
    ask "$1" --clock virtual:0.2,30
    check "$1: it synchronises" within 60 is_synchronised "$1"
    sleep 90
    errors_and_bounds "$1" 100 >"$1.errors"
    [ "$1" = kernel ] || all_by_card "$1"
    stop_ptntp "$1"
    awk '{ e = $2 < 0 ? -$2 : $2; printf "%.3f\n", e * 1e9 }' "$1.errors" >"$1.true"
}

# The mission's claim: jitter of the wire, and a machine that is slow to look.
claim() {
    serve
    for nic in hw0 hw1; do knob $nic jitter_ns 20000; done
    disciplined jitter
    check "row: p99 of the true error with 20 us of jitter on the wire, ns" between "$(stats p99 <jitter.true)" 0 50000
    check "jitter: the bound holds" within_bounds jitter.errors
    for nic in hw0 hw1; do knob $nic jitter_ns 0; knob $nic latency_ns 200000; done
    disciplined load
    check "row: p99 of the true error with 200 us of latency before the stack, ns" between "$(stats p99 <load.true)" 0 10000
    check "load: the bound holds" within_bounds load.errors
    for nic in hw0 hw1; do knob $nic deliver_tx 0; knob $nic deliver_rx 0; done
    disciplined kernel
    check "row: the same with the kernel's stamps, ns (clearly more)" between "$(stats p99 <kernel.true)" \
        "$(awk -v ns="$(stats p99 <load.true)" 'BEGIN { print 4 * ns }')" 1000000
    check "kernel: the bound holds" within_bounds kernel.errors
    for nic in hw0 hw1; do knob $nic deliver_tx 1; knob $nic deliver_rx 1; knob $nic latency_ns 0; done
    stop_ptntp server
}

chrony_row
ptntp_row
mixed
claim
