"""bench.py: measures quorumfs beside its peers, all in one run, and prints ratios. Started by run.sh."""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import bulk
import cases
import peers
import report
from measuring import Progress, drop_caches, measure, summary


def run_case(build, running, case, rounds, progress, problems):
    """{peer: [a result for each round]}"""
    results = {}
    taking_part = [running[name] for name in case.peers if name in running]
    for peer in taking_part:
        try:
            measure(build, peer, case, "fill")
            results[peer.name] = []
        except RuntimeError as error:
            problems.append(str(error))
    for number in range(rounds):
        turn = number % max(len(taking_part), 1)
        for peer in taking_part[turn:] + taking_part[:turn]:
            progress.step(f"{case.title}: {peer.name}")
            if peer.name not in results:
                continue
            try:
                if case.cold:
                    drop_caches()
                results[peer.name].append(measure(build, peer, case, tag=f"{case.id}-{number}"))
            except RuntimeError as error:
                problems.append(str(error))
                del results[peer.name]
    return results


def start_all(wanted, work, build):
    running, missing = {}, {}
    for kind in peers.ALL:
        if wanted and kind.name not in wanted and kind is not peers.Quorumfs:
            continue
        peer = kind(work, build)
        try:
            peer.start()
            running[peer.name] = peer
        except peers.Unavailable as reason:
            peer.stop()
            missing[peer.name] = str(reason)
        print(f"  {peer.name}: {'runs' if peer.name in running else missing[peer.name]}", flush=True)
    return running, missing


def idle_percent(pid, seconds=5):
    def used():
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    time.sleep(2)  # what the measurements before left to be settled
    before = used()
    time.sleep(seconds)
    return 100 * (used() - before) / seconds


def arguments():
    parser = argparse.ArgumentParser(prog="run.sh", description="Measures quorumfs and its peers side by side; prints ratios.")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is repeated (5)")
    parser.add_argument("--quick", action="store_true", help="1 KiB and one client only, no bulk transfers")
    parser.add_argument("--only", metavar="CASE", action="append", help="this case alone, such as get or put-durable; may be repeated")
    parser.add_argument("--peer", metavar="NAME", action="append", help="quorumfs and this peer alone; may be repeated")
    parser.add_argument("--json", metavar="FILE", help="all figures, also of each round")
    parser.add_argument("--plot", metavar="FILE.svg", help="a plot (gnuplot); FILE.png makes a PNG")
    parser.add_argument("--dir", default="/var/tmp", help="where the stores lie meanwhile: on ext4 (/var/tmp)")
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    given = arguments()
    if os.geteuid() != 0:
        sys.exit("run.sh: must be root: it drops the kernel's caches and starts servers")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    wanted = [case for case in cases.cases(given.quick) if not given.only or case.id in given.only]
    bulk_wanted = [] if given.quick or given.only and not set(given.only) & set(bulk.IDS) else \
        [name for name in bulk.IDS if not given.only or name in given.only]
    if not wanted and not bulk_wanted:
        sys.exit("run.sh: no such case")
    work = tempfile.mkdtemp(prefix="quorumfs-bench-", dir=given.dir)
    running, figures, problems = {}, {}, []
    try:
        print("starting:")
        running, missing = start_all(given.peer, work, given.build)
        if "quorumfs" not in running:
            sys.exit("run.sh: quorumfs itself did not start")
        progress = Progress(sum(given.rounds * len([p for p in case.peers if p in running]) for case in wanted) or 1)
        for case in wanted:
            results = run_case(given.build, running, case, given.rounds, progress, problems)
            figures[case.id] = {name: summary(rounds, case.figure) for name, rounds in results.items() if rounds}
        progress.end()
        for name in bulk_wanted:
            try:
                figures[name] = bulk.run(name, running, given.rounds, summary)
            except (OSError, subprocess.CalledProcessError) as error:  # the other figures are worth having
                problems.append(f"{name}: {error}")
        idle = idle_percent(running["quorumfs"].pid)
        data = {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "kernel": os.uname().release, "rounds": given.rounds,
                "missing": missing, "problems": problems, "idle_percent": idle, "figures": figures}
        problems += [f"{peer}: {n} gets met a value that was being replaced"
                     for peer, n in report.torn_reads(data) if n and peer.startswith("quorumfs")]
        report.print_all(data, wanted, bulk_wanted)
        if given.json:
            with open(given.json, "w") as file:
                json.dump(data, file, indent=1)
        if given.plot:
            report.plot(data, given.plot)
    finally:
        for peer in reversed(list(running.values())):
            peer.stop()
        shutil.rmtree(work, ignore_errors=True)
    sys.exit(1 if problems else 0)


main()
