"""What others say of this installation: the alerts that fire in Prometheus, where one is named."""

from __future__ import annotations

from bentos.settings import Settings


def firing_alerts(settings: Settings, seconds: float = 3.0) -> tuple[str, ...]:
    """Alerts that fire now, one sentence each; none without ``INCUMBENT_PROMETHEUS_URL``.

    A server that does not answer is a sentence of its own, for silence is no proof that all is well. The
    watchdog always fires and is left out; where it does not fire, that is said.
    """
    if not settings.prometheus_url:
        return ()
    import httpx

    try:
        answer = httpx.get(f"{settings.prometheus_url.rstrip('/')}/api/v1/alerts", timeout=seconds)
        answer.raise_for_status()
        alerts = answer.json()["data"]["alerts"]
    except (httpx.HTTPError, ValueError, KeyError) as exc:
        return (f"Prometheus was not heard ({type(exc).__name__}): whether an alert fires is not known",)
    firing = [alert for alert in alerts if alert.get("state") == "firing"]
    names = {alert["labels"].get("alertname", "") for alert in firing}
    said = [
        f"{alert['labels'].get('alertname', '')} ({alert['labels'].get('severity', 'none')}): "
        f"{alert.get('annotations', {}).get('summary', '')}".rstrip(": ")
        for alert in firing
        if alert["labels"].get("alertname") != "Watchdog"
    ]
    return (*said, *(() if "Watchdog" in names else ("the watchdog does not fire: alerts may not be evaluated",)))
