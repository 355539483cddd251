"""What everything that moves packets shares: the packet log, atomics, batched sockets, SRTP contexts and DTLS."""
