"""The page for somebody who watches: who is on air, everyone with one press, and what is missing, in words."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import jwt
import pytest
from playwright.async_api import Locator, Route, expect

from tests.e2e.browser import Tab, Tabs
from tests.e2e.node import KEY, SECRET, Node
from tests.e2e.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60, func_only=True)]
SLOW = 20_000  # ms for what another process has to do, on a busy machine
# A viewer that takes no video codec but those of which a condition in JavaScript is true.
ONLY = """
const add = RTCPeerConnection.prototype.addTransceiver;
RTCPeerConnection.prototype.addTransceiver = function (kind, init) {
  const made = add.call(this, kind, init);
  if (kind === 'video') {
    const all = RTCRtpReceiver.getCapabilities('video').codecs;
    made.setCodecPreferences(all.filter(({mimeType, sdpFmtpLine = ''}) => CONDITION));
  }
  return made;
};
"""
ONLY_VP8 = ONLY.replace("CONDITION", "mimeType === 'video/VP8'")
ONLY_MODE_0 = ONLY.replace("CONDITION", "mimeType === 'video/H264' && sdpFmtpLine.includes('packetization-mode=0')")
# An iPhone: the volume is the phone's, and there is no picture in picture of this kind.
POOR = """
Object.defineProperty(HTMLMediaElement.prototype, 'volume', {get: () => 1, set: () => {}});
Object.defineProperty(document, 'pictureInPictureEnabled', {get: () => false});
"""
# Texts of the page that are cut off where they stand, as "selector: text".
CUT = """selectors => selectors.flatMap(selector => [...document.querySelectorAll(selector)]
  .filter(e => e.offsetParent && (e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 3))
  .map(e => selector + ': ' + e.textContent))"""

# Figures as long as they come, in the tile that is there: what of them is seen on one line each.
LONG_FIGURES = """() => {
  const kind = {bufferDelay: 190, decodeDelay: 10, loss: 100, framesDecoded: 9, layers: []};
  const video = {...kind, frameWidth: 1920, frameHeight: 1080, framesPerSecond: 120};
  const {tile} = weir.watchers[0];
  tile.setFigures({video, audio: {...kind, bitrate: 510_000}, rtt: 10, bitrate: 12_500_000}, {lag: 3000});
  return [...tile.root.querySelectorAll('.figures dd')]
    .filter(dd => dd.offsetHeight < 2 * parseFloat(getComputedStyle(dd).fontSize)).map(dd => dd.textContent);
}"""


# What a tile shows of three readings of a connection that receives 8 kbit of each kind every second.
READINGS = """async () => {
  const load = name => import(new URL(name, document.baseURI));
  const [{Meter}, {Tile}] = await Promise.all([load('session/stats.js'), load('view/tile.js')]);
  let second = 0;
  const stat = kind => [kind, {id: kind, type: 'inbound-rtp', kind, timestamp: 1000 * second,
    bytesReceived: 1000 * second, framesDecoded: 25 * second, packetsReceived: 50 * second}];
  const meter = new Meter({getStats: async () => new Map(['video', 'audio'].map(stat))});
  const tile = new Tile(document.createElement('div'), {name: 'ann'});
  const shown = [];
  for (second = 1; second < 4; second++) {
    tile.setFigures(await meter.read(), {});
    const rows = [...tile.root.querySelectorAll('.figures div')].map(row => [...row.children].map(e => e.textContent));
    shown.push(Object.fromEntries(rows));
  }
  return [shown, tile.find('.spark polyline').getAttribute('points').split(' ').length];
}"""

# Thirty people on air: how many tiles are there after each of four looks, and how many people don't fit.
LOOKS = """async () => {
  const {Everyone} = await import(new URL('everyone.js', document.baseURI));
  let begun = 0;
  const watch = options => (begun++, {options, leftAt: null});
  const everyone = new Everyone({watch, isOwn: (room, identity) => identity === 'me'});
  const participants = [...Array(30).keys()].map(i => ({identity: `p${i}`}));
  everyone.start('full');
  return [1, 2, 3, 4].map(() => {
    everyone.see([{name: 'full', participants: [{identity: 'me'}, ...participants]}]);
    return [begun, everyone.left];
  });
}"""
# Collects in `begun` how many tiles the page makes in one go.
BEGUN = """
window.begun = [];
new MutationObserver(all => {
  const made = all.flatMap(one => [...one.addedNodes]).filter(node => node.matches?.('article.tile')).length;
  if (made) begun.push(made);
}).observe(document, {subtree: true, childList: true});
"""


async def speak(tabs: Tabs, node: Node, room: str, identity: str) -> Tab:
    """Publish sound alone, which costs little."""
    tab = await tabs.open(node, room=room, identity=identity, publish="microphone")
    await tab.press()
    await tab.on_air()
    return tab


def token(room: str, identity: str) -> str:
    """One that lets a participant into a room."""
    video = {"room": room, "roomJoin": True}
    claims = {"iss": KEY, "sub": identity, "exp": int(time.time()) + 600, "video": video}
    return jwt.encode(claims, SECRET, algorithm="HS256")


def tile(tab: Tab, identity: str = "alice") -> Locator:
    return tab.page.locator(f".tile[aria-label='{identity}']")


async def test_link_to_watch_opens_a_page_without_forms_that_can_be_unfolded(node: Node, tabs: Tabs, room: str) -> None:
    await tabs.publish(node, room)
    viewer = await tabs.watch(node, room)
    for hidden in ("#publish", "#watch", "#you", ".panel"):
        await expect(viewer.page.locator(hidden)).to_be_hidden()
    await viewer.frames(10)
    await viewer.page.click("#join-in")
    await expect(viewer.page.locator("#publish")).to_be_visible()
    await expect(viewer.page.locator("#room")).to_have_value(room)
    await viewer.frames(5)  # it goes on


async def test_link_to_a_room_shows_everyone_in_it_who_comes_later_too(node: Node, tabs: Tabs, room: str) -> None:
    viewer = await tabs.open(node, room=room)
    await expect(viewer.page.locator("#empty")).to_contain_text("Nobody is on air")
    await expect(viewer.page.locator("#publish")).to_be_hidden()
    for count, name in enumerate(("alice", "bob"), 1):
        await speak(tabs, node, room, name)
        await expect(viewer.page.locator(".tile")).to_have_count(count, timeout=SLOW)
        await expect(tile(viewer, name).locator(".notice")).to_have_text("Sound only", timeout=SLOW)
        await expect(tile(viewer, name).locator(".figures dt")).to_have_text(["Delay", "Sound", "Loss"])
    await viewer.page.click("#unmute-all")
    await expect(viewer.page.locator(".unmute:visible")).to_have_count(0)


async def test_one_press_watches_everyone_but_oneself_and_no_tile_that_was_closed_comes_back(
    node: Node, tabs: Tabs, room: str
) -> None:
    me = await speak(tabs, node, room, "me")
    group = me.page.get_by_role("region", name=f"Room {room}", exact=True)
    everyone = group.get_by_role("button", name=f"Watch everyone in {room}")
    await expect(group.locator(".person")).to_have_count(1, timeout=SLOW)
    await expect(everyone).to_have_count(0)  # there is nobody but me
    await speak(tabs, node, room, "alice")
    await expect(group.locator(".person")).to_have_count(2, timeout=SLOW)
    await everyone.click()
    await expect(tile(me)).to_have_count(1)
    await expect(tile(me, "me")).to_have_count(0)
    volume = tile(me).get_by_role("slider", name="Volume of alice")
    await expect(volume).to_be_visible(timeout=SLOW)  # after a press it sounds
    await speak(tabs, node, room, "bob")
    await expect(tile(me, "bob")).to_have_count(1, timeout=SLOW)
    await tile(me).get_by_role("button", name="Stop watching").click()
    asked = me.page.expect_response(re.compile("api/rooms"))
    for _ in range(2):  # it has seen the room again
        async with asked as answer:
            await answer.value
        asked = me.page.expect_response(re.compile("api/rooms"))
    await expect(tile(me)).to_have_count(0)
    await group.get_by_role("button", name=f"Stop watching everyone in {room}").click()
    await expect(me.page.locator(".tile:not(.own)")).to_have_count(0)


async def test_page_of_a_full_room_joins_in_steps_that_no_node_refuses(node: Node, tabs: Tabs, room: str) -> None:
    tab = await tabs.open(node, room=room, watch=",".join(f"nobody-{i}" for i in range(10)), script=BEGUN)
    assert await tab.page.evaluate(LOOKS) == [[8, 6], [16, 6], [24, 6], [24, 6]]
    await expect(tab.page.locator(".tile")).to_have_count(10, timeout=SLOW)
    assert await tab.page.evaluate("begun") == [8, 2]


async def test_one_who_has_left_is_said_to_have_left_and_goes_on_at_the_return(
    node: Node, tabs: Tabs, room: str
) -> None:
    viewer = await tabs.watch(node, room)
    await expect(tile(viewer).locator(".notice")).to_have_text(
        "alice is not here yet; will start when alice comes", timeout=SLOW
    )
    publisher = await tabs.publish(node, room)
    await expect(tile(viewer)).to_have_attribute("data-state", "live", timeout=SLOW)
    await viewer.frames(10)
    await publisher.page.click("#publish .stop")
    await expect(tile(viewer).locator(".notice")).to_have_text(
        "alice has left; will go on when alice returns", timeout=SLOW
    )
    await expect(tile(viewer).locator("video")).to_have_css("visibility", "hidden")
    await publisher.press()
    await expect(tile(viewer)).to_have_attribute("data-state", "live", timeout=SLOW)
    await expect(tile(viewer).locator("video")).to_have_css("visibility", "visible")


async def test_reason_for_a_missing_picture_stays_while_the_sound_goes_on(node: Node, tabs: Tabs, room: str) -> None:
    await tabs.publish(node, room, codec="h264")
    viewer = await tabs.watch(node, room, script=ONLY_VP8)
    notice = tile(viewer).locator(".notice")
    await expect(notice).to_have_text(
        re.compile(r"^No picture of alice\. .*H\.?264.* The sound goes on\.$"), timeout=SLOW
    )
    await expect(tile(viewer)).to_have_attribute("data-state", "live")
    before = (await viewer.watcher())["audio"][0]["packetsReceived"]
    await eventually(
        viewer.watcher, lambda s: s["audio"][0]["packetsReceived"] > before + 150, "three seconds of sound"
    )
    await expect(notice).to_contain_text("No picture of alice.")


async def test_doubt_whether_a_decoder_takes_the_picture_is_told_quietly(node: Node, tabs: Tabs, room: str) -> None:
    await tabs.publish(node, room, codec="h264")
    viewer = await tabs.watch(node, room, script=ONLY_MODE_0)
    hint = tile(viewer).locator(".hint")
    await expect(hint).to_have_text(
        re.compile(r"packetization mode 1; .*packetization mode 0.* may fail\.$"), timeout=SLOW
    )
    await viewer.frames(10)
    await expect(tile(viewer)).to_have_attribute("data-state", "live")
    await expect(tile(viewer).locator(".notice")).to_be_empty()
    await expect(hint).to_be_visible()


@pytest.mark.parametrize(
    ("video", "flows", "seen", "notice"),
    [
        ({"state": "active"}, {"video": True, "audio": True}, "video", ""),
        ({"state": "active"}, {"audio": True}, "", "Waiting for the picture; the sound goes on"),
        ({"state": "active"}, {"audio": True}, "video", "The picture has stopped; the sound goes on"),
        ({"state": "no-media"}, {"audio": True}, "video", "The picture has stopped; the sound goes on"),
        ({"state": "waiting"}, {"audio": True}, "video", "Sound only"),
        (
            {"state": "codec", "reason": "It sends X."},
            {"audio": True},
            "",
            "No picture of a. It sends X. The sound goes on.",
        ),
        ({"state": "codec", "reason": "It sends X."}, {}, "audio", "No picture of a. It sends X."),
        ({"state": "active"}, {}, "", "Waiting for the picture"),
        ({"state": "active"}, {}, "video", "Nothing arrives from a just now"),
    ],
)
async def test_picture_that_is_missing_is_explained(
    node: Node, tabs: Tabs, room: str, video: Any, flows: Any, seen: str, notice: str
) -> None:
    tab = await tabs.open(node, room=room)
    said = (
        "([p, told, flows, seen]) => import(new URL(p, document.baseURI)).then(m => m.tell('a', {told, flows, seen}))"
    )
    told = {"video": video, "audio": {"state": "active"}}
    found: Any = await tab.page.evaluate(said, ["view/notices.js", told, flows, seen])
    assert found["notice"] == notice


async def test_layers_are_chosen_by_size_and_bitrate(node: Node, tabs: Tabs, room: str) -> None:
    await tabs.publish(node, room, simulcast=1, resolution=360)
    viewer = await tabs.watch(node, room)
    await viewer.width(lambda w: w == 640, "the largest")

    async def texts() -> list[str]:
        found: list[str] = await viewer.page.eval_on_selector_all(".layer option", "all => all.map(o => o.textContent)")
        return found

    shown = r"(\d+ kbit/s|\d\.\d Mbit/s|not sent)"
    wanted = re.compile(rf"Auto \(640×360\)\|640×360, {shown}\|320×180, {shown}")
    await eventually(texts, lambda found: wanted.fullmatch("|".join(found)), "sizes in the menu")
    await viewer.page.locator(".layer").select_option(index=2)
    await viewer.width(lambda w: w == 320, "the second")


async def test_list_is_grouped_by_room_and_shows_whole_names_on_a_phone(node: Node, tabs: Tabs, room: str) -> None:
    long = "somebody-with-a-name-that-is-longer-than-a-phone-is-wide"
    other = f"{room}-and-another-room-of-a-long-name"[:120]
    await speak(tabs, node, room, long)
    await speak(tabs, node, other, "bob")
    await speak(tabs, node, other, "carol")
    reader = await tabs.open(node, room=room, identity="me", width=360)
    groups = reader.page.locator(".group")
    mine, theirs = groups.filter(has_text=long), groups.filter(has_text="carol")
    await expect(theirs.locator(".person")).to_have_count(2, timeout=SLOW)
    await expect(mine.locator(".person")).to_have_count(1)
    await expect(groups.first).to_have_attribute("aria-label", f"Room {room}")
    assert await reader.page.evaluate(CUT, [".group h3", ".person strong", ".person small"]) == []
    assert await reader.page.evaluate("document.documentElement.scrollWidth") <= 360


async def test_focus_stays_with_the_person_when_the_list_is_written_anew(node: Node, tabs: Tabs, room: str) -> None:
    """Rooms and names may hold slashes: b/c in a and c in a/b are two people."""
    viewers = 1

    async def told(route: Route) -> None:
        tracks = [{"kind": "audio", "codec": "opus", "layers": []}]
        rooms = [
            {"name": name, "participants": [{"identity": identity, "tracks": tracks, "viewers": viewers}]}
            for name, identity in (("a", "b/c"), ("a/b", "c"))
        ]
        await route.fulfill(json={"rooms": rooms})

    tab = await tabs.open(node, room=room, identity="me", publish="camera")
    await tab.page.route(re.compile("api/rooms"), told)
    group = tab.page.get_by_role("region", name="Room a/b", exact=True)
    button = group.get_by_role("button", name="Watch c", exact=True)
    await button.focus(timeout=SLOW)
    viewers = 2
    await expect(group.locator(".person small")).to_contain_text("2 watching", timeout=SLOW)
    await expect(button).to_be_focused()


async def test_watching_comes_before_publishing_when_somebody_is_on_air(node: Node, tabs: Tabs, room: str) -> None:
    order = "() => [...document.querySelectorAll('.panel form')].map(f => f.id).join(' ')"
    early = await tabs.open(node, room=room, identity="me")
    await eventually(node.rooms, lambda rooms: not rooms, "nobody on air")
    await expect(early.page.locator("#people")).to_have_text("Nobody is on air.", timeout=SLOW)
    await eventually(lambda: early.page.evaluate(order), lambda ids: ids == "you publish watch", "publishing first")
    await speak(tabs, node, room, "alice")
    await eventually(lambda: early.page.evaluate(order), lambda ids: ids == "you watch publish", "watching first")
    busy = await tabs.open(node, room=room, identity="me", publish="camera")  # its reader is at the form
    await expect(busy.page.locator(".person")).to_have_count(1, timeout=SLOW)
    assert await busy.page.evaluate(order) == "you publish watch"


async def test_figures_in_front_are_few_and_whole_on_a_phone(node: Node, tabs: Tabs, room: str) -> None:
    await tabs.publish(node, room)
    viewer = await tabs.watch(node, room, width=360)
    shown = tile(viewer).locator(".figures")
    await expect(shown).to_contain_text("320×180", timeout=SLOW)
    labels = await shown.locator("dt").all_inner_texts()
    assert labels == ["Resolution", "Frames/s", "Bitrate", "Delay", "Sound", "Loss"]
    await expect(shown.locator("div", has_text="Delay")).to_have_text(re.compile(r"^Delay[\d.]+ ms$"), timeout=SLOW)
    await expect(shown.locator("div", has_text="Sound")).to_have_text(re.compile(r"^Sound\d+ kbit/s$"))
    assert await viewer.page.evaluate(LONG_FIGURES) == [
        "1920×1080",
        "120",
        "12.5 Mbit/s",
        "3.2 s",
        "510 kbit/s",
        "100.0 %",
    ]
    assert await viewer.page.evaluate(CUT, [".figures dd", ".figures dt"]) == []
    await viewer.page.click(".more summary")
    await expect(tile(viewer).locator(".long")).to_contain_text("NACK", timeout=SLOW)
    await expect(tile(viewer).locator(".long")).to_contain_text("PLI")


async def test_rate_is_not_told_before_there_are_two_readings(node: Node, tabs: Tabs, room: str) -> None:
    tab = await tabs.open(node, room=room)
    shown, points = await tab.page.evaluate(READINGS)
    rates = [{key: one[key] for key in ("Frames/s", "Bitrate", "Sound")} for one in shown]
    assert rates[0] == {"Frames/s": "–", "Bitrate": "–", "Sound": "–"}
    assert rates[1:] == [{"Frames/s": "25", "Bitrate": "16 kbit/s", "Sound": "8 kbit/s"}] * 2
    assert points == 2, "what was not measured is no point of the graph"


async def test_each_tile_has_its_volume_and_picture_in_picture_where_the_browser_has_them(
    node: Node, tabs: Tabs, room: str
) -> None:
    await speak(tabs, node, room, "alice")
    viewer = await tabs.watch(node, room)
    await tile(viewer).get_by_role("button", name="Unmute alice").click()
    await expect(tile(viewer).get_by_role("button", name="Mute alice", exact=True)).to_be_focused()
    await tile(viewer).get_by_role("slider", name="Volume of alice").fill("30")
    heard = "() => { const {muted, volume} = weir.watchers[0].tile.video; return [muted, volume]; }"
    assert await viewer.page.evaluate(heard) == [False, 0.3]
    await expect(tile(viewer).get_by_role("button", name="Picture in picture")).to_be_visible()
    poor = await tabs.watch(node, room, script=POOR)
    await tile(poor).get_by_role("button", name="Unmute alice").click()
    assert await poor.page.evaluate("weir.watchers[0].tile.video.muted") is False
    await expect(tile(poor).get_by_role("slider")).to_have_count(0)
    await expect(tile(poor).get_by_role("button", name="Picture in picture")).to_have_count(0)


async def test_level_of_who_is_watched_moves_while_still_muted(node: Node, tabs: Tabs, room: str) -> None:
    publisher = await speak(tabs, node, room, "alice")
    viewer = await tabs.watch(node, room)
    meter = tile(viewer).get_by_role("meter", name="Sound of alice")

    async def level() -> int:
        return int(await meter.get_attribute("aria-valuenow") or 0)

    await eventually(level, lambda now: now > 20, "a level")
    await publisher.page.click("button[aria-label='Mute microphone']")
    await eventually(level, lambda now: now == 0, "silence")
    assert await viewer.page.evaluate("weir.watchers[0].tile.video.muted")


async def test_time_that_runs_backwards_is_told_to_publisher_and_viewers(node: Node, tabs: Tabs, room: str) -> None:
    publisher = await tabs.publish(node, room)
    viewer = await tabs.watch(node, room)
    await viewer.frames(5)
    for tab in (publisher, viewer):
        await expect(tab.page.locator(".hint")).to_be_hidden()

    async def told(route: Route) -> None:
        answer = await route.fetch()
        found: Any = await answer.json()
        for one in found["rooms"]:
            for participant in one["participants"]:
                for track in participant["tracks"]:
                    track["layers"][0]["time_runs_backwards"] = track["kind"] == "video"
        await route.fulfill(response=answer, body=json.dumps(found))

    lost = re.compile("B-frames.*most of the pictures")
    for tab in (publisher, viewer):
        await tab.page.route(re.compile("api/rooms"), told)
        await expect(tab.page.locator(".hint")).to_contain_text(lost, timeout=SLOW)
    await expect(publisher.page.locator(".person .warning")).to_have_text(lost)


async def test_page_to_watch_asks_for_a_token_where_nothing_goes_without(
    strict_node: Node, tabs: Tabs, room: str
) -> None:
    viewer = await tabs.open(strict_node, room=room)
    await expect(viewer.page.locator("#token")).to_be_visible(timeout=SLOW)
    await expect(viewer.page.locator("#room")).to_be_hidden()
    publisher = await tabs.open(
        strict_node, room=room, identity="alice", publish="microphone", token=token(room, "alice")
    )
    await publisher.press()
    await publisher.on_air()
    await viewer.page.fill("#token", token(room, "bob"))
    await viewer.page.press("#token", "Tab")
    await expect(tile(viewer)).to_have_attribute("data-state", "live", timeout=SLOW)
    await expect(viewer.page.locator("#token")).to_be_hidden()


async def test_stop_for_everyone_leaves_who_was_chosen_by_name(node: Node, tabs: Tabs, room: str) -> None:
    for name in ("alice", "bob"):
        await speak(tabs, node, room, name)
    viewer = await tabs.open(node, room=room, identity="me")
    group = viewer.page.get_by_role("region", name=f"Room {room}", exact=True)
    await group.get_by_role("button", name="Watch alice").click(timeout=SLOW)
    await group.get_by_role("button", name=f"Watch everyone in {room}").click()
    await expect(tile(viewer, "bob")).to_have_count(1, timeout=SLOW)
    await group.get_by_role("button", name=f"Stop watching everyone in {room}").click()
    await expect(viewer.page.locator(".tile")).to_have_count(1)
    await expect(tile(viewer, "alice")).to_have_count(1)


async def test_page_asks_for_sound_in_two_channels(node: Node, tabs: Tabs, room: str) -> None:
    await speak(tabs, node, room, "alice")
    viewer = await tabs.watch(node, room)
    for side in ("localDescription", "remoteDescription"):

        async def description(side: str = side) -> str:
            return str(await viewer.page.evaluate(f"weir.watchers[0].client?.pc.{side}?.sdp ?? ''"))

        await eventually(description, lambda sdp: re.search(r"^a=fmtp:\d+ .*\bstereo=1", sdp, re.M), side)
