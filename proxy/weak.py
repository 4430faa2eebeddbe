"""Which secrets are no secrets."""

SAMPLES = frozenset({"change-me-this-is-the-sample-secret", "sk-1234", "your-secret-key", "sk-lockgate-sample"})
"""What stands in sample files, ours and others', and so is known to everybody."""
SIGNING_LENGTH = 32
ADMIN_LENGTH = 16
_DIFFERENT = 8


def weakness(secret: str, length: int) -> str | None:
    """Why a secret cannot be trusted where others can reach the gateway; None when it can."""
    if secret in SAMPLES:
        return "it is a sample that everybody knows"
    if len(secret) < length:
        return f"it is shorter than {length} characters; make one with `openssl rand -hex 32`"
    if len(set(secret)) < _DIFFERENT:
        return "it hardly varies; make one with `openssl rand -hex 32`"
    return None
