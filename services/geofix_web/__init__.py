"""The HTTP edge: a JSON API and the page for people. It speaks gRPC to the gateway and keeps nothing."""
