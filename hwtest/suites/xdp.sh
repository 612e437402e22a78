# Requests answered before the network stack (XDP), natively where the driver can: on veth,
# on the network cards that QEMU has, on VLANs and bonds.
#
# limit: 1200
# qemu: -netdev hubport,id=igb0,hubid=0 -device igb,netdev=igb0,mac=52:54:00:00:01:00,addr=0x8,romfile=
# qemu: -netdev hubport,id=igb1,hubid=0 -device igb,netdev=igb1,mac=52:54:00:00:01:01,addr=0xc,romfile=
# qemu: -netdev hubport,id=e0,hubid=1 -device e1000e,netdev=e0,mac=52:54:00:00:02:00,addr=0x10,romfile=
# qemu: -netdev hubport,id=e1,hubid=1 -device e1000e,netdev=e1,mac=52:54:00:00:02:01,addr=0x14,romfile=
# qemu: -netdev hubport,id=v0,hubid=2 -device virtio-net-pci,netdev=v0,mac=52:54:00:00:03:00,addr=0x4,romfile=
# qemu: -netdev hubport,id=v1,hubid=2 -device virtio-net-pci,netdev=v1,mac=52:54:00:00:03:01,addr=0x5,romfile=

. /guest/xdp.sh

veth
# Once will do, and this kernel is the quicker one in a guest.
[ "$suite" = xdp ] || bond

nics igb 52:54:00:00:01:00 52:54:00:00:01:01
answers "igb" "$nic" native xdp
tagged "igb" strips
stop_ptntp server
unpair near far

nics virtio_net 52:54:00:00:03:00 52:54:00:00:03:01
answers "virtio_net" "$nic" native xdp
tagged "virtio_net"
vlan_comes_and_goes "virtio_net"
stop_ptntp server
unpair near far

# No driver's program there.
nics e1000e 52:54:00:00:02:00 52:54:00:00:02:01
refused "e1000e" "$nic"
answers "e1000e, generic" "$nic" generic xdpgeneric
unpair near far
