"""GStreamer's webrtcbin as WHIP publisher and WHEP viewer.

`/usr/bin/python3 gstreamer_peer.py publish|watch URL CODEC` runs on Debian's own Python, which has GStreamer's
bindings. It tells what it sees in the lines that foreign.py reads. Its ICE is libnice: the 0.1.21 of Debian 12 sends no
consent checks (RFC 7675), nothing but media and its reports. CODEC is vp8, vp9 or h264; `--no-audio`, `--bframes N`
and `--profile NAME` change what is sent.
"""

import argparse
import json
import signal
import sys
import urllib.error
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402  # after the versions are chosen

SIZE = "video/x-raw,width=320,height=180,framerate=25/1"
LIBVPX = "deadline=1 cpu-used=8 target-bitrate=300000 keyframe-max-dist=100"
PUBLISHED = {  # encoder and payloader
    "vp8": f"vp8enc {LIBVPX} ! rtpvp8pay picture-id-mode=15-bit",
    "vp9": f"vp9enc {LIBVPX} ! rtpvp9pay picture-id-mode=15-bit",
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast bitrate=300 key-int-max=100 bframes={bframes} "
    "! video/x-h264,profile={profile} ! rtph264pay config-interval=-1",
}
TONE = "audiotestsrc is-live=true freq=440 volume=0.3 ! audioconvert ! audio/x-raw,channels=2"
SOUND = f"{TONE} ! queue ! opusenc ! rtpopuspay"
PAYLOADS = {"VP8": 96, "VP9": 98, "H264": 102, "OPUS": 111}
DECODED = {
    "VP8": "rtpvp8depay ! vp8dec",
    "VP9": "rtpvp9depay ! vp9dec",
    "H264": "rtph264depay ! h264parse ! avdec_h264",
    "OPUS": "rtpopusdepay ! opusdec",
}
H264_FORM = ",packetization-mode=(string)1,profile-level-id=(string)42e01f"
FEEDBACK = ",rtcp-fb-nack=(boolean)true,rtcp-fb-nack-pli=(boolean)true"


def tell(event: str, **values: object) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


def caps(name: str) -> str:
    """What a viewer offers to take."""
    kind, rate = ("audio", 48000) if name == "OPUS" else ("video", 90000)
    form = (H264_FORM if name == "H264" else "") + (FEEDBACK if kind == "video" else "")
    return f"application/x-rtp,media={kind},encoding-name={name},payload={PAYLOADS[name]},clock-rate={rate}{form}"


class Peer:
    """One session and its pipeline."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.location, self.loop = options, "", GLib.MainLoop()
        self.figures: dict[str, dict[str, int]] = {}
        self.kept: list[object] = []  # the bindings free what nobody holds, while webrtcbin still uses it
        self.pipeline = Gst.parse_launch(f"pipeline. ( {self.described()} )")
        self.bin = self.pipeline.get_by_name("peer")
        if self.options.address:  # libnice leaves loopback out
            agent = self.bin.get_property("ice-agent")
            agent.emit("add-local-ip-address", self.options.address)
            self.kept.append(agent)
        self.bin.connect("notify::connection-state", self.changed)
        self.bin.connect("notify::ice-gathering-state", self.gathered)
        self.bin.connect("on-negotiation-needed", self.offer)
        self.bin.connect("pad-added", self.added)
        self.pipeline.get_bus().add_signal_watch()
        self.pipeline.get_bus().connect("message::error", self.failed)

    def described(self) -> str:
        """The pipeline: sources that go into webrtcbin, or webrtcbin alone."""
        text = "webrtcbin name=peer bundle-policy=max-bundle"
        if self.options.what == "watch":
            return text
        name = self.options.codec.upper()
        encoder = PUBLISHED[self.options.codec].format(bframes=self.options.bframes, profile=self.options.profile)
        rtp = f"application/x-rtp,media=video,encoding-name={name},payload={PAYLOADS[name]}"
        text += f" videotestsrc is-live=true pattern=ball ! {SIZE} ! queue ! {encoder} mtu=1200 ! {rtp} ! peer."
        if not self.options.no_audio:
            text += f" {SOUND} ! application/x-rtp,media=audio,encoding-name=OPUS,payload=111 ! peer."
        return text

    def start(self) -> None:
        """Say what is sent or wanted, and run."""
        directions = GstWebRTC.WebRTCRTPTransceiverDirection
        if self.options.what == "watch":
            for name in ("OPUS", self.options.codec.upper()):
                transceiver = self.bin.emit("add-transceiver", directions.RECVONLY, Gst.Caps.from_string(caps(name)))
                transceiver.set_property("do-nack", True)
                self.kept.append(transceiver)
        for number in range(1 if self.options.no_audio else 2):
            transceiver = self.bin.emit("get-transceiver", number)
            if self.options.what == "publish":
                transceiver.set_property("direction", directions.SENDONLY)
                transceiver.set_property("do-nack", True)
            self.kept.append(transceiver)
        self.pipeline.set_state(Gst.State.PLAYING)

    def offer(self, *_: object) -> None:
        self.bin.emit("create-offer", None, Gst.Promise.new_with_change_func(self.offered, None))

    def offered(self, promise: Gst.Promise, _: object) -> None:
        reply = promise.get_reply()
        offer = reply.get_value("offer")
        self.kept += [reply, offer]
        text = offer.sdp.as_text()
        self.bin.emit("set-local-description", self.description(GstWebRTC.WebRTCSDPType.OFFER, text), None)

    def description(self, kind: object, text: str) -> object:
        _, message = GstSdp.SDPMessage.new_from_text(text)
        description = GstWebRTC.WebRTCSessionDescription.new(kind, message)
        self.kept += [message, description]
        return description

    def gathered(self, *_: object) -> None:
        """All candidates are in the offer: it can go."""
        complete = GstWebRTC.WebRTCICEGatheringState.COMPLETE
        if self.bin.get_property("ice-gathering-state") == complete and not self.location:
            self.post(self.bin.get_property("local-description").sdp.as_text())

    def post(self, sdp: str) -> None:
        if self.options.sdp:
            print(sdp, flush=True)
        request = urllib.request.Request(self.options.url, sdp.encode(), {"Content-Type": "application/sdp"})
        try:
            with urllib.request.urlopen(request) as response:
                self.location = urllib.parse.urljoin(self.options.url, response.headers["Location"])
                answer = response.read().decode()
        except urllib.error.HTTPError as error:
            tell("refused", status=error.code, text=error.read().decode())
            GLib.idle_add(self.loop.quit)
            return
        if self.options.sdp:
            print(answer, flush=True)
        self.bin.emit("set-remote-description", self.description(GstWebRTC.WebRTCSDPType.ANSWER, answer), None)
        tell("answered")

    def changed(self, *_: object) -> None:
        tell("state", state=self.bin.get_property("connection-state").value_nick)

    def added(self, _: object, pad: Gst.Pad) -> None:
        """A stream comes in: decode it and count."""
        if pad.direction != Gst.PadDirection.SRC:
            return
        form = pad.get_current_caps().get_structure(0)
        kind, name = form.get_string("media"), form.get_string("encoding-name")
        sink = f"queue ! {DECODED[name]} ! fakesink name=sink sync=false signal-handoffs=true"
        branch = Gst.parse_bin_from_description(sink, True)
        self.pipeline.add(branch)
        branch.sync_state_with_parent()
        found = self.figures.setdefault(kind, {"frames": 0, "packets": 0})

        def handoff(_: object, buffer: Gst.Buffer, pad: Gst.Pad) -> None:
            found["frames"] += 1
            found["packets"] += 1  # of sound: a buffer is a packet
            shape = pad.get_current_caps().get_structure(0)
            if kind == "video":
                found["width"], found["height"] = shape.get_value("width"), shape.get_value("height")

        branch.get_by_name("sink").connect("handoff", handoff)
        pad.link(branch.get_static_pad("sink"))

    def measure(self) -> bool:
        """Twice a second: the figures, of a publisher those of its sending side."""
        if self.options.what == "watch":
            tell("figures", **self.figures)
        else:
            self.bin.emit("get-stats", None, Gst.Promise.new_with_change_func(self.measured, None))
        return True

    def measured(self, promise: Gst.Promise, _: object) -> None:
        reply, found = promise.get_reply(), {"video": {}, "audio": {}}
        for number in range(reply.n_fields()):
            value = reply.get_value(reply.nth_field_name(number))
            if not isinstance(value, Gst.Structure) or not value.get_name().startswith("outbound-rtp"):
                continue
            rate = value.get_value("clock-rate") if value.has_field("clock-rate") else 0
            kind = found["audio" if rate == 48000 else "video"]
            for name, key in (("packets", "packets-sent"), ("pli", "pli-count"), ("nack", "nack-count")):
                if value.has_field(key):
                    kind[name] = kind.get(name, 0) + value.get_value(key)
        tell("figures", **found)

    def failed(self, _: object, message: Gst.Message) -> None:
        print(message.parse_error(), flush=True)
        self.loop.quit()

    def stop(self) -> bool:
        self.loop.quit()
        return False

    def leave(self) -> None:
        """End the session, then the pipeline."""
        if self.location:
            request = urllib.request.Request(self.location, method="DELETE")
            try:
                urllib.request.urlopen(request).close()
            except urllib.error.HTTPError as error:
                print("DELETE:", error.code, flush=True)
        self.pipeline.set_state(Gst.State.NULL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["publish", "watch"])
    parser.add_argument("url")
    parser.add_argument("codec", choices=sorted(PUBLISHED))
    parser.add_argument("--address", help="the address to send from; by default those of all interfaces but loopback")
    parser.add_argument("--no-audio", action="store_true")
    parser.add_argument("--bframes", type=int, default=0)
    parser.add_argument("--profile", default="constrained-baseline")
    parser.add_argument("--sdp", action="store_true", help="print offer and answer")
    Gst.init(None)
    peer = Peer(parser.parse_args())
    tell("version", text=Gst.version_string())
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGTERM, peer.stop)
    GLib.timeout_add(500, peer.measure)
    peer.start()
    peer.loop.run()
    peer.leave()
    return 0 if peer.location else 1


if __name__ == "__main__":
    sys.exit(main())
