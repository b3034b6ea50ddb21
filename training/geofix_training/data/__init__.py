"""Where training data comes from: manifests, shards and feature files, indexed on disk so that no run holds all of them."""
