# Two machines, each with a clock of its own: a step, and discipline. What a precise
# clock takes they can't show, as two emulators don't keep time with each other.
#
# guests: 2
# limit: 900

modprobe virtio_net
ip address add 10.0.0.$guest/24 dev eth0
ip link set eth0 up

server() {
    printf 'local stratum 1\nallow\n' >server.conf
    chronyd -x -u root -f "$PWD/server.conf" -d >server.log 2>&1 &
    # The other one says when it is done.
    nc -l -p 9 >/dev/null
}

client() {
    check "the two can talk" within 60 ping -c 1 -W 1 10.0.0.1
    printf 'server 10.0.0.1 iburst minpoll 0 maxpoll 2\n' >ntp.conf
    timex freq 50
    ptntp run -c ntp.conf --clock system --port 1124 --metrics off --control "$PWD/control" >ptntp.log 2>&1 &
    check "it synchronises" within 60 is_synchronised
    check "the clock was stepped back by a minute" within 10 lines_with 1 "clock stepped by -[56][0-9]\." ptntp.log
    check "the kernel is told" within 20 kernel_says unsync 0
    check "its frequency makes up for what was wrong with it" within 200 runs_near 0
    check "the offset is small" within 60 is_off_by_less 0.005
    echo done | nc 10.0.0.1 9
}

stat_of() { ptntp stat --json --control "$PWD/control" | json "$1"; }
is_synchronised() { equal "$(stat_of sync)" true; }
runs_near() { between "$(timex_of freq_ppm)" $(($1 - 30)) $(($1 + 30)); }
is_off_by_less() { between "$(stat_of offset_s)" "-$1" "$1"; }

if [ "$guest" = 1 ]; then server; else client; fi
