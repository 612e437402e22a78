# The last step of the journey, discipline -> adjtimex, on a real kernel.
#
# The truth starts 0.4 s ahead of the guest's clock and runs 30 ppm faster; ptntp
# follows its NTP server on loopback. What the kernel really does is read with timex
# and how far it is off with truth, neither of which knows ptntp.
#
# limit: 1200

port=1123
cat >ntp.conf <<-END
	server 127.0.0.1 port $port iburst minpoll 0 maxpoll 2
	driftfile $PWD/drift
END
options="-c ntp.conf --clock system --port 1124 --metrics off --control $PWD/control"
# So that somebody without rights can put his socket here.
chmod 777 .

# start LOG OPTION...: a ptntp that runs until it is stopped.
start() {
    log="$1"
    shift
    ptntp run $options "$@" >"$log" 2>&1 &
    ptntp=$!
}

# stop NAME: it is to end well, and in seconds.
stop() {
    kill -TERM $ptntp
    check "$1: it ends when told to" within 5 is_over $ptntp
    wait $ptntp
    check "$1: it ends well" equal $? 0
}

# begin OFFSET PPM: a truth, and a server that has it.
begin() {
    truth start "$1" "$2" truth.state
    serve
}

serve() {
    truth serve $port truth.state &
    server=$!
}

unserve() {
    kill $server
    wait $server 2>/dev/null
}

stat_of() { ptntp stat --json --control "$PWD/control" | json "$1"; }

is_synchronised() { equal "$(stat_of sync)" true; }
is_off_by() { between "$(truth error truth.state)" "$1" "$2"; }
is_right() { is_off_by -0.001 0.001; }
believes_offset() { between "$(stat_of offset_s)" "$1" "$2"; }
runs_at() { between "$(timex_of freq_ppm)" "$1" "$2"; }
maxerror_between() { between "$(timex_of maxerror_us)" "$1" "$2"; }
# Positive or negative, the kernel's word covers it.
is_covered() {
    local error
    error=$(truth error truth.state)
    maxerror_between "${error#-}e6" 16000000
}

# The kernel's word is ptntp's promise, to which the kernel adds 500 us every second from
# when it was told on.
is_promised() {
    local bound
    bound=$(stat_of error_bound_s | awk '{ print $1 * 1e6 }')
    maxerror_between "$((${bound%.*} - 1))" "$((${bound%.*} + 502))"
}

# Does the kernel tell others the truth about its clock?
check_vouched() {
    check "$1: STA_UNSYNC is clear" kernel_says unsync 0
    check "$1: STA_NANO is set" kernel_says nano 1
    check "$1: the kernel's own loop is off" kernel_says pll 0
    check "$1: no phase is left to the kernel's loop" kernel_says offset 0
    check "$1: maxerror is a bound, and a good one" maxerror_between 1 100000
    check "$1: maxerror is what ptntp promises" within 20 is_promised
    check "$1: esterror is set, within maxerror" between "$(timex_of esterror_us)" 1 "$(timex_of maxerror_us)"
}

without_rights() {
    local before
    begin 0.4 30
    before=$(timex | grep -v maxerror)
    su nobody -c "ptntp run $options" >observer.log 2>&1 &
    ptntp=$!
    check "no right: it says that it only observes" within 10 lines_with 1 "no right to set the clock" observer.log
    check "no right: it sees what the clock lacks" within 20 believes_offset 0.399 0.401
    check "no right: the kernel's clock is as it was" equal "$(timex | grep -v maxerror)" "$before"
    check "no right: the clock is as far off as it was" is_off_by -0.401 -0.399
    kill -TERM $(pidof ptntp)
    wait $ptntp
    su nobody -c "ptntp run -q $options" >observer-once.log 2>&1
    check "no right: -q fails" equal $? 1
    unserve
}

# journey IO: from a wrong clock to a right one, and through what may happen to it.
journey() {
    local io="$1" before
    rm -f drift
    timex freq 0
    # What another program may have left: its loop on, with work to do.
    timex pll 20000
    begin 0.4 30
    start "$io.log" --io "$io"
    check "$io: it synchronises" within 30 is_synchronised
    check "$io: the clock was stepped by what it lacked" within 5 lines_with 1 "clock stepped by +0\.[34]" "$io.log"
    check "$io: the clock is right" within 10 is_right
    check "$io: the kernel's frequency makes up for its error" within 120 runs_at 29 31
    sleep 20
    check "$io: the clock stays right" is_off_by -0.0005 0.0005
    check_vouched "$io"

    # Another hand: date -s, 5 s ahead.
    date -s "@$(($(date +%s) + 5))" >/dev/null
    check "$io: a step by another hand is noticed" within 5 lines_with 1 "by somebody else" "$io.log"
    check "$io: nobody is told that this time is good" kernel_says unsync 1
    check "$io: it is mended" within 30 is_right
    check "$io: and vouched for again" within 10 kernel_says unsync 0
    sleep 10
    check "$io: it was told once" lines_with 1 "by somebody else" "$io.log"
    check "$io: the frequency survived it" runs_at 28 32

    # A small one is slewed away, which takes minutes; it is stopped amidst it.
    timex step -0.1
    check "$io: what is small is slewed" within 30 runs_at 400 500
    check "$io: maxerror covers what is not yet slewed" is_covered
    stop "$io"
    check "$io: no slew is left behind" runs_at 28 32
    check "$io: the drift file has the frequency in force" between "$(cut -d ' ' -f 1 drift)" \
        "$(timex_of freq_ppm | awk '{ print $1 - 0.001 }')" "$(timex_of freq_ppm | awk '{ print $1 + 0.001 }')"
    unserve
}

# The next start, with a kernel that has forgotten.
restart() {
    timex freq 0
    begin 0 30
    start restart.log
    check "restart: the drift file's frequency is used at once" within 3 runs_at 28 32
    check "restart: it synchronises" within 30 is_synchronised
    check "restart: the clock is right" within 10 is_right
    check "restart: no step was needed" lines_with 0 "clock stepped" restart.log
    sleep 20
    check_vouched restart
}

# Its server dies, and it goes on alone.
loss() {
    local before
    before=$(timex_of maxerror_us)
    unserve
    sleep 60
    # 15 ppm of a minute is 900 microseconds.
    check "no server: maxerror grows" maxerror_between $((before + 500)) 1000000
    check "no server: it is told once" lines_with 1 "no source left to follow" restart.log
    check "no server: the clock is still good" kernel_says unsync 0
    check "no server: the clock is held" is_off_by -0.005 0.005
    stop restart
}

# The last minute of a day that has 86,401 seconds. It is the last of a year, as
# on others ptntp believes no server that there is one.
leap_second() {
    local day=20818 tai
    date -s "@$(((day + 1) * 86400 - 60))" >/dev/null
    truth start 0 30 truth.state
    truth leap truth.state
    serve
    tai=$(timex_of tai_s)
    start leap.log
    check "leap second: the kernel is told of it" within 30 kernel_says leap insert
    check "leap second: the day ends" within 90 is_day $((day + 1))
    sleep 10
    check "leap second: the clock took it" is_right
    check "leap second: the kernel has counted it" kernel_says tai_s $((tai + 1))
    check "leap second: it is no other hand's" lines_with 0 "by somebody else" leap.log
    check "leap second: ptntp did not step" lines_with 0 "clock stepped" leap.log
    check "leap second: the next day has none" within 20 kernel_says leap none
    check_vouched "leap second"
    stop "leap second"
    unserve
}

# A server that says nothing of the leap second that a file knows of.
leap_file() {
    local midnight=$((20819 * 86400)) ntp_to_unix=2208988800 line dialect
    date -s "@$((midnight - 600))" >/dev/null
    begin 0 30
    cat >leaps <<-END
	#@ $((midnight + ntp_to_unix + 86400 * 180))
	2272060800 10 # 1 Jan 1972
	3692217600 37 # 1 Jan 2017
	$((midnight + ntp_to_unix)) 38 # tonight
	END
    echo "leapfile $PWD/leaps" >>ntp.conf
    start leap-file.log
    check "leap file: the kernel is told of tonight" within 30 kernel_says leap insert
    check "leap file: the kernel is told TAI" kernel_says tai_s 37
    stop "leap file"
    # In both dialects, with what has the kernel told, and with what takes it back.
    cp ntp.conf kept.conf
    for line in "leapsecmode system" "leapsecmode slew" "leapseconds kernel" "leapseconds slew"; do
        case "$line" in
        leapseconds*) dialect=ntp ;;
        *) dialect=chrony ;;
        esac
        {
            echo "server 127.0.0.1 port $port iburst minpoll 0 maxpoll 2"
            [ $dialect = ntp ] && echo "leapfile $PWD/leaps" || echo "leapseclist $PWD/leaps"
            echo "$line"
        } >ntp.conf
        start leap-told.log --dialect $dialect
        check "$line: it synchronises" within 60 is_synchronised
        sleep 20
        case "$line" in
        *slew) check "$line: the kernel is not told" kernel_says leap none ;;
        *) check "$line: the kernel is told" kernel_says leap insert ;;
        esac
        stop "$line"
    done
    mv kept.conf ntp.conf
    unserve
}

is_day() { equal $(($(date +%s) / 86400)) "$1"; }

once() {
    begin 2 30
    ptntp run -q $options >once.log 2>&1
    check "-q: it ends well" equal $? 0
    check "-q: the clock is right" is_right
    check "-q: it left the frequency of the drift file" runs_at 28 32
    check "-q: the drift file is as good as it was" between "$(cut -d ' ' -f 1 drift)" 28 32
    unserve
    ptntp run -q $options >once-alone.log 2>&1
    check "-q without a server: fails" equal $? 1
}

# Set once by `ptntp date`, as ntpdate does.
by_hand() {
    timex freq 0
    begin 0.7 0
    local server_at=127.0.0.1:$port
    ptntp date -q -p 1 $server_at >date-query.log 2>&1
    check "date -q: ends well" equal $? 0
    check "date -q: says what the clock lacks" lines_with 1 "stratum 1, offset 0\.[67]" date-query.log
    check "date -q: the clock is as far off as it was" is_off_by -0.71 -0.69
    su nobody -c "ptntp date -p 1 $server_at" >date-nobody.log 2>&1
    check "date without the right: fails" equal $? 1
    check "date without the right: says so" lines_with 1 "no right to set the clock" date-nobody.log
    truth serve 123 truth.state &
    check "date: the other server is there" within 5 date_is_refused $server_at
    kill $!
    check "date: the clock is as far off as it was" is_off_by -0.71 -0.69
    ptntp date -p 1 $server_at >date-step.log 2>&1
    check "date: ends well" equal $? 0
    check "date: 0.7 s are stepped" lines_with 1 "ntpdate.*step time server 127.0.0.1 offset 0\.[67]" date-step.log
    check "date: the clock is right" is_right
    timex step -0.01
    ptntp date -p 1 $server_at >date-slew.log 2>&1
    check "date: 10 ms are slewed" lines_with 1 "adjust time server 127.0.0.1 offset 0\.0" date-slew.log
    check "date: which takes its time" is_off_by -0.011 -0.005
    check "date: and ends" within 60 is_right
    check "date: the frequency is as it was" runs_at -0.001 0.001
    ln -s "$(command -v ptntp)" ntpdate
    timex step -0.01
    ./ntpdate -b -p 1 $server_at >date-link.log 2>&1
    check "ntpdate -b, by a link: 10 ms are stepped" lines_with 1 "step time server" date-link.log
    check "ntpdate -b, by a link: the clock is right" is_right
    unserve
}

date_is_refused() {
    ptntp date -p 1 $1 2>&1 | grep "the NTP socket is in use, exiting"
}

without_rights
by_hand
journey uring
restart
loss
leap_second
leap_file
once
journey poll
