"""The page for who publishes: a preview, a choice of devices, a level that moves, who watches, a way to stop."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from tests.e2e.browser import Tab, Tabs, sent
from tests.e2e.node import Node
from tests.e2e.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60, func_only=True)]
SPY = """
window.captured = 0;
const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = (...given) => { window.captured++; return real(...given); };
"""
# A browser that knows no scalability modes, as far as a page can see.
NO_MODES = """
const get = RTCRtpSender.prototype.getParameters;
RTCRtpSender.prototype.getParameters = function () {
  const found = get.call(this);
  for (const encoding of found.encodings) delete encoding.scalabilityMode;
  return found;
};
"""
NO_CLIPBOARD = "Object.defineProperty(navigator, 'clipboard', {value: undefined});"
# The loudest that a meter has shown since it was first asked: the fake microphone beeps once a second.
LOUDEST = """selector => {
  const now = Number(document.querySelector(selector).getAttribute('aria-valuenow'));
  window.loudest ??= {};
  return window.loudest[selector] = Math.max(now, window.loudest[selector] ?? 0);
}"""
# Collects in `counts` how many watch, as the own tile says it after each change: "0,1" where it says two numbers.
COUNTS = """() => {
  const said = () => document.querySelector('.tile').textContent.matchAll(/(\\d+) watching|Watching(\\d+)/g);
  const look = () => {
    const now = [...new Set([...said()].map(([, mark, figure]) => mark ?? figure))].join();
    if (now !== counts.at(-1)) counts.push(now);
  };
  window.counts = [];
  look();
  const all = {subtree: true, childList: true, characterData: true};
  new MutationObserver(look).observe(document.querySelector('.tile'), all);
}"""
DEVICE = "kind => weir.publishers[0].pc.getSenders().find(s => s.track.kind === kind).track.getSettings().deviceId"
QUICK: dict[str, Any] = {"simulcast": 0, "resolution": 180}


async def loud(page: Page, selector: str) -> None:
    await eventually(lambda: page.evaluate(LOUDEST, selector), lambda level: level > 20, "a level", every=0.05)


async def ready(tab: Tab) -> Page:
    """The page, once its buttons take a press."""
    await tab.page.wait_for_selector("#publish .try:not([aria-disabled])")
    return tab.page


async def test_preview_shows_and_sounds_before_anything_is_sent_and_is_then_published(
    node: Node, tabs: Tabs, room: str
) -> None:
    tab = await tabs.open(node, room=room, identity="alice", script=SPY, **QUICK)
    page = await ready(tab)
    assert await page.evaluate("captured") == 0
    await page.click("#publish .try")
    await page.wait_for_function("document.querySelector('.preview video').videoWidth === 320")
    await loud(page, ".preview .sound")
    assert room not in await node.rooms() and await page.locator(".tile").count() == 0
    await tab.press()
    await tab.on_air()
    assert await page.evaluate("captured") == 1, "what was shown is what is sent"
    await expect(page.locator(".preview")).to_be_hidden()
    await loud(page, ".tile .sound")
    await page.click("button[aria-label='Mute microphone']")

    async def level() -> Any:
        return await page.get_attribute(".tile .sound", "aria-valuenow")

    await eventually(level, lambda now: now == "0", "silence")


async def test_press_that_was_meant_for_the_page_before_opens_no_camera(node: Node, tabs: Tabs, room: str) -> None:
    tab = await tabs.open(node, room=room, identity="alice", publish="camera", script=SPY)
    page = await ready(tab)
    presses = "for (const b of document.querySelectorAll('#publish .try, #publish .primary')) b.click();"
    assert await page.evaluate(f"() => {{ dispatchEvent(new Event('focus')); {presses} return captured; }}") == 0
    assert await page.evaluate("weir.publishers.length") == 0


async def test_link_that_brings_a_token_says_that_it_replaces_the_one_of_the_tab(
    node: Node, tabs: Tabs, room: str
) -> None:
    tab = await tabs.open(node, room=room, identity="alice", publish="camera", token="mine")
    note = tab.page.locator("#asked")
    begin, end = f"This link is for publishing to “{room}” as ", "Nothing is sent before you press the button."
    brought = "It brings an access token of its own, which replaces this tab’s."
    await expect(note).to_have_text(f"{begin}“alice”. {brought} {end}")
    await tab.page.goto(f"{node.base}/?room={room}&identity=bob&publish=camera")  # brings none: the tab's own holds
    await expect(note).to_have_text(f"{begin}“bob”. {end}")
    await expect(tab.page.locator("#token")).to_have_value("mine")
    await tab.page.goto(f"{node.base}/?room={room}&identity=bob&publish=camera&token=theirs")
    await expect(note).to_have_text(f"{begin}“bob”. {brought} {end}")
    await expect(tab.page.locator("#token")).to_have_value("theirs")


async def test_preview_follows_what_is_chosen_and_ends_its_capture(node: Node, tabs: Tabs, room: str) -> None:
    tab = await tabs.open(node, room=room, identity="alice", **QUICK)
    page = await ready(tab)
    await page.click("#publish .try")
    await page.wait_for_function("document.querySelector('.preview video').videoWidth === 320")
    await page.evaluate("window.first = document.querySelector('.preview video').srcObject.getVideoTracks()[0]")
    await page.select_option("[name=resolution]", "360")
    await page.wait_for_function("document.querySelector('.preview video').videoWidth === 640")
    assert await page.evaluate("first.readyState") == "ended"
    await page.evaluate("window.first = document.querySelector('.preview video').srcObject.getVideoTracks()[0]")
    await page.click("#publish .try")
    await expect(page.locator(".preview")).to_be_hidden()
    assert await page.evaluate("first.readyState") == "ended"


async def test_chosen_camera_and_microphone_are_sent_and_can_be_changed_on_air(
    node: Node, tabs: Tabs, room: str
) -> None:
    tab = await tabs.open(node, room=room, identity="alice", **QUICK)
    page = await ready(tab)
    await page.click("#publish .try")
    ids: dict[str, list[str]] = {}
    for kind, name in (("video", "camera"), ("audio", "microphone")):
        await page.wait_for_selector(f"[name={name}]")
        found = await page.eval_on_selector(f"[name={name}]", "select => [...select.options].map(o => o.value)")
        ids[kind] = found
        assert len(found) > 1
        await page.select_option(f"[name={name}]", found[-1])
    await tab.press()
    await tab.on_air()
    assert [await page.evaluate(DEVICE, kind) for kind in ids] == [ids["video"][-1], ids["audio"][-1]]
    await page.select_option("[name=camera]", ids["video"][0])
    await page.select_option("[name=microphone]", ids["audio"][1])
    for kind, wanted in (("video", ids["video"][0]), ("audio", ids["audio"][1])):
        await eventually(
            lambda kind=kind: page.evaluate(DEVICE, kind),  # type: ignore[misc]
            lambda now, wanted=wanted: now == wanted,
            f"another {kind} device on the same connection",
        )
    before = await tab.publisher()
    await eventually(
        tab.publisher,
        lambda s: all(sent(s, "packetsSent", kind) > sent(before, "packetsSent", kind) for kind in ids),
        "picture and sound of the new devices",
    )


async def test_button_that_started_stops(node: Node, tabs: Tabs, room: str) -> None:
    tab = await tabs.publish(node, room)
    stop = tab.page.get_by_role("button", name="Stop publishing").and_(tab.page.locator("#publish button"))
    await expect(stop).to_be_focused()
    await expect(tab.page.locator("#publish .primary")).to_be_hidden()
    await tab.page.fill("#identity", "bob")
    await expect(tab.page.locator("#publish .primary")).to_be_visible()  # for something else beside it
    await tab.page.fill("#identity", "alice")
    await stop.click()
    await eventually(node.rooms, lambda rooms: room not in rooms, "nobody on air")
    await expect(tab.page.locator("#publish .primary")).to_be_focused()
    assert await tab.page.locator(".tile").count() == 0


async def test_publisher_sees_its_sizes_with_their_bitrates_and_how_many_watch(
    node: Node, tabs: Tabs, room: str
) -> None:
    publisher = await tabs.publish(node, room, simulcast=1, resolution=360)
    sizes = publisher.page.locator(".tile .sizes li")
    await expect(sizes.first).to_have_text(re.compile(r"^640×360, (\d+ kbit/s|\d\.\d Mbit/s)$"), timeout=20_000)
    await expect(sizes.nth(1)).to_have_text(re.compile(r"^320×180, \d+ kbit/s$"), timeout=20_000)
    await expect(publisher.page.locator(".tile .mark")).to_have_text("You · Camera · 0 watching", timeout=10_000)
    await publisher.page.evaluate(COUNTS)
    await tabs.watch(node, room)
    await expect(publisher.page.locator(".tile .mark")).to_have_text("You · Camera · 1 watching", timeout=10_000)
    assert await publisher.page.evaluate("counts") == ["0", "1"], "the tile never says two numbers of viewers"
    labels = publisher.page.locator(".tile .figures dt")
    await expect(labels).to_have_text(["Resolution", "Frames/s", "Bitrate", "Round trip", "Sound", "Loss"])

    async def told(route: Route) -> None:
        answer = await route.fetch()
        text = re.sub(r'"bitrate": \d+', '"bitrate": 123456', await answer.text())
        await route.fulfill(response=answer, body=text)

    await publisher.page.route(re.compile("api/rooms"), told)
    await expect(sizes).to_have_text(["640×360, 123 kbit/s", "320×180, 123 kbit/s"], timeout=20_000)  # the node's word


async def test_copied_link_is_confirmed_and_without_a_clipboard_shown(node: Node, tabs: Tabs, room: str) -> None:
    tab = await tabs.publish(node, room)
    await tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await tab.page.click("button[aria-label='Copy link to watch']")
    await expect(tab.page.locator(".tile .said")).to_have_text("Copied")
    link = await tab.page.evaluate("navigator.clipboard.readText()")
    assert link == f"{node.base}/?room={room}&watch=alice"
    await tab.page.click("#copy-room")
    await expect(tab.page.locator("#copied")).to_have_text("Copied")
    assert await tab.page.evaluate("navigator.clipboard.readText()") == f"{node.base}/?room={room}"
    bare = await tabs.open(node, room=room, script=NO_CLIPBOARD)
    await bare.page.click("#copy-room")
    await expect(bare.page.locator("#alert")).to_contain_text(f"{node.base}/?room={room}")


async def test_simulcast_of_vp9_is_not_offered_where_the_browser_would_send_one_size(
    node: Node, tabs: Tabs, room: str
) -> None:
    tab = await tabs.open(node, room=room, identity="alice", codec="vp9", resolution=360, script=NO_MODES)
    simulcast = tab.page.locator("[name=simulcast]")
    await expect(simulcast).to_be_disabled()
    await expect(simulcast).not_to_be_checked()
    await expect(tab.page.locator(".simulcast small")).to_have_text("This browser sends VP9 in one size only")
    await tab.page.select_option("[name=codec]", "vp8")
    await expect(simulcast).to_be_enabled()
    await expect(simulcast).to_be_checked()
    await tab.page.select_option("[name=codec]", "vp9")
    await ready(tab)
    await tab.press()
    await tab.on_air()
    assert await tab.page.evaluate("weir.publishers[0].pc.getSenders()[1].getParameters().encodings.length") == 1
    able = await tabs.open(node, room=room, identity="bob", codec="vp9", resolution=360)
    await expect(able.page.locator("[name=simulcast]")).to_be_checked()
