"""Where the secrets of a session are not: in the environment, in events, in what the tool shows, in a core dump.

secrets.py keyed|unkeyed LIB TOOL DIR     TAP on standard output
"""
import glob
import os
import resource
import re
import signal
import struct
import subprocess
import sys

from forged import HELLO, NONCE, SESSION, Play, resume_key, resume_name


def swapped(data):
    """As SHA-256 has it in registers: big-endian words."""
    return struct.pack("<%dI" % (len(data) // 4), *struct.unpack(">%dI" % (len(data) // 4), data))


def needles(session, secret):
    """What proves something, by name, and what HMAC makes of it on its way (RFC 2104)."""
    key = resume_key(secret, session)
    found = {"the key of its resumption": key}
    if secret:
        found["the secret"] = secret
    else:
        found["the id of the session"] = session
    for name, value in list(found.items()):
        for pad in (0x36, 0x5C):
            padded = bytes(b ^ pad for b in value.ljust(64, b"\0"))
            found["%s, as HMAC pads it with %x" % (name, pad)] = padded[:16]
            found["%s, padded with %x, in words" % (name, pad)] = swapped(padded)[:16]
    return found


def dumped(pid):
    """The mappings that a core dump has: (description, bytes) of those without "dd" (proc(5), VmFlags)."""
    at = None
    with open("/proc/%d/smaps" % pid) as maps, open("/proc/%d/mem" % pid, "rb", buffering=0) as memory:
        for line in maps:
            if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) ", line):
                at = [int(match[1], 16), int(match[2], 16)]
                what = line.strip()
            elif line.startswith("VmFlags:") and at and " dd" not in line and " rd" in line and "[v" not in what:
                try:
                    memory.seek(at[0])
                    yield what, memory.read(at[1] - at[0])
                except OSError:
                    pass


def hits(data, wanted):
    return [name for name, value in wanted.items() if value in data]


def main():
    keyed, lib, tool, directory = sys.argv[1] == "keyed", *sys.argv[2:]
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    play = Play(keyed, lib, directory)
    try:
        play.check("a line there and back", play.exchange())
        first = bytes(play.proxy.said[-1][0])
        play.proxy.reset()
        play.unharmed("a reset on the path")
        play.until(lambda: play.told("server", "resumed") == 1, 10)
        session, secret = first[SESSION:SESSION + 16], play.secret
        wanted = needles(session, secret)
        play.check("the test can tell: the id was in the first HELLO, and is not in the RESUME",
                   session in first[:HELLO] and session not in bytes(play.proxy.said[-1][0]))

        for who, pid in (("server", play.server.pid), ("client", play.client.pid)):
            with open("/proc/%d/environ" % pid, "rb") as f:
                found = hits(f.read(), wanted)
            play.check("%s: nothing in its environment" % who, not found, found)
            found = ["%s in %s" % (name, what) for what, data in dumped(pid) for name in hits(data, wanted)]
            play.check("%s: nothing in memory that a core dump has" % who, not found, found)

        said = b""
        for arguments in (["top", "--once", "--json"], ["metrics"], ["explain", str(play.server.pid)],
                          ["explain", "--json", str(play.client.pid)]):
            p = subprocess.run([tool, *arguments], capture_output=True, timeout=20)
            said += p.stdout + p.stderr
        play.check("the tool shows the connections", said.count(b"%d" % play.server.pid) > 0, said[-300:])
        for path in glob.glob(directory + "/*.json"):
            with open(path, "rb") as f:
                said += f.read()
        everything = dict(wanted, name=resume_name(resume_key(secret, session)), id=session,
                          nonce=first[NONCE:NONCE + 16])
        everything.update({name + " in hexadecimal": value.hex().encode() for name, value in everything.items()})
        found = hits(said, everything)
        play.check("nothing in events or in what the tool shows", not found, found)

        with open("/proc/sys/kernel/core_pattern") as f:
            pattern = f.read().strip()
        if pattern.startswith(("|", "/")):
            print("ok %s: a core dump # SKIP core_pattern is %s" % (sys.argv[1], pattern))
            return play.failed
        play.server.send_signal(signal.SIGSEGV)
        play.server.wait(20)
        cores = glob.glob(directory + "/core*")
        if not cores:
            print("ok %s: a core dump # SKIP the kernel writes none" % sys.argv[1])
            return play.failed
        with open(cores[0], "rb") as f:
            core = f.read()
        play.check("the core is one of that program", b"forged.py" in core)
        found = ["%s at %#x" % (name, core.find(wanted[name])) for name in hits(core, wanted)]
        play.check("nothing in its core dump", not found, found)
    finally:
        play.end()
    return play.failed


sys.exit(main())
