# A hardware clock as source, and hardware clocks that follow ours. hw0's clock is the
# truth: 37 s ahead of the guest's and 20 ppm fast; hw1's, as far ahead and slow, is what
# follows. Both are read by phc, which knows nothing of ptntp.
#
# limit: 900

hw_pair near far
truth=$(phc_of near hw0)
other=$(phc_of far hw1)
control="$PWD/control"
port=1124

# start LOG OPTION...: a ptntp with the configuration on standard input.
start() {
    log="$1"
    shift
    cat >ntp.conf
    ptntp run -c ntp.conf -g --port $port --metrics off --control "$control" "$@" >"$log" 2>&1 &
    ptntp=$!
}

stop() {
    kill -TERM $ptntp
    check "$1: it ends when told to" within 5 is_over $ptntp
    wait $ptntp
    check "$1: it ends well" equal $? 0
}

stat_of() { ptntp stat --json --control "$control" | json "$1"; }
is_synchronised() { equal "$(stat_of sync)" true; }
offset_of() { phc "$1" read | cut -d ' ' -f 2; }
is_off_by_less() { between "$(offset_of "$1")" "-$2" "$2"; }
told() { lines_with "$1" "$2" "$log"; }

# watched DEVICE SECONDS FILE: the clock minus ours in ns, four times a second.
watched() { phc "$1" watch $(($2 * 4)) 250 | cut -d ' ' -f 2 >"$3"; }
rms_of() { stats rms <"$1"; }

# Ours against the truth, each second beside the promise.
bounds() {
    local n bound off
    n=0
    while [ $n -lt "$1" ]; do
        bound=$(stat_of error_bound_s)
        off=$(offset_of "$truth")
        echo "$bound $off" | awk '{ off = $2 < 0 ? -$2 : $2; print off, $1 * 1e9, (off > $1 * 1e9) ? "BROKEN" : "kept" }'
        n=$((n + 1))
        sleep 1
    done
}

followed() {
    start system.log --clock system <<-END
		refclock PHC $truth poll 2 dpoll -2
	END
    check "system clock: synchronised" within 60 is_synchronised
    check "system clock: stepped, then as the PHC within 1 us" within 300 is_off_by_less "$truth" 1000
    sleep 60
    watched "$truth" 120 system.ns
    check "ROW true error of the system clock by refclock PHC, ns RMS, 37 s off and 20 ppm" between "$(rms_of system.ns)" 0 1000
    bounds 60 >system.bounds
    check "system clock: the bound is never broken (off, bound in ns: $(tail -n 1 system.bounds))" lines_with 0 BROKEN system.bounds
    check "system clock: and is a good one" between "$(stat_of error_bound_s)" 0 0.0001
    check "system clock: we are stratum 1" equal "$(stat_of stratum)" 1
    check "system clock: by the PHC" equal "$(stat_of refid)" '".PHC0."'
    ptntp peers --wide --control "$control" >peers
    cat peers
    check "system clock: it is among the sources, with stamps of hardware" lines_with 1 '^\*PHC0 .*\.PHC0\..* HH$' peers
    check "system clock: stepped once" told 1 'clock stepped'
    trouble
    stop "system clock"
}

# What a clock may do to us, and how often we say so.
trouble() {
    knob hw0 jump_ns 2000000
    check "jump: it is told" within 10 told 1 'the clock jumped by'
    sleep 5
    check "jump: our clock stays" between "$(offset_of "$truth")" 1990000 2010000
    check "jump: after a minute it is used again" within 90 told 1 'can be used again'
    knob hw0 drift_ppb 1500000000
    check "2.5 times too fast: it is told" within 10 told 1 'times as fast'
    sleep 20
    check "2.5 times too fast: and told once" told 1 'times as fast'
    knob hw0 drift_ppb 20000
}

# The same with a clock that takes a microsecond to be read, by the call that most drivers
# have.
slowly() {
    knob hw0 read_ns 500
    start slowly.log --clock system <<-END
		refclock PHC $truth:nocrossts poll 2 dpoll -2
	END
    check "slow reading: synchronised" within 60 is_synchronised
    sleep 90
    phc "$truth" extended
    # The truth is still latched by hardware.
    watched "$truth" 60 slowly.ns
    check "ROW true error by readings of 1 us, ns RMS" between "$(rms_of slowly.ns)" 0 1000
    bounds 30 >slowly.bounds
    check "slow reading: the bound is never broken (off, bound in ns: $(tail -n 1 slowly.bounds))" lines_with 0 BROKEN slowly.bounds
    stop "slow reading"
    knob hw0 read_ns 0
}

# A server whose clock is a line above a system clock that nobody steers.
virtual() {
    start virtual.log --clock virtual:0.01,50 <<-END
		refclock PHC $truth poll 2 dpoll -2
	END
    check "virtual clock: synchronised" within 60 is_synchronised
    sleep 180
    # What is served minus the system clock, and the PHC minus that. What the way to a
    # server takes is what one seems to be ahead that serves the system clock itself.
    ptntp run --clock none --port 1125 --metrics off --control "$PWD/plain" >plain.log 2>&1 &
    plain=$!
    check "virtual clock: a server of the system clock answers" within 10 served 1125
    n=0
    while [ $n -lt 100 ]; do
        echo "$(served $port) $(served 1125) $(offset_of "$truth")"
        n=$((n + 1))
        sleep 0.5
    done | awk '{ printf "%d\n", $1 - $2 - $3 }' >virtual.ns
    check "ROW true error of what --clock virtual serves, ns RMS" between "$(rms_of virtual.ns)" 0 1000
    kill $plain
    stop "virtual clock"
}

# The guest's clock is right by now, but for TAI.
tai() {
    printf '#@ 4102444800\n2272060800 10\n3692217600 37\n' >leaps
    phc "$truth" set 37
    start tai.log --clock system <<-END
		refclock PHC $truth:nocrossts poll 2 tai refid TAI
		leapfile $PWD/leaps
	END
    check "tai: synchronised" within 60 is_synchronised
    check "tai: by its refid" equal "$(stat_of refid)" '".TAI."'
    sleep 60
    check "tai: 37 s are left between" between "$(offset_of "$truth")" 36999990000 37000010000
    check "tai: no step" told 0 'clock stepped'
    stop tai
}

# The other card's clock follows ours, which follows the first.
discipline() {
    phc "$truth" set 0
    start discipline.log --clock system <<-END
		refclock PHC $truth poll 2 dpoll -2
		phc discipline $other utc
	END
    check "discipline: synchronised" within 60 is_synchronised
    check "discipline: it follows within 1 us" within 120 is_off_by_less "$other" 1000
    sleep 60
    watched "$other" 60 other.ns
    check "ROW a disciplined PHC minus the system clock, ns RMS" between "$(rms_of other.ns)" 0 1000
    check "discipline: it is told" told 1 'follows within 1 us'
    stop discipline
    check "discipline: what is left behind keeps the pace, ppb" between "$(phc "$other" rate 2)" -100000 100000
    sleep 10
    check "discipline: 10 s later it is near" is_off_by_less "$other" 20000
}

# A clock that jumps whenever it is told to go faster.
stubborn() {
    knob hw1 adj_jump_ns 2199000000000
    start stubborn.log --clock system <<-END
		refclock PHC $truth poll 2 dpoll -2
		phc discipline $other utc
	END
    check "stubborn clock: told that it can't be steered" within 120 told 1 "can't be steered"
    sleep 30
    check "stubborn clock: told once" told 1 "can't be steered"
    stop "stubborn clock"
    knob hw1 adj_jump_ns 0
}

conflict() {
    printf 'refclock PHC %s\nphc discipline %s\n' "$truth" "$truth" >both.conf
    check "both at once: refused, by line" refused both.conf 'both.conf:1 already'
    printf 'refclock PHC %s\nphc discipline hw0\n' "$truth" >both.conf
    check "both at once, by other names: refused" refused both.conf 'about the same clock'
}

refused() {
    on near ptntp run -c "$1" --clock none --port $port --metrics off --control "$control" >refused.log 2>&1 && return 1
    grep "$2" refused.log
}

unplugged() {
    start unplugged.log --clock none <<-END
		refclock PHC $truth poll 2
	END
    check "unplugged: first it gives time" within 60 told 1 'gives time'
    on near ip link del hw0
    check "unplugged: it is told" within 30 told 1 "the clock can't be used"
    sleep 40
    stop unplugged
}

followed
slowly
virtual
tai
discipline
stubborn
conflict
unplugged
unpair near far
