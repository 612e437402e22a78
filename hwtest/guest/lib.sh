# What the suites share. A suite runs in a directory of its own; its *.log files
# are shown after it.

# check NAME COMMAND...: one line that says whether COMMAND succeeded, with the
# command's own last words.
check() {
    local name="$1" words verdict
    shift
    if words=$("$@" 2>&1); then verdict="ok    "; else verdict="FAILED"; fi
    echo "$verdict $suite: $name ($(echo "${words:-$*}" | tail -n 1))"
}

# between VALUE LOW HIGH
between() {
    echo "$1 in $2 .. $3"
    awk -v value="$1" -v low="$2" -v high="$3" 'BEGIN { exit !(value != "" && value + 0 >= low + 0 && value + 0 <= high + 0) }'
}

equal() {
    echo "'$1', wanted '$2'"
    [ "$1" = "$2" ]
}

# Has the text this many lines with the pattern?
lines_with() {
    local count
    count=$(grep -c -e "$2" "$3")
    echo "$count lines with '$2' in $3, wanted $1"
    [ "$count" = "$1" ]
}

# within SECONDS COMMAND...: waits until COMMAND succeeds; says how long that took,
# or the last words of the command that never did.
within() {
    local limit="$1" started now words
    shift
    started=$(seconds)
    while :; do
        words=$("$@" 2>&1) && { echo "$words, after $(($(seconds) - started)) s" && return 0; }
        now=$(seconds)
        [ $((now - started)) -lt "$limit" ] || { echo "$words, still after $limit s" && return 1; }
        sleep 0.2
    done
}

# Since boot: no step moves it.
seconds() { cut -d . -f 1 /proc/uptime; }

# timex_of KEY: what the kernel's clock says.
timex_of() { timex | sed -n "s/^$1=//p"; }
kernel_says() { equal "$(timex_of "$1")" "$2"; }

# Has this process ended?
is_over() { ! grep -q '^State:[[:space:]]*[RSD]' "/proc/$1/status"; }

# json KEY: the value of a key, from the one JSON object on standard input.
json() { tr ',{}' '\n\n\n' | sed -n "s/^ *\"$1\": *//p" | head -n 1; }

# give_up WORDS: the rest of the suite would make no sense.
give_up() {
    echo "FAILED $suite: $*"
    exit 1
}

# on NETNS COMMAND...: runs it in a network namespace.
on() {
    local netns="$1"
    shift
    ip netns exec "$netns" "$@"
}

# start_on NETNS LOG COMMAND...: starts it there, in the background; $started is its
# process. With `on NETNS COMMAND &` it would be a shell's, and killing that leaves COMMAND.
start_on() {
    local netns="$1" log="$2"
    shift 2
    ip netns exec "$netns" "$@" >>"$log" 2>&1 &
    started=$!
}

# netns_pair A B NIC_A NIC_B: two network namespaces, each with a NIC; 10.0.0.1 and .2.
netns_pair() {
    local number=1 netns nic
    for netns in "$1" "$2"; do
        eval "nic=\$$((number + 2))"
        ip netns add "$netns"
        ip link set "$nic" netns "$netns"
        on "$netns" ip link set lo up
        on "$netns" ip address add 10.0.0.$number/24 dev "$nic"
        on "$netns" ip link set "$nic" up
        number=$((number + 1))
    done
    within 20 on "$1" ping -c 1 -W 1 10.0.0.2 >/dev/null || give_up "no way from $1 to $2"
}

# hw_pair A B [DRIFT_A DRIFT_B]: two network namespaces with a NIC each, hw0 and hw1 of
# our kernel module, connected by a wire of 2 us. Their clocks are 37 s ahead of the
# system's and drift by so many ppb, 20,000 and -20,000 if not given.
hw_pair() {
    modprobe ptntp_hwts
    ip link add lower0 type veth peer name lower1
    ip link set lower0 up
    ip link set lower1 up
    ip link add hw0 link lower0 type hwts
    ip link add hw1 link lower1 type hwts || give_up "no NIC of our module"
    knob hw0 drift_ppb "${3:-20000}"
    knob hw1 drift_ppb "${4:--20000}"
    netns_pair "$1" "$2" hw0 hw1
}

# unpair A B: and all is gone.
unpair() {
    ip netns del "$1"
    ip netns del "$2"
    [ ! -e /sys/class/net/lower0 ] || ip link del lower0
}

# knob NIC NAME [VALUE]: sets a knob of our kernel module's NIC, or says how it is set.
knob() {
    if [ $# = 3 ]; then
        echo "$3" >"/sys/kernel/debug/hwts/$1/$2"
    else
        cat "/sys/kernel/debug/hwts/$1/$2"
    fi
}

# nic_with ADDRESS: the name of the interface with that MAC.
nic_with() { basename "$(dirname "$(grep -l "$1" /sys/class/net/*/address)")"; }

# phc_of NETNS NIC: its clock, as /dev/ptpN.
phc_of() { on "$1" hwstamp "$2" phc; }

# start_chronyd NETNS NAME: a chronyd that leaves the clock alone, with the configuration
# on standard input; its words go to NAME.log.
start_chronyd() {
    local netns="$1" name="$2"
    mkdir -p "run-$name"
    chmod 700 "run-$name"
    {
        cat
        echo "pidfile $PWD/run-$name/pid"
        echo "bindcmdaddress $PWD/run-$name/sock"
        echo "cmdport 0"
    } >"$name.conf"
    start_on "$netns" "$name.log" chronyd -x -u root -f "$PWD/$name.conf" -d
    within 10 test -S "run-$name/sock" >/dev/null || give_up "chronyd $name does not start: $(tail -n 1 "$name.log")"
}

# stop_chronyd NAME
stop_chronyd() {
    local pid
    pid=$(cat "run-$1/pid")
    kill "$pid"
    within 10 test ! -d "/proc/$pid" >/dev/null
}

# chronyc_of NAME COMMAND...
chronyc_of() {
    local name="$1"
    shift
    chronyc -n -h "$PWD/run-$name/sock" "$@"
}

# Of its one source, what ntpdata says of a key.
ntpdata_of() { chronyc_of "$1" ntpdata 10.0.0.1 | sed -n "s/^$2 *: //p"; }

# wait_synchronised NAME SECONDS: until this chronyd has selected a source.
wait_synchronised() { within "$2" has_selected "$1"; }

has_selected() {
    chronyc_of "$1" sources | tail -n 1
    chronyc_of "$1" sources | grep -q '^[\^]\*'
}
