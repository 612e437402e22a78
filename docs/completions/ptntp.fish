# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_ptntp_global_optspecs
    string join \n h/help V/version
end

function __fish_ptntp_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_ptntp_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_ptntp_using_subcommand
    set -l cmd (__fish_ptntp_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c ptntp -n "__fish_ptntp_needs_command" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_needs_command" -s V -l version -d 'Print version'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "run" -d 'Run the time service in the foreground'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "check" -d 'Check a configuration file and show what it amounts to'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "convert" -d 'Write a configuration file in the other dialect'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "access" -d 'Say what an address may do, and which line decides'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "reload" -d 'Have the running service read its configuration file again'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "peers" -d 'List the sources of the running service, as ntpq -p does'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "stat" -d 'Say whether the clock is synchronised, as ntpstat does'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "tracking" -d 'Show the clock\'s state, as chronyc tracking does'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "sources" -d 'List the sources, as chronyc sources does'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "sourcestats" -d 'Show how well each source\'s clock is known, as chronyc sourcestats does'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "date" -d 'Ask servers for the time, and set the clock by it once, as ntpdate does'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "variables" -d 'Print the service\'s variables, or a source\'s, as ntpq -c rv does'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "associations" -d 'List the sources with their status words, as ntpq -c as does'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "nics" -d 'Show which network interfaces can stamp packets, and how well'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "rtc" -d 'Read or set the real-time clock, as hwclock does, or say how right it is'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "demo" -d 'Show it all on loopback: a server, and a client half a second off'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "sim" -d 'Simulate a clock, a network and servers, and show how right the clock is'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "bench" -d 'Measure how many requests an NTP server answers, how fast, and how well it stamps'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "keygen" -d 'Make a key for a key file, as chronyc keygen does'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "generate" -d 'Write man pages or shell completions'
complete -c ptntp -n "__fish_ptntp_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c ptntp -n "__fish_ptntp_using_subcommand run" -s c -l config -d 'Configuration file, such as /etc/ntp.conf' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand run" -l dialect -d 'Language of the configuration file; auto recognises it by its words' -r -f -a "auto\t''
ntp\t''
chrony\t''"
complete -c ptntp -n "__fish_ptntp_using_subcommand run" -l server -d 'Ask this server (may be repeated); ntp.conf options may follow in the same quotes' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand run" -l pool -d 'Ask several servers behind this name (may be repeated)' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand run" -l clock -d 'Clock to steer: system, none (observe only), or virtual[:OFFSET_S,FREQ_PPM], a clock in software that starts that far ahead and runs that much fast [default: system with -c, none without]' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand run" -l port -d 'UDP port to answer on [default: 123, or 1123 without the right to it]' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand run" -l xdp -d 'Answer plain requests that arrive on this interface before the network stack sees them (may be repeated; * for all that can); options of `xdp` may follow in the same quotes' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand run" -l control -d 'Control socket for stat and peers' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand run" -l metrics -d 'Where Prometheus may scrape: ADDRESS:PORT, a port on 127.0.0.1, or off [default: 127.0.0.1:9975]' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand run" -l io -d 'How to wait for packets; auto takes io_uring where the kernel allows it' -r -f -a "auto\t''
uring\t''
poll\t''"
complete -c ptntp -n "__fish_ptntp_using_subcommand run" -l log-level -d 'The least important messages to log' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c ptntp -n "__fish_ptntp_using_subcommand run" -l no-clock -d 'Observe, never steer; the same as --clock none'
complete -c ptntp -n "__fish_ptntp_using_subcommand run" -s q -l once -d 'Set the clock once, with bursts, and exit; fails if nobody gives the time within 30 s'
complete -c ptntp -n "__fish_ptntp_using_subcommand run" -s g -l panicgate -d 'Let the first correction exceed the panic limit (1000 s)'
complete -c ptntp -n "__fish_ptntp_using_subcommand run" -s s -l from-rtc -d 'Set the clock from the real-time clock first, before anybody is asked; with `rtcfile` its own error is taken out'
complete -c ptntp -n "__fish_ptntp_using_subcommand run" -l busy-poll -d 'Look for requests all the time instead of sleeping until there are some: sooner answers, and a whole core for each of the server\'s threads'
complete -c ptntp -n "__fish_ptntp_using_subcommand run" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand check" -l dialect -d 'Language of the file; auto recognises it by its words' -r -f -a "auto\t''
ntp\t''
chrony\t''"
complete -c ptntp -n "__fish_ptntp_using_subcommand check" -l explain -d 'Say what each line does'
complete -c ptntp -n "__fish_ptntp_using_subcommand check" -l json -d 'Print JSON'
complete -c ptntp -n "__fish_ptntp_using_subcommand check" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand convert" -l dialect -d 'Language of the file; auto recognises it by its words' -r -f -a "auto\t''
ntp\t''
chrony\t''"
complete -c ptntp -n "__fish_ptntp_using_subcommand convert" -l to -d 'Language to write [default: the other one]' -r -f -a "auto\t''
ntp\t''
chrony\t''"
complete -c ptntp -n "__fish_ptntp_using_subcommand convert" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand access" -s c -l config -d 'Configuration file [default: /etc/ntp.conf, or /etc/chrony.conf where that is missing]' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand access" -l dialect -d 'Language of the file; auto recognises it by its words' -r -f -a "auto\t''
ntp\t''
chrony\t''"
complete -c ptntp -n "__fish_ptntp_using_subcommand access" -l port -d 'Port that the address sends from; 123 is what `ntpport` means' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand access" -l source -d 'As if the address were one of the servers that are asked (`restrict source`)'
complete -c ptntp -n "__fish_ptntp_using_subcommand access" -l json -d 'Print JSON'
complete -c ptntp -n "__fish_ptntp_using_subcommand access" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand reload" -l control -d 'Control socket of the service [default: /run/ptntp/control.sock, or this user\'s]' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand reload" -l json -d 'Print JSON'
complete -c ptntp -n "__fish_ptntp_using_subcommand reload" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand peers" -l control -d 'Control socket of the service [default: /run/ptntp/control.sock, or this user\'s]' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand peers" -l json -d 'Print JSON'
complete -c ptntp -n "__fish_ptntp_using_subcommand peers" -s n -l numeric -d 'Show addresses, not names'
complete -c ptntp -n "__fish_ptntp_using_subcommand peers" -s w -l wide -d 'Show names in full and who took the stamps (Daemon, Kernel, Hardware; transmit, then receive)'
complete -c ptntp -n "__fish_ptntp_using_subcommand peers" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand stat" -l control -d 'Control socket of the service [default: /run/ptntp/control.sock, or this user\'s]' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand stat" -l wait -d 'Wait until the clock follows a server (the local clock does not count), at most this long' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand stat" -l json -d 'Print JSON'
complete -c ptntp -n "__fish_ptntp_using_subcommand stat" -s v -l verbose -d 'Also show offset, frequency and error bounds'
complete -c ptntp -n "__fish_ptntp_using_subcommand stat" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand tracking" -l control -d 'Control socket of the service [default: /run/ptntp/control.sock, or this user\'s]' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand tracking" -l json -d 'Print JSON'
complete -c ptntp -n "__fish_ptntp_using_subcommand tracking" -s n -l numeric -d 'Show addresses, not names'
complete -c ptntp -n "__fish_ptntp_using_subcommand tracking" -s c -l csv -d 'Print comma separated values, without heading, in seconds and ppm'
complete -c ptntp -n "__fish_ptntp_using_subcommand tracking" -s v -l verbose -d 'Explain the columns'
complete -c ptntp -n "__fish_ptntp_using_subcommand tracking" -s a -l all -d 'Also show sources whose name has no address yet'
complete -c ptntp -n "__fish_ptntp_using_subcommand tracking" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand sources" -l control -d 'Control socket of the service [default: /run/ptntp/control.sock, or this user\'s]' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand sources" -l json -d 'Print JSON'
complete -c ptntp -n "__fish_ptntp_using_subcommand sources" -s n -l numeric -d 'Show addresses, not names'
complete -c ptntp -n "__fish_ptntp_using_subcommand sources" -s c -l csv -d 'Print comma separated values, without heading, in seconds and ppm'
complete -c ptntp -n "__fish_ptntp_using_subcommand sources" -s v -l verbose -d 'Explain the columns'
complete -c ptntp -n "__fish_ptntp_using_subcommand sources" -s a -l all -d 'Also show sources whose name has no address yet'
complete -c ptntp -n "__fish_ptntp_using_subcommand sources" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand sourcestats" -l control -d 'Control socket of the service [default: /run/ptntp/control.sock, or this user\'s]' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand sourcestats" -l json -d 'Print JSON'
complete -c ptntp -n "__fish_ptntp_using_subcommand sourcestats" -s n -l numeric -d 'Show addresses, not names'
complete -c ptntp -n "__fish_ptntp_using_subcommand sourcestats" -s c -l csv -d 'Print comma separated values, without heading, in seconds and ppm'
complete -c ptntp -n "__fish_ptntp_using_subcommand sourcestats" -s v -l verbose -d 'Explain the columns'
complete -c ptntp -n "__fish_ptntp_using_subcommand sourcestats" -s a -l all -d 'Also show sources whose name has no address yet'
complete -c ptntp -n "__fish_ptntp_using_subcommand sourcestats" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -s p -l samples -d 'Ask each server so many times' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -s t -l timeout -d 'Wait so long for an answer (3 at most are waited)' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -s o -l ntp-version -d 'NTP version of the requests' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -s a -l key -d 'Sign with this key of the key file, and believe signed answers alone' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -s k -l keyfile -d 'The key file, as ntpd reads it' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -s e -d 'ntpdate\'s reckoning of how long keys take; without use here' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -l clock -d 'Clock to set: system, none, or virtual[:OFFSET_S,FREQ_PPM], which ends with the command' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -l step-from -d 'From this offset on the clock is stepped' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -s q -l query -d 'Ask and print, don\'t set the clock'
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -s b -l step -d 'Step the clock, whatever the offset'
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -s B -l slew -d 'Slew the clock, whatever the offset'
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -s u -l unprivileged -d 'Set the clock also where something else holds NTP\'s port'
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -s d -l debug -d 'Like -q, with every sample'
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -s s -l syslog -d 'Say it to syslog, not here'
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -s v -l verbose -d 'Say the program\'s version first'
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -l json -d 'Print JSON'
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -l as-ntpdig -d 'Print what ntpdig prints'
complete -c ptntp -n "__fish_ptntp_using_subcommand date" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand variables" -l control -d 'Control socket of the service [default: /run/ptntp/control.sock, or this user\'s]' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand variables" -l json -d 'Print JSON'
complete -c ptntp -n "__fish_ptntp_using_subcommand variables" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand associations" -l control -d 'Control socket of the service [default: /run/ptntp/control.sock, or this user\'s]' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand associations" -l json -d 'Print JSON'
complete -c ptntp -n "__fish_ptntp_using_subcommand associations" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand nics" -l control -d 'Control socket of the service [default: /run/ptntp/control.sock, or this user\'s]' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand nics" -l json -d 'Print JSON'
complete -c ptntp -n "__fish_ptntp_using_subcommand nics" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and not __fish_seen_subcommand_from read write status help" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and not __fish_seen_subcommand_from read write status help" -f -a "read" -d 'Print its time, to the microsecond, as hwclock -r does'
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and not __fish_seen_subcommand_from read write status help" -f -a "write" -d 'Set it from the system clock, so that its seconds begin with the system clock\'s, as hwclock -w does'
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and not __fish_seen_subcommand_from read write status help" -f -a "status" -d 'Show how right it is, what it gains, and who sets it'
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and not __fish_seen_subcommand_from read write status help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from read" -s f -l device -l rtc -d 'The clock [default: /dev/rtc0, or /dev/rtc]' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from read" -l adjfile -d 'hwclock\'s file; `write` renews it' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from read" -s u -l utc -d 'It is on UTC [default: as the third line of --adjfile says, else UTC]'
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from read" -s l -l localtime -d 'It is on local time'
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from read" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from write" -s f -l device -l rtc -d 'The clock [default: /dev/rtc0, or /dev/rtc]' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from write" -l adjfile -d 'hwclock\'s file; `write` renews it' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from write" -s u -l utc -d 'It is on UTC [default: as the third line of --adjfile says, else UTC]'
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from write" -s l -l localtime -d 'It is on local time'
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from write" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from status" -s f -l device -l rtc -d 'The clock [default: /dev/rtc0, or /dev/rtc]' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from status" -l adjfile -d 'hwclock\'s file; `write` renews it' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from status" -l rtcfile -d 'Where the service keeps what it measured, the configuration\'s `rtcfile`' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from status" -s u -l utc -d 'It is on UTC [default: as the third line of --adjfile says, else UTC]'
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from status" -s l -l localtime -d 'It is on local time'
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from status" -l json -d 'Print JSON'
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from help" -f -a "read" -d 'Print its time, to the microsecond, as hwclock -r does'
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from help" -f -a "write" -d 'Set it from the system clock, so that its seconds begin with the system clock\'s, as hwclock -w does'
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from help" -f -a "status" -d 'Show how right it is, what it gains, and who sets it'
complete -c ptntp -n "__fish_ptntp_using_subcommand rtc; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c ptntp -n "__fish_ptntp_using_subcommand demo" -l stay -d 'Keep both running, to explore them with the other commands, until Ctrl-C'
complete -c ptntp -n "__fish_ptntp_using_subcommand demo" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand sim" -l seed -d 'Chance repeats with its seed' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand sim" -l for -d 'Run this long, such as 90s, 12h or 2d [default: as the scenario says]' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand sim" -l set -d 'Append this line to the scenario (may be repeated), such as \'clock wander 1e-8\'' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand sim" -l plot -d 'Draw error, bound and poll interval: here, or as SVG into FILE' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand sim" -l trace -d 'Write each second\'s figures into FILE, as CSV' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand sim" -l estimator -d 'Who estimates' -r -f -a "node\t''
reference\t''
reference-calm\t''"
complete -c ptntp -n "__fish_ptntp_using_subcommand sim" -l list -d 'List the scenarios that come with ptntp'
complete -c ptntp -n "__fish_ptntp_using_subcommand sim" -l json -d 'Print JSON'
complete -c ptntp -n "__fish_ptntp_using_subcommand sim" -s v -l verbose -d 'Also print what the service would have logged'
complete -c ptntp -n "__fish_ptntp_using_subcommand sim" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -s r -l rate -d 'Requests a second, whatever comes back (open loop) [default: 1k]' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l closed -d 'A new request for each answer, so many under way at all times (closed loop)' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l burst -d 'Send so many requests at a time, as network cards hand them over' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l ramp -d 'Raise the rate in ten steps, each for --duration' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l max-loss -d 'With --search: so many percent may be lost or refused [default: 1]' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -s d -l duration -d 'How long to send [default: 5s; a step of --ramp or --search 1s]' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l timeout -d 'How long to wait for an answer' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l ports -d 'Send from so many ports [default: 64; with --sources 4096]' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l sources -d 'Send from the addresses of this prefix, as raw frames (needs CAP_NET_RAW)' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l clients -d 'Of --sources, use so many addresses [default: all, at most 1,000,000]' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l xdp -d 'Send and receive by XDP programs on this interface, for rates that sockets can\'t reach (as root)' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l threads -d 'Generate from so many cores' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l ntp-version -d 'NTP version of the requests' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l key -d 'Sign with this key, ID:TYPE:SECRET such as 10:SHA1:HEX:6b6579 (others may see it in the list of processes); TYPE is MD5, SHA1, SHA256, SHA384, SHA512, AES128 or AES256' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l mix -d 'Kinds of clients and their shares, such as basic=90,interleaved=10; a kind is words joined by +: basic, interleaved, key, v3' -r
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l html -d 'Also write the result with its curves, as a web page of one file' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -s 4 -l ipv4 -d 'Use IPv4 only, where SERVER is a name'
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -s 6 -l ipv6 -d 'Use IPv6 only, where SERVER is a name'
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l search -d 'Find the highest rate that is answered, each one tried for --duration'
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l interleaved -d 'Ask for interleaved answers (RFC 9769)'
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l realtime -d 'Let no ordinary program take a core from the generator (needs CAP_SYS_NICE); the server should have cores of its own'
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l self-test -d 'Measure the generator itself, against a sink on this machine'
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l i-own-this-server -d 'Allow a server, and --sources, with public addresses'
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -l json -d 'Print JSON'
complete -c ptntp -n "__fish_ptntp_using_subcommand bench" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand keygen" -l ntp -d 'Print it as ntpd reads it'
complete -c ptntp -n "__fish_ptntp_using_subcommand keygen" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand generate; and not __fish_seen_subcommand_from man links directives completions help" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand generate; and not __fish_seen_subcommand_from man links directives completions help" -f -a "man" -d 'Write the man pages into a directory'
complete -c ptntp -n "__fish_ptntp_using_subcommand generate; and not __fish_seen_subcommand_from man links directives completions help" -f -a "links" -d 'Make links by the names of the tools that ptntp stands in for; never over a file'
complete -c ptntp -n "__fish_ptntp_using_subcommand generate; and not __fish_seen_subcommand_from man links directives completions help" -f -a "directives" -d 'Print the table of every directive of a dialect'
complete -c ptntp -n "__fish_ptntp_using_subcommand generate; and not __fish_seen_subcommand_from man links directives completions help" -f -a "completions" -d 'Print the completions of a shell'
complete -c ptntp -n "__fish_ptntp_using_subcommand generate; and not __fish_seen_subcommand_from man links directives completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c ptntp -n "__fish_ptntp_using_subcommand generate; and __fish_seen_subcommand_from man" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand generate; and __fish_seen_subcommand_from links" -l target -d 'What the links point to, such as ptntp where that is to lie beside them [default: this program]' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand generate; and __fish_seen_subcommand_from links" -l man -d 'Also write manual pages by these names there, such as /usr/share/man/man1' -r -F
complete -c ptntp -n "__fish_ptntp_using_subcommand generate; and __fish_seen_subcommand_from links" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand generate; and __fish_seen_subcommand_from directives" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand generate; and __fish_seen_subcommand_from completions" -s h -l help -d 'Print help'
complete -c ptntp -n "__fish_ptntp_using_subcommand generate; and __fish_seen_subcommand_from help" -f -a "man" -d 'Write the man pages into a directory'
complete -c ptntp -n "__fish_ptntp_using_subcommand generate; and __fish_seen_subcommand_from help" -f -a "links" -d 'Make links by the names of the tools that ptntp stands in for; never over a file'
complete -c ptntp -n "__fish_ptntp_using_subcommand generate; and __fish_seen_subcommand_from help" -f -a "directives" -d 'Print the table of every directive of a dialect'
complete -c ptntp -n "__fish_ptntp_using_subcommand generate; and __fish_seen_subcommand_from help" -f -a "completions" -d 'Print the completions of a shell'
complete -c ptntp -n "__fish_ptntp_using_subcommand generate; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "run" -d 'Run the time service in the foreground'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "check" -d 'Check a configuration file and show what it amounts to'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "convert" -d 'Write a configuration file in the other dialect'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "access" -d 'Say what an address may do, and which line decides'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "reload" -d 'Have the running service read its configuration file again'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "peers" -d 'List the sources of the running service, as ntpq -p does'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "stat" -d 'Say whether the clock is synchronised, as ntpstat does'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "tracking" -d 'Show the clock\'s state, as chronyc tracking does'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "sources" -d 'List the sources, as chronyc sources does'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "sourcestats" -d 'Show how well each source\'s clock is known, as chronyc sourcestats does'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "date" -d 'Ask servers for the time, and set the clock by it once, as ntpdate does'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "variables" -d 'Print the service\'s variables, or a source\'s, as ntpq -c rv does'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "associations" -d 'List the sources with their status words, as ntpq -c as does'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "nics" -d 'Show which network interfaces can stamp packets, and how well'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "rtc" -d 'Read or set the real-time clock, as hwclock does, or say how right it is'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "demo" -d 'Show it all on loopback: a server, and a client half a second off'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "sim" -d 'Simulate a clock, a network and servers, and show how right the clock is'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "bench" -d 'Measure how many requests an NTP server answers, how fast, and how well it stamps'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "keygen" -d 'Make a key for a key file, as chronyc keygen does'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "generate" -d 'Write man pages or shell completions'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and not __fish_seen_subcommand_from run check convert access reload peers stat tracking sources sourcestats date variables associations nics rtc demo sim bench keygen generate help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and __fish_seen_subcommand_from rtc" -f -a "read" -d 'Print its time, to the microsecond, as hwclock -r does'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and __fish_seen_subcommand_from rtc" -f -a "write" -d 'Set it from the system clock, so that its seconds begin with the system clock\'s, as hwclock -w does'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and __fish_seen_subcommand_from rtc" -f -a "status" -d 'Show how right it is, what it gains, and who sets it'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and __fish_seen_subcommand_from generate" -f -a "man" -d 'Write the man pages into a directory'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and __fish_seen_subcommand_from generate" -f -a "links" -d 'Make links by the names of the tools that ptntp stands in for; never over a file'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and __fish_seen_subcommand_from generate" -f -a "directives" -d 'Print the table of every directive of a dialect'
complete -c ptntp -n "__fish_ptntp_using_subcommand help; and __fish_seen_subcommand_from generate" -f -a "completions" -d 'Print the completions of a shell'
