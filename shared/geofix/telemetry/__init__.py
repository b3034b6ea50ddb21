"""Traces, metrics and logs of a service.

Traces and metrics are off unless a setting turns them on, and then cost next to nothing.
"""
