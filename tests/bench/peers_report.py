"""The results of the peers benchmark as Markdown tables and plots, and the targets."""

from markdown import cpu_name, markdown, replace_tables, time_of
from parts import POINTS
from report import cell_name, draw, rate_name, size_name, target, wanted_ratio

__all__ = ["plot", "replace_tables", "tables", "targets"]

NAMES = {"evrelay": "evrelay", "bare": "bare sender", "relay": "bare relay", "nats": "NATS",
         "redis": "Redis", "mosquitto": "Mosquitto", "kamailio": "Kamailio"}
COLOURS = {"evrelay": "#4477aa", "bare": "#bbbbbb", "relay": "#777777", "nats": "#ee6677",
           "redis": "#228833", "mosquitto": "#ccbb44", "kamailio": "#aa3377"}


def nats_ratio(size, subscribers):
    if subscribers == 1:
        return 2.5
    if size == 64:
        return 10 if subscribers >= 100 else 5
    return 4.5 if size == 1024 and subscribers >= 100 else 3.5


def redis_ratio(size, subscribers):
    if subscribers >= 100 and size <= 1024:
        return 8 if size == 64 else 3.4
    return 1.6


WANTED = {"bare": wanted_ratio, "nats": nats_ratio, "redis": redis_ratio}


def targets(results):
    """Every target that what was measured can be held against."""
    out = []
    for cell in results.get("throughput", []):
        size, subscribers = cell["size"], cell["subscribers"]
        for name, wanted in WANTED.items():
            if name in cell["rate"]:
                out.append(target(f"{cell_name(cell)}: rate / {NAMES[name]}", times(cell, name),
                                  ">=", wanted(size, subscribers))
                           | {"bare": times(cell, name, "bare")})
        if subscribers >= 100:
            out.append(target(f"{cell_name(cell)}: CPU of a delivery / bare",
                              cell["cpu_ns"]["evrelay"] / cell["cpu_ns"]["bare"], "<=", 1.2))
        out.append(target(f"{cell_name(cell)}: growth, MiB",
                          cell["growth_bytes"]["evrelay"] / 2**20, "<=", 16))
    for cell in results.get("latency", []):
        load = f"{cell['subscribers']} subscribers, {cell['rate']}/s"
        for name, point, wanted in (("relay", "p50", 1.15), ("redis", "p50", 0.9),
                                    ("redis", "p99", 1)):
            if name in cell["servers"]:
                ours, bare, theirs = (cell[f"{server}_{point}_us"]
                                      for server in ("evrelay", "relay", name))
                out.append(target(f"{load}: {point} / {NAMES[name]}", ours / theirs, "<=", wanted)
                           | {"bare": bare / theirs})
    if "stalled" in results:
        part = results["stalled"]
        for row in part["rows"]:
            if row["server"] != "evrelay":
                continue
            what = f"one of {part['subscribers']} stalled, {row['policy']}"
            out.append(target(f"{what}: the others' rate", row["ratio"], ">=", 0.95))
            out.append(target(f"{what}: memory for it, MiB",
                              max(0, row["growth_bytes"]) / 2**20, "<=",
                              part["max_lag"] / 2**20))
    for row in results.get("connections", {}).get("rows", []):
        if row["server"] == "evrelay":
            out.append(target(f"{results['connections']['connections']} idle connections: "
                              "bytes each", row["bytes_each"], "<=", 512))
    return out


def times(cell, name, whose="evrelay"):
    """How many times the rate of `name` this one has."""
    return cell["rate"][whose] / cell["rate"][name]


def in_order(names):
    return [name for name in NAMES if name in names]


def measured(cells, key):
    """The servers of which there is a figure in any cell."""
    return in_order({name for cell in cells for name in cell[key]})


def failures(failed):
    """What is to be said below a table; of where and {server: why}."""
    return "".join(f"\n\n{where}: {NAMES[name]} failed: {why}."
                   for where, reasons in failed for name, why in reasons.items())


def throughput_tables(cells):
    begin = {"event": lambda cell: size_name(cell["size"]),
             "subscribers": lambda cell: f"{cell['subscribers']:,}"}
    names = measured(cells, "rate")

    def rate(name):
        return lambda cell: rate_name(cell["rate"][name]) if name in cell["rate"] else "-"

    def ratio(name):
        return lambda cell: f"{times(cell, name):.3g} ×" if name in cell["rate"] else "-"

    def cpu(name):
        return lambda cell: cpu_name(cell["cpu_ns"][name]) if name in cell["cpu_ns"] else "-"

    failed = failures([(cell_name(cell), cell["failed"]) for cell in cells])
    return {
        "deliveries": markdown(cells, begin | {NAMES[name]: rate(name) for name in names}) + failed,
        "ratios": markdown(cells, begin | {
            f"/ {NAMES[name]}": ratio(name) for name in names if name != "evrelay"}),
        "cpu": markdown(cells, begin | {NAMES[name]: cpu(name) for name in names}),
    }


def latency_table(cells):
    rows = [{"load": f"{cell['subscribers']:,} at {cell['rate']:,}/s", "server": name,
             "others_cpu_share": cell["others_cpu_share"],
             "ratio": cell["evrelay_p50_us"] / cell[f"{name}_p50_us"]}
            | {point: cell[f"{name}_{point}_us"] for point in POINTS}
            for cell in cells for name in in_order(cell["servers"])]
    failed = failures([(f"{cell['subscribers']:,} at {cell['rate']:,}/s", cell["failed"])
                       for cell in cells])
    return markdown(rows, {
        "subscribers": lambda row: row["load"],
        "server": lambda row: NAMES[row["server"]],
    } | {point: time_of(point) for point in POINTS} | {
        "evrelay's p50 / its": lambda row: f"{row['ratio']:.2f}"}) + failed


def stalled_table(part):
    def held(row, text):
        return text() if "ratio" in row else "-"

    def fate(row):
        return "closed" if row["closed"] > 0 else "kept"

    table = markdown([row | {"others_cpu_share": part["others_cpu_share"]}
                      for row in part["rows"]], {
        "server": lambda row: NAMES[row["server"]],
        "policy": lambda row: row["policy"],
        "events/s": lambda row: rate_name(row["rate_free"]) if "rate_free" in row else "-",
        "one stalled": lambda row: held(row, lambda: rate_name(row["rate_held"])),
        "ratio": lambda row: held(row, lambda: f"{row['ratio']:.2f}"),
        "memory for it": lambda row: held(
            row, lambda: f"{max(0, row['growth_bytes']) / 2**20:.1f} MiB"),
        "it gets": lambda row: held(row, lambda: f"{row['received_share']:.0%}"),
        "and is": lambda row: held(row, lambda: fate(row)),
    })
    return table + failures([
        ("One stalled", {row["server"]: row["failed"]}) for row in part["rows"] if row["failed"]])


def connections_table(part):
    rows = sorted(part["rows"], key=lambda row: list(NAMES).index(row["server"]))
    return markdown(rows, {
        "server": lambda row: NAMES[row["server"]],
        "connections": lambda _row: f"{part['connections']:,}",
        "a second": lambda row: rate_name(row["per_second"]),
        "RSS each": lambda row: f"{row['bytes_each']:,.0f} B",
    }) + failures([(f"{part['connections']:,} connections", part["failed"])])


def hook_table(part):
    columns = {"subscribers": lambda cell: f"{cell['subscribers']:,}",
               "evrelay": lambda cell: rate_name(cell["rate"])}
    if part["missing"] is None:
        columns |= {"Kamailio": lambda cell: rate_name(cell["kamailio_rate"]),
                    "of which it loses": lambda cell: f"{cell['kamailio_lost']:.1%}",
                    "ratio": lambda cell: f"{cell['ratio']:.2f}"}
    return markdown(part["cells"], columns)


def target_table(entries):
    table = markdown(entries, {
        "target": lambda entry: entry["what"],
        "value": lambda entry: f"{entry['value']:.3g}",
        "wanted": lambda entry: f"{'≥' if entry['sense'] == '>=' else '≤'} {entry['target']:g}",
        "bare": lambda entry: f"{entry['bare']:.3g}" if entry.get("bare", 1) != 1 else "",
        "": lambda entry: "met" if entry["met"] else "MISSED",
    })
    met = sum(entry["met"] for entry in entries)
    return f"{table}\n\n{met} of {len(entries)} met. Within 10 % of a target it is met."


def machine(results):
    lines = [f"{results['time']}: {results['machine']}.",
             "; ".join(f"{name} {version}" for name, version in results["versions"].items()) + ".",
             f"Medians of {results['runs']} runs of {results['seconds']:g} s; producers at most "
             f"{results['window'] / 2**20:g} MiB ahead."]
    lines += [f"Not measured: {NAMES[name]}, as {why}."
              for name, why in results["missing"].items()]
    return "\n".join(lines)


def tables(results):
    """{name: text}, of the parts that were run."""
    out = {"machine": machine(results)}
    if "throughput" in results:
        out |= throughput_tables(results["throughput"])
    for name, table in (("latency", latency_table), ("stalled", stalled_table),
                        ("connections", connections_table), ("hook", hook_table)):
        if name in results:
            out[name] = table(results[name])
    if results["targets"]:
        out["targets"] = target_table(results["targets"])
    return out


BARS = """
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.8 border -1
set boxwidth 0.9
set logscale y
set xtics rotate by -35
set format y '10^{%T}'
set grid ytics
set key outside top center horizontal
"""


def plot(results, stem):
    """Writes STEM-deliveries.svg, STEM-cpu.svg, STEM-latency.svg."""
    cells = results.get("throughput", [])
    for key, title in (("rate", "Deliveries a second"), ("cpu_ns", "CPU of a delivery, ns")):
        if cells:
            names = measured(cells, key)
            bars(stem.with_name(f"{stem.name}-{'cpu' if key == 'cpu_ns' else 'deliveries'}"),
                 title, names,
                 [(cell_name(cell), *(cell[key].get(name) for name in names)) for cell in cells])
    cells = results.get("latency", [])
    if cells:
        names = measured(cells, "servers")
        bars(stem.with_name(f"{stem.name}-latency"), "Latency of a delivery: p50 and p99, µs", names,
             [(f"{cell['subscribers']} at {cell['rate']}/s, {point}",
               *(cell.get(f"{name}_{point}_us") for name in names))
              for cell in cells for point in ("p50", "p99")])


def bars(stem, title, names, rows):
    columns = ", ".join(
        f"$data using {number}{':xtic(1)' if number == 2 else ''} title \"{NAMES[name]}\" "
        f"linecolor rgb \"{COLOURS[name]}\"" for number, name in enumerate(names, 2))
    draw(stem, f"set title \"{title}\"\n{BARS}plot {columns}\n", rows, ("svg",))
