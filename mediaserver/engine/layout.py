"""The engine's memory: this file reads as its schema.

One WORKER record a thread; it holds the addresses of that worker's tables, and every kernel reaches all else from it.
Control fills a record while it is FREE, then sends a command; from then on only the worker writes it, until it has
acknowledged the removal by the state CLOSING. Counters are plain words that control may read at any time.

Index 0 of transports, layers, feeds and subscriptions is never used, so that a zeroed link means "none".
"""

from __future__ import annotations

import numpy as np

from mediacodecs.dependency_descriptor import DD_STATE
from mediacodecs.extensions import EXTENSIONS, KINDS
from mediacodecs.frame import FRAME
from mediacodecs.missing import MISSING
from mediacodecs.reception import RECEPTION
from mediacodecs.rtcp import REPORT_BLOCK, RTCP, SENDER_INFO
from mediacodecs.rtp import RTP
from mediacodecs.stun import STUN
from mediacodecs.twcc import TWCC_STATE
from packetio.batch import PACKET_INFO, SOCKADDR
from packetio.log import ENTRY
from packetio.memory import pointer_to

MS = 1_000_000  # ns
SECOND = 1000 * MS

# States of a record
# CLOSING: the worker has let go of it, it is control's again. ENDING: it is about to, and still looks at it
FREE, OPEN, CLOSING, ENDING = 0, 1, 2, 3

# Commands, control to worker: (op, index, a, b)
(
    ADD_TRANSPORT,  # transport: answer its ICE checks from now on
    SECURE_TRANSPORT,  # transport: its SRTP contexts are in the record: media may flow
    REMOVE_TRANSPORT,  # transport, with its subscriptions, layers and their feeds. Acknowledged
    ADD_LAYER,  # layer, own feed
    REMOVE_LAYER,  # layer, with its own feed. Acknowledged: the log may be reused when no other feed reads it
    ADD_FEED,  # feed of a log that another worker writes
    REMOVE_FEED,  # feed. Acknowledged
    ADD_SUBSCRIPTION,  # subscription, parked
    REMOVE_SUBSCRIPTION,  # subscription. Acknowledged
    SET_SOURCE,  # subscription, feed (0: park), FROM_START | codec << 17 | fresh << 16 | RTX type << 8 | payload type
    SET_LAYERS,  # subscription, highest spatial layer, highest temporal layer
    SET_PAUSED,  # subscription, 0 or 1
    SET_LAG,  # subscription, lag in ns
    RESTART_ICE,  # transport: next_ufrag and next_password of the record come into force beside the old ones
    REQUEST_KEYFRAME,  # subscription
) = range(1, 16)

# Events, worker to control: (op, index, a, b, payload)
(
    DTLS,  # transport; payload: one datagram
    ICE_CONNECTED,  # transport; payload: its sockaddr. First authenticated check
    ADDRESS_CHANGED,  # transport; payload: its new sockaddr
    GOODBYE,  # transport; an authenticated BYE named all of its streams
    LAYER_STARTED,  # layer, codec constant, payload type: media begins, or begins again after a pause
    LAYER_PAUSED,  # layer: no media for LAYER_SILENCE
    SSRC_REFUSED,  # transport, SSRC: could not be identified or exceeds the bound
    SOURCE_STARTED,  # subscription, feed: its first packet from this feed was sent
    SENDS_ON,  # -, serial of a transport that has ended; payload: the sockaddr that its peer goes on sending from
) = range(1, 10)

FROM_START = 1 << 24  # of SET_SOURCE: the subscription has waited since before the media began

COMMAND = np.dtype([("op", "i8"), ("index", "i8"), ("a", "i8"), ("b", "i8")], align=True)
EVENT_PAYLOAD = 2048
EVENT = np.dtype(
    [("op", "i8"), ("index", "i8"), ("a", "i8"), ("b", "i8"), ("length", "i8"), ("payload", "u1", (EVENT_PAYLOAD,))],
    align=True,
)
RING = np.dtype(
    [("head", "i8"), ("pad0", "i8", (7,)), ("tail", "i8"), ("pad1", "i8", (7,)), ("lost", "i8"), ("pad2", "i8", (7,))],
    align=True,
)  # head: written by the producer; tail: by the consumer; the slots follow

MAX_SSRCS = 32  # SSRCs that one transport may use towards us at once, at most
GUESSED = 1 << 30  # in what an SSRC refers to: a packet with a name may still tell better
SSRC_LIVES = 8  # times that many in all: an encoder that restarts takes a new SSRC
NO_TYPE = 255  # payload type: none
ADDRESSES = 4  # addresses that one transport may hold
REMEMBERED = 64  # checks that a transport remembers: over two minutes of a browser's, one in 2.5 s for each pair
QUESTION = 384  # bytes of a binding request of ours, at most
QUESTIONS = 128  # transports of a worker whose requests are sent again when nothing comes
AUDIO, VIDEO = 1, 2

# Token buckets of a transport: `engine.buckets` has their rates, for what is told to control `engine.news`
(
    UPLINK_PACKETS,
    UPLINK_BYTES,
    CHECKS,  # authenticated binding requests that it may try
    EPOCHS,  # new epochs of its logs
    NACKED,  # sequence numbers that it may ask for again
    DTLS_RECORDS,
    PEER_NEWS,  # ADDRESS_CHANGED, GOODBYE, SSRC_REFUSED
    LAYER_NEWS,  # LAYER_STARTED, LAYER_PAUSED
    SOURCE_NEWS,  # SOURCE_STARTED
    IDENTITIES,  # searches for the layer of an SSRC that was refused, or guessed
    BUCKETS,
) = range(11)
RESENT, ASKED, RESEND_BUCKETS = range(3)  # of a subscription: bytes resent, numbers asked for
TOLD_DTLS = 16  # DTLS datagrams of one transport in the ring that control has not taken: a flight is 3 to 12
BYTE_SHIFT = 10  # WORKER.uplink_byte_pause counts 1/1024 ns

TRANSPORT = np.dtype(
    [
        ("state", "i8"),
        ("secured", "i8"),  # 1: SRTP contexts are set
        ("ufrag", "i8"),  # mediacodecs.stun.username_hash of the local ufrag
        ("password", "u1", (64,)),  # local ICE password, the key of MESSAGE-INTEGRITY
        ("password_size", "i8"),
        ("old_ufrag", "i8"),  # before the newest ICE restart; still good
        ("old_password", "u1", (64,)),
        ("old_password_size", "i8"),
        ("next_ufrag", "i8"),  # written by control before RESTART_ICE
        ("next_password", "u1", (64,)),
        ("next_password_size", "i8"),
        ("remote", "u1", (SOCKADDR + 4,)),  # sockaddr that media goes to; remote_size 0: not known yet
        ("remote_size", "i8"),
        ("packet_info", "u1", (PACKET_INFO,)),  # control message that makes replies leave from the address asked
        ("packet_info_size", "i8"),
        ("connected", "i8"),  # 1 once a check was answered
        ("last_check", "i8"),  # ns: newest authenticated binding request that was no replay
        ("last_heard", "i8"),  # ns: newest authentic thing of any kind: check, answer, SRTP, SRTCP
        ("remote_heard", "i8"),  # ns: newest one from the address that media goes to
        ("last_goodbye", "i8"),  # ns: a BYE named all streams of the peer; liveness is then judged more strictly
        # how much may be sent to `remote` (engine.paths)
        ("limited", "i8"),  # 1: it has not shown that it gets what is sent there: three times what came from it is all
        ("came", "i8"),  # bytes that came from it since it was chosen
        ("gone", "i8"),  # bytes that the worker has sent to it since
        ("gone_control", "i8"),  # bytes that control has sent while there was a limit; control alone writes this
        ("gone_before", "i8"),  # gone_control when the address was chosen
        ("starved", "i8"),  # 1: something was held back for the limit; control writes it too
        ("moves", "i8"),  # times that an address was chosen
        ("proven", "i8"),  # written by control with the keys: `moves` while it sent its flights; -1: it changed
        ("inbound", "i8"),  # libsrtp contexts
        ("outbound", "i8"),
        ("evp", "u8"),  # EVP context of AES-128-GCM; 0: libsrtp seals
        ("salt_low", "u8"),
        ("salt_high", "u4"),
        ("tag", "u4"),  # bytes that sealing adds
        ("rtcp_ssrc", "i8"),  # our SSRC in feedback
        ("kinds", "u1", (256,)),  # incoming extension id -> kind
        ("ids", "u1", (KINDS,)),  # kind -> outgoing extension id; 0: not negotiated
        ("allow_mixed", "u1"),  # 1: two-byte extension headers may be sent
        ("reduced_size", "u1"),  # 1: the peer asked for reduced-size RTCP; 0: compounds only
        ("codecs", "u1", (128,)),  # incoming payload type -> codec constant; 0: not negotiated
        ("repairs", "u1", (128,)),  # incoming RTX payload type -> its primary payload type; NO_TYPE: not RTX
        ("ssrcs", "u4", (MAX_SSRCS,)),  # SSRCs learnt from the peer
        ("ssrc_layers", "i4", (MAX_SSRCS,)),  # layer << 1 | is RTX, and GUESSED when no name told so; -1: refused
        ("ssrc_looks", "u4", (MAX_SSRCS,)),  # what the packet looked like by which that was decided (engine.identify)
        ("ssrc_count", "i8"),  # slots in use
        ("ssrc_total", "i8"),  # SSRCs ever learnt: libsrtp keeps a stream for each
        ("ssrc_limit", "i8"),
        ("rtcp_ssrcs", "u4", (128,)),  # SSRCs that the peer's RTCP comes from: libsrtp keeps a stream for each
        ("rtcp_ssrc_count", "i8"),
        ("first_layer", "i4"),
        ("first_subscription", "i4"),
        (
            "singly_until",
            "i8",
        ),  # ns: the kernel refused to cut a train on this way: until then packets leave one by one
        ("twcc", "i4"),  # index in the TWCC table; 0: no feedback is sent
        ("twcc_next", "i8"),  # next transport-wide number of outgoing packets
        ("next_report", "i8"),  # ns: receiver reports
        ("next_twcc", "i8"),
        ("rtt", "i8"),  # ns, newest from a receiver report; 0: unknown
        ("buckets", "i8", (BUCKETS,)),  # ns: when each is full again
        ("share_window", "i8"),  # in which `share_taken` was counted: see engine.buckets
        ("share_taken", "i8"),
        ("packets_in", "i8"),
        ("bytes_in", "i8"),
        ("packets_out", "i8"),
        ("bytes_out", "i8"),
        ("bad_srtp", "i8"),
        ("policed", "i8"),  # datagrams dropped before decryption: more than it may send
        ("dtls_told", "i8", (TOLD_DTLS,)),  # where in the ring its newest DTLS datagrams end
        ("dtls_count", "i8"),  # how many there were
        ("untold", "i8"),  # 1 << event: what control has still to be told
        ("serial", "i8"),  # another one for each transport of the node
        # addresses that checks came from (engine.paths); `path` is the one in `remote`, -2: another session has it
        ("path", "i8"),
        ("path_high", "i8", (ADDRESSES,)),
        ("path_low", "i8", (ADDRESSES,)),
        ("path_port", "i8", (ADDRESSES,)),
        ("path_bound", "i8", (ADDRESSES,)),  # ns: first check from it
        ("path_check", "i8", (ADDRESSES,)),  # ns: newest check from it; 0: none, the place is free
        ("path_valid", "i8", (ADDRESSES,)),  # 1: it has shown that it gets what is sent there
        # checks that were answered: transaction id and, in 32 bits, where it came from (engine.replays)
        ("check_ids", "i8", (REMEMBERED,)),
        ("check_sources", "i8", (REMEMBERED,)),
        ("check_count", "i8"),
        ("withheld", "i8"),  # checks that were not answered yet, see engine.ice
        ("withheld_id", "u1", (12,)),  # transaction id of the newest of them
        ("withheld_path", "i8"),  # one more than its path; 0: none waits for an answer
        ("withheld_old", "i8"),  # 1: it named our credentials before the newest ICE restart
        # our own binding request to one of the addresses (engine.questions)
        ("peer_password", "u1", (64,)),  # key of what the peer's end authenticates; size 0: not known
        ("peer_password_size", "i8"),
        ("old_peer_password", "u1", (64,)),
        ("old_peer_password_size", "i8"),
        ("next_peer_password", "u1", (64,)),
        ("next_peer_password_size", "i8"),
        ("calls", "i8"),  # 1: the peer is the DTLS server: our first flight has to fit into what came with a check
        ("answers", "i8"),  # 1: the peer answers requests, as full ICE agents do
        ("asked", "i8"),  # times that the peer was asked
        ("question", "u1", (QUESTION,)),  # the request
        ("question_size", "i8"),  # 0: none is out
        ("question_name", "u1", (SOCKADDR + 4,)),
        ("question_info", "u1", (PACKET_INFO,)),
        ("question_info_size", "i8"),
        ("question_path", "i8"),  # where it went
        ("question_old", "i8"),  # 1: under the credentials before the newest ICE restart
        ("question_moves", "i8"),  # 1: the peer nominated the address: media moves there with the answer
        ("question_came", "i8"),  # bytes that came from an address that media doesn't go to
        ("question_gone", "i8"),  # and that were sent there
        ("question_due", "i8"),  # ns: when it is sent again
        ("question_wait", "i8"),  # ns until the time after
        ("question_left", "i8"),  # times that it may be sent again
        ("question_listed", "i8"),  # 1: WORKER.questions has the transport
    ],
    align=True,
)

LAYER = np.dtype(
    [
        ("state", "i8"),
        ("transport", "i4"),
        ("next", "i4"),  # next layer of the transport
        ("feed", "i4"),  # this worker's own feed of the log
        ("kind", "i4"),  # AUDIO or VIDEO
        ("log", "i8"),  # base address
        ("mid", "u1", (16,)),
        ("rid", "u1", (16,)),
        ("mid_size", "i4"),
        ("rid_size", "i4"),
        ("declared_ssrc", "i8"),  # from a=ssrc; -1: none
        ("declared_rtx", "i8"),
        ("ssrc", "i8"),  # bound; -1: none yet
        ("rtx_ssrc", "i8"),
        ("codec", "i4"),  # of the newest packet; 0: nothing received
        ("payload_type", "i4"),
        ("codec_at", "i8"),  # ns: when the codec last changed
        ("other", "i8"),  # codec << 16 | sequence number that would confirm another codec; 0: none was seen
        ("clock_rate", "i8"),
        ("active", "i8"),  # 1: media is flowing
        ("told", "i8"),  # what control knows: codec << 8 | payload type while media flows, else 0
        ("started", "i8"),  # 1: positions are being counted in this epoch
        ("odd", "i8"),  # sequence number of a packet far from the rest, as RFC 3550 A.1 has it; -1: none
        ("timestamp", "i8"),  # RTP time stamp of the packet at `highest`
        ("backwards", "i8"),  # times that it was before that of the packet sent before it: B-frames
        *RECEPTION,  # counted by position, in this epoch
        *MISSING,  # positions being asked for
        ("keyframe_pending", "i8"),  # 1: a keyframe was asked for and has not come
        ("keyframe_asked", "i8"),  # ns: when last
        ("keyframe_count", "i8"),  # keyframes received
        # H.264 (engine.parameters): positions of the newest packets with …; -1: none in this epoch
        ("sps_at", "i8"),
        ("pps_at", "i8"),
        ("recovery_at", "i8"),  # … a recovery point SEI
        ("slice_at", "i8"),  # … the beginning of a picture from which decoding can't start
        ("picture_at", "i8"),  # … the beginning of one from which it can
        ("sps", "u1", (400,)),
        ("pps", "u1", (300,)),
        ("sps_size", "i8"),
        ("pps_size", "i8"),
        ("nacks_sent", "i8"),
        ("plis_sent", "i8"),
        ("recovered", "i8"),  # packets that came by RTX
        ("duplicates", "i8"),
        ("padding_only", "i8"),
        ("width", "i4"),
        ("height", "i4"),
        ("descriptor", DD_STATE),
    ],
    align=True,
)

FEED = np.dtype(
    [
        ("state", "i8"),
        ("log", "i8"),  # base address
        ("generation", "i8"),  # of the log that is meant: another worker's may be gone
        ("layer", "i4"),  # own layer; 0: another worker writes the log
        ("dirty", "i4"),  # 1: queued in the worker's list of feeds with news
        ("read", "i8"),  # journal number up to which live cursors have been served
        ("highest", "i8"),  # highest position among those
        ("epoch", "i8"),
        ("first_live", "i4"),  # subscriptions whose live cursor reads this feed
        ("first_waiting", "i4"),  # subscriptions that wait for a keyframe of this feed
        ("live_count", "i8"),
        ("owner_wake", "i4"),  # eventfd of the log's worker
        ("pad", "i4"),
        ("overrun", "i8"),  # packets that the writer overtook
    ],
    align=True,
)

PARKED, WAITING, LIVE, PACED = 0, 1, 2, 3  # SUBSCRIPTION.mode: what its cursor does
MAP_SIZE = 1024  # outgoing packets that a subscription can resend
SENT, PARAMETER_PACKET, EMPTY = 1, 2, 4  # low bits of a map word; EMPTY: what belongs there is left out
MAP_POSITION, MAP_FEED = 3, 47  # shifts of position and feed in a map word

SUBSCRIPTION = np.dtype(
    [
        ("state", "i8"),
        ("mode", "i4"),
        ("transport", "i4"),
        ("next", "i4"),  # next subscription of the transport
        ("feed", "i4"),  # feed that the cursor reads; 0: none
        ("target", "i4"),  # feed whose keyframe it waits for; 0: none
        ("live_next", "i4"),  # links of feed.first_live
        ("live_previous", "i4"),
        ("wait_next", "i4"),  # links of feed.first_waiting
        ("wait_previous", "i4"),
        ("paced_next", "i4"),  # links of the worker's paced cursors
        ("paced_previous", "i4"),
        ("kind", "i4"),
        ("paused", "i4"),
        ("clock_rate", "i8"),
        ("ssrc", "i8"),
        ("rtx_ssrc", "i8"),
        ("payload_type", "i4"),
        ("rtx_type", "i4"),  # NO_TYPE: no RTX
        ("next_type", "i4"),  # payload types of the target, taken when it starts
        ("next_rtx_type", "i4"),
        ("next_codec", "i4"),  # codec that they are for: the target must bear it
        ("fresh", "i4"),  # 1: the target is another track, its time stamps have nothing to do with the last
        ("map", "i8"),  # address of MAP_SIZE words
        # numbering: outgoing index = position - offset; indices are 64 bit and never reused
        ("highest", "i8"),  # highest position handled
        ("offset", "i8"),
        ("out_highest", "i8"),  # outgoing index of the newest packet
        ("out_start", "i8"),  # first outgoing index of the current feed
        ("out_first", "i8"),  # first of all
        ("rtx_index", "i8"),  # outgoing index of the newest RTX packet
        ("timestamp_offset", "i8"),
        ("last_timestamp", "i8"),  # outgoing, newest; -1: none
        ("last_sent", "i8"),  # ns
        ("picture_offset", "i8"),
        ("tl0_offset", "i8"),
        ("last_picture", "i8"),  # outgoing, newest; -1: none
        ("last_tl0", "i8"),
        ("max_spatial", "i4"),
        ("max_temporal", "i4"),
        ("spatial", "i4"),  # being sent
        ("temporal", "i4"),
        # paced cursor (late join, lag): reads in sequence order
        ("cursor", "i8"),  # next position
        ("lag", "i8"),  # ns
        ("squeeze_from", "i8"),  # time stamps before `squeeze_to` are pulled towards it (late join); -1: off
        ("squeeze_to", "i8"),
        ("budget", "i8"),  # bytes that the burst may still send now
        ("budget_at", "i8"),
        # reports
        ("next_report", "i8"),
        ("packets", "i8"),
        ("octets", "i8"),
        ("sr_middle", "i8"),  # of the newest sender report that was sent
        ("sr_sent", "i8"),
        ("acknowledged", "i4"),  # 1: a receiver report named the SSRC: mid need not be sent any more
        ("rtx_acknowledged", "i4"),  # the same for the RTX SSRC
        ("from_start", "i4"),  # 1: it has waited since before the target's media began
        ("mid_size", "i4"),
        ("mid", "u1", (16,)),
        ("cname", "u1", (32,)),
        ("cname_size", "i8"),
        ("lost_fraction", "i8"),  # of the newest receiver report, 1/256
        ("lost", "i8"),
        ("jitter", "i8"),
        ("nacks", "i8"),
        ("resent", "i8"),
        ("unanswered", "i8"),  # NACKed packets that could not be resent
        ("plis", "i8"),
        ("dropped", "i8"),  # packets left out: padding, layers
        ("buckets", "i8", (RESEND_BUCKETS,)),  # ns: when each is full again
        ("untold", "i8"),  # 1: SOURCE_STARTED has still to be told
    ],
    align=True,
)

ADDRESS = np.dtype([("high", "i8"), ("low", "i8"), ("port", "i8"), ("transport", "i8")], align=True)
UFRAG = np.dtype([("hash", "i8"), ("transport", "i8")], align=True)

ENDED = np.dtype(
    [
        ("high", "i8"),
        ("low", "i8"),
        ("port", "i8"),
        ("serial", "i8"),  # of the transport; 0: nothing here
        ("since", "i8"),  # ns: when it ended
        ("heard", "i8"),  # ns: when something last came from there
        ("packets", "i8"),  # that have come since
    ],
    align=True,
)  # an address of a transport that has ended
ENDED_SLOTS = 256  # that a worker remembers, at most

PACKET = np.dtype(
    [
        ("position", "i8"),
        ("arrival", "i8"),
        ("timestamp", "i8"),
        ("payload", "i8"),  # address of the payload in the log
        ("start", "i8"),  # address of the whole packet in the log
        ("log", "i8"),
        ("length", "i8"),  # payload bytes
        ("want", "i8"),  # payload bytes with the padding that evens out the train
        ("marks", "i8"),
        ("entry", ENTRY),
    ],
    align=True,
)  # one packet of the run that is being forwarded
RUN = 48  # packets in a run at most: a train must stay under 64 segments and 64 KB

LATENCY_BUCKETS = 48  # half octaves from 1 µs

WORKER = np.dtype(
    [
        ("index", "i8"),
        ("stop", "i8"),
        ("now", "i8"),  # ns, CLOCK_MONOTONIC, taken once a round
        ("awake_since", "i8"),  # ns: when the thread last went on after it had stood still
        ("realtime", "i8"),  # ns, CLOCK_REALTIME - CLOCK_MONOTONIC
        ("fd", "i8"),
        ("wake", "i8"),  # eventfd that wakes this worker
        ("control_wake", "i8"),  # eventfd that wakes control
        ("ipv6", "i8"),  # 1: the socket is AF_INET6
        # addresses of tables
        ("transports", "i8"),
        ("layers", "i8"),
        ("feeds", "i8"),
        ("subscriptions", "i8"),
        ("twccs", "i8"),
        ("addresses", "i8"),
        ("ufrags", "i8"),
        ("ended", "i8"),  # ENDED × ENDED_SLOTS
        ("commands", "i8"),  # RING, then COMMAND × command_slots
        ("events", "i8"),  # RING, then EVENT × event_slots
        ("packets", "i8"),  # PACKET × RUN
        ("dirty", "i8"),  # i8 × feed_count: feeds with news
        ("worker_wakes", "i8"),  # i8 × 2 × 64: eventfd of each worker, then the address of each one's news
        ("news", "i8"),  # a bit for each feed: set by the worker that wrote to the log, taken by this one
        ("resends", "i8"),  # u4 × MAP_SIZE × subscription_count: ms at which each outgoing number was resent
        # counts
        ("transport_count", "i8"),
        ("layer_count", "i8"),
        ("feed_count", "i8"),
        ("subscription_count", "i8"),
        ("transport_used", "i8"),  # one more than the highest index ever in use
        ("layer_used", "i8"),
        ("feed_used", "i8"),
        ("subscription_used", "i8"),
        ("address_slots", "i8"),  # powers of two
        ("ufrag_slots", "i8"),
        ("command_slots", "i8"),
        ("event_slots", "i8"),
        ("dirty_count", "i8"),
        ("first_paced", "i8"),  # list of paced cursors
        ("foreign_feeds", "i8"),  # feeds of other workers' logs in use
        # receive slots (packetio.batch)
        ("slots", "i8"),
        ("messages", "i8"),
        ("data", "i8"),
        ("names", "i8"),
        ("controls", "i8"),
        # send queue (packetio.batch)
        ("out_count", "i8"),
        ("out_size", "i8"),
        ("out_messages", "i8"),
        ("out_vectors", "i8"),
        ("out_controls", "i8"),
        ("arena", "i8"),
        ("queued", "i8"),
        ("queued_bytes", "i8"),
        ("queued_packets", "i8"),
        ("out_segments", "i8"),  # i8 × out_count: packets in each message
        ("out_arrivals", "i8"),  # i8 × out_count: arrival of each message's first packet, 0: none
        # scratch
        ("sealer", "i8"),
        ("prefix_size", "i8"),  # the payload being sealed: prefix at `scratch`, then body, then padding
        ("body", "i8"),
        ("body_size", "i8"),
        ("padding", "i8"),
        ("scratch", "i8"),  # 5120 bytes
        ("empties", "i8", (2 * RUN,)),  # numbers that leave without payload after the run, each with its time stamp
        ("empty_count", "i8"),
        ("rtp", RTP),
        ("extensions", EXTENSIONS),
        ("frame", FRAME),
        ("draft", ENTRY),
        ("rtcp", RTCP),
        ("sender_info", SENDER_INFO),
        ("report", REPORT_BLOCK),
        ("stun", STUN),
        ("words", "i8", (16,)),
        ("poll", "i8", (4,)),  # struct pollfd × 2
        ("timeout", "i8", (2,)),  # struct timespec
        ("sha1", "u1", (32,)),
        ("question_key", "u1", (32,)),  # what our transaction ids are made with: nobody can guess them
        ("question_count", "i8", (1,)),
        ("questions", "i4", (QUESTIONS,)),  # transports that wait for an answer
        ("questions_listed", "i8"),
        # settings
        ("gso", "i8"),
        ("linger", "i8"),  # ns to wait before a round
        ("send_wait", "i8"),  # ns that one flush may wait for room in the socket
        ("keyframe_age", "i8"),  # ns: a younger keyframe in the log starts a late joiner
        ("keyframe_interval", "i8"),  # ns between keyframe requests to one layer
        ("burst", "i8"),  # bytes that a late join may send at once
        ("burst_rate", "i8"),  # bytes a second after that
        ("uplink_packet_pause", "i8"),  # ns between two packets of a peer, in the long run
        ("uplink_byte_pause", "i8"),  # the same for bytes, in 1/1024 ns
        # overload: see engine.buckets
        ("media_taken", "i8"),  # datagrams of media and RTCP that this round has admitted
        ("behind_since", "i8"),  # ns: the first of the rounds in a row that left datagrams in the socket
        ("behind_rounds", "i8"),  # how many there were
        ("crowded", "i8"),  # 1: each peer has a share
        ("share", "i8"),  # datagrams of a window
        ("share_changed", "i8"),  # ns
        ("nack_room", "i8"),  # sequence numbers that the present datagram may still ask for
        ("untold", "i8"),  # 1: some record is marked as untold
        ("next_tick", "i8"),
        ("next_paced", "i8"),
        ("tick", "i8"),  # ticks so far
        ("idle", "i8"),  # ns spent waiting
        ("worker_count", "i8"),
        ("flush_left", "i8"),  # ns that this flush may still wait
        ("patience", "i8"),  # ns that flushes may still wait in a row; grows back
        ("patience_at", "i8"),
        ("random", "u8"),
        # counters
        ("received", "i8"),
        ("received_bytes", "i8"),
        ("forwarded", "i8"),
        ("forwarded_bytes", "i8"),
        ("rounds", "i8"),
        ("waits", "i8"),
        ("trains", "i8"),
        ("sends", "i8"),
        ("send_waits", "i8"),  # times that a full socket was waited for
        ("send_waited", "i8"),  # ns
        ("padded", "i8"),
        ("stun_in", "i8"),
        ("dtls_in", "i8"),
        ("rtcp_in", "i8"),
        ("nack_in", "i8"),  # NACKed sequence numbers from subscribers
        ("nack_out", "i8"),
        ("rtx_in", "i8"),
        ("rtx_out", "i8"),
        ("pli_in", "i8"),
        ("pli_out", "i8"),
        ("twcc_out", "i8"),
        ("keyframe_starts", "i8"),  # late joins served from the log
        ("drop_truncated", "i8"),
        ("drop_unknown", "i8"),  # from an address that no transport has
        ("drop_ended", "i8"),  # from a peer whose session has ended
        ("drop_stun", "i8"),  # malformed, not authentic, unknown ufrag, replayed, or from another session's address
        ("drop_unproven", "i8"),  # to an address that has not shown that it is the peer's
        ("drop_garbage", "i8"),  # not STUN, DTLS or RTP, or malformed
        ("drop_srtp", "i8"),  # authentication failed or replayed
        ("drop_ssrc", "i8"),
        ("drop_payload", "i8"),  # payload type not negotiated
        ("drop_duplicate", "i8"),
        ("drop_event", "i8"),  # event ring full
        ("drop_uplink", "i8"),  # more than the peer may send
        ("drop_epoch", "i8"),  # would have begun one epoch too many
        ("drop_dtls", "i8"),  # more than the peer's handshake needs
        ("drop_send", "i8"),  # the kernel refused to send
        ("drop_overrun", "i8"),  # overtaken by the writer of a log
        ("gso_refused", "i8"),
        ("latency", "i8", (LATENCY_BUCKETS,)),
        ("latency_sum", "i8"),  # ns
        ("latency_max", "i8"),
    ],
    align=True,
)

worker_at = pointer_to(WORKER)
transport_at = pointer_to(TRANSPORT)
layer_at = pointer_to(LAYER)
feed_at = pointer_to(FEED)
subscription_at = pointer_to(SUBSCRIPTION)
twcc_at = pointer_to(TWCC_STATE)
address_at = pointer_to(ADDRESS)
ufrag_at = pointer_to(UFRAG)
ended_at = pointer_to(ENDED)
packet_at = pointer_to(PACKET)
ring_at = pointer_to(RING)
command_at = pointer_to(COMMAND)
event_at = pointer_to(EVENT)
