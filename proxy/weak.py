"""Which secrets are no secrets."""

_SAMPLES = (
    "change-me",
    "changeme",
    "change_me",
    "your-",
    "your_",
    "sample",
    "example",
    "sk-1234",
    "secret-key",
    "password",
)
"""What stands in sample files, ours and others', and so is known to everybody."""
_SAMPLE_PASSWORDS = ("ZNnQiRhwG3zwt4n2jodEu3wKZ5Ap8A4t6l0rtmha4pc",)
"""The ends of the password hashes that stand in our documentation."""
SIGNING_LENGTH = 32
ADMIN_LENGTH = 16
_DIFFERENT = 8


def weakness(secret: str, length: int) -> str | None:
    """Why a secret cannot be trusted where others can reach the gateway; None when it can."""
    if any(sample in secret.lower() for sample in _SAMPLES):
        return "it looks like a sample that everybody knows"
    if len(secret) < length:
        return f"it is shorter than {length} characters; make one with `openssl rand -hex 32`"
    if len(set(secret)) < _DIFFERENT:
        return "it hardly varies; make one with `openssl rand -hex 32`"
    return None


def is_sample_password(password_hash: str) -> bool:
    """Whether a hash is one of our documentation's, whose password stands beside it."""
    return password_hash.endswith(_SAMPLE_PASSWORDS)
