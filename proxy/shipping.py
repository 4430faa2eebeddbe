"""From configuration to the process that ships records."""

import contextlib
import secrets
import socket
from pathlib import Path

from adapters.shipping import FIGURES, OTLP, TRACES, ShipperProcess, ShipperSettings
from proxy.config import Config
from proxy.outbox import Outbox
from proxy.runtime import Service


def database_of(config: Config) -> Path:
    """The file of the local MLflow store."""
    return Path(config.server.state_dir).absolute() / "mlflow.db"


def shipping(config: Config, outbox: Outbox) -> tuple[Service, ...]:
    """The process, if there is anywhere to ship to. The outbox waits for it from then on."""
    record, collector = config.record, config.record.collector
    if record.mlflow is None and collector is None:
        return ()
    if record.mlflow is not None:
        outbox.follow(TRACES)
        outbox.follow(FIGURES)
    if collector is not None:
        outbox.follow(OTLP)
    settings = ShipperSettings(
        folder=str(outbox.folder.absolute()),
        max_size=int(record.max_size),
        instance=f"{socket.gethostname()}:{config.server.port}",
        mark=_mark(outbox.folder),
        experiment=record.experiment,
        mlflow=record.mlflow if record.mlflow != "" else f"sqlite:///{database_of(config)}",
        share=record.traces.share,
        per_second=record.traces.per_second,
        interval=float(record.interval),
        otlp=collector.url if collector is not None else None,
        otlp_headers={name: value.reveal() for name, value in collector.headers.items()} if collector else {},
        log_format=config.log.format,
        log_level=config.log.level or "",
    )
    return (ShipperProcess(settings, "proxy.ship_start"),)


def _mark(folder: Path) -> str:
    """Made at the first start, and kept beside the records. Raises OSError."""
    path = folder / "instance"
    with contextlib.suppress(FileNotFoundError):
        kept = path.read_text()
        if kept:
            return kept
    mark = secrets.token_hex(8)
    path.touch(mode=0o600)
    path.write_text(mark)
    return mark
