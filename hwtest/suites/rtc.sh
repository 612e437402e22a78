# The real-time clock: `ptntp rtc`, `rtcfile`, `-s`, and the kernel's own 11 minutes.
# Where its seconds begin is read with rtchand (guest/rtchand.c), what the time really is with
# truth; neither knows ptntp.
#
# limit: 1200

. /guest/rtc.sh

by_hand() {
    local holder text at
    rtchand push 7.3
    ptntp rtc status --utc --json >status.log 2>&1
    check "status: the offset is the one that another program sees" is_near "$(json offset_s <status.log)" "$(edge)" 0.0015
    check "status: how the edge was found is said" grep -o 'edge_by":"[a-z ]*' status.log
    text=$(ptntp rtc read --utc)
    check "read: as hwclock -r writes it" matches "$text" '^20[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9:]{8}\.[0-9]{6}\+00:00$'

    check "write: it says how well" ptntp rtc write --utc --adjfile adjtime
    check "write: the clock's seconds begin with the system's" edge_between -0.002 0.002
    at=$(date +%s)
    text=$(ptntp rtc read --utc | cut -c 1-19)
    check "write: the time that read shows is the system's" between "$(date -u -d "$text" +%s)" "$at" $((at + 1))
    check "write: hwclock's file has its three lines" equal "$(wc -l <adjtime),$(tail -n 1 adjtime)" 3,UTC
    check "write: hwclock's file has the time of it" between "$(sed -n 2p adjtime)" $(($(date +%s) - 30)) "$(date +%s)"

    # Three hours east of Greenwich.
    export TZ=EAST-3
    check "local time: it is written" ptntp rtc write --localtime --adjfile adjtime
    check "local time: the clock shows it" edge_between 10799.998 10800.002
    check "local time: hwclock's file says so" equal "$(tail -n 1 adjtime)" LOCAL
    ptntp rtc status --adjfile adjtime --json >local.log 2>&1
    check "local time: it is read by that" between "$(json offset_s <local.log)" -0.002 0.002
    unset TZ
    ptntp rtc write --utc --adjfile adjtime >/dev/null

    rtchand hold 60 &
    holder=$!
    sleep 0.2
    ptntp rtc read >busy.log 2>&1
    check "somebody has the device: it gives up, and says so" equal "$? $(grep -c 'another program keeps it open' busy.log)" "1 1"
    kill $holder
    wait $holder 2>/dev/null
    su nobody -c "ptntp rtc read" >nobody.log 2>&1
    check "no right: it says so" equal "$? $(grep -c 'run as root' nobody.log)" "1 1"
}

disciplined() {
    local at
    rtchand push 0.3
    begin 0.4 30
    start own.log -c rtc.conf
    check "rtcfile: the system clock synchronises" within 60 is_synchronised
    check "rtcfile: the clock is set" patiently 180 grep "real-time clock .* set;" own.log
    sleep 5
    at=$(edge)
    row "$at"
    check "rtcfile: its seconds begin with the system's" between "$at" -0.002 0.002
    check "rtcfile: the kernel does not set it" kernel_says unsync 1
    check "rtcfile: timedatectl takes the time for good all the same" between "$(timex_of maxerror_us)" 1 15999999
    # The system clock runs 30 ppm faster than the machine's, whose is the RTC.
    check "rtcfile: the clock's rate is learnt" patiently 3000 rate_is_learnt -32 -28
    check "rtcfile: nobody else set it" lines_with 0 "somebody else" own.log

    rtchand push 3.4
    check "another hand: it is noticed" patiently 1200 lines_with 1 "somebody else set it" own.log
    check "another hand: it is mended" patiently 120 edge_between -0.01 0.01
    stop rtcfile
    check "another hand: its seconds begin with the system's" edge_between -0.003 0.003
    check "rtcfile: it is written at the end" between "$(kept 2)" $(($(date +%s) - 600)) "$(date +%s)"
    check "rtcfile: it has the rate" between "$(kept 4)" -32 -28
    check "rtcfile: hwclock's file has the rate" between "$(sed -n '1s/ .*//p' adjtime)" 2.3 2.9
    ptntp rtc status --utc --rtcfile rtcfile >status-kept.log 2>&1
    check "status: it has the file's drift" grep "drift .*ppm" status-kept.log
    unserve
}

# At a boot, and nobody can be asked. The clock is off, and rtcfile knows by how much.
from_rtc() {
    begin 0 0
    unserve
    rtchand push 0.37
    foretell
    cp rtcfile rtcfile.before
    rm -f drift
    timex step -1000
    start boot.log -s -c rtc.conf
    check "-s: the system clock is set" within 20 grep "set from the real-time clock" boot.log
    check "-s: to the millisecond" is_off_by -0.003 0.003
    # Nothing was measured, as there is no time to measure by.
    stop -s
    check "-s: the file is as it was" cmp rtcfile rtcfile.before
    timex step 0.1
    start right.log -s -c rtc.conf
    check "-s: a small error is mended too" within 20 is_off_by -0.003 0.003
    stop "-s again"

    # The battery has run out.
    touch drift
    rtchand push -100000000
    timex step -5000
    start battery.log -s -c rtc.conf
    check "-s: a clock before the drift file is not believed" within 20 grep "not believed" battery.log
    check "-s: at least it is not before the drift file" is_off_by -60 0
    stop "-s without a battery"
    timex step "$(truth error truth.state | awk '{ print -$1 }')"
    ptntp rtc write --utc --adjfile adjtime >/dev/null

    timeout 5 ptntp run -s -c rtc.conf $options --clock virtual >virtual.log 2>&1
    check "--clock virtual: the real-time clock is left alone" lines_with 1 "the real-time clock is left alone" virtual.log
    check "--clock virtual: it sets nothing" lines_with 1 "is not set from the real-time clock" virtual.log
}

# The kernel's way: about as well as it can be asked.
kernels_own() {
    rtchand push 5.2
    begin 0 30
    start kernel.log -c server.conf
    check "rtcsync: STA_UNSYNC is clear" within 60 kernel_says unsync 0
    sleep 680
    check "rtcsync: the kernel sets the clock within 11 minutes" edge_between -0.1 0.1
    ptntp rtc status --utc >status-kernel.log 2>&1
    check "status: it says who" grep "the kernel, every 11 minutes" status-kernel.log
    stop rtcsync
    unserve
    { cat rtc.conf && echo rtcsync; } >both.conf
    ptntp check both.conf >both.log 2>&1
    check "rtcsync and rtcfile: an error with both lines" grep "rtc.*both.conf:4" both.log
}

# What single lines change, in both dialects. Local time is three hours ahead.
by_lines() {
    local dialect on
    begin 0 0
    export TZ=EAST-3
    for dialect in ntp chrony; do
        # asked LOG LINE...: our server, and further lines.
        asked() {
            printf '%s\n' "server 127.0.0.1 port $port iburst minpoll 2 maxpoll 4" >lines.conf
            local log="$1"
            shift
            printf '%s\n' "$@" >>lines.conf
            rm -f kept.rtc
            start "$log" -c lines.conf --dialect $dialect
            check "$dialect $*: it synchronises" within 60 is_synchronised
        }
        rtchand push 0.3
        asked never.log "rtcfile $PWD/kept.rtc" rtconutc "rtcautotrim 0"
        sleep 240
        check "$dialect rtcautotrim 0: it is not set" lines_with 0 "real-time clock .* set;" never.log
        stop "$dialect rtcautotrim 0"
        asked utc.log "rtcfile $PWD/kept.rtc" rtconutc "rtcautotrim 0.01"
        check "$dialect rtcautotrim 0.01: it is set" patiently 240 grep "real-time clock .* set;" utc.log
        check "$dialect rtconutc: to UTC" edge_between -0.01 0.01
        stop "$dialect rtcautotrim 0.01"
        asked none.log "rtcfile $PWD/kept.rtc" "rtcdevice /nonexistent/rtc"
        check "$dialect rtcdevice: the one that is named" within 30 grep "/nonexistent/rtc" none.log
        stop "$dialect rtcdevice"
        on=rtcsync
        [ $dialect = chrony ] || on="rtcsync on"
        asked sync.log "$on"
        check "$dialect rtcsync: the kernel is to set it" within 60 kernel_says unsync 0
        stop "$dialect rtcsync"
        on=
        [ $dialect = chrony ] || on="rtcsync off"
        asked sync.log "$on"
        sleep 30
        check "$dialect without rtcsync: the kernel is not" kernel_says unsync 1
        stop "$dialect without rtcsync"
    done
    unset TZ
    unserve
    rm -f kept.rtc
}

by_hand
disciplined
from_rtc
kernels_own
by_lines
