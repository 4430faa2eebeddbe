"""Proxies are read as curl reads them, and TLS contexts verify unless told otherwise."""

import ssl

import pytest

from adapters.network import proxies_in, proxy_for, tls_context

PROXIES = {
    "http": "http://one:1",
    "https": "two:2",
    "no": "internal.example, .dotted.example,10.0.0.1,ported.example:8443",
}


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://api.example/v1", "http://one:1"), ("https://api.example/v1", "http://two:2"),
        ("https://internal.example/", None), ("https://deep.internal.example/", None), ("https://notinternal.example/", "http://two:2"),
        ("https://dotted.example/", None), ("https://a.dotted.example/", None), ("http://10.0.0.1:80/", None),
        ("https://ported.example:8443/", None), ("https://ported.example/", "http://two:2"), ("https://INTERNAL.example/", None),
    ],
)  # fmt: skip
def test_a_url_goes_through_its_proxy(url: str, proxy: str | None) -> None:
    assert proxy_for(url, PROXIES) == proxy


def test_all_serves_what_no_other_does_and_a_star_exempts_everything() -> None:
    assert proxy_for("https://x/", {"all": "http://a:1"}) == "http://a:1"
    assert proxy_for("https://x/", {"all": "http://a:1", "no": "*"}) is None


def test_the_environment_is_read_in_both_cases() -> None:
    environ = {"HTTPS_PROXY": "up", "https_proxy": "low", "NO_PROXY": "x", "ALL_PROXY": ""}
    assert proxies_in(environ) == {"https": "low", "no": "x"}


def test_tls_verifies_unless_told_otherwise() -> None:
    strict = tls_context()
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    lax = tls_context(verify=False)
    assert (lax.verify_mode, lax.check_hostname) == (ssl.CERT_NONE, False)
    with pytest.raises(OSError, match="No such file"):
        tls_context("/no/such/file.pem")
