# What the options of network cards and of hardware clocks do, in both dialects: each is
# seen by a figure that is another one without it. One machine has one system clock, so
# every true offset is zero.
#
# limit: 2400

hw_pair near far

. /guest/ptntp.sh

port=1124

truth=$(phc_of near hw0)
other=$(phc_of far hw1)

near_ns() { awk -v s="$1" 'BEGIN { printf "%.0f", s * 1e9 }'; }

# ask NAME DIALECT OPTION...: a client that asks once a second, its card with these options.
ask() {
    local name="$1" dialect="$2"
    shift 2
    printf '%s\n' "server 10.0.0.1 minpoll 0 maxpoll 0 xleave iburst" "hwtimestamp hw1 $*" |
        ptntp_at far "$name" --clock none --dialect "$dialect"
    check "$name: it synchronises" within 60 is_synchronised "$name"
    sleep 30
}

# Both ways together take 4 us, and the system clock is the same on both sides.
compensation() {
    local dialect name
    for dialect in ntp chrony; do
        name="$dialect-plain"
        ask "$name" "$dialect" minpoll -4
        check "$name: offset, ns" between "$(near_ns "$(peer_of "$name" offset_s)")" -150 150
        check "$name: delay, ns" between "$(near_ns "$(peer_of "$name" delay_s)")" 3000 8000
        check "$name: precise cross timestamps" equal "$(stat_of "$name" cross_method)" '"precise"'
        check "$name: error of the card's clock, ns" between "$(near_ns "$(stat_of "$name" phc_error_s)")" 0 10000
        check "$name: arrivals are stamped by the card" equal "$(peer_of "$name" stamp_rx)" '"hardware"'
        sed -i 's/^hwtimestamp .*/hwtimestamp hw1 minpoll -4 rxfilter none/' "$name.conf"
        check "$name: a reload with rxfilter none" ptntp reload --control "$PWD/$name.control"
        sleep 5
        check "$name: arrivals are not stamped any more" equal "$(peer_of "$name" stamp_rx)" '"kernel"'
        check "$name: and it is still synchronised" is_synchronised "$name"
        stop_ptntp "$name"
        # Departures 1 us earlier than stamped.
        name="$dialect-txcomp"
        ask "$name" "$dialect" minpoll -4 txcomp -0.000001
        check "$name: offset, ns" between "$(near_ns "$(peer_of "$name" offset_s)")" 300 700
        stop_ptntp "$name"
        # Arrivals 1 us later than stamped.
        name="$dialect-rxcomp"
        ask "$name" "$dialect" minpoll -4 rxcomp -0.000001
        check "$name: offset, ns" between "$(near_ns "$(peer_of "$name" offset_s)")" -700 -300
        stop_ptntp "$name"
        name="$dialect-nocrossts"
        ask "$name" "$dialect" minpoll -4 nocrossts precision 0.002
        check "$name: no precise cross timestamps" equal "$(stat_of "$name" cross_method)" '"extended"'
        check "$name: precision: the source is that much farther" \
            between "$(near_ns "$(peer_of "$name" root_distance_s)")" 1000000 1000000000
        stop_ptntp "$name"
        name="$dialect-rxfilter"
        ask "$name" "$dialect" minpoll -4 rxfilter none
        check "$name none: arrivals are not stamped" equal "$(peer_of "$name" stamp_rx)" '"kernel"'
        stop_ptntp "$name"
    done
}

# Stamps 30 ms late. How long they are waited for is learnt, of those that were missed.
waiting() {
    local dialect seconds least most
    knob hw1 tx_delay_ms 30
    for dialect in ntp chrony; do
        for seconds in 0.2 0.001; do
            printf '%s\n' "server 10.0.0.1 minpoll 0 maxpoll 0" "hwtimestamp hw1 minpoll -4" "hwtstimeout $seconds" |
                ptntp_at far "$dialect-wait" --clock none --dialect "$dialect"
            least=0 most=0
            [ $seconds = 0.2 ] || least=3 most=50
            check "$dialect, hwtstimeout $seconds: stamps come" within 60 by_card "$dialect-wait"
            check "$dialect, hwtstimeout $seconds: stamps missed" between "$(stat_of "$dialect-wait" tx_missing)" $least $most
            stop_ptntp "$dialect-wait"
        done
    done
    knob hw1 tx_delay_ms 0
}
by_card() { equal "$(peer_of "$1" stamp_tx)" '"hardware"'; }

# A jump of a card's clock is seen when it is read the next time.
reading() {
    local dialect interval jumps
    for dialect in ntp chrony; do
        for interval in -4 5; do
            printf '%s\n' "server 10.0.0.9 minpoll 10 maxpoll 10" "hwtimestamp hw1 minpoll $interval" |
                ptntp_at far "$dialect-read" --clock none --dialect "$dialect"
            # Just after a reading.
            sleep 66
            knob hw1 jump_ns 1000000000
            sleep 3
            jumps=$(stat_of "$dialect-read" phc_jumps)
            if [ "$interval" = -4 ]; then
                check "$dialect, minpoll $interval: a jump is seen at once" equal "$jumps" 1
            else
                check "$dialect, minpoll $interval: a jump is not seen yet" equal "$jumps" 0
                check "$dialect, minpoll $interval: but in half a minute" within 40 jumped "$dialect-read"
            fi
            stop_ptntp "$dialect-read"
        done
    done
}
jumped() { equal "$(stat_of "$1" phc_jumps)" 1; }

# clock NAME DIALECT LINE...: a ptntp with hardware clocks as its sources, on a port of its own.
clock() {
    local name="$1" dialect="$2"
    shift 2
    port=$((port + 1))
    printf '%s\n' "$@" | ptntp_at near "$name" --clock none --port $port --metrics off --dialect "$dialect"
}

# The worst round trip of the last eight samples, in ns.
worst_ns() {
    ptntp peers --json --control "$PWD/$1.control" | tr ',{}[]' '\n\n\n\n\n' |
        sed -n '/"recent"/,$ s/^ *"delay_s": *//p' | sort -g | tail -n 1 | awk '{ printf "%.0f", $1 * 1e9 }'
}

clocks() {
    local dialect plain_s shifted_s bare all word
    phc "$truth" set 0
    printf '#@ 4102444800\n2272060800 10\n3692217600 37\n' >leaps
    for dialect in ntp chrony; do
        clock "$dialect-bare" "$dialect" "refclock PHC $truth poll 2 dpoll -2"
        clock "$dialect-all" "$dialect" \
            "refclock PHC $truth poll 4 dpoll 0 refid OPT stratum 3 offset 0.25 delay 0.002 precision 0.003 nocrossts"
        knob hw0 read_ns 20000
        sleep 40
        bare=$(peer_of "$dialect-bare" received)
        all=$(peer_of "$dialect-all" received)
        sleep 64
        check "$dialect, refclock poll 2" between $(($(peer_of "$dialect-bare" received) - bare)) 15 17
        check "$dialect, refclock poll 4" between $(($(peer_of "$dialect-all" received) - all)) 3 5
        plain_s=$(peer_of "$dialect-bare" offset_s)
        shifted_s=$(peer_of "$dialect-all" offset_s)
        check "$dialect, refclock offset" between "$(awk -v a="$plain_s" -v b="$shifted_s" 'BEGIN { print b - a }')" 0.249 0.251
        check "$dialect, refclock stratum" equal "$(peer_of "$dialect-all" stratum)" 3
        check "$dialect, refclock refid" equal "$(peer_of "$dialect-all" refid)" '".OPT."'
        check "$dialect, refclock without delay and precision, ns" between "$(near_ns "$(peer_of "$dialect-bare" root_distance_s)")" 0 900000
        check "$dialect, refclock delay and precision: it is as far, ns" between "$(near_ns "$(peer_of "$dialect-all" root_distance_s)")" 4000000 1000000000
        check "$dialect, refclock: read by precise cross timestamps, ns" between "$(worst_ns "$dialect-bare")" 0 10000
        check "$dialect, refclock nocrossts: read without, ns" between "$(worst_ns "$dialect-all")" 40000 1000000
        knob hw0 read_ns 0
        stop_ptntp "$dialect-bare"
        stop_ptntp "$dialect-all"
        phc "$truth" set 37
        [ $dialect = ntp ] && word=leapfile || word=leapseclist
        clock "$dialect-tai" "$dialect" "refclock PHC $truth poll 2 dpoll -2 tai" "$word $PWD/leaps"
        clock "$dialect-utc" "$dialect" "refclock PHC $truth poll 2 dpoll -2" "$word $PWD/leaps"
        sleep 30
        check "$dialect, refclock without tai, s" between "$(peer_of "$dialect-utc" offset_s)" 36.9 37.1
        check "$dialect, refclock tai, s" between "$(peer_of "$dialect-tai" offset_s)" -0.1 0.1
        stop_ptntp "$dialect-tai"
        stop_ptntp "$dialect-utc"
        phc "$truth" set 0
    done
}

# A card's clock follows ours, and ours nobody.
disciplined() {
    local dialect
    for dialect in ntp chrony; do
        phc "$other" set 1
        clock "$dialect-phc" "$dialect" "refclock PHC $truth poll 2 dpoll -2" "phc discipline $other utc"
        check "$dialect, phc discipline: it follows" within 120 follows
        stop_ptntp "$dialect-phc"
    done
}
follows() { between "$(phc "$other" read | cut -d ' ' -f 2)" -100000000 100000000; }

# For seven seconds of fourteen a reading takes 200 us: it does no harm where enough
# readings of a poll are kept.
filters() {
    local dialect spoiler
    while :; do
        knob hw0 read_ns 100000
        sleep 7
        knob hw0 read_ns 0
        sleep 7
    done &
    spoiler=$!
    for dialect in ntp chrony; do
        clock "$dialect-many" "$dialect" "refclock PHC $truth:nocrossts poll 4 dpoll 0"
        clock "$dialect-one" "$dialect" "refclock PHC $truth:nocrossts poll 4 dpoll 0 filter 1"
        clock "$dialect-rare" "$dialect" "refclock PHC $truth:nocrossts poll 2 dpoll 2"
        sleep 150
        check "$dialect, many readings: the worst round trip, ns" between "$(worst_ns "$dialect-many")" 0 100000
        check "$dialect, dpoll 2: one reading each, the worst, ns" between "$(worst_ns "$dialect-rare")" 180000 5000000
        check "$dialect, filter 1: the worst, ns" between "$(worst_ns "$dialect-one")" 180000 5000000
        stop_ptntp "$dialect-many"
        stop_ptntp "$dialect-one"
        stop_ptntp "$dialect-rare"
    done
    kill $spoiler
    wait $spoiler 2>/dev/null
    knob hw0 read_ns 0
}

# Of two that agree the preferred one is named; who may not be selected never is.
preferences() {
    local dialect
    knob hw0 drift_ppb 0
    knob hw1 drift_ppb 0
    phc "$truth" set 0
    phc "$other" set 0
    for dialect in ntp chrony; do
        clock "$dialect-prefer" "$dialect" "refclock PHC $truth poll 2 dpoll -2 refid GOOD delay 0.01" \
            "refclock PHC $other poll 2 dpoll -2 refid BEST stratum 5 delay 0.01 prefer"
        check "$dialect, refclock prefer" within 60 has_source "$dialect-prefer" BEST
        stop_ptntp "$dialect-prefer"
        clock "$dialect-noselect" "$dialect" "refclock PHC $truth poll 2 dpoll -2 refid GOOD delay 0.01" \
            "refclock PHC $other poll 2 dpoll -2 refid BEST delay 0.01 noselect prefer"
        sleep 40
        check "$dialect, refclock noselect" has_source "$dialect-noselect" GOOD
        stop_ptntp "$dialect-noselect"
    done
}
has_source() { equal "$(stat_of "$1" source)" "\"$2\""; }

ptntp_at near server --clock none <<END
server 127.127.1.0
fudge 127.127.1.0 stratum 1
restrict default
hwtimestamp hw0 minpoll -4
END
compensation
waiting
reading
stop_ptntp server
clocks
disciplined
filters
preferences
unpair near far
