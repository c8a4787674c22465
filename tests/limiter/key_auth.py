"""LiteLLM proxy: every key is taken and may send RPM_LIMIT requests a minute. Keys made by the proxy itself would need a
database; its limiter is the same for both."""

import os

from fastapi import Request
from litellm.proxy._types import UserAPIKeyAuth


async def check(_request: Request, api_key: str) -> UserAPIKeyAuth:
    return UserAPIKeyAuth(api_key=api_key, rpm_limit=int(os.environ["RPM_LIMIT"]))
