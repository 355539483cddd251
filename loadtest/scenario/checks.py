"""What several values of a scenario must be together: names that exist, counts that fit, keys that go with each other.

Each check takes a scenario whose single values are sound and yields faults, as config/checks.py does for a node.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path as FilePath

from config.errors import Fault, Path
from loadtest.results.figures import FIGURES
from loadtest.scenario.expect import LimitError, figure_of, parse_limit
from loadtest.scenario.schema import (
    ALL,
    FIRST,
    ChangeLayer,
    Group,
    Kill,
    Link,
    Loss,
    Mute,
    OnGroup,
    Publishers,
    RestartTarget,
    Scenario,
    Subscribers,
    Video,
)

GROUPS: tuple[Path, ...] = (("publishers",), ("subscribers",))
PICTURE = ("width", "height", "bitrate", "content")
"""Keys of a test picture, which a synthetic track does not have."""
CLIP = ("width", "height", "framerate", "bitrate", "layers", "keyframe_interval", "content", "pacing", "packet_size")
"""Keys that a capture file decides."""


def _one_of(names: Iterable[str], what: str) -> str:
    known = list(names)
    return f"one of {', '.join(known)}" if known else f"a name in {what}, which is empty"


def named_groups(scenario: Scenario) -> Iterator[tuple[Path, Publishers | Subscribers]]:
    """Every group with its path."""
    for index, publishers in enumerate(scenario.publishers):
        yield ("publishers", index), publishers
    for index, subscribers in enumerate(scenario.subscribers):
        yield ("subscribers", index), subscribers


def target_faults(scenario: Scenario) -> Iterator[Fault]:
    """Keys of the target that exclude or need each other."""
    target = scenario.target
    if target.pid is not None and target.command is not None:
        wanted = "nothing, because target.command starts the server (one or the other)"
        yield Fault(("target", "pid"), str(target.pid), wanted, (("target", "command"),))
    if target.token is not None and (target.token_key is not None or target.token_secret is not None):
        rests = (("target", "token_key"), ("target", "token_secret"))
        wanted = "nothing, because target.token_key makes tokens (one or the other)"
        yield Fault(("target", "token"), "a token", wanted, rests)
    for name, other in (("token_key", "token_secret"), ("token_secret", "token_key")):
        if getattr(target, name) is None and getattr(target, other) is not None:
            wanted = f"text, because target.{other} is set (both or none)"
            yield Fault(("target", name), "nothing", wanted, (("target", other),))


def media_faults(scenario: Scenario) -> Iterator[Fault]:
    """Media without a track, and keys that its kind of track has no use for."""
    for name, media in scenario.media.items():
        path: Path = ("media", name)
        if media.video is None and media.audio is None:
            yield Fault(path, "neither video nor audio", "one of them at least")
        if media.video is not None:
            yield from _video_faults((*path, "video"), media.video)


def _video_faults(path: Path, video: Video) -> Iterator[Fault]:
    synthetic = video.codec == "synthetic"
    idle: dict[str, str] = {} if synthetic else {"packets_per_frame": "only a synthetic track has it"}
    idle |= {key: "a synthetic track has no picture" for key in PICTURE if synthetic}
    idle |= {key: "the capture file has its own" for key in CLIP if video.pcap is not None}
    for key in idle:
        if key in video.model_fields_set:
            yield Fault((*path, key), str(getattr(video, key)), f"no such key here: {idle[key]}", ((*path, "codec"),))
    if video.pcap is None:
        return
    if synthetic:
        wanted = "no capture file, because the track is synthetic"
        yield Fault((*path, "pcap"), f'"{video.pcap}"', wanted, ((*path, "codec"),))
    if reason := _unreadable(FilePath(video.pcap)):
        yield Fault((*path, "pcap"), f'"{video.pcap}" ({reason.lower()})', "a readable capture file")


def _unreadable(file: FilePath) -> str:
    """Why a file can't be read; empty: it can. Opening a pipe would wait for its writer."""
    try:
        if file.exists() and not file.is_file():
            return "is a directory" if file.is_dir() else "not a regular file"
        with file.open("rb"):
            return ""
    except (OSError, ValueError) as error:
        return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def network_faults(scenario: Scenario) -> Iterator[Fault]:
    """Loss written in two ways or by halves, a queue without a bottleneck."""
    for name, network in scenario.networks.items():
        for direction, link in (("down", network.down), ("up", network.up)):
            if link is not None:
                yield from _link_faults(("networks", name, direction), link)


def _link_faults(path: Path, link: Link) -> Iterator[Fault]:
    if link.loss is not None:
        yield from _loss_faults((*path, "loss"), link.loss)
    for key, needed in (("queue", "rate"), ("reorder_delay", "reorder")):
        if key in link.model_fields_set and not getattr(link, needed):
            wanted = f"{needed} beside it, or no such key"
            yield Fault((*path, key), f"{getattr(link, key):g}", wanted, ((*path, needed),))


def _loss_faults(path: Path, loss: Loss) -> Iterator[Fault]:
    simple = [key for key in ("share", "burst") if getattr(loss, key) is not None]
    states = [key for key in ("p", "r", "good", "bad") if getattr(loss, key) is not None]
    if simple and states:
        yield Fault(path, f"{', '.join(simple + states)}", "either share and burst, or p, r, good and bad")
    elif states and (loss.p is None or loss.r is None):
        yield Fault((*path, "r" if loss.r is None else "p"), "nothing", "a number, because p and r go together")
    elif not states and loss.share is None:
        yield Fault((*path, "share"), "nothing", "a share from 0 to 0.95, or p and r")
    elif loss.burst is not None and loss.model().p > 1:
        least = (loss.share or 0.0) / (1.0 - (loss.share or 0.0))
        wanted = f"at least {least:.3g} for a share of {loss.share:g}"
        yield Fault((*path, "burst"), f"{loss.burst:g}", wanted, ((*path, "share"),))


def group_faults(scenario: Scenario) -> Iterator[Fault]:
    """Names of groups that clash, and names of media and networks that do not exist."""
    if not scenario.publishers and not scenario.subscribers:
        yield Fault(("publishers",), "no group", "a group in publishers or subscribers", GROUPS)
    seen: dict[str, Path] = {}
    for path, group in named_groups(scenario):
        if group.name in seen or group.name in (ALL, FIRST):
            wanted = "a name that `of` has no use for" if group.name in (ALL, FIRST) else "a different name"
            yield Fault((*path, "name"), f'"{group.name}"', f"{wanted} for each group", GROUPS)
        seen.setdefault(group.name, path)
        if group.network is not None and group.network not in scenario.networks:
            wanted = _one_of(scenario.networks, "networks")
            yield Fault((*path, "network"), f'"{group.network}"', wanted, (("networks",),))
        if isinstance(group, Publishers) and group.media not in scenario.media:
            yield Fault((*path, "media"), f'"{group.media}"', _one_of(scenario.media, "media"), (("media",),))


def watching_faults(scenario: Scenario) -> Iterator[Fault]:
    """Subscribers without anybody to watch, more decoders than clients, layers that nobody sends."""
    for index, group in enumerate(scenario.subscribers):
        path: Path = ("subscribers", index)
        names = [one.name for one in scenario.publishers]
        if group.of not in (ALL, FIRST, *names):
            wanted = f"all, first or the name of a publishers group: {', '.join(names) or 'there is none'}"
            yield Fault((*path, "of"), f'"{group.of}"', wanted, (("publishers",),))
            continue
        last = min(1, scenario.rooms_of(group) - 1)
        if not scenario.watched_by(group, last):
            rooms = "the rooms after the first" if last else "the room"
            wanted = f"publishers to watch in {rooms}"
            yield Fault((*path, "of"), f'"{group.of}"', wanted, (("publishers",), ("rooms",)))
        if group.decode > scenario.size_of(group):
            wanted = f"at most the group's {scenario.size_of(group)} clients"
            yield Fault((*path, "decode"), str(group.decode), wanted, (("rooms",),))
        if group.layer is not None:
            yield from _layer_faults(scenario, (*path, "layer"), group, group.layer)


def _layer_faults(scenario: Scenario, path: Path, group: Subscribers, layer: str) -> Iterator[Fault]:
    watched = scenario.watched_by(group)
    media = [scenario.media.get(one.media) for one in watched]
    videos = [one.video for one in media if one is not None and one.video is not None]
    if watched and all(media) and not any(video.layers == 3 or video.pcap for video in videos):
        wanted = f"no layer, because none of {', '.join(one.name for one in watched)} sends 3 layers"
        yield Fault(path, f'"{layer}"', wanted, (("publishers",), ("media",)))


def action_faults(scenario: Scenario) -> Iterator[Fault]:
    """Actions after the end, on groups that do not exist or cannot do it, on more clients than there are."""
    for index, action in enumerate(scenario.actions):
        path: Path = ("actions", index)
        if action.at > scenario.duration:
            wanted = f"at most the duration, {scenario.duration:g} s"
            yield Fault((*path, "at"), f"{action.at:g}", wanted, (("duration",),))
        if isinstance(action, OnGroup):
            yield from _on_group_faults(scenario, path, action)
        elif isinstance(action, RestartTarget) and scenario.target.command is None:
            wanted = "target.command, which starts the server that is to be restarted"
            yield Fault((*path, "do"), '"restart-target"', wanted, (("target",),))


def _on_group_faults(scenario: Scenario, path: Path, action: Kill | Mute | ChangeLayer) -> Iterator[Fault]:
    groups = scenario.groups()
    group = groups.get(action.group)
    able = [one.name for one in groups.values() if _is_able(one, action)]
    if group is None or group.name not in able:
        who = {"mute": "publishers", "layer": "subscribers"}.get(action.do, "publishers or subscribers")
        yield Fault((*path, "group"), f'"{action.group}"', _one_of(able, who), GROUPS)
        return
    if action.count > scenario.size_of(group):
        wanted = f"at most the group's {scenario.size_of(group)} clients"
        yield Fault((*path, "count"), str(action.count), wanted, (*GROUPS, ("rooms",)))
    if isinstance(action, ChangeLayer) and isinstance(group, Subscribers):
        yield from _layer_faults(scenario, (*path, "layer"), group, action.layer)
    if isinstance(action, Mute) and isinstance(group, Publishers):
        media = scenario.media.get(group.media)
        if media is not None and getattr(media, action.kind) is None:
            wanted = f"a track that {group.name} sends"
            yield Fault((*path, "kind"), f'"{action.kind}"', wanted, (*GROUPS, ("media",)))


def _is_able(group: Group, action: Kill | Mute | ChangeLayer) -> bool:
    if isinstance(action, Mute):
        return isinstance(group, Publishers)
    return isinstance(group, Subscribers) or isinstance(action, Kill)


def churn_faults(scenario: Scenario) -> Iterator[Fault]:
    """Churn without subscribers, or that runs out of them before the end."""
    churn = scenario.churn
    clients = sum(scenario.size_of(group) for group in scenario.subscribers)
    if (churn.leaves or churn.joins) and not clients:
        yield Fault(("churn",), "leaves and joins", "a group in subscribers, or none of them", (("subscribers",),))
    elif (churn.leaves - churn.joins) * scenario.duration > clients:
        most = churn.joins + clients / scenario.duration
        wanted = f"at most {most:.3g} a second: more and all {clients} subscribers are gone before the end"
        rests: tuple[Path, ...] = (("churn", "joins"), ("subscribers",), ("rooms",), ("duration",))
        yield Fault(("churn", "leaves"), f"{churn.leaves:g}", wanted, rests)


def expect_faults(scenario: Scenario) -> Iterator[Fault]:
    """Figures and groups that do not exist, and limits that cannot be read."""
    groups = scenario.groups()
    for name, text in scenario.expect.items():
        group, figure = figure_of(name)
        if figure not in FIGURES:
            yield Fault(("expect", name), "an unknown figure", _near_figure(figure))
        elif group is not None and group not in groups:
            yield Fault(("expect", name), f'the group "{group}"', _one_of(groups, "publishers or subscribers"), GROUPS)
        else:
            try:
                parse_limit(name, text)
            except LimitError as error:
                yield Fault(("expect", name), f'"{text}"', str(error))


def _near_figure(name: str) -> str:
    near = difflib.get_close_matches(name, FIGURES, n=1)
    return f"a figure: did you mean {near[0]}?" if near else f"one of {', '.join(FIGURES)}"


CHECKS: tuple[Callable[[Scenario], Iterator[Fault]], ...] = (
    target_faults,
    media_faults,
    network_faults,
    group_faults,
    watching_faults,
    action_faults,
    churn_faults,
    expect_faults,
)


def all_faults(scenario: Scenario) -> Iterator[Fault]:
    """Every fault that only shows when values are seen together."""
    for check in CHECKS:
        yield from check(scenario)
