"""report.py: the tables and the plot of one run."""
import subprocess
import tempfile

import bulk
import cases

ORDER = ["quorumfs"] + [name for name in cases.ALL if name != "quorumfs"] + ["ext4, 3 times"]


def number(value):
    if value is None:
        return ""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def print_table(rows, heads):
    widths = [max(len(row[i]) for row in rows + [heads]) for i in range(len(heads))]
    for row in [heads] + rows:
        print("  ".join([row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]))


def table_row(title, own, results, names, fast_is_high):
    row = [title, f"{number(own['value'])} ({number(own['low'])}..{number(own['high'])})"]
    for name in names:
        other = results.get(name)
        if other is None or not other["value"] or not own["value"]:
            row.append("")
            continue
        ratio = other["value"] / own["value"] if fast_is_high else own["value"] / other["value"]
        row.append(number(ratio))
    return row


def print_results(data, wanted, bulk_wanted):
    names = [name for name in ORDER[1:] if any(name in results for results in data["figures"].values())]
    titles = {case.id: (case.title + {"per_second": ", /s", "p99_us": ", µs"}.get(case.figure, ", µs"), case.figure) for case in wanted}
    titles.update({name: (bulk.TITLES[name], "seconds") for name in bulk_wanted})
    rows = []
    for case, (title, figure) in titles.items():
        results = data["figures"].get(case, {})
        if "quorumfs" in results:
            rows.append(table_row(title, results["quorumfs"], results, names, figure == "per_second"))
    print(f"\nMedian of {data['rounds']} rounds of quorumfs (lowest..highest); then its time as a multiple of each peer's:")
    print("below 1 quorumfs is faster.\n")
    print_table(rows, ["", "quorumfs"] + names)


def bulk_targets(figure):
    def ratio(case, a, b):
        return figure(case, a) / figure(case, b) if figure(case, a) and figure(case, b) else None
    yield "read of 1 GiB, cached / ext4", ratio("read-1g", "quorumfs", "ext4"), 1.2, "<="
    yield "write of 1 GiB / the same three times to ext4", ratio("write-1g", "quorumfs", "ext4, 3 times"), 2, "<="
    yield "ls -l of 100,000 / ext4", ratio("ls", "quorumfs", "ext4"), 2, "<="


def print_targets(data):
    def figure(case, peer):
        found = data["figures"].get(case, {}).get(peer)
        return found["value"] if found else None

    rows = []
    for text, ratio, limit, sense in list(cases.targets(figure)) + list(bulk_targets(figure)):
        if ratio is not None:
            met = ratio <= limit if sense == "<=" else ratio >= limit
            rows.append([text, number(ratio), f"{sense} {limit}", "met" if met else "not met"])
    rows.append(["idle, % of one core", number(data["idle_percent"]), "< 0.5", "met" if data["idle_percent"] < 0.5 else "not met"])
    print("\nTargets:\n")
    print_table(rows, ["", "ratio", "target", ""])


def torn_reads(data):
    """[(peer, how many gets of the mixed load met an empty or a half written value)]"""
    return [(peer, sum(result["torn"] for result in found["rounds"])) for peer, found in data["figures"].get("mixed", {}).items()]


def print_all(data, wanted, bulk_wanted):
    print_results(data, wanted, bulk_wanted)
    if torn := torn_reads(data):
        print("\nGets of the mixed load that met an empty or half written value: " + ", ".join(f"{peer} {n:,}" for peer, n in torn))
    print_targets(data)
    for problem in data["problems"]:
        print("failed: " + problem)


PLOTTED = [("get", "hot get"), ("get-cold", "cold get"), ("put", "put"), ("put-durable", "durable put")]


def plot(data, path):
    """Bars of the operations that matter most, on a logarithmic scale."""
    shown = [(case, title) for case, title in PLOTTED if case in data["figures"]]
    names = [name for name in ORDER if any(name in data["figures"][case] for case, _ in shown)]
    terminal = "pngcairo size 1000,480" if path.endswith(".png") else "svg size 1000,480 font 'sans,13'"
    with tempfile.NamedTemporaryFile("w", suffix=".dat") as file:
        for case, title in shown:
            values = [data["figures"][case].get(name) for name in names]
            cells = ["?" if value is None else f"{value['value']:.2f}" for value in values]
            file.write("\t".join([f'"{title}"'] + cells) + "\n")
        file.flush()
        columns = ", ".join(f"'{file.name}' using {i + 2}:xtic(1) title '{name}'" for i, name in enumerate(names))
        script = (f"set terminal {terminal}; set output '{path}'; set termoption noenhanced; set linetype 9 lc rgb '#7f7f7f'; "
                  "set linetype 10 lc rgb '#8c564b'; set style data histograms; set style histogram clustered gap 1;"
                  "set style fill solid 0.9 noborder; set logscale y; set ylabel 'microseconds, 1 KiB, one client'; set grid ytics;"
                  f"set datafile missing '?'; set key outside right; set datafile separator '\\t'; plot {columns}")
        subprocess.run(["gnuplot", "-e", script], check=True)
