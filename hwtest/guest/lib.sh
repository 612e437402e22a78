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

# json KEY: the value of a key, from the one JSON object on standard input.
json() { tr ',{}' '\n\n\n' | sed -n "s/^ *\"$1\": *//p" | head -n 1; }
