"""Media formats as pure functions on bytes: RTP, RTCP, STUN, SDP and the payload descriptors of the codecs.

Nothing here reads a clock or a socket. What runs per packet is a compiled kernel; tests hold each against a plain twin.
"""
