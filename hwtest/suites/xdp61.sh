# The suite xdp, and so io_uring too, on the oldest kernel that can; and a bond.
#
# as: xdp
# kernel: 6.1

. /suites/xdp.sh
