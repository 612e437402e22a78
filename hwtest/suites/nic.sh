# The bench itself: the kernel module's NIC and its knobs, seen by our own programs and
# by a chronyd at both ends. No ptntp.

port=7
hw_pair near far

# 10 packets from near to far and back; says what stamps near got.
probe() { on near hwstamp hw0 probe 10.0.0.2 $port 10 >probe.out && tail -n 1 probe.out; }

# hw_minus_realtime: transmit stamps of software and of hardware come in lines of their
# own; the first less than a packet's time before the second.
hw_minus_realtime() {
    awk '$1 == "tx" && $2 { software = $2 }
         $1 == "tx" && $3 && software { sum += ($3 - software) / 1e9; n++; software = 0 }
         END { if (n) printf "%.6f\n", sum / n }' probe.out
}

stamps_are() { equal "$(probe)" "$1"; }
all="tx=10 tx_sw=10 tx_hw=10 rx=10 rx_sw=10 rx_hw=10"
no_hw="tx=10 tx_sw=10 tx_hw=0 rx=10 rx_sw=10 rx_hw=0"
no_tx="tx=10 tx_sw=10 tx_hw=0 rx=10 rx_sw=10 rx_hw=10"
no_rx="tx=10 tx_sw=10 tx_hw=10 rx=10 rx_sw=10 rx_hw=0"

phc() { command phc "$@"; }
offset_of() { phc "$phc" "$1" | cut -d ' ' -f 2; }

clocks() {
    local word before after
    phc=$(phc_of near hw0)
    check "PHC: it is 37 s ahead" between "$(offset_of read | sed 's/$/e-9/')" 36.9 37.1
    check "PHC: it is fast by its drift" between "$(phc "$phc" rate 2)" 19900 20100
    check "PHC: the other is slow by its" between "$(phc "$(phc_of far hw1)" rate 2)" -20100 -19900
    for word in precise extended plain; do
        check "PHC: can be read, $word" phc "$phc" $word
    done
    check "PHC: the best is precise" equal "$(phc "$phc" read | cut -d ' ' -f 1)" precise
    knob hw0 precise 0
    check "PHC: without precise" equal "$(phc "$phc" read | cut -d ' ' -f 1)" extended
    knob hw0 read_ns 500
    check "PHC: a slow reading has a wide window" between "$(phc "$phc" extended | cut -d ' ' -f 3)" 1000 20000
    knob hw0 read_ns 0
    knob hw0 extended 0
    check "PHC: without extended" equal "$(phc "$phc" read | cut -d ' ' -f 1)" plain
    knob hw0 extended 1
    knob hw0 precise 1
    phc "$phc" freq -20000
    check "PHC: its frequency can be set" between "$(phc "$phc" rate 2)" -100 100
    phc "$phc" freq 0
    before=$(offset_of precise)
    phc "$phc" jump -37000000000
    after=$(offset_of precise)
    check "PHC: it can be stepped" between $((after - before + 37000000000)) -1000000 1000000
    phc "$phc" set 5
    check "PHC: it can be set" between "$(offset_of precise)" 4999000000 5001000000
    before=$(offset_of precise)
    knob hw0 jump_ns -4000000000
    check "knob: it jumps" between $(($(offset_of precise) - before + 4000000000)) -1000000 1000000
    knob hw0 adj_jump_ns 2000000000
    before=$(offset_of precise)
    phc "$phc" freq 0
    knob hw0 adj_jump_ns 0
    check "knob: a change of frequency makes it jump" between $(($(offset_of precise) - before - 2000000000)) -1000000 1000000
    knob hw0 drift_ppb 1500000000
    check "knob: it runs 2.5 times too fast" between "$(phc "$phc" rate 1)" 1499900000 1500100000
    knob hw0 drift_ppb 20000
    phc "$phc" set 37
}

stamps() {
    start_on far echo.log hwstamp hw1 echo $port
    probe >/dev/null
    check "stamps: none before they are asked for" stamps_are "$no_hw"
    check "stamps: can be switched on" on near hwstamp hw0 set 1 1
    check "stamps: all of them, then" stamps_are "$all"
    check "stamps: they show the PHC" between "$(hw_minus_realtime)" 36.9 37.1
    check "stamps: the NIC is named" equal "$(awk '$1 == "rx" { print $5 }' probe.out | sort -u)" "$(on near cat /sys/class/net/hw0/ifindex)"

    knob hw0 clock realtime
    probe >/dev/null
    check "knob: stamps of the wrong clock" between "$(hw_minus_realtime)" -0.01 0.01
    knob hw0 clock phc
    knob hw0 forge_ns 3000000000
    probe >/dev/null
    check "knob: forged stamps" between "$(hw_minus_realtime)" 39.9 40.1
    knob hw0 forge_ns 0
    knob hw0 tx_lose_every 5
    check "knob: one of 5 transmit stamps is lost" stamps_are "tx=10 tx_sw=10 tx_hw=8 rx=10 rx_sw=10 rx_hw=10"
    knob hw0 tx_lose_every 0
    knob hw0 rx_lose_every 5
    check "knob: one of 5 receive stamps is lost" stamps_are "tx=10 tx_sw=10 tx_hw=10 rx=10 rx_sw=10 rx_hw=8"
    knob hw0 rx_lose_every 0
    knob hw0 tx_delay_ms 80
    check "knob: late transmit stamps come" stamps_are "$all"
    check "knob: and are late" between "$(awk '$1 == "tx" && $3 { print $4 / 1e6; exit }' probe.out)" 76 150
    knob hw0 tx_delay_ms 5000
    check "knob: too late is as good as never" stamps_are "$no_tx"
    knob hw0 tx_delay_ms 0
    sleep 1
    knob hw0 deliver_tx 0
    check "knob: transmit stamps never come" stamps_are "$no_tx"
    knob hw0 deliver_tx 1
    knob hw0 deliver_rx 0
    check "knob: receive stamps never come" stamps_are "$no_rx"
    knob hw0 deliver_rx 1

    check "knob: capabilities of a good NIC" equal "$(on near hwstamp hw0 caps | cut -d ' ' -f 1-2)" "tx=0x3 rx=0x3"
    knob hw0 rx_packets ptp
    check "knob: those of one for PTP" equal "$(on near hwstamp hw0 caps | cut -d ' ' -f 1-2)" "tx=0x3 rx=0x1001"
    check "knob: which refuses all" equal "$(on near hwstamp hw0 set 1 1 2>&1)" "SIOCSHWTSTAMP: Numerical result out of range"
    check "knob: and takes PTP" equal "$(on near hwstamp hw0 set 1 12)" "tx=1 rx=12"
    check "knob: and stamps no other packet" stamps_are "$no_rx"
    kill $started
    port=319
    start_on far echo.log hwstamp hw1 echo $port
    probe >/dev/null
    check "knob: but those to port 319" stamps_are "$all"
    kill $started
    port=7
    knob hw0 rx_packets ntp
    check "knob: capabilities of one for NTP" equal "$(on near hwstamp hw0 caps | cut -d ' ' -f 1-2)" "tx=0x3 rx=0x8001"
    knob hw0 rx_packets none
    check "knob: those of one that stamps transmission only" equal "$(on near hwstamp hw0 caps | cut -d ' ' -f 1-2)" "tx=0x3 rx=0x1"
    knob hw0 rx_packets all
    knob hw0 refuse 1
    check "knob: all refused, whatever was promised" equal "$(on near hwstamp hw0 set 1 1 2>&1)" "SIOCSHWTSTAMP: Numerical result out of range"
    knob hw0 refuse 0
    on near hwstamp hw0 set 1 1 >/dev/null
    knob hw0 reset 1
    check "knob: a reset forgets what was on" equal "$(on near hwstamp hw0 get)" "tx=0 rx=0"
    check "knob: and the PHC" between "$(offset_of precise)" -10000000 10000000
    phc "$phc" set 37
    knob hw0 speed_mbps 100
    check "knob: the link's speed" equal "$(on near ethtool hw0 | sed -n 's/.*Speed: //p')" "100Mb/s"
    knob hw0 speed_mbps 1000
}

# measure NAME CONFIGURATION...: what a chronyd at far's end makes of one at near's, in 20 s.
measure() {
    local name="$1" word
    shift
    printf '%s\n' "local stratum 1" "allow" "$@" | sed 's/IF/hw0/' | start_chronyd near "server-$name"
    printf '%s\n' "server 10.0.0.1 minpoll -3 maxpoll -3 xleave $to" "logdir $PWD/logs-$name" "log measurements" "$@" |
        sed 's/IF/hw1/' | start_chronyd far "client-$name"
    check "$name: chronyd synchronises" wait_synchronised "client-$name" 30
    sleep 20
    for word in TX RX; do
        check "$name: $word timestamping of the client" equal "$(ntpdata_of "client-$name" "$word timestamping")" "$stamping"
    done
    check "$name: stamps of the server" served_by "server-$name" "$stamping"
    check "$name: standard deviation of the offset, in ns" between "$(offsets "logs-$name/measurements.log" | tail -n +20 | stats deviation)" "$least_ns" "$most_ns"
    stop_chronyd "client-$name"
    stop_chronyd "server-$name"
}

# Of the server's stamps nearly all are of this kind.
served_by() {
    chronyc_of "$1" serverstats | awk -v kind="$2" -F: '
        $1 ~ "NTP " tolower(kind) " [RT]X" { mine += $2 }
        $1 ~ /[RT]X timestamps/ { all += $2 }
        END { printf "%d of %d %s\n", mine, all, kind; exit !(all > 100 && mine >= 0.9 * all) }'
}

# Of the offsets measured, in ns.
offsets() { awk '/^20/ { print $12 * 1e9 }' "$1"; }

clocks
stamps
to=
stamping=Hardware least_ns=0 most_ns=500
measure hardware "hwtimestamp IF minpoll -4"
measure hardware-extended "hwtimestamp IF minpoll -4 nocrossts"
# NTP in PTP packets, for NICs that stamp no other.
for nic in hw0 hw1; do knob $nic rx_packets ptp; done
to="port 319 extfield F324"
measure ntp-over-ptp "hwtimestamp IF minpoll -4 rxfilter ptp" "ptpport 319"
to=
for nic in hw0 hw1; do
    knob $nic rx_packets all
    knob $nic latency_ns 50000
done
measure latency "hwtimestamp IF minpoll -4"
for nic in hw0 hw1; do
    knob $nic latency_ns 0
    knob $nic jitter_ns 20000
done
most_ns=20000
measure jitter "hwtimestamp IF minpoll -4"
for nic in hw0 hw1; do
    knob $nic jitter_ns 0
    knob $nic latency_ns 50000
    knob $nic deliver_tx 0
    knob $nic deliver_rx 0
done
# Which is what hardware stamps are there for.
stamping=Kernel least_ns=2000 most_ns=100000
measure without "hwtimestamp IF minpoll -4"

check "unplugged: ip link del" on far ip link del hw1
check "unplugged: the other still stands" on near hwstamp hw0 get
ip link del lower0
check "unplugged: with the lower one it goes" equal "$(on near ls /sys/class/net | grep -c hw0)" 0
unpair near far
check "unloaded: the module leaves" rmmod ptntp_hwts
check "the kernel has nothing to complain of" equal "$(dmesg | grep -c -E 'BUG|WARNING|Oops')" 0
