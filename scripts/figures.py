"""The table of ./scripts/bench figures, from its lines of JSON: figures.py FILE

Each cell shows the median of the rounds, and in brackets the best and the worst. A figure is given
beside the floor measured in the same round, and as a multiple of it.
"""
import json
import statistics
import sys


def spread(values, digits=1):
    median, low, high = (f"{v:.{digits}f}" for v in (statistics.median(values), min(values), max(values)))
    return f"{median} ({low} - {high})" if len(values) > 1 else median


def table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) if i < 2 else cell.rjust(width)
                 for i, (cell, width) in enumerate(zip(row, widths))]
        print("  " + "  ".join(cells).rstrip())


def floor_us(line):
    if line["durability"] == "disk":
        return line["floor"]["three_writers"]["p50_us"]
    return line["floor"]["p50_us"]


def main():
    lines = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
    settings, gaps = {}, []
    for line in lines:
        if "failover_ms" in line:
            gaps.append(line["failover_ms"])
        else:
            port = "udp" if line["driver"] == "-" else line["driver"]
            key = (line["durability"], f"{port}, {line['links']}")
            settings.setdefault(key, []).append(line)
    rows = [["durability", "port", "acquire p50", "p99", "p99.9", "pair p50", "floor p50", "multiple"]]
    for (durability, port), rounds in sorted(settings.items()):
        acquire = [r["pairs"]["acquire"] for r in rounds]
        rows.append([durability, port,
                     spread([a["p50_us"] for a in acquire]),
                     spread([a["p99_us"] for a in acquire]),
                     spread([a["p999_us"] for a in acquire], 0),
                     spread([r["pairs"]["acquire_release"]["p50_us"] for r in rounds]),
                     spread([floor_us(r) for r in rounds]),
                     spread([a["p50_us"] / floor_us(r) for a, r in zip(acquire, rounds)], 2)])
    print("\n  microseconds; one client, one request at a time; median (best - worst) of "
          f"{max(len(r) for r in settings.values())} rounds\n")
    table(rows)
    print("\n  floor: disk is the p50 of a 4 KiB synced overwrite with three writers at once on this "
          "disk;\n         memory is the p50 of the port's own ping-pong")
    if gaps:
        print(f"  failover: longest time without an answer after kill -9 of the leader: {spread(gaps, 0)} ms")


main()
