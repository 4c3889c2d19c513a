"""The results as a table and as plots, and the targets they are held against."""

import subprocess

TOLERANCE = 0.1  # a median this near to its target meets it


def target(what, value, sense, wanted):
    """`sense` is ">=" or "<="."""
    met = value >= wanted * (1 - TOLERANCE) if sense == ">=" else value <= wanted * (1 + TOLERANCE)
    return {"what": what, "value": value, "sense": sense, "target": wanted, "met": met}


def wanted_ratio(size, subscribers):
    if subscribers >= 10:
        return 0.85 if size == 1024 else 0.9
    return 0.4 if size == 1024 else 0.7


def targets(results):
    """Every target that the parts that were run can be held against."""
    out = []
    for cell in results.get("throughput", []):
        size, subscribers = cell["size"], cell["subscribers"]
        name = cell_name(cell)
        out.append(target(f"{name}: rate / bare sender", cell["ratio"], ">=",
                          wanted_ratio(size, subscribers)))
        if subscribers >= 100:
            out.append(target(f"{name}: CPU per delivery / bare sender", cell["cpu_ratio"],
                              "<=", 1.2))
        out.append(target(f"{name}: growth, MiB", cell["growth_bytes"] / 2**20, "<=", 16))
    for cell in results.get("latency", []):
        out.append(target(f"{cell['subscribers']} subscribers, {cell['rate']} events/s: "
                          "p50 / bare relay", cell["ratio"], "<=", 1.15))
    for cell in results.get("requests", []):
        out.append(target(f"{cell_name(cell)}: pipelined requests / data frames", cell["ratio"],
                          ">=", 0.5))
    if "stalled" in results:
        part = results["stalled"]
        for policy in ("skip", "disconnect"):
            out.append(target(
                f"one of {part['subscribers']} stalled, {policy}: the others' rate",
                part["rate_each"][policy] / part["rate_each"]["none"], ">=", 0.95))
            out.append(target(
                f"one of {part['subscribers']} stalled, {policy}: memory for it, MiB",
                max(0, part["growth_bytes"][policy] - part["growth_bytes"]["none"]) / 2**20,
                "<=", part["max_lag"] / 2**20))
    if "memory" in results:
        part = results["memory"]
        out.append(target(f"{part['connections']} idle connections: bytes each",
                          part["bytes_each"], "<=", 512))
    if "idle" in results:
        part = results["idle"]
        out.append(target(f"{part['subscribers']} idle subscribers: CPU, %",
                          100 * part["cpu_share"], "<=", 0.5))
        out.append(target(f"{part['subscribers']} idle subscribers: wake-ups/s",
                          part["wake_ups_per_second"], "<=", 2))
    for cell in results.get("hook", {}).get("cells", []):
        if cell["subscribers"] == 1 and "ratio" in cell:
            out.append(target("messages/s through a counting hook / kamailio", cell["ratio"],
                              ">=", 3))
    for cell in results.get("hook-latency", []):
        out.append(target(f"{cell['subscribers']} subscribers, {cell['rate']} messages/s: "
                          "p50 / plain relay", cell["ratio"], "<=", 2))
    if "runaway" in results:
        part = results["runaway"]
        out.append(target("a hook that never ends: ms of CPU until it is stopped",
                          part["cpu_each_ms"], "<=", 60))
        out.append(target("beside such hooks: p50 of events / beside a busy process",
                          part["hook_p50_us"] / part["process_p50_us"], "<=", 1.2))
    return out


def size_name(size):
    return f"{size // 1024} KiB" if size >= 1024 else f"{size} B"


def cell_name(cell):
    return f"{size_name(cell['size'])} x {cell['subscribers']}"


def rate_name(rate):
    return f"{rate / 1e6:.2f} M" if rate >= 1e6 else f"{rate / 1e3:.1f} k"


def disturbed(cell):
    return "  (others used the machine)" if cell["others_cpu_share"] > 0.1 else ""


def figures(cell, *names):
    """The latencies of each: p50, p99, p99.9."""
    return "  ".join(" ".join(f"{cell[f'{name}_{point}_us']:>8.0f}"
                              for point in ("p50", "p99", "p99.9")) for name in names)


def table(results):
    lines = [f"{results['machine']}; medians of {results['runs']} runs of "
             f"{results['seconds']:g} s, {results['time']}"]
    if "throughput" in results:
        lines += ["", "Deliveries a second; CPU in seconds for a million deliveries",
                  f"{'cell':<14} {'evrelay':>10} {'bare':>10} {'send':>8} {'ratio':>6}   "
                  f"{'CPU':>8} {'bare':>8} {'ratio':>6}   {'growth':>9}"]
        for cell in results["throughput"]:
            lines.append(
                f"{cell_name(cell):<14} {rate_name(cell['rate']):>10} "
                f"{rate_name(cell['bare_rate']):>10} {size_name(cell['bare_send']):>8} "
                f"{cell['ratio']:>6.2f}   {cell['cpu_per_million']:>8.4f} "
                f"{cell['bare_cpu_per_million']:>8.4f} {cell['cpu_ratio']:>6.2f}   "
                f"{cell['growth_bytes'] / 2**20:>5.1f} MiB{disturbed(cell)}")
    if "latency" in results:
        lines += ["", "Latency of 64 B events at a fixed rate, µs",
                  f"{'subscribers':>11} {'events/s':>9}   {'p50':>8} {'p99':>8} {'p99.9':>8}   "
                  f"{'bare p50':>8} {'p99':>8} {'p99.9':>8}   {'ratio of p50':>12}"]
        for cell in results["latency"]:
            lines.append(f"{cell['subscribers']:>11} {cell['rate']:>9}   "
                         f"{figures(cell, 'evrelay', 'bare')}   "
                         f"{cell['ratio']:>12.2f}{disturbed(cell)}")
    if "requests" in results:
        lines += ["", "Deliveries a second",
                  f"{'cell':<14} {'data frames':>12} {'requests':>12} {'ratio':>6}"]
        for cell in results["requests"]:
            lines.append(f"{cell_name(cell):<14} {rate_name(cell['data_rate']):>12} "
                         f"{rate_name(cell['requests_rate']):>12} {cell['ratio']:>6.2f}"
                         f"{disturbed(cell)}")
    if "stalled" in results:
        part = results["stalled"]
        each = part["rate_each"]
        lines += ["", f"{cell_name(part)}, events/s each: {rate_name(each['none'])} with none "
                  f"stalled; one stalled: {rate_name(each['skip'])} (policy skip), "
                  f"{rate_name(each['disconnect'])} (disconnect); nothing lost{disturbed(part)}"]
    if "hook" in results:
        lines += hook_table(results["hook"])
    if "hook-latency" in results:
        lines += ["", "Latency of 64 B messages that a hook relays, at a fixed rate, µs",
                  f"{'subscribers':>11} {'messages/s':>10}  {'p50':>8} {'p99':>8} {'p99.9':>8}   "
                  f"{'plain p50':>8} {'p99':>7} {'p99.9':>8}   {'ratio of p50':>12}"]
        for cell in results["hook-latency"]:
            lines.append(f"{cell['subscribers']:>11} {cell['rate']:>10}  "
                         f"{figures(cell, 'hook', 'relay')}   "
                         f"{cell['ratio']:>12.2f}{disturbed(cell)}")
    if "runaway" in results:
        part = results["runaway"]
        lines += ["", f"Latency of 64 B events to {part['subscribers']} subscribers, "
                  f"{part['rate']}/s, µs",
                  f"{'beside':<44} {'p50':>8} {'p99':>8} {'p99.9':>8}"]
        for name, what in (("alone", "nothing"),
                           ("hook", f"hooks that never end, {part['loops']} one after the other"),
                           ("process", "a process that burns a core")):
            lines.append(f"{what:<44} {figures(part, name)}{disturbed(part)}")
    lines += ["", f"{'target':<58} {'value':>9}    {'wanted':>8}"]
    for entry in results["targets"]:
        lines.append(f"{entry['what']:<58} {entry['value']:>9.3g}    "
                     f"{entry['sense']} {entry['target']:<6g} {'met' if entry['met'] else 'MISSED'}")
    met = sum(entry["met"] for entry in results["targets"])
    lines.append(f"{met} of {len(results['targets'])} targets met")
    return "\n".join(lines)


def hook_table(part):
    header = f"{'subscribers':>11} {'evrelay':>10}"
    if part["missing"] is None:
        header += f" {part['kamailio']:>16} {'lost':>6} {'ratio':>6}"
    lines = ["", "64 B messages a second through a hook that counts them and relays one event",
             header]
    for cell in part["cells"]:
        line = f"{cell['subscribers']:>11} {rate_name(cell['rate']):>10}"
        if part["missing"] is None:
            line += (f" {rate_name(cell['kamailio_rate']):>16} {cell['kamailio_lost']:>6.1%} "
                     f"{cell['ratio']:>6.2f}")
        lines.append(line + disturbed(cell))
    if part["missing"] is not None:
        lines.append(f"not compared with kamailio: {part['missing']} (how to have it: README.md)")
    return lines


THROUGHPUT_PLOT = """
set title "evrelay: deliveries a second, as a share of the bare sender's"
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.8 border -1
set boxwidth 0.9
set yrange [0:*]
set ytics format "%.1f"
set grid ytics
set key top left
set xtics rotate by -35
plot $data using 2:xtic(1) title "evrelay" linecolor rgb "#4477aa", \\
     $data using 0:3 with points pointtype 7 linecolor rgb "#cc3311" title "target"
"""

LATENCY_PLOT = """
set title "Latency of a delivery (64 B, fixed rate)"
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.8 border -1
set logscale y
set ylabel "µs"
set grid ytics
set key top left
plot $data using 2:xtic(1) title "evrelay p50" linecolor rgb "#4477aa", \\
     $data using 3 title "evrelay p99" linecolor rgb "#88bbdd", \\
     $data using 4 title "evrelay p99.9" linecolor rgb "#cce2f0", \\
     $data using 5 title "bare relay p50" linecolor rgb "#555555", \\
     $data using 6 title "bare relay p99" linecolor rgb "#999999", \\
     $data using 7 title "bare relay p99.9" linecolor rgb "#dddddd"
"""


def plot(results, folder):
    """Writes throughput.svg, .png, latency.svg, .png."""
    plots = {}
    if "throughput" in results:
        plots["throughput"] = THROUGHPUT_PLOT, [
            (cell_name(cell), cell["ratio"], wanted_ratio(cell["size"], cell["subscribers"]))
            for cell in results["throughput"]]
    if "latency" in results:
        plots["latency"] = LATENCY_PLOT, [
            (f"{cell['subscribers']} at {cell['rate']}/s",
             *(cell[f"{name}_{point}_us"] for name in ("evrelay", "bare")
               for point in ("p50", "p99", "p99.9")))
            for cell in results["latency"]]
    for name, (commands, rows) in plots.items():
        draw(folder / name, commands, rows, ("svg", "png"))


TERMINALS = {"svg": "svg size 1000,560 background 'white'", "png": "pngcairo size 1000,560"}


def draw(stem, commands, rows, endings):
    """Plots rows of a title and figures (None: there is none) to STEM.svg and so on."""
    data = "\n".join(f'"{row[0]}" ' + " ".join("NaN" if value is None else f"{value:.6g}"
                                               for value in row[1:])
                     for row in rows)
    for ending in endings:
        script = (f"set encoding utf8\nset terminal {TERMINALS[ending]}\n"
                  f"set output '{stem}.{ending}'\n$data <<END\n{data}\nEND\n{commands}")
        try:
            subprocess.run(["gnuplot"], input=script, text=True, check=True)
        except FileNotFoundError:
            print(f"no plot {stem}.{ending}: gnuplot is not installed")
