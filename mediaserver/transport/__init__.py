"""One ICE + DTLS peer on the control side: handshake, keys, liveness."""
