# The real-time clock on a CPU that Linux takes for AMD's, as it does QEMU's own: there
# a write does not restart the chip's divider, so its seconds begin when they did before.
# ptntp measures that, says so, writes no more than it must, and keeps the rest in the file.
#
# qemu: -cpu max

. /guest/rtc.sh

by_hand() {
    local before after
    rtchand push 100
    before=$(edge)
    check "write: it says that it can't be aligned" matches "$(ptntp rtc write --utc --adjfile adjtime)" "nearest second"
    after=$(edge)
    check "write: right to the nearest second" between "$after" -0.51 0.51
    check "write: its seconds begin when they did" is_near \
        "$(fraction "$after")" "$(fraction "$before")" 0.005
}

fraction() { awk -v s="$1" 'BEGIN { f = s - int(s); print f < 0 ? f + 1 : f }'; }

disciplined() {
    rtchand push 5
    begin 0.4 30
    start own.log -c rtc.conf --io poll
    check "rtcfile: the system clock synchronises" within 60 is_synchronised
    check "rtcfile: it says that the clock can't be aligned" patiently 180 grep "can't be aligned" own.log
    check "rtcfile: right to the nearest second" edge_between -0.51 0.51
    sleep 3000
    check "rtcfile: it does not try for ever" lines_with 1 "can't be aligned" own.log
    check "rtcfile: it sets the clock no more" lines_with 0 "real-time clock .* set to" own.log
    check "rtcfile: the clock's rate is learnt all the same" patiently 3000 rate_is_learnt -32 -28
    stop rtcfile
    check "rtcfile: it foretells the offset" is_near "$(ptntp rtc status --json --utc --rtcfile rtcfile | json foretold_offset_s)" "$(edge)" 0.002
    unserve
}

from_rtc() {
    begin 0 0
    unserve
    foretell
    rm -f drift
    timex step -1000.4
    start boot.log -s -c rtc.conf
    check "-s: the system clock is set" within 20 grep "set from the real-time clock" boot.log
    check "-s: to the millisecond, by what the file knows" is_off_by -0.003 0.003
    stop -s
}

check "this is a CPU of AMD's to Linux" grep -q AuthenticAMD /proc/cpuinfo
by_hand
disciplined
from_rtc
