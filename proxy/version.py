"""The version, as installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("lockgate")
except PackageNotFoundError:
    VERSION = "0"
