"""The embedded services of one host: `up`, `down` and `status`.

A production host runs its own S3 and Prefect server.

Each service is a process of its own session; what is known of it is IMS_HOME/run/<name>.json and IMS_HOME/logs/<name>.log.
"""

from deployments.embedded.reports import ServiceStatus, Status
from deployments.embedded.supervisor import down, status, up

__all__ = ["ServiceStatus", "Status", "down", "status", "up"]
