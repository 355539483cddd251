"""Screenshots of the page, wide and on a phone, before, publishing, watching and after the publisher has gone.

They lie in .venv/var/screenshots, to be looked at; what a program can see of them is asserted: nothing is cut off,
covered or wider than the screen, and every control has a name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Locator, expect

from tests.e2e.browser import Tab, Tabs
from tests.e2e.node import Node

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(200, func_only=True)]
FOLDER = Path(__file__).parents[2] / ".venv" / "var" / "screenshots"
SLOW = 20_000  # ms
# What is wrong with the page as it stands: too wide, texts that are cut, controls without a name or under others.
FAULTS = """() => {
  const faults = [];
  if (document.documentElement.scrollWidth > innerWidth) faults.push('wider than the screen');
  const texts = 'h2:not(.name), h3, label, dt, dd, button, li, .mark, .state, .notice, .note, .person *';
  for (const e of document.querySelectorAll(texts)) {
    if (!e.checkVisibility() || getComputedStyle(e).clipPath !== 'none') continue;
    if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth) faults.push('cut: ' + e.textContent.trim());
  }
  for (const e of document.querySelectorAll('button, input, select, summary')) {
    if (!e.checkVisibility() || e.closest('.segments, .switch')) continue;
    const name = e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.[0]?.textContent.trim();
    if (!name) faults.push('no name: ' + e.outerHTML);
    e.scrollIntoView({block: 'center'});
    const {left, top, width, height} = e.getBoundingClientRect();
    if (left < 0 || left + width > innerWidth) faults.push('off the screen: ' + name);
    const seen = document.elementFromPoint(left + width / 2, top + height / 2);
    if (!e.contains(seen)) faults.push('covered: ' + name + ' by ' + (seen?.className || seen?.tagName));
  }
  scrollTo(0, 0);
  return faults;
}"""


async def measured(tile: Locator) -> None:
    """Wait for the second reading: the first has no rates."""
    for label in ("Bitrate", "Sound"):
        figure = tile.locator(".figures div", has_text=label)
        await expect(figure).to_have_text(re.compile(rf"^{label}[\d.]*[1-9][\d.]* [kM]bit/s$"), timeout=SLOW)


async def look(tab: Tab, name: str) -> None:
    """Take a picture of the whole page and look for faults."""
    assert await tab.page.evaluate(FAULTS) == []
    await tab.page.screenshot(path=FOLDER / f"{name}.png", full_page=True)


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (390, "light"), (360, "dark")], ids=["desktop", "phone", "small-dark"]
)
async def test_page_is_whole_before_publishing_watching_and_gone(
    node: Node, tabs: Tabs, room: str, width: int, scheme: Literal["light", "dark"], request: pytest.FixtureRequest
) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    screen, here = request.node.callspec.id, room[-20:].strip("-")
    common: dict[str, Any] = {"width": width, "room": here}
    publisher = await tabs.open(node, identity="ann", resolution=360, **common)
    await publisher.page.emulate_media(color_scheme=scheme)
    await publisher.page.wait_for_selector("#publish .try:not([aria-disabled])")
    await look(publisher, f"before-{screen}")
    await publisher.page.click("#publish .try")
    await publisher.page.wait_for_function("document.querySelector('.preview video').videoWidth === 640")
    await look(publisher, f"preview-{screen}")
    await publisher.press()
    await publisher.on_air()

    viewer = await tabs.open(node, **common)
    await viewer.page.emulate_media(color_scheme=scheme)
    await viewer.width(lambda w: w == 640, "the largest size")
    await expect(viewer.page.locator(".tile .layer")).to_be_visible(timeout=SLOW)
    await expect(viewer.page.locator(".figures")).to_contain_text("640×360", timeout=SLOW)
    await measured(viewer.page.locator(".tile"))
    await look(viewer, f"watching-{screen}")
    await viewer.page.click(".unmute")
    await viewer.page.click(".more summary")
    await expect(viewer.page.locator(".long")).to_contain_text("PLI", timeout=SLOW)
    await look(viewer, f"figures-{screen}")

    await expect(publisher.page.locator(".mark")).to_contain_text("1 watching", timeout=SLOW)
    await measured(publisher.page.locator(".tile"))
    await expect(publisher.page.locator(".sizes li").first).to_contain_text("640×360", timeout=SLOW)
    await look(publisher, f"publishing-{screen}")
    await publisher.page.click("#publish .stop")
    await expect(viewer.page.locator(".notice")).to_have_text("ann has left; will go on when ann returns", timeout=SLOW)
    await look(viewer, f"gone-{screen}")


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
async def test_call_of_several_people_is_whole(node: Node, tabs: Tabs, room: str, width: int) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    common: dict[str, Any] = {"width": width, "room": f"call-{width}"}
    for name in ("bob", "carol-with-a-long-name-of-many-words"):
        other = await tabs.open(node, identity=name, publish="microphone", **common)
        await other.press()
        await other.on_air()
    me = await tabs.open(node, identity="ann", resolution=360, **common)
    await me.press()
    await me.on_air()
    await me.page.get_by_role("button", name=f"Watch everyone in {common['room']}").click()
    live = me.page.locator(".tile[data-state=live]:not(.own) .notice")
    await expect(live).to_have_text(["Sound only", "Sound only"], timeout=SLOW)
    await expect(me.page.locator(".person")).to_have_count(3, timeout=SLOW)
    for sound in await me.page.locator(".tile:not(.own) .figures div", has_text="Sound").all():
        await expect(sound).to_have_text(re.compile(r"^Sound\d+ kbit/s$"), timeout=SLOW)
    await look(me, f"call-{'phone' if width < 500 else 'desktop'}")


# Of the first tile: its name, buttons and front figures that are not on screen as the page opens; the picture's size.
FIRST_TILE = """() => {
  scrollTo(0, 0);
  const tile = document.querySelector('.tile');
  const parts = [...tile.querySelectorAll('.name, .round, .figures div')].map(e => [e, e.getBoundingClientRect()]);
  const off = parts.filter(([, r]) => !r.height || r.top < 0 || r.bottom > innerHeight || r.right > innerWidth);
  const {width, height} = tile.querySelector('.picture').getBoundingClientRect();
  const head = ['.brand img', '.where', '.doors'].map(s => document.querySelector(s).getBoundingClientRect());
  const apart = head.every((r, i) => !i || head[i - 1].right <= r.left);
  return {apart, count: parts.length, off: off.map(([e]) => e.ariaLabel || e.textContent), width, height};
}"""


async def test_first_tile_is_on_the_screen_with_its_buttons_and_front_figures(
    node: Node, tabs: Tabs, room: str
) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    await tabs.publish(node, room, "ann")
    everyone, one = await tabs.open(node, room=room), await tabs.watch(node, room, "ann")
    for people in (1, 2, 3):
        if people > 1:
            other = await tabs.open(node, room=room, identity=f"other-{people}", publish="microphone")
            await other.press()
            await other.on_air()
        await expect(everyone.page.locator(".tile .figures")).to_have_count(people, timeout=SLOW)
        for tab in (everyone, one):
            await measured(tab.page.locator(".tile[aria-label=ann]"))
            for width, height in ((1280, 800), (1920, 1080), (390, 844)):
                await tab.page.set_viewport_size({"width": width, "height": height})
                found = await tab.page.evaluate(FIRST_TILE)
                assert found["off"] == [] and found["count"] == 1 + 3 + 6, (people, width, height, found)
                assert found["apart"], "a long name of a room covers nothing"
                alone = width < 500 or people == 1 or tab is one
                assert found["width"] > (0.8 if alone else 0.25) * width, "the picture is as wide as there is room"
                assert found["height"] > min(0.5 * found["width"], 0.5 * height), "the picture stays the main thing"
                await tab.page.screenshot(path=FOLDER / f"first-{people}-{'one' if tab is one else 'all'}-{width}.png")
