"""Imported first by a service: numpy, FAISS and scikit-learn compute on one thread.

Their arrays are small there, so a second thread makes nothing faster. It only spins while it waits for work, and takes a core
from the networks and the other services: a search in Milvus Lite cost twice the processor time in the same wall time. The
environment's own choice wins. ONNX Runtime has threads of its own (`geofix.onnx`).
"""

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
