"""A client's way to a server: the SDP it offers, ICE and DTLS on asyncio, and the addresses it may send to."""
