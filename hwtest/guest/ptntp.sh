# What suites share that look at a ptntp with network cards that stamp.

# ptntp_at NETNS NAME ARGUMENT...: with the configuration on standard input; its words go
# to NAME.log.
ptntp_at() {
    local netns="$1" name="$2"
    shift 2
    cat >"$name.conf"
    start_on "$netns" "$name.log" ptntp run -c "$PWD/$name.conf" --control "$PWD/$name.control" "$@"
    echo "$started" >"$name.pid"
    within 20 test -S "$name.control" >/dev/null || give_up "ptntp $name does not start: $(tail -n 1 "$name.log")"
}

# Servers of NTP over PTP at near's card: ptntp, and chronyd by a name.
serve_over_ptp() {
    ptntp_at near server --clock none <<END
server 127.127.1.0
fudge 127.127.1.0 stratum 1
restrict default
ptpport 319
hwtimestamp hw0 minpoll -4 rxfilter ptp
END
}
chrony_serves_over_ptp() {
    printf '%s\n' "local stratum 1" allow "ptpport 319" "hwtimestamp hw0 minpoll -4 rxfilter ptp" |
        start_chronyd near "$1"
}

# stop_ptntp NAME
stop_ptntp() {
    local pid
    pid=$(cat "$1.pid")
    kill "$pid"
    within 20 test ! -d "/proc/$pid" >/dev/null
}

stat_of() { ptntp stat --json --control "$PWD/$1.control" | json "$2"; }
peer_of() { ptntp peers --json --control "$PWD/$1.control" | json "$2"; }
is_synchronised() { equal "$(stat_of "$1" sync)" true; }

# metric_of NETNS PATTERN: the sum of the metrics that match.
metric_of() { on "$1" wget -q -O - http://127.0.0.1:9975/metrics | grep -e "$2" | awk '{ sum += $NF } END { printf "%d\n", sum }'; }

# Of all our requests and their answers, both ways, nearly all are stamped by the card.
client_by_card() { share "$(metric_of "$1" '^ptntp_card_stamps_total.*hardware')" "$(metric_of "$1" '^ptntp_card_stamps_total')"; }
# And of the server's requests. Departures are those of interleaved replies alone.
server_by_card() { share "$(metric_of "$1" '^ptntp_server_card_stamps_total.*arrival')" "$(metric_of "$1" '^ptntp_server_requests_total.*"\(basic\|interleaved\)"')"; }
departures_by_card() { share "$(metric_of "$1" '^ptntp_server_card_stamps_total.*departure')" "$(metric_of "$1" '^ptntp_server_ring_events_total.*"departure"')"; }
share() {
    echo "$1 of $2"
    [ "$2" -ge 20 ] && [ $(($1 * 100)) -ge $(($2 * 99)) ]
}
fails() { ! "$@"; }

# samples NAME KEY SECONDS: a status value once a second, in ns.
samples() {
    local end=$(($(seconds) + $3))
    while [ "$(seconds)" -lt "$end" ]; do
        stat_of "$1" "$2" | awk '{ printf "%.3f\n", $1 * 1e9 }'
        sleep 1
    done
}

# errors_and_bounds NAME SECONDS: a virtual clock's bound and true error, once a second.
errors_and_bounds() {
    local end=$(($(seconds) + $2))
    while [ "$(seconds)" -lt "$end" ]; do
        ptntp stat --json --control "$PWD/$1.control" | tr ',{}' '\n\n\n' |
            sed -n 's/^ *"\(true_error_s\|error_bound_s\)": *//p' | paste -s -d ' '
        sleep 1
    done
}
# within_bounds FILE: no error beyond the bound of its moment.
within_bounds() {
    awk '{ bound = $1; error = $2; if (error < 0) error = -error
           n++; if (error > bound) broken++; if (error / bound > worst) worst = error / bound }
         END { printf "%d samples, at most %.2f of the bound\n", n, worst; exit broken || n < 20 }' "$1"
}
