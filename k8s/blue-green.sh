#!/bin/sh
# Blue/green: two whole platforms, one namespace each; clients call the Service geofix-edge/geofix, which leads to one of them.
#   blue-green.sh start SLOT OVERLAY | switch SLOT | retire SLOT | live
# An overlay for a slot sets `namespace: geofix-SLOT`, the tag of geofix/bundle, and GEOFIX_MILVUS_URI with a database of its own.
set -eu
KUBECTL=${KUBECTL:-kubectl}
EDGE=${EDGE:-geofix-edge}
WAIT=${WAIT:-600s}

usage() { sed -n '2,4p' "$0" >&2; exit 2; }

ready() { # SLOT: every Deployment of it serves; readiness is the services' own, over their bundle and gallery
  for name in classifier embedder retrieval gateway web; do
    $KUBECTL -n "geofix-$1" rollout status "deployment/$name" --timeout "$WAIT"
  done
}

live() { # the slot that clients reach now, or nothing
  $KUBECTL -n "$EDGE" get service geofix --ignore-not-found -o 'jsonpath={.spec.externalName}' | sed -n 's/^gateway\.geofix-\([a-z]*\)\..*/\1/p'
}

slot=${2:-}
case ${1:-} in
  start)
    [ -n "$slot" ] && [ -n "${3:-}" ] || usage
    if [ "$(live)" = "$slot" ]; then echo "$slot is live: start the other one" >&2; exit 1; fi
    $KUBECTL apply -k "$3"
    ready "$slot" ;;
  switch)
    [ -n "$slot" ] || usage
    ready "$slot"
    $KUBECTL create namespace "$EDGE" --dry-run=client -o yaml | $KUBECTL apply -f -
    printf '{"apiVersion":"v1","kind":"Service","metadata":{"name":"geofix","namespace":"%s"},"spec":{"type":"ExternalName","externalName":"gateway.geofix-%s.svc.cluster.local"}}' "$EDGE" "$slot" | $KUBECTL apply -f -
    # Channels that are open to the other slot end at GEOFIX_MAX_CONNECTION_AGE_S, and find this one.
    echo "$slot is live" ;;
  retire)
    [ -n "$slot" ] || usage
    if [ "$(live)" = "$slot" ]; then echo "$slot is live: switch to the other one first" >&2; exit 1; fi
    $KUBECTL delete namespace "geofix-$slot" ;;
  live) live ;;
  *) usage ;;
esac
