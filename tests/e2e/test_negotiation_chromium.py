"""Real peers accept our answers: Chromium and aiortc, as publishers and as subscribers, for every codec."""

from __future__ import annotations

import http.server
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiortc import RTCPeerConnection, RTCSessionDescription
from playwright.async_api import Page, async_playwright

from mediacodecs.frame import AV1, H264, VP8, VP9
from mediaserver.signalling.negotiation import (
    LocalTrack,
    LocalTransport,
    SubscriberOffer,
    answer_publisher,
    answer_subscriber,
    read_publisher_offer,
    read_subscriber_offer,
)
from tests.e2e.browser import FLAGS

pytestmark = pytest.mark.asyncio(loop_scope="module")
LOCAL = LocalTransport("localufrag", "p" * 24, ":".join(["AB"] * 32), [("127.0.0.1", 9), ("::1", 9)])
CODECS = {"VP8": VP8, "VP9": VP9, "H264": H264, "AV1": AV1}
OFFER_TO_SEND = """async ([codec, rids, data]) => {
  const pc = window.pc = new RTCPeerConnection();
  const stream = await navigator.mediaDevices.getUserMedia({audio: true, video: {width: 1280, height: 720}});
  pc.addTransceiver(stream.getAudioTracks()[0], {direction: 'sendonly', streams: [stream]});
  const sendEncodings = rids.map((rid, i) => ({rid, scaleResolutionDownBy: 2 ** (rids.length - 1 - i)}));
  const options = {direction: 'sendonly', streams: [stream], sendEncodings};
  const video = pc.addTransceiver(stream.getVideoTracks()[0], options);
  const all = RTCRtpSender.getCapabilities('video').codecs;
  const first = all.filter(c => c.mimeType === 'video/' + codec);
  video.setCodecPreferences(first.concat(all.filter(c => !first.includes(c))));
  if (data) pc.createDataChannel('chat');
  await pc.setLocalDescription();
  return pc.localDescription.sdp;
}"""
OFFER_TO_RECEIVE = """async () => {
  const pc = window.pc = new RTCPeerConnection();
  window.streams = [];
  pc.ontrack = e => window.streams.push(e.streams[0].id);
  pc.addTransceiver('audio', {direction: 'recvonly'});
  pc.addTransceiver('video', {direction: 'recvonly'});
  await pc.setLocalDescription();
  return pc.localDescription.sdp;
}"""
TAKE_ANSWER = """async sdp => {
  await pc.setRemoteDescription({type: 'answer', sdp});
  const parameters = pc.getTransceivers().map(t => t.direction === 'sendonly' ? t.sender.getParameters()
                                                                              : t.receiver.getParameters());
  const found = {
    state: pc.signalingState,
    directions: pc.getTransceivers().map(t => t.currentDirection),
    codecs: parameters.map(p => p.codecs.map(c => c.mimeType)),
    extensions: parameters.map(p => p.headerExtensions.map(e => e.uri)),
    rids: (parameters[1].encodings || []).map(e => e.rid || null),
    streams: window.streams || [],
  };
  pc.close();
  return found;
}"""


class BlankPage(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>offers</title>")

    def log_message(self, format: str, *args: object) -> None:
        """Keep test output clean."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page() -> AsyncIterator[Page]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), BlankPage)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = await browser.new_page()
        await page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        yield page
        await browser.close()
    server.shutdown()
    thread.join()
    server.server_close()


def tracks_for(offer: SubscriberOffer) -> list[LocalTrack]:
    return [LocalTrack(m.mid, 100 + m.index, 200 + m.index, "someone", "stream", m.kind) for m in offer.media]


@pytest.mark.parametrize("rids", [[], ["low", "high"], ["q", "h", "f"]], ids=["single", "two-layers", "three-layers"])
@pytest.mark.parametrize("codec", list(CODECS))
async def test_chromium_takes_the_answer_to_its_publishing_offer(page: Page, codec: str, rids: list[str]) -> None:
    offer = read_publisher_offer(await page.evaluate(OFFER_TO_SEND, [codec, rids, False]))
    video = offer.media[1]
    assert video.codecs[0].codec == CODECS[codec]
    found = await page.evaluate(TAKE_ANSWER, answer_publisher(offer, LOCAL))
    assert found["state"] == "stable" and found["directions"] == ["sendonly", "sendonly"]
    assert found["codecs"][1][:2] == [f"video/{codec}", "video/rtx"]
    assert found["rids"] == (rids or [None])
    assert len(found["extensions"][1]) == len(video.extensions)


async def test_chromium_takes_the_refusal_of_its_data_channel(page: Page) -> None:
    offer = read_publisher_offer(await page.evaluate(OFFER_TO_SEND, ["VP8", [], True]))
    found = await page.evaluate(TAKE_ANSWER, answer_publisher(offer, LOCAL))
    assert found["state"] == "stable"


async def test_chromium_takes_the_answer_to_its_watching_offer(page: Page) -> None:
    offer = read_subscriber_offer(await page.evaluate(OFFER_TO_RECEIVE))
    found = await page.evaluate(TAKE_ANSWER, answer_subscriber(offer, LOCAL, tracks_for(offer)))
    assert found["state"] == "stable" and found["directions"] == ["recvonly", "recvonly"]
    assert found["streams"] == ["stream", "stream"]
    assert {f"video/{name}" for name in CODECS} <= set(found["codecs"][1])


@pytest.mark.parametrize("codec", list(CODECS))
async def test_chromium_takes_an_answer_cut_down_to_one_codec(page: Page, codec: str) -> None:
    offer: Any = read_subscriber_offer(await page.evaluate(OFFER_TO_RECEIVE))
    offer.media[1].codecs[:] = [c for c in offer.media[1].codecs if c.codec == CODECS[codec]]
    found = await page.evaluate(TAKE_ANSWER, answer_subscriber(offer, LOCAL, tracks_for(offer)))
    assert found["state"] == "stable" and found["directions"] == ["recvonly", "recvonly"]


@pytest.mark.parametrize("direction", ["sendonly", "sendrecv"])
async def test_aiortc_takes_the_answer_to_its_publishing_offer(direction: str) -> None:
    pc = RTCPeerConnection()
    pc.addTransceiver("audio", direction=direction)
    pc.addTransceiver("video", direction=direction)
    await pc.setLocalDescription(await pc.createOffer())
    answer = answer_publisher(read_publisher_offer(pc.localDescription.sdp), LOCAL)
    await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    assert pc.signalingState == "stable"
    assert [t.currentDirection for t in pc.getTransceivers()] == ["sendonly", "sendonly"]
    await pc.close()


async def test_aiortc_takes_the_answer_to_its_watching_offer() -> None:
    pc = RTCPeerConnection()
    pc.addTransceiver("audio", direction="recvonly")
    pc.addTransceiver("video", direction="recvonly")
    await pc.setLocalDescription(await pc.createOffer())
    offer = read_subscriber_offer(pc.localDescription.sdp)
    await pc.setRemoteDescription(RTCSessionDescription(answer_subscriber(offer, LOCAL, tracks_for(offer)), "answer"))
    assert [t.currentDirection for t in pc.getTransceivers()] == ["recvonly", "recvonly"]
    await pc.close()
