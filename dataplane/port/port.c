// What all ports share: the names of their counters.
#include "port.h"

const char *port_counter_name(enum port_counter counter) {
    static const char *const names[PORT_COUNTERS] = {
        [PORT_COUNT_RX_PACKETS] = "rx_packets",
        [PORT_COUNT_RX_BYTES] = "rx_bytes",
        [PORT_COUNT_TX_PACKETS] = "tx_packets",
        [PORT_COUNT_TX_BYTES] = "tx_bytes",
        [PORT_COUNT_RX_DROP_SHORT] = "rx_drop_short",
        [PORT_COUNT_RX_DROP_OVERSIZE] = "rx_drop_oversize",
        [PORT_COUNT_RX_DROP_CHECKSUM] = "rx_drop_checksum",
        [PORT_COUNT_RX_DROP_FRAGMENT] = "rx_drop_fragment",
        [PORT_COUNT_RX_DROP_OTHER] = "rx_drop_other",
        [PORT_COUNT_RX_DROP_OVERRUN] = "rx_drop_overrun",
        [PORT_COUNT_TX_DROP_FULL] = "tx_drop_full",
        [PORT_COUNT_TX_DROP_UNRESOLVED] = "tx_drop_unresolved",
        [PORT_COUNT_TX_ERRORS] = "tx_errors",
        [PORT_COUNT_ARP_REQUESTS] = "arp_requests",
        [PORT_COUNT_ARP_SENT] = "arp_sent",
        [PORT_COUNT_ICMP_ECHO] = "icmp_echo",
        [PORT_COUNT_RX_ERRORS] = "rx_errors",
    };
    if ((unsigned)counter >= PORT_COUNTERS) return "unknown";
    return names[counter];
}
