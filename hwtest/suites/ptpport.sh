# NTP over PTP, with network cards that stamp PTP alone: ptntp as client and as server,
# with chronyd, which speaks the experimental form, and with itself. One machine has one
# system clock, so every true offset is zero.
#
# limit: 900

. /guest/ptntp.sh
hw_pair near far
for nic in hw0 hw1; do knob $nic rx_packets ptp; done
settle_s=120

# ask OPTIONS: a ptntp at far's end.
ask() {
    ptntp_at far client --clock none <<END
server 10.0.0.1 minpoll 0 maxpoll 0 xleave iburst $*
restrict default
hwtimestamp hw1 minpoll -4 rxfilter ptp
END
}

# measured NAME MOST_NS: what the client makes of its server, which is right.
measured() {
    check "$1: it synchronises" within 60 is_synchronised client
    sleep $settle_s
    check "$1: stamps of the client by the card" client_by_card far
    check "$1: departures" equal "$(peer_of client stamp_tx)" '"hardware"'
    check "$1: arrivals" equal "$(peer_of client stamp_rx)" '"hardware"'
    samples client offset_s 40 >offsets
    check "row: $1: RMS error of the estimate, ns" between "$(stats rms <offsets)" 0 "$2"
}

chrony_serves_over_ptp chrony-server
ask port 319 ptp extfield F324
measured "ptntp asks chronyd over PTP" 100
stop_ptntp client
ask
check "the same by plain NTP: it synchronises" within 60 is_synchronised client
sleep 5
check "the same by plain NTP: arrivals are the kernel's" equal "$(peer_of client stamp_rx)" '"kernel"'
stop_ptntp client
stop_chronyd chrony-server

serve_over_ptp
ask ptp extfield 10A
measured "ptntp asks ptntp over PTP" 100
check "ptntp asks ptntp over PTP: arrivals at the server by the card" server_by_card near
stop_ptntp client

printf '%s\n' "server 10.0.0.1 port 319 minpoll 0 maxpoll 0 xleave iburst extfield F324" "ptpport 319" \
    "hwtimestamp hw1 minpoll -4 rxfilter ptp" "logdir $PWD/logs" "log measurements" |
    start_chronyd far chrony-client
check "chronyd asks ptntp over PTP: it synchronises" wait_synchronised chrony-client 60
sleep $settle_s
for way in TX RX; do
    check "chronyd asks ptntp over PTP: $way timestamping" equal "$(ntpdata_of chrony-client "$way timestamping")" Hardware
done
check "row: chronyd asks ptntp over PTP: standard deviation of the offset, ns" between \
    "$(awk '/^20/ { print $12 * 1e9 }' logs/measurements.log | tail -n 20 | stats deviation)" 0 500
check "chronyd asks ptntp over PTP: arrivals at the server by the card" server_by_card near
stop_chronyd chrony-client
stop_ptntp server
unpair near far
