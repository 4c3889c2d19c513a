"""What the figures of a run belong to: when, on which machine, of which evrelay."""

import datetime
import os
import pathlib
import platform
import re
import subprocess


def describe(binary):
    cpu = [line.partition(":")[2].strip()
           for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
           if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    commit = subprocess.run(
        ["git", "-C", pathlib.Path(__file__).parent, "describe", "--always", "--dirty"],
        capture_output=True, text=True, check=False).stdout.strip()
    version = subprocess.run([binary, "--version"], capture_output=True, text=True,
                             check=True).stdout.split()[-1]
    kernel = re.match(r"[0-9.]*[0-9]", platform.release())[0]
    return {
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores of {cpu[0] if cpu else platform.machine()}, "
                   f"{memory / 2**30:.1f} GiB, {platform.system()} {kernel}",
        "version": f"{version} ({commit})" if commit else version,
    }
