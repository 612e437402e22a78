# What the suites of the real-time clock share, on CPUs of both kinds.

port=1123
options="--port 1124 --metrics off --control $PWD/control"
cat >server.conf <<-END
	server 127.0.0.1 port $port iburst minpoll 2 maxpoll 4
	driftfile $PWD/drift
	rtconutc
	restrict default nomodify
	END
cat >rtc.conf <<-END
	includefile $PWD/server.conf
	rtcfile $PWD/rtcfile
	hwclockfile $PWD/adjtime
	END
chmod 777 .

# start LOG OPTION...: a ptntp that runs until it is stopped.
start() {
    log="$1"
    shift
    ptntp run "$@" $options --log-level debug >"$log" 2>&1 &
    ptntp=$!
}

# stop NAME: it is to end well, and soon.
stop() {
    kill -TERM $ptntp
    check "$1: it ends when told to" within 10 is_over $ptntp
    wait $ptntp
    check "$1: it ends well" equal $? 0
}

# patiently SECONDS COMMAND...: as within, but it looks only every 10 s, which leaves the
# emulated CPU idle.
patiently() {
    local limit="$1" passed=0
    shift
    until "$@" >/dev/null 2>&1 || [ $passed -ge "$limit" ]; do
        sleep 10
        passed=$((passed + 10))
    done
    "$@"
}

# begin OFFSET PPM: a truth, and a server that has it.
begin() {
    truth start "$1" "$2" truth.state
    truth serve $port truth.state &
    server=$!
}

unserve() {
    kill $server
    wait $server 2>/dev/null
}

is_synchronised() { equal "$(ptntp stat --json --control "$PWD/control" | json sync)" true; }
is_off_by() { between "$(truth error truth.state)" "$1" "$2"; }

# The clock minus the system clock where its second begins, by the other program. The
# service may have the device open.
edge() {
    local tries
    for tries in 1 2 3 4 5 6 7 8; do
        rtchand edge 2>/dev/null && return 0
        sleep 1
    done
}
edge_between() { between "$(edge)" "$1" "$2"; }

# is_near VALUE OTHER DISTANCE
is_near() { between "$1" "$(awk -v v="$2" -v d="$3" 'BEGIN { print v - d }')" "$(awk -v v="$2" -v d="$3" 'BEGIN { print v + d }')"; }

matches() {
    echo "$1"
    echo "$1" | grep -qE -e "$2"
}

# A field of rtcfile.
kept() { cut -d ' ' -f "$1" rtcfile; }

# rate_is_learnt LOW HIGH: well enough to be relied on.
rate_is_learnt() {
    [ -f rtcfile ] && [ "$(awk '{ print ($5 < 1.0) }' rtcfile)" = 1 ] && between "$(kept 4)" "$1" "$2"
}

# An rtcfile of 1000 s ago by which the clock is off now as it is: it loses 30 ppm.
foretell() {
    echo "1 $(($(date +%s) - 1000)) $(edge | awk '{ printf "%.6f", $1 + 0.03 }') -30.0" >rtcfile
}

# A row of the table: seconds, shown as milliseconds.
row() {
    echo "      RTC after discipline, at the second edge: $(awk -v s="$1" 'BEGIN { s *= 1e3; printf "%.3f", s < 0 ? -s : s }') ms (at most 2)"
}
