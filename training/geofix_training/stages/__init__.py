"""The stages of an experiment, in order: partition, classifier, embedder, calibrate, export."""
