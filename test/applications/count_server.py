"""count_server.py PORT: answers as tcpcount does (test/workloads/tcpcount.c), one thread for each connection.

Beside them there are garbage in cycles, which only the collector finds, and a thread on an interval timer of the kernel. SIGUSR1
asks for a verdict.
"""
import gc
import os
import signal
import socket
import sys
import threading
import time

TICK_S = 0.05
KEPT = 500


class Node:
    """Points at itself: reference counts alone never free it."""

    def __init__(self, number):
        self.me = self
        self.number = number
        self.text = str(number) * 4


class Server:
    def __init__(self, port):
        self.lock = threading.Lock()
        self.answers = 0
        self.ticks = 0
        self.next = KEPT
        self.kept = {number: Node(number) for number in range(KEPT)}
        self.listener = socket.create_server(("", port), reuse_port=False)

    def tick(self):
        timer = os.timerfd_create(time.CLOCK_MONOTONIC)
        self.began = time.monotonic()
        os.timerfd_settime(timer, initial=TICK_S, interval=TICK_S)
        while True:
            # How often it went off since the last read: none is lost when this thread is late.
            self.ticks += int.from_bytes(os.read(timer, 8), sys.byteorder)

    def count(self):
        with self.lock:
            self.answers += 1
            del self.kept[self.next - KEPT]
            self.kept[self.next] = Node(self.next)
            self.next += 1

    def serve(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rw", encoding="ascii", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                self.count()
                lines.write(f"{line.rstrip()} {number}\n")
                lines.flush()

    def verdict(self, *_):
        with self.lock:
            broken = sum(1 for key, node in self.kept.items() if node.text != str(key) * 4 or node.me is not node)
            answers = self.answers
        elapsed = int((time.monotonic() - self.began) / TICK_S)
        state = "ok" if broken == 0 and gc.get_stats()[0]["collections"] > 0 else "BAD"
        print(f"verify {state} answers={answers} ticks={self.ticks} elapsed={elapsed} broken={broken}", flush=True)


def main():
    server = Server(int(sys.argv[1]))
    # Python runs handlers in the main thread, which does nothing else: no lock that it waits for is its own.
    signal.signal(signal.SIGUSR1, server.verdict)

    def accept():
        while True:
            connection, _ = server.listener.accept()
            threading.Thread(target=server.serve, args=(connection,), daemon=True).start()

    threading.Thread(target=server.tick, daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    print(f"python ready port={sys.argv[1]}", flush=True)
    while True:
        signal.pause()


main()
