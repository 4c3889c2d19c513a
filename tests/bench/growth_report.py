"""The results of the growth benchmark as Markdown tables and as plots."""

from markdown import cpu_name, cpu_of, markdown, rate_of, subscribers, time_name, time_of
from report import draw, rate_name, size_name


def delivery_table(cells):
    return markdown(cells, {
        "event": lambda cell: size_name(cell["size"]),
        "subscribers": subscribers,
        "deliveries/s": rate_of("rate"),
        "bytes/s": lambda cell: f"{cell['rate'] * cell['size'] / 1e9:.1f} GB",
        "CPU of one": cpu_of("cpu_ns"),
        "beside": lambda cell: cell["rival"],
        "its rate": rate_of("rival_rate"),
        "ratio": lambda cell: f"{cell['ratio']:.2f}",
        "its CPU": cpu_of("rival_cpu_ns"),
        "growth": lambda cell: f"{cell['growth_bytes'] / 2**20:.1f} MiB",
    })


def single_table(cells):
    return markdown(cells, {
        "event": lambda cell: size_name(cell["size"]),
        "subscribers": subscribers,
        "events/s": lambda cell: f"{cell['rate']:,.0f}",
        "CPU of a delivery": cpu_of("cpu_ns"),
        "p50": time_of("evrelay_p50_us"),
        "p99": time_of("evrelay_p99_us"),
        "bare relay: CPU": cpu_of("bare_cpu_ns"),
        "its p50": time_of("bare_p50_us"),
        "its p99": time_of("bare_p99_us"),
    })


def batching_table(cells):
    return markdown(cells, {
        "event": lambda cell: size_name(cell["size"]),
        "subscribers": subscribers,
        "events/s": lambda cell: f"{cell['rate']:,}",
        "deliveries/s": lambda cell: rate_name(cell["rate"] * cell["subscribers"]),
        "CPU of a delivery": cpu_of("cpu_ns"),
        "of a core": lambda cell: f"{cell['cpu_share']:.0%}",
        "p50": time_of("event_p50_us"),
        "p99": time_of("event_p99_us"),
    })


def crowd_table(cells):
    return markdown(cells, {
        "kind": lambda cell: cell["kind"],
        "subscribers": subscribers,
        "all connected": lambda cell: time_name(cell["connected"] * 1e6),
        "all admitted": lambda cell: time_name(cell["admitted"] * 1e6),
        "a second": rate_of("rate"),
        "CPU each": lambda cell: f"{cell['cpu_us_each']:.1f} µs",
        "RSS each": lambda cell: f"{cell['rss_each']:,.0f} B",
        "kernel each": lambda cell: ("-" if cell["kernel_each"] is None
                                     else f"{cell['kernel_each']:,.0f} B"),
    })


def tls_table(cells):
    return markdown(cells, {
        "event": lambda cell: size_name(cell["size"]),
        "subscribers": subscribers,
        "deliveries/s": rate_of("rate"),
        "plain": rate_of("plain_rate"),
        "ratio": lambda cell: f"{cell['ratio']:.2f}",
        "CPU of one": cpu_of("cpu_ns"),
        "plain one": cpu_of("plain_cpu_ns"),
        "more a KiB": lambda cell: cpu_name(
            (cell["cpu_ns"] - cell["plain_cpu_ns"]) / cell["size"] * 1024),
    })


def fairness_tables(part):
    beside = {"beside": lambda row: row["beside"]}
    noise = {"which sends": rate_of("noise_rate")}
    delivered = {"p50": time_of("event_p50_us"), "p99": time_of("event_p99_us")}
    answered = {"answered p50": time_of("answer_p50_us"), "answered p99": time_of("answer_p99_us")}
    return {
        "fair-producers": markdown(part["producers"], beside | noise | delivered | answered),
        "fair-idle": markdown(part["idle"],
                              beside | delivered | {"CPU of a delivery": cpu_of("cpu_ns")}),
        "fair-talkers": markdown(part["talkers"], beside | noise | delivered),
    }


def tree_table(cells):
    return markdown(cells, {
        "event": lambda cell: size_name(cell["size"]),
        "events/s direct": rate_of("direct_rate"),
        "behind a hop": rate_of("rate"),
        "hop's CPU of an event": cpu_of("hop_cpu_ns"),
        "p50 direct": time_of("direct_p50_us"),
        "p99 direct": time_of("direct_p99_us"),
        "p50 behind": time_of("hop_p50_us"),
        "p99 behind": time_of("hop_p99_us"),
    })


TABLES = {"delivery": delivery_table, "single": single_table, "batching": batching_table,
          "crowd": crowd_table, "tls": tls_table, "tree": tree_table}


def tables(results):
    """{name: text}, of the parts that were run."""
    out = {"machine": f"{results['time']}: {results['machine']}; evrelay {results['version']}. "
                      f"Medians of {results['runs']} runs of {results['seconds']:g} s."}
    for name, table in TABLES.items():
        if name in results:
            out[name] = table(results[name])
    if "fairness" in results:
        out |= fairness_tables(results["fairness"])
    return out


PLOT = """
set title "CPU of a delivery at the server, ns"
set style data linespoints
set logscale y
set xlabel "subscribers"
set xrange [-0.2:*]
set grid
set key outside top center horizontal
"""
CURVES = (("single", 1024, "1 KiB, one by one", "#ee6677"),
          ("single", 64, "64 B, one by one", "#aa3377"),
          ("delivery", 1024, "1 KiB, as fast as it goes", "#66ccee"),
          ("delivery", 64, "64 B, as fast as it goes", "#4477aa"))


def plot(results, stem, endings):
    """Writes STEM.svg and so on."""
    if "single" not in results or "delivery" not in results:
        return
    costs = {(part, cell["size"], cell["subscribers"]): cell["cpu_ns"]
             for part in ("single", "delivery") for cell in results[part]}
    counts = sorted({cell["subscribers"] for cell in results["single"]})
    rows = [(f"{count:,}", *(costs.get((part, size, count)) for part, size, *_ in CURVES))
            for count in counts]
    columns = ", ".join(
        f"$data using 0:{number}:xtic(1) title \"{title}\" pointtype 7 linecolor rgb \"{colour}\""
        for number, (*_, title, colour) in enumerate(CURVES, 2))
    draw(stem, f"{PLOT}plot {columns}\n", rows, endings)
