#!/usr/bin/env python3
"""Destroy sockets of established loopback connections to PORT, one at a time, COUNT in all or until PID has ended.

usage: resetter.py PORT SEED COUNT SECONDS PID [LEAST]

SECONDS is the mean time between two.  ss -K (sock_destroy, CONFIG_INET_DIAG_DESTROY) ends a socket with an error and
resets its peer.  Only connections that are past their handshake: more than LEAST bytes (300, more than a HELLO) went each way.  Prints how many.
"""
import os
import random
import re
import subprocess
import sys
import time


def ss(*arguments):
    return subprocess.run(["ss", *arguments], capture_output=True, text=True).stdout


def ripe(port, least):
    lines = ss("-Htin", "state", "established", "dport", "=", f":{port}").split("\n")
    for about, info in zip(lines[::2], lines[1::2]):
        client = re.search(rf"127\.0\.0\.1:(\d+)\s+127\.0\.0\.1:{port}", about)
        sent, received = (re.search(rf"bytes_{way}:(\d+)", info) for way in ("sent", "received"))
        if client and sent and received and int(sent[1]) > least and int(received[1]) > least:
            yield client[1]


def main():
    port, seed, count, mean, pid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
    least = int(sys.argv[6]) if len(sys.argv) > 6 else 300
    chance, done = random.Random(seed), 0
    while done < count:
        time.sleep(mean * 2 * chance.random())
        try:
            os.kill(pid, 0)
        except OSError:
            break
        clients = sorted(ripe(port, least))
        if not clients:
            continue
        ends = [chance.choice(clients), port]
        chance.shuffle(ends)
        if "ESTAB" in ss("-HK", "sport", "=", f":{ends[0]}", "dport", "=", f":{ends[1]}"):
            done += 1
    print(done)


main()
