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
from pathlib import Path

import started
from driver import OK
from geofix.platform import Platform
from geofix.tls import PeerCredentials, TlsFiles
from load import load
from pairs import median_interval
from pictures import jpegs

NAMES = {"CERT": "tls.crt", "KEY": "tls.key", "CA": "ca.crt"}


async def rate(
    platform: Platform, peer: PeerCredentials | None, images: list[bytes], options: argparse.Namespace
) -> float:
    """Images a second."""
    report = await load(
        platform.address,
        images,
        clients=options.clients,
        seconds=options.seconds,
        rate=None,
        arrivals="constant",
        deadline_s=30,
        cached=False,
        peer=peer,
    )
    if set(report.codes) != {OK}:
        raise SystemExit(f"not every call was answered: {dict(report.codes)}")
    return report.rate


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
        sides = ((plain, None), (secret, peer))
        ratios = []
        for pair in range(options.pairs):
            order = sides[::-1] if pair % 2 else sides
            measured = {id(side): asyncio.run(rate(side, with_, images, options)) for side, with_ in order}
            ratios.append(measured[id(secret)] / measured[id(plain)])
            print(
                f"pair {pair + 1}: mutual TLS {measured[id(secret)]:.2f}, plain {measured[id(plain)]:.2f} images a second",
                flush=True,
            )
    middle, low, high = median_interval(ratios)
    print(
        f"\nthroughput ÷ plain: {middle:.3f} ({low:.3f} to {high:.3f}, 95 % interval of the median, {len(ratios)} pairs)"
    )
    print(f"cost of mutual TLS: {100 * (1 - middle):+.1f} % ({100 * (1 - high):+.1f} to {100 * (1 - low):+.1f} %)")


if __name__ == "__main__":
    main()
