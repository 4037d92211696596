"""The connection: nats-py with its traps answered, requests, answers, subscriptions.

nats-py imports aiohttp wherever it is installed (it comes with the SDK's transport), for WebSocket
addresses alone. Every process of ours would pay 15 MB and a tenth of a second for it, so while
nats-py is imported there is none. Addresses are nats:// and tls://.
"""

import sys

if "nats" not in sys.modules and "aiohttp" not in sys.modules:
    sys.modules["aiohttp"] = None  # type: ignore[assignment]
    try:
        import nats.aio.transport  # noqa: F401
    finally:
        del sys.modules["aiohttp"]
