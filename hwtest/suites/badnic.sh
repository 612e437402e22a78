# NICs that QEMU has and that are bad: igb, which gives no receive stamps and whose clock
# jumps with each change of its frequency, and e1000e, which promises stamps and gives
# none, and whose clock runs 2.5 times too fast. Here the badness itself is shown, by our
# own programs, so that what a suite of ptntp sees is known to come from it.
#
# qemu: -netdev hubport,id=igb0,hubid=0 -device igb,netdev=igb0,mac=52:54:00:00:01:00,addr=0x8,romfile=
# qemu: -netdev hubport,id=igb1,hubid=0 -device igb,netdev=igb1,mac=52:54:00:00:01:01,addr=0xc,romfile=
# qemu: -netdev hubport,id=e0,hubid=1 -device e1000e,netdev=e0,mac=52:54:00:00:02:00,addr=0x10,romfile=
# qemu: -netdev hubport,id=e1,hubid=1 -device e1000e,netdev=e1,mac=52:54:00:00:02:01,addr=0x14,romfile=

# probe NIC: 5 packets, to the port of PTP, from near to far and back; says what stamps near got.
probe() { on near hwstamp "$1" probe 10.0.0.2 319 5 >probe.out && tail -n 1 probe.out; }

# begin NIC_NEAR NIC_FAR: stamping is on, and what is sent to far comes back.
begin() {
    netns_pair near far "$1" "$2"
    start_on far echo.log hwstamp "$2" echo 319
    phc=$(phc_of near "$1")
}

end() {
    kill $started
    unpair near far
}

offset_of() { phc "$phc" read | cut -d ' ' -f 2; }

igb() {
    local near far before
    modprobe igb
    near=$(nic_with 52:54:00:00:01:00)
    far=$(nic_with 52:54:00:00:01:01)
    begin "$near" "$far"
    check "igb: it promises to stamp PTP packets" equal "$(on near hwstamp "$near" caps | cut -d ' ' -f 1-2)" "tx=0x3 rx=0x1031"
    check "igb: and switches it on" equal "$(on near hwstamp "$near" set 1 12)" "tx=1 rx=12"
    probe "$near" >/dev/null
    check "igb: transmit stamps come, receive stamps don't" equal "$(probe "$near")" "tx=5 tx_sw=5 tx_hw=5 rx=5 rx_sw=5 rx_hw=0"
    check "igb: its clock can be read" phc "$phc" read
    phc "$phc" set 0
    phc "$phc" freq 1000
    before=$(offset_of)
    phc "$phc" freq -1000
    check "igb: a change of frequency makes its clock jump, by seconds" jumped $(($(offset_of) - before))
    end
}

jumped() { between "${1#-}" 1000000000 100000000000000; }

e1000e() {
    local near far
    modprobe e1000e
    near=$(nic_with 52:54:00:00:02:00)
    far=$(nic_with 52:54:00:00:02:01)
    begin "$near" "$far"
    check "e1000e: it promises to stamp all" equal "$(on near hwstamp "$near" caps | cut -d ' ' -f 1)" "tx=0x3"
    check "e1000e: and switches it on" on near hwstamp "$near" set 1 1
    probe "$near" >/dev/null
    check "e1000e: no stamp of hardware comes" equal "$(probe "$near" | sed 's/tx_sw=[0-9]* //')" "tx=5 tx_hw=0 rx=5 rx_sw=5 rx_hw=0"
    check "e1000e: its clock runs 2.5 times too fast" between "$(phc "$phc" rate 2)" 1400000000 1600000000
    end
}

igb
e1000e
