"""The settings of the worker."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from rpc.settings import ServerSettings
from services.posts.settings import ConnectionSettings


class WorkerSettings(ServerSettings, ConnectionSettings):
    """The settings of the worker. It reads the database, the generators and storage from the variables of the API."""

    model_config = SettingsConfigDict(env_prefix="WORKER_")

    listen: str = Field("127.0.0.1:50054", description="Address and port for health checks. Port 0 picks a free one.")
    database_pool_size: int = Field(4, ge=2, le=200, description="Largest number of database connections.")
    dispatch_ahead: int = Field(
        1,
        ge=0,
        le=64,
        description="Images that may wait in the queue of each generator, so that a free slot starts at once.",
    )
    lease_seconds: float = Field(
        30.0, ge=0.5, le=3600, description="How long a task stays claimed after the last heartbeat of its worker."
    )
    reap_seconds: float = Field(5.0, ge=0.05, le=600, description="Interval at which expired leases are ended.")
    poll_seconds: float = Field(
        1.0,
        ge=0.05,
        le=60,
        description="Interval at which the queue is read, in case a notification was lost.",
    )
    step_timeout_seconds: float = Field(
        120.0,
        ge=0.1,
        le=3600,
        description="An attempt fails if the generator reports no progress for this long while it works.",
    )
    queue_timeout_seconds: float = Field(
        600.0, ge=0.1, le=86_400, description="How long a request may wait in the queue of a generator."
    )
    attempt_timeout_seconds: float = Field(1800.0, ge=1, le=86_400, description="Longest time for one image.")
    store_timeout_seconds: float = Field(
        60.0, ge=0.1, le=3600, description="How long storing an image is repeated before the attempt fails."
    )
    retry_base_seconds: float = Field(
        2.0, ge=0.01, le=600, description="Longest delay before the second attempt. It doubles with each attempt."
    )
    retry_cap_seconds: float = Field(60.0, ge=0.01, le=3600, description="Longest delay between attempts.")
    preview_interval: int = Field(4, ge=0, le=80, description="Denoising steps between previews. 0: no previews.")
    idempotency_days: int = Field(30, ge=1, le=3650, description="How long a request_id is remembered.")
