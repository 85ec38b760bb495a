"""The Python client.

    with Client("http://127.0.0.1:8080", key) as farm:
        campaign = farm.submit(spec)
        farm.wait(campaign.id)
        farm.download(campaign.id, Path("pictures"))

Every call may be repeated: reads are reads, uploads are addressed by content, and what makes something carries an
idempotency key. So a call that found the farm away is repeated for a while before `Unreachable` is raised.
"""

from farm.sdk.client import ENDED, SEEN, Client
from farm.sdk.download import Downloaded
from farm.sdk.transport import ApiError, Unreachable

__all__ = ["ENDED", "SEEN", "ApiError", "Client", "Downloaded", "Unreachable"]
