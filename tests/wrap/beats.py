"""A client in wrap mode that waits for what its server says, in bursts with pauses in which only beats come.

beats.py LIB             plays it: TAP on standard output
beats.py client STYLE    the client: no word of holdfast in it.  STYLE: epoll, poll or select, and how reads are made not
                         to wait: ioctl or fcntl; with "stopped" it makes them wait again, stops itself for some beats,
                         and asks whether it can read
"""
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import time

INTERVAL = 0.2  # seconds, of both ends
BURSTS, LARGEST_PAUSE = 8, 1.5


def set_blocking(c, how, blocking):
    if how == "ioctl":
        c.setblocking(blocking)  # ioctl(FIONBIO)
    else:
        flags = fcntl.fcntl(c, fcntl.F_GETFL)
        fcntl.fcntl(c, fcntl.F_SETFL, flags & ~os.O_NONBLOCK if blocking else flags | os.O_NONBLOCK)


def waiter(style, c):
    """A function that waits until C can be read, at most so many seconds: whether it can."""
    if style == "epoll":
        p = select.epoll()
        p.register(c, select.EPOLLIN)
        return lambda seconds: p.poll(seconds) != []
    if style == "poll":
        p = select.poll()
        p.register(c, select.POLLIN)
        return lambda seconds: p.poll(seconds * 1000) != []
    return lambda seconds: select.select([c], [], [], seconds)[0] != []


def burst(c, wait):
    """Twenty round trips; how many waits were ended by nothing."""
    idle = 0
    for i in range(20):
        os.write(c.fileno(), b"%02d" % i)
        answer = b""
        while len(answer) < 2:
            if not wait(30):
                sys.exit("no answer")
            try:
                answer += os.read(c.fileno(), 16)
            except BlockingIOError:
                idle += 1
        if answer != b"%02d" % i:
            sys.exit(f"round trip {i}: {answer}")
    return idle


def client(style, how, stopped, port):
    c = socket.create_connection(("127.0.0.1", port))
    set_blocking(c, how, False)
    wait = waiter(style, c)
    idle = 0
    for i in range(BURSTS):
        idle += burst(c, wait)
        if stopped:
            set_blocking(c, how, True)
            subprocess.Popen(["/bin/sh", "-c", f"sleep {3 * INTERVAL}; kill -CONT {os.getpid()}"],
                             env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"})
            os.kill(os.getpid(), signal.SIGSTOP)
            signal.alarm(10)  # ends it, should the read sleep
            if wait(0):
                os.read(c.fileno(), 16)
                idle += 1
            signal.alarm(0)
            set_blocking(c, how, False)
            continue
        end = time.monotonic() + LARGEST_PAUSE * (i + 1) / BURSTS
        while (left := end - time.monotonic()) > 0:
            if wait(left):
                try:
                    sys.exit(f"bytes of nobody's: {os.read(c.fileno(), 16)}")
                except BlockingIOError:
                    idle += 1
    print(idle)


def serve(listener):
    while True:
        c, _ = listener.accept()
        while (got := c.recv(16)):
            c.sendall(got)
        c.close()


def main(lib):
    wrap = dict(os.environ, LD_PRELOAD=lib, HOLDFAST_MODE="wrap", HOLDFAST_INTERVAL=f"{INTERVAL * 1000:.0f}ms",
                HOLDFAST_TIMEOUT="20s", HOLDFAST_HELLO_WAIT="10s", HOLDFAST_LEVEL="error")
    server = subprocess.Popen([sys.executable, __file__, "server"], env=wrap, stdout=subprocess.PIPE, text=True)
    port = server.stdout.readline().strip()
    runs = []
    for style in "epoll", "poll", "select":
        for how in "ioctl", "fcntl":
            for more in [], ["stopped"]:
                words = [style, how, *more]
                runs.append((words, subprocess.Popen([sys.executable, __file__, "client", *words, port], env=wrap,
                                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)))
    for words, run in runs:
        said = run.communicate(timeout=100)[0].strip()
        fine = run.returncode == 0 and said == "0"  # some 30 beats come in the pauses
        print(f"{'ok' if fine else 'not ok'} beats, {', '.join(words)}: {said} of the waits were ended by nothing",
              f"(status {run.returncode})" if run.returncode else "")
    server.kill()
    server.wait()


if sys.argv[1] == "client":
    client(sys.argv[2], sys.argv[3], "stopped" in sys.argv, int(sys.argv[-1]))
elif sys.argv[1] == "server":
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listening:
        print(listening.getsockname()[1], flush=True)
        import threading
        threads = [threading.Thread(target=serve, args=[listening], daemon=True) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
else:
    main(sys.argv[1])
