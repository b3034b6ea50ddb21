"""What mutual TLS costs: throughput of a platform with it on every hop ÷ one in plain text, in interleaved pairs.

    python benchmarks/mtls.py          # 9 pairs of 2 x 10 s: about 4 minutes

Both platforms run all the time, and are loaded by turns. The certificates are those of tools/make_certificates.py (P-256).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import started
from geofix.platform import Platform
from geofix.tls import PeerCredentials, TlsFiles
from load import capacity
from pairs import compare, print_cost
from pictures import jpegs

NAMES = {"CERT": "tls.crt", "KEY": "tls.key", "CA": "ca.crt"}


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=started.default_bundle())
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=10, help="of load on each platform, in each pair")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--megapixels", type=float, default=2.0)
    options = parser.parse_args()
    images = jpegs(32, options.megapixels)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="geofix-mtls-")))
        tool = started.ROOT / "tools/make_certificates.py"
        subprocess.run([sys.executable, str(tool), str(folder / "tls")], check=True, timeout=60)
        files = {f"GEOFIX_TLS_{key}_FILE": str(folder / "tls/gateway" / name) for key, name in NAMES.items()}
        plain = stack.enter_context(started.platform(options.bundle, data_dir=folder / "plain"))
        secret = stack.enter_context(started.platform(options.bundle, files, folder / "secret"))
        client = folder / "tls/client"
        peer = PeerCredentials(TlsFiles(client / "tls.crt", client / "tls.key", folder / "tls/ca.crt"))

        def measure(platform: Platform, with_: PeerCredentials | None) -> float:
            return asyncio.run(
                capacity(platform.address, images, clients=options.clients, seconds=options.seconds, peer=with_)
            )

        names = ("mutual TLS", "plain")
        ratios = compare(names, (partial(measure, secret, peer), partial(measure, plain, None)), options.pairs)
    print_cost("mutual TLS", ratios)


if __name__ == "__main__":
    main()
