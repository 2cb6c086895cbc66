"""A Hub on this machine for tests, the demo and benchmarks; ``python -m tests.hub ROOT`` serves a folder."""

from .faults import Fault, Faults
from .log import Record, RequestLog
from .server import OUTSIDER, TOKEN, LocalHub

__all__ = ["OUTSIDER", "TOKEN", "Fault", "Faults", "LocalHub", "Record", "RequestLog"]
