# hwtest/real, which is for NICs of operators, on the module's: a good one, and bad ones,
# with a ptntp as the peer.
#
# limit: 1500

. /guest/ptntp.sh

# qualify NAME ARGUMENT...: its words go to NAME.log, its report to NAME.json.
qualify() {
    local name="$1"
    shift
    mkdir -p out
    on near hwtest-real hw0 --out out "$@" >"$name.log" 2>&1 </dev/null
    result=$?
    cp out/hwtest-real-hw0.json "$name.json"
    cat "$name.json" >>"$name.log"
}

told() { json "$2" <"$1.json"; }
says() { equal "$(told "$1" "$2")" "$3"; }
# A number of the report.
shows() { between "$(told "$1" "$2")" "$3" "$4"; }

good() {
    on near hwstamp hw0 set 0 0 >/dev/null
    phc "$phc" freq 500
    qualify good --peer 10.0.0.2 --seconds 150 --steer
    check "good: it is told so" equal "$result" 0
    check "good: verdict" says good verdict '"hardware"'
    check "good: filters are tried" says good all_answer '"tx=1 rx=1"'
    check "good: NTP departures are stamped" says good all_ntp_tx_hw 40
    check "good: NTP arrivals are stamped" says good all_ntp_rx_hw 40
    check "good: PTP arrivals are stamped" says good all_ptp_rx_hw 40
    check "good: a burst is stamped" says good burst_tx_hw 16
    check "good: its clock's rate, ppb" shows good phc_rate_ppb 20300 20700
    check "good: its clock does as told, ppb" shows good steer_taken_ppb 9800 10200
    check "good: its clock does not jump, ns" shows good steer_jump_ns -1000 1000
    check "good: the range of its frequency" equal "$(told good phc_frequency_max_ppb | grep -c '^[1-9]')" 1
    check "good: stamps in use" says good card_stamps '"hardware/hardware"'
    check "good: deviation by the card's stamps, ns" shows good card_offset_deviation_ns 0 1000
    check "good: and by the kernel's, ns (clearly more)" shows good kernel_jitter_ns 2000 1000000
    check "good: arrivals end 752 ns later" says good rx_correction_ns 752.0
    check "good: stamping is set as before" equal "$(on near hwstamp hw0 get)" "tx=0 rx=0"
    check "good: the frequency is set as before" between "$(phc "$phc" freq)" 499.9 500.1
    check "good: no faults" says good faults null
    check "good: the RTC's edges" shows good rtc_ahead_s -2 2
    phc "$phc" freq 0
}

bad() {
    knob hw0 rx_packets ptp
    qualify ptp --peer 10.0.0.2 --seconds 5
    check "PTP only: verdict" says ptp verdict '"ptp-only"'
    check "PTP only: all is refused" says ptp all_answer '"refused"'
    check "PTP only: exit status" equal "$result" 1
    knob hw0 rx_packets all
    knob hw0 deliver_rx 0
    knob hw0 deliver_tx 0
    qualify silent --peer 10.0.0.2 --seconds 5
    check "promises, and no stamps: verdict" says silent verdict '"silent"'
    knob hw0 deliver_rx 1
    knob hw0 deliver_tx 1
    knob hw0 adj_jump_ns 2000000000
    qualify jumps --peer 10.0.0.2 --seconds 5 --steer
    check "a clock that jumps: by how much, ns" shows jumps steer_jump_ns 1999990000 2000010000
    check "a clock that jumps: it is called a fault" grep -q "BAD: its clock jumps" jumps.log
    knob hw0 adj_jump_ns 0
    knob hw0 drift_ppb 1500000000
    qualify fast --peer 10.0.0.2 --seconds 5
    check "a clock 2.5 times too fast: verdict" says fast verdict '"unreliable"'
    knob hw0 drift_ppb 20000
    knob hw0 tx_lose_every 5
    qualify lossy --peer 10.0.0.2 --seconds 5
    check "one stamp of 5 lost: it is seen" says lossy all_ntp_tx_hw 32
    knob hw0 tx_lose_every 0
}

alone() {
    qualify alone
    check "without a peer: verdict" says alone verdict '"untested"'
    ptntp_at near user --clock none <<END
server 10.0.0.2 minpoll 0 maxpoll 0
restrict default
hwtimestamp hw0
END
    qualify used --peer 10.0.0.2
    check "in use by another: nothing is done unasked" equal "$result" 2
    check "in use by another: who" grep -q "in use by ptntp" used.log
    stop_ptntp user
    on near su nobody -s /bin/sh -c "PTNTP=/bin/ptntp hwtest-real hw0 --out /tmp" >nobody.log 2>&1
    check "not root: what is missing is said" grep -q "missing: root" nobody.log
}

hw_pair near far
chmod 1777 /tmp
phc=$(phc_of near hw0)
for nic in hw0 hw1; do knob $nic latency_ns 50000; done
ptntp_at far server --clock none <<END
server 127.127.1.0
fudge 127.127.1.0 stratum 1
restrict default
hwtimestamp hw1 minpoll -4
END
start_on far echo.log hwtest-real hw1 --echo
echo_process=$started
good
bad
alone
kill $echo_process
stop_ptntp server
unpair near far
