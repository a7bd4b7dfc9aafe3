"""count.py SUITE TESTLOG OUT: prints what failed in a log of `meson test`; writes "PASSED FAILED" to OUT.

Test points of TAP programs count one each, programs of other kinds as a whole. A program that
crashed, timed out or printed no plan fails once more than its points say; a suite without a single
test point fails.
"""
import json
import re
import sys

POINT = re.compile(r"^(not )?ok\b[ 0-9]*(?:- )?(.*)$")
OUTPUT_LINES_MAX = 300


def count(entry):
    """(passed, failed, skipped, names of failed points) of one test program."""
    passed = failed = skipped = 0
    names = []
    for line in (entry.get("stdout") or "").splitlines():
        match = POINT.match(line)
        if not match:
            continue
        directive = re.search(r"#\s*(SKIP|TODO)\b", match.group(2), re.IGNORECASE)
        if directive and directive.group(1).upper() == "SKIP":
            skipped += 1
        elif match.group(1) and not directive:
            failed += 1
            names.append(match.group(2))
        else:
            passed += 1
    if passed + failed + skipped == 0 and entry["result"] == "OK":
        passed = 1
    result = entry["result"]
    if result in ("TIMEOUT", "INTERRUPT") or (result not in ("OK", "SKIP", "EXPECTEDFAIL") and failed == 0):
        failed += 1
        names.append("ended with " + result)
    return passed, failed, skipped, names


def show(entry, names):
    print(f"FAILED {entry['name']}: " + "; ".join(names))
    for stream in ("stdout", "stderr"):
        lines = (entry.get(stream) or "").splitlines()
        for line in lines[-OUTPUT_LINES_MAX:]:
            print(f"  {stream}: {line}")


def main():
    suite, path, out = sys.argv[1:]
    total_passed = total_failed = total_skipped = 0
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            entries = [json.loads(line) for line in log if line.strip()]
    except (OSError, ValueError) as error:
        print(f"suite {suite}: no readable log: {error}")
        entries = []
    for entry in entries:
        passed, failed, skipped, names = count(entry)
        total_passed += passed
        total_failed += failed
        total_skipped += skipped
        if failed:
            show(entry, names)
    if total_passed + total_failed == 0:
        print(f"suite {suite}: no test ran")
        total_failed = 1
    if total_skipped:
        print(f"suite {suite}: {total_skipped} skipped")
    with open(out, "w", encoding="ascii") as counts:
        counts.write(f"{total_passed} {total_failed}\n")


main()
