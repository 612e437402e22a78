# Bad hardware in use: each time ptntp notices, says so, falls back to the kernel's
# stamps, and keeps its bound; and goes back when the hardware is good again.
#
# qemu: -netdev hubport,id=e0,hubid=1 -device e1000e,netdev=e0,mac=52:54:00:00:02:00,addr=0x10,romfile=
# qemu: -netdev hubport,id=e1,hubid=1 -device e1000e,netdev=e1,mac=52:54:00:00:02:01,addr=0x14,romfile=
# limit: 1500

. /guest/ptntp.sh

# serve NIC, ask NAME NIC
serve() {
    ptntp_at near server --clock none <<END
server 127.127.1.0
fudge 127.127.1.0 stratum 1
restrict default
hwtimestamp $1 minpoll -4
END
}

ask() {
    ptntp_at far "$1" --clock virtual:0.1,30 <<END
server 10.0.0.1 minpoll 0 maxpoll 0 iburst xleave
restrict default
hwtimestamp $2 minpoll -2
END
    within 60 is_synchronised "$1" >/dev/null || give_up "$1 does not synchronise"
}

origins() { equal "$(peer_of "$1" stamp_tx)$(peer_of "$1" stamp_rx)" "\"$2\"\"$2\""; }
told() { grep -c -e "$2" "$1.log" | awk -v words="$2" '{ print $1 " lines say: " words; exit !($1 >= 1 && $1 <= 3) }'; }

# Through all of it, from the first second to the last.
watch_bounds() {
    errors_and_bounds "$1" "$2" >"$1.errors" &
    watcher=$!
}

# fault NAME KNOB VALUE BACK WORDS: a fault while the client is running.
fault() {
    local name="$1"
    watch_bounds client 50
    knob hw1 "$2" "$3"
    # A jump is learnt in less time than there is between two polls.
    [ "$2" = jump_ns ] || check "$name: the kernel's stamps are used" within 30 origins client kernel
    check "$name: the operator is told" within 30 told client "$5"
    sleep 10
    [ -z "$4" ] || knob hw1 "$2" "$4"
    check "$name: the card's are again, when it is good" within 60 origins client hardware
    wait $watcher
    check "$name: the bound holds" within_bounds client.errors
}

faults() {
    hw_pair near far
    serve hw0
    ask client hw1
    check "at first the card's stamps are used" within 30 origins client hardware
    fault "clock that jumps" jump_ns 1000000000 "" "jumped by +1"
    fault "stamps of the wrong clock" clock realtime phc "not used: it is of another clock"
    fault "stamps three seconds late" tx_delay_ms 3000 0 "timestamps of departures don't come"
    fault "no stamps of arrivals" deliver_rx 0 1 "arrive without hardware timestamps"
    fault "stamps 5 ms in the future" forge_ns 5000000 0 "not used: it contradicts"
    fault "a clock that runs 2.5 times too fast" drift_ppb 1500000000 20000 "times as fast as the system clock"
    unplug
    stop_ptntp client
    stop_ptntp server
    unpair near far
}

# Pulled out, and put back with another index and another clock.
unplug() {
    watch_bounds client 60
    on far ip link del hw1
    check "unplugged: the operator is told" within 30 told client "ptp[0-9]* is gone\|no such interface"
    sleep 5
    ip link add hw1 link lower1 type hwts
    ip link set hw1 netns far
    on far ip address add 10.0.0.2/24 dev hw1
    on far ip link set hw1 up
    check "plugged in again: the card's stamps are used" within 100 origins client hardware
    wait $watcher
    check "unplugged and plugged in again: the bound holds" within_bounds client.errors
}

# A driver's reset switches stamping off; the service sees that within a minute.
reset() {
    hw_pair near far
    serve hw0
    ask reset hw1
    within 30 origins reset hardware >/dev/null
    knob hw1 reset 1
    check "reset: the card is set up again" within 100 told reset "hw1.*again"
    check "reset: the card's stamps are used" within 60 origins reset hardware
    stop_ptntp reset
    stop_ptntp server
    unpair near far
}

# Promises all, gives nothing, and its clock is 2.5 times too fast.
e1000e() {
    local near far
    modprobe e1000e
    near=$(nic_with 52:54:00:00:02:00)
    far=$(nic_with 52:54:00:00:02:01)
    netns_pair near far "$near" "$far"
    serve "$near"
    ask liar "$far"
    check "e1000e: the operator is told of its clock" within 30 told liar "times as fast as the system clock"
    check "e1000e: the kernel's stamps are used" origins liar kernel
    errors_and_bounds liar 30 >liar.errors
    check "e1000e: the bound holds" within_bounds liar.errors
    stop_ptntp liar
    stop_ptntp server
    unpair near far
}

faults
reset
e1000e
