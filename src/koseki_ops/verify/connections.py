"""Attempts to connect, and what of their outcome is an answer.

All attempts of an end are one process: the kernel connects, however late that process is, and is
asked once more before an attempt is given up. A process an attempt had its time up before it had
any, on a machine that starts hundreds of them at once.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable

OPEN, UNREACHABLE = "open", "no answer"
# What an attempt that was made meets where nothing lets it in. Any other word is not an answer of
# the network: the attempt was not made, and says nothing.
SHUT = (
    UNREACHABLE,
    "Connection refused",
    "No route to host",
    "Network is unreachable",
    "Operation not permitted",
    "Permission denied",
)

# Each program takes ADDRESS,PROTOCOL,PORT,SECONDS and prints address, protocol, port and what came
# of it. A datagram gets no answer: it is open when it left and the second one met no refusal.
#
# Every Debian has Perl's base, also the datacenter's host, which has no Python. Time is counted in
# rounds of a tenth of a second in which nothing happened.
HOST_PROGRAM = r"""
use strict; use Socket; use Fcntl; use Errno qw(EINPROGRESS);
my ($round, %waiting) = (0);
sub report { my ($job, $outcome) = @_; print join(" ", @$job[0..2], $outcome), "\n" }
for (@ARGV) {
    my $job = [split /,/];
    my ($address, $protocol, $port, $seconds) = @$job;
    my $kind = $protocol eq "tcp" ? SOCK_STREAM : SOCK_DGRAM;
    my $way;
    socket($way, PF_INET, $kind, 0) or report($job, $!), next;
    fcntl($way, F_SETFL, O_NONBLOCK) or report($job, $!), next;
    connect($way, sockaddr_in($port, inet_aton($address))) or $! == EINPROGRESS
        or report($job, $!), next;
    if ($protocol eq "udp") {
        defined send($way, ".", 0) or report($job, $!), next;
        $seconds = 0.3;
    }
    $waiting{fileno $way} = [$way, $job, $seconds * 10];
}
while (%waiting) {
    my $asked = "";
    $waiting{$_}[1][1] eq "tcp" and vec($asked, $_, 1) = 1 for keys %waiting;
    my $found = select(undef, my $ready = $asked, undef, 0.1);
    $round++ unless $found > 0;
    for (keys %waiting) {
        my ($way, $job, $rounds) = @{$waiting{$_}};
        if ($found > 0 && vec($ready, $_, 1)) {
            my $error = unpack "i", getsockopt($way, SOL_SOCKET, SO_ERROR);
            $! = $error;
            report($job, $error ? $! : "open");
        } elsif ($round < $rounds || $found > 0) {
            next;
        } elsif ($job->[1] eq "udp") {
            report($job, defined send($way, ".", 0) ? "open" : $!);
        } else {
            report($job, "no answer");
        }
        delete $waiting{$_};
    }
}
"""
ORIGIN_PROGRAM = """
import os, select, socket, sys, time

poll, waiting, doors, here = select.poll(), {}, [], [""]

def report(job, outcome):
    address, protocol, port, _, *line = job
    print(*line[:1], address, protocol, port, outcome)

def enter(netns):
    if netns != here[0]:
        handle = os.open(f"/run/netns/{netns}", os.O_RDONLY)
        os.setns(handle, os.CLONE_NEWNET)
        os.close(handle)
        here[0] = netns

def made(address, netns="", source=""):
    enter(netns)
    way = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    way.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if source:
        way.bind((source, 0))
    return way

jobs = [words.split(",") for words in sys.argv[1:]]
for _, address, port, netns in (job for job in jobs if job[0] == "listen"):
    door = made(address, netns)
    door.bind((address, int(port)))
    door.listen(4096)
    doors.append(door)
for job in (job for job in jobs if job[0] != "listen"):
    address, _, port, seconds, *line = job
    try:
        way = made(address, *line)
        way.setblocking(False)
        way.connect((address, int(port)))
    except BlockingIOError:
        pass
    except OSError as error:
        report(job, os.strerror(error.errno))
        continue
    poll.register(way, select.POLLOUT)
    waiting[way.fileno()] = way, job, time.monotonic() + float(seconds)
while waiting:
    now = time.monotonic()
    first = min(end for _, _, end in waiting.values())
    answered = {number for number, _ in poll.poll(max(0, first - now) * 1000)}
    for number, (way, job, end) in list(waiting.items()):
        if number in answered:
            error = way.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            report(job, os.strerror(error) if error else "open")
        elif end <= now:
            report(job, "no answer")
        else:
            continue
        poll.unregister(number)
        del waiting[number]
        way.close()
"""
# Each attempt is a descriptor of its own.
MOST = 'ulimit -n "$(ulimit -Hn)"; '


def from_host(jobs: Iterable[str]) -> str:
    """Return the shell command that makes attempts from a host, whatever is installed there."""
    return MOST + shlex.join(["perl", "-e", HOST_PROGRAM, *jobs])


def from_origin(jobs: Iterable[str]) -> str:
    """Return the shell command that makes attempts from where the toolkit runs; TCP alone.

    A job may go on with NAMESPACE and SOURCE, where and from which address of it the attempt is
    made: its line begins with the namespace then. `door` is a job, too.
    """
    return MOST + shlex.join([sys.executable, "-c", ORIGIN_PROGRAM, *jobs])


def door(netns: str, address: str, port: int) -> str:
    """Return the job that listens in a namespace while all attempts are made."""
    return f"listen,{address},{port},{netns}"


def outcomes_on_lines(text: str) -> dict[tuple[str, str, int], str]:
    """Return what each attempt from a namespace met, by namespace, address and port."""
    rows = (line.split(" ", 4) for line in text.splitlines())
    return {(netns, address, int(port)): outcome for netns, address, _, port, outcome in rows}
