"""LiteLLM proxy: the key sets its own limit. sk-rpm-10-x: 10 requests a window; sk-par-2: 2 in flight; sk-tpm-100: tokens a
window; other sk-…: no limit; anything else: 401."""

from fastapi import Request
from litellm.proxy._types import ProxyException, UserAPIKeyAuth

LIMITS = {"sk-rpm-": "rpm_limit", "sk-par-": "max_parallel_requests", "sk-tpm-": "tpm_limit"}


async def check(_request: Request, api_key: str) -> UserAPIKeyAuth:
    key = (api_key or "").removeprefix("Bearer ")
    if not key.startswith("sk-"):
        raise ProxyException(message="Invalid API key", type="auth_error", param="api_key", code=401)
    limits = {name: int(key[len(start) :].split("-")[0]) for start, name in LIMITS.items() if key.startswith(start)}
    return UserAPIKeyAuth(api_key=key, user_role="internal_user", **limits)
