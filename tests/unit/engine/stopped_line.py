"""A process that waits for room in a full socket, to be stopped meanwhile: run by a test that does so.

Says "waiting", goes on when it is told to, and prints how long it waited, how much more it would, and whether it knows
that it stood still.
"""

from __future__ import annotations

import sys
import threading
import time

from mediaserver.engine.send import flush, tell_time
from tests.unit.engine.desk import Desk
from tests.unit.engine.test_sending import LONG, Slow, queue, wait_for_full_socket


def main() -> None:
    desk = Desk()
    slow, end = Slow(desk), desk.peer()
    slow.direct(end)
    desk.w.send_wait = LONG
    desk.w.now = time.monotonic_ns()
    sent = queue(desk, end, 200)

    def read_late() -> None:
        wait_for_full_socket(desk)
        print("waiting", flush=True)
        sys.stdin.readline()
        slow.read(len(sent))

    reader = threading.Thread(target=read_late)
    reader.start()
    flush(desk.w)
    tell_time(desk.w)
    reader.join()
    print(int(desk.w.send_waited), int(desk.w.patience), int(desk.w.awake_since), int(desk.w.drop_send))
    slow.close()
    desk.close()


if __name__ == "__main__":
    main()
